# Bring your own: a text that is in no registry (--config corpus=my.txt), with planted canaries, trained with and without
# privacy, on one page. Trainings, attacks and the table are those of every figure; workflow/audit/audit.yaml is its block.
ruleorder: adopt > fetch


# The user's file: its name in the plan is that of its content, so its date tells nothing.
rule adopt:
    input:
        lambda wildcards: ancient(str(OWN.path)) if OWN else [],
    output:
        "<results>/data/{dataset}/provenance.json",
    log:
        "<logs>/adopt/{dataset}.log",
    wildcard_constraints:
        dataset="own_[0-9a-f]{12}",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        python=sys.executable,
        characters=own_audit.characters(PLAN.config.scale),
        folder=subpath(output[0], parent=True),
    message:
        "Putting your text in place"
    shell:
        "PYTHONPATH=workflow {params.python} -m memorization adopt"
        " --corpus {input:q}"
        " --characters {params.characters}"
        " --to {params.folder}"
        " > {log} 2>&1"


rule audit_page:
    input:
        table="<results>/tables/audit/{figure}.csv",
        provenance="<results>/data/{figure}/provenance.json",
    output:
        html="<results>/audit/{figure}.html",
        csv="<results>/audit/{figure}.csv",
    log:
        "<logs>/audit/{figure}.log",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        code=CODE,
        queries_to_try_all=lambda wildcards: own_audit.queries_to_try_all(PLAN),
    message:
        "Writing the page of the audit"
    script:
        "../scripts/audit_page.py"


rule audit:
    input:
        audit_pages,
