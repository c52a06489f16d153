# What it costs, against what one would run instead: every comparison in one run, one script after another.


def benchmark_flags():
    """Sizes, and where the page goes besides results/benchmarks/; runs of this machine whose overhead it tells."""
    finished = [f"results/{scale}" for scale in ("smoke", "reduced") if os.path.exists(f"results/{scale}/claims.csv")]
    pythons = [
        f"--python {backend}=" + ("python" if PLAN.config.software == "ambient" else f"envs/{backend}/.venv/bin/python")
        for backend in PLAN.config.backends
    ]
    mode = {"full": [], "quick": ["--quick"], "publish": ["--publish"]}[PLAN.config.benchmarks]
    return " ".join([*mode, *pythons, *(["--finished", *finished] if finished else [])])


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
        flags=benchmark_flags(),
        data=subpath(input.digits, parent=True),
        device=PLAN.config.device,
    message:
        "Measuring against what one would run instead (about ten minutes; leave the machine alone)"
    shell:
        "PYTHONPATH=workflow {params.python} tests/benchmarks/compare.py {params.flags}"
        " --device {params.device}"
        " --data {params.data}"
        " 2>&1 | tee {log}"
