# Unintended memorisation in neural networks: from raw data to every figure, table and verdict.
#   snakemake --cores all                              everything at the scale of config/config.yaml
#   snakemake --cores all --config scale=smoke         every path once, in minutes
#   snakemake --cores all --config tables=published    figures from the committed tables, no training
#   snakemake --cores 1 costs                          what all of it will take, before anything is run
#   snakemake --cores 1 publish                        copy a finished run's tables and previews for committing
#   snakemake --cores 1 benchmarks                     what it costs, against what one would run instead
#   snakemake --cores all audit --config corpus=my.txt   what models trained on your own text give away, on one page
from snakemake.utils import min_version

min_version("9.12")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"


STAGE = "published" if PUBLISHED else PLAN.config.scale
RESULTS = f"results/{STAGE}"
FIGURES = f"paper_figures/{STAGE}"
TABLES = "paper_figures/published" if PUBLISHED else f"{RESULTS}/tables"


pathvars:
    results=RESULTS,
    figures=FIGURES,
    logs=f"{RESULTS}/logs",
    benchmarks=f"{RESULTS}/benchmarks",


TARGETS = [f"{FIGURES}/{paper}/{figure}.{kind}" for paper, figure in PLAN.figures for kind in ("pdf", "png")]
TARGETS = [*TARGETS, f"{RESULTS}/claims.csv", f"{RESULTS}/report.html"] if OWN is None else audit_pages(None)


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        TARGETS,


include: "workflow/rules/resources.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/attack.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/costs.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/benchmarks.smk"


onstart:
    try:
        if not only_counting():
            preflight.require_writable([RESULTS, FIGURES])
            environments.build_all([] if PUBLISHED or PLAN.config.software == "ambient" else PLAN.backends)
    except UserError as error:
        raise WorkflowError(str(error))
    for line in [] if workflow.local_exec else cluster.advice(PLAN, DATASETS):
        print(f"cluster: {line}", file=sys.stderr)
    if PLAN.config.warm and not only_counting() and not only_benchmarks():
        warm.start(warm_pythons())


onsuccess:
    if OWN is not None:
        print("audit:", *TARGETS)
    elif not only_counting() and not only_benchmarks():
        shell(f"{sys.executable} workflow/scripts/closing.py {RESULTS} {FIGURES}")


onerror:
    print(
        f"\nSome jobs failed; all that finished is kept. Logs: {RESULTS}/logs. Run the same command again to go on."
    )
