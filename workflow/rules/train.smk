# Training: one job trains all replicates of a cell.


rule specify:
    output:
        "<results>/runs/{backend}/{run}/spec.json",
    log:
        "<logs>/specify/{backend}-{run}.log",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        spec=lambda wildcards: canonical_json(PLAN.runs[wildcards.run]),
    message:
        "Writing the specification of run {wildcards.run}"
    shell:
        "printf '%s\\n' {params.spec:q} > {output} 2> {log}"


# In the driver's environment: TensorFlow Privacy pins an old dp-accounting, PyTorch needs none. Once for all back ends.
rule account:
    input:
        data=data_of,
    output:
        spec="<results>/privacy/{run}/spec.json",
        table="<results>/privacy/{run}/privacy.csv",
    log:
        "<logs>/account/{run}.log",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    params:
        python=sys.executable,
        spec=lambda wildcards: canonical_json(PLAN.runs[wildcards.run]),
        data=subpath(input.data, parent=True),
        folder=subpath(output.spec, parent=True),
    message:
        "Accounting for run {wildcards.run}"
    shell:
        "printf '%s\\n' {params.spec:q} > {output.spec} 2> {log} &&"
        " PYTHONPATH=workflow {params.python} -m memorization account"
        " --spec {output.spec}"
        " --data {params.data}"
        " --run {params.folder}"
        " >> {log} 2>&1"


rule train:
    input:
        spec="<results>/runs/{backend}/{run}/spec.json",
        data=data_of,
        privacy=privacy_of,
    output:
        model="<results>/runs/{backend}/{run}/model.npz",
        curves="<results>/runs/{backend}/{run}/curves.csv",
        measures="<results>/runs/{backend}/{run}/measures.csv",
        details="<results>/runs/{backend}/{run}/details.csv",
        record="<results>/runs/{backend}/{run}/run.json",
    log:
        "<logs>/train/{backend}-{run}.log",
    benchmark:
        "<benchmarks>/train/{backend}-{run}.tsv"
    priority: longest_first
    group:
        cell_of
    conda:
        "../../envs/{backend}.yaml"
    container:
        "envs/{backend}.sif"
    threads: 1
    resources:
        mem_mb=memory_of("train"),
        runtime=training_minutes,
        gpu=1 if PLAN.config.device == "cuda" else 0,
    params:
        python=python_of,
        data=subpath(input.data, parent=True),
        folder=subpath(output.model, parent=True),
        device=PLAN.config.device,
        # The noise travels with the run.
        prepare=lambda wildcards, input, output: (
            f"cp {input.privacy} {os.path.dirname(output.model)}/ && " if input.privacy else ""
        ),
    message:
        "Training run {wildcards.run} on {wildcards.backend}"
    shell:
        "{params.prepare}OMP_NUM_THREADS={threads} PYTHONPATH=workflow {params.python} -m memorization train"
        " --backend {wildcards.backend}"
        " --spec {input.spec}"
        " --data {params.data}"
        " --run {params.folder}"
        " --device {params.device}"
        " > {log} 2>&1"
