# What it will cost, before anything is run: no environment is built for it, nothing is trained.


# No output: asked again, it looks again at what this machine has finished meanwhile.
rule costs:
    input:
        "paper_figures/benchmarks/jobs.csv",
    log:
        "<logs>/costs.log",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        config=PLAN.config.model_dump_json(),
    message:
        "Counting operations"
    script:
        "../scripts/costs.py"
