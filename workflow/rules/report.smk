# What a reader opens first: the claims of every figure in one table, and publishing.


rule summary:
    input:
        [f"{RESULTS}/claims/{paper}/{figure}.csv" for paper, figure in PLAN.figures],
    output:
        csv="<results>/claims.csv",
        html=report(
            "<results>/claims.html",
            caption="../report/claims.rst",
            category="claims",
            labels={"object": "all claims"},
        ),
    log:
        "<logs>/summary.log",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    message:
        "Collecting the verdicts"
    script:
        "../scripts/summary.py"


# No output: a publishing rule must never become the producer of committed files.
rule publish:
    input:
        tables=[f"{RESULTS}/tables/{paper}/{figure}.csv" for paper, figure in PLAN.figures],
        figures=[f"{FIGURES}/{paper}/{figure}.png" for paper, figure in PLAN.figures],
        claims=f"{RESULTS}/claims.csv",
    log:
        "<logs>/publish.log",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        scale=PLAN.config.scale,
        results=subpath(input.claims, parent=True),
    message:
        "Publishing tables and previews into paper_figures/published"
    script:
        "../scripts/publish.py"
