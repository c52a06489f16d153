# Tables, figures and claims: one rule each for every figure of every paper.


rule table:
    input:
        table_inputs,
    output:
        "<results>/tables/{paper}/{figure}.csv",
    log:
        "<logs>/table/{paper}-{figure}.log",
    priority: SOONER
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        cells=cells_of,
        sources=lambda wildcards: list(figure_of(wildcards).spec.sources),
        details=lambda wildcards: figure_of(wildcards).spec.details.model_dump_json(),
        scale=PLAN.config.scale,
        code=CODE,
        results=subpath(output[0], ancestor=3),
    message:
        "Table of {wildcards.figure}"
    script:
        "../scripts/table.py"


rule figure:
    input:
        table=table_of,
        plots="workflow/papers/{paper}/plots.py",
        reference="workflow/papers/{paper}/reference.csv",
    output:
        pdf="<figures>/{paper}/{figure}.pdf",
        png=report(
            "<figures>/{paper}/{figure}.png",
            caption="../report/figure.rst",
            category="{paper}",
            subcategory="figures and tables",
            labels={"object": "{figure}"},
        ),
    log:
        "<logs>/figure/{paper}-{figure}.log",
    priority: SOONER
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        code=CODE,
        caption=caption_of,
    message:
        "Drawing {wildcards.figure}"
    script:
        "../scripts/figure.py"


rule claims:
    input:
        table=table_of,
        reference="workflow/papers/{paper}/reference.csv",
    output:
        "<results>/claims/{paper}/{figure}.csv",
    log:
        "<logs>/claims/{paper}-{figure}.log",
    priority: SOONER
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        code=CODE,
        claims=lambda wildcards: json.dumps(
            [claim.model_dump(mode="json") for claim in figure_of(wildcards).spec.claims]
        ),
    message:
        "Testing the claims of {wildcards.figure}"
    script:
        "../scripts/claims.py"
