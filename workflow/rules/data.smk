# Data sets, resolved in order: local mirror (MEMORIZATION_DATA), download, stand-in (below paper scale).


rule fetch:
    output:
        "<results>/data/{dataset}/provenance.json",
    log:
        "<logs>/fetch/{dataset}.log",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        python=sys.executable,
        on_missing=PLAN.on_missing,
        trust="--trust-local" if PLAN.config.data.trust_local else "",
        # A mirror that appears or goes makes the data set be fetched anew; its path is nobody's business.
        mirror=bool(os.environ.get("MEMORIZATION_DATA")),
        folder=subpath(output[0], parent=True),
    message:
        "Fetching {wildcards.dataset}"
    shell:
        "PYTHONPATH=workflow {params.python} -m memorization fetch"
        " --dataset {wildcards.dataset}"
        " --to {params.folder}"
        " --on-missing {params.on_missing}"
        " {params.trust}"
        " 2>&1 | tee {log}"
