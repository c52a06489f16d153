# One environment per back end, built on first use (local: compute nodes need no network).


rule environment:
    input:
        "envs/{backend}/pyproject.toml",
    output:
        "envs/{backend}/.venv/versions.txt",
    log:
        "results/logs/environment/{backend}.log",
    localrule: True
    conda:
        "../../envs/torch.yaml"
    message:
        "Building the environment of back end {wildcards.backend}"
    shell:
        "bash workflow/scripts/environment.sh envs/{wildcards.backend} .venv/versions.txt > {log} 2>&1"
