# What a job asks a scheduler for (memorization/cluster.py), of a training, an attack, a score.


def memory_of(kind):
    def memory(wildcards, attempt):
        return cluster.memory_mb(
            PLAN.config.scale, attempt, cluster.counted_mb(PLAN.runs[wildcards.run], DATASETS, kind)
        )

    return memory


def training_minutes(wildcards, attempt):
    return cluster.minutes(PLAN.config.scale, cluster.training_seconds(PLAN.runs[wildcards.run], DATASETS), attempt)


def attack_minutes(wildcards, attempt):
    seconds = cluster.attack_seconds(PLAN.runs[wildcards.run], PLAN.attacks[wildcards.attack])
    return cluster.minutes(PLAN.config.scale, seconds, attempt)


def score_minutes(wildcards, attempt):
    return cluster.minutes(PLAN.config.scale, cluster.score_seconds(PLAN.runs[wildcards.run]), attempt)


def cell_of(wildcards):
    """A short training and what follows it are submitted together; here everything runs by itself."""
    spec = PLAN.runs[wildcards.run]
    return None if workflow.local_exec else cluster.group(PLAN.config.scale, spec, DATASETS)
