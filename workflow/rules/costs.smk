# What it will cost, before anything is run: no environment is built for it, nothing is trained.


# No output: asked again, it looks again at what this machine has finished meanwhile. `run`, not a script: that would have
# to name an environment, which `--sdm conda` would build first.
rule costs:
    input:
        "paper_figures/benchmarks/jobs.csv",
    log:
        "<logs>/costs.log",
    localrule: True
    message:
        "Counting operations"
    run:
        from memorization import costs

        costs.show(PLAN.config)
