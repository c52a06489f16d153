# Exposure, extraction and single losses of a finished run: one job per run, so the back end is imported once.


rule attack:
    input:
        model="<results>/runs/{backend}/{run}/model.npz",
        record="<results>/runs/{backend}/{run}/run.json",
    output:
        spec="<results>/runs/{backend}/{run}/attacks/{attack}/spec.json",
        exposure="<results>/runs/{backend}/{run}/attacks/{attack}/exposure.csv",
        extraction="<results>/runs/{backend}/{run}/attacks/{attack}/extraction.csv",
        top="<results>/runs/{backend}/{run}/attacks/{attack}/top.csv",
        histogram="<results>/runs/{backend}/{run}/attacks/{attack}/histogram.csv",
        fit="<results>/runs/{backend}/{run}/attacks/{attack}/fit.csv",
        audit="<results>/runs/{backend}/{run}/attacks/{attack}/audit.csv",
    log:
        "<logs>/attack/{backend}-{run}-{attack}.log",
    benchmark:
        "<benchmarks>/attack/{backend}-{run}-{attack}.tsv"
    priority: SOONER
    group:
        cell_of
    conda:
        "../../envs/{backend}.yaml"
    container:
        "envs/{backend}.sif"
    threads: 1
    resources:
        mem_mb=memory_of("attack"),
        runtime=attack_minutes,
    params:
        python=python_of,
        spec=lambda wildcards: canonical_json(PLAN.attacks[wildcards.attack]),
        run=subpath(input.model, parent=True),
        folder=subpath(output.spec, parent=True),
    message:
        "Attacking run {wildcards.run} on {wildcards.backend}"
    shell:
        "printf '%s\\n' {params.spec:q} > {output.spec} 2> {log} &&"
        " OMP_NUM_THREADS={threads} PYTHONPATH=workflow {params.python} -m memorization attack"
        " --run {params.run}"
        " --spec {output.spec}"
        " --to {params.folder}"
        " >> {log} 2>&1"


rule score:
    input:
        model="<results>/runs/{backend}/{run}/model.npz",
        record="<results>/runs/{backend}/{run}/run.json",
        data=data_of,
    output:
        spec="<results>/runs/{backend}/{run}/scores/{score}/spec.json",
        scores="<results>/runs/{backend}/{run}/scores/{score}/scores.csv",
        lines="<results>/runs/{backend}/{run}/scores/{score}/lines.csv",
    log:
        "<logs>/score/{backend}-{run}-{score}.log",
    benchmark:
        "<benchmarks>/score/{backend}-{run}-{score}.tsv"
    priority: SOONER
    group:
        cell_of
    conda:
        "../../envs/{backend}.yaml"
    container:
        "envs/{backend}.sif"
    threads: 1
    resources:
        mem_mb=memory_of("score"),
        runtime=score_minutes,
    params:
        python=python_of,
        spec=lambda wildcards: canonical_json(PLAN.scores[wildcards.score]),
        run=subpath(input.model, parent=True),
        data=subpath(input.data, parent=True),
        folder=subpath(output.spec, parent=True),
    message:
        "Scoring examples under run {wildcards.run} on {wildcards.backend}"
    shell:
        "printf '%s\\n' {params.spec:q} > {output.spec} 2> {log} &&"
        " OMP_NUM_THREADS={threads} PYTHONPATH=workflow {params.python} -m memorization examples"
        " --run {params.run}"
        " --data {params.data}"
        " --spec {output.spec}"
        " --to {params.folder}"
        " >> {log} 2>&1"
