# What a reader opens first: the claims of every figure in one table, the report as one page, and publishing.


rule summary:
    input:
        [f"{RESULTS}/claims/{paper}/{figure}.csv" for paper, figure in PLAN.figures],
    output:
        csv="<results>/claims.csv",
        json="<results>/claims.json",
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
    params:
        code=CODE,
        figures=FIGURES,
        tables=TABLES,
    message:
        "Collecting the verdicts"
    script:
        "../scripts/summary.py"


rule report:
    input:
        claims="<results>/claims.csv",
        tables=[f"{TABLES}/{paper}/{figure}.csv" for paper, figure in PLAN.figures],
        figures=[f"{FIGURES}/{paper}/{figure}.png" for paper, figure in PLAN.figures],
        page=collect("workflow/report/page/page.{kind}", kind=["html", "css", "js"]),
    output:
        "<results>/report.html",
    log:
        "<logs>/report.log",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        code=CODE,
        figures=lambda wildcards, input: os.path.dirname(os.path.dirname(input.figures[0])),
        tables=lambda wildcards, input: os.path.dirname(os.path.dirname(input.tables[0])),
    message:
        "Writing the report: every claim and every figure on one page"
    script:
        "../scripts/page.py"


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
