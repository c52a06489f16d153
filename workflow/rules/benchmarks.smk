# What it costs, against what one would run instead: every comparison in one run, one script after another.


# No output: asked again, it measures again; and no rule must become the producer of committed files.
rule benchmarks:
    input:
        digits="<results>/data/mnist/provenance.json",
        declared="tests/benchmarks/comparisons.yaml",
    log:
        "<logs>/benchmarks.log",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        python=sys.executable,
        mode={"full": "", "quick": "--quick", "publish": "--publish"}[PLAN.config.benchmarks],
        pythons=[
            f"--python {name}=" + ("python" if PLAN.config.software == "ambient" else f"envs/{name}/.venv/bin/python")
            for name in PLAN.config.backends
        ],
        data=subpath(input.digits, parent=True),
        device=PLAN.config.device,
    message:
        "Measuring against what one would run instead (a quarter of an hour; leave the machine alone)"
    shell:
        "PYTHONPATH=workflow {params.python} tests/benchmarks/compare.py {params.mode} {params.pythons}"
        " --device {params.device}"
        " --data {params.data}"
        " 2>&1 | tee {log}"
