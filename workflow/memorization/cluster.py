"""What a job asks a scheduler for: memory, time and company.

Constants come from jobs that were measured (`python -m memorization.cluster results/<scale>` compares them with the
benchmark files of a finished run). What kills a job is not the last word: each further attempt asks for as much again,
and a training goes on from its last checkpoint.
"""

import sys
from math import ceil
from pathlib import Path

import pandas as pd

from memorization.classifier_specs import ClassifierRunSpec
from memorization.configuration import ROOT, load_config
from memorization.costing import counts, rates
from memorization.data.registry import DatasetSpec, registry
from memorization.errors import UserError
from memorization.expansion import Plan, dataset_names, expand
from memorization.monitor import PRIOR_SECONDS, assumed_seconds
from memorization.specs import AttackSpec, RunSpec, Trainable
from memorization.translation_specs import TranslationRunSpec

MEMORY_MB = {"smoke": 2_000, "reduced": 3_000}
"""Scale -> of one job. Largest peaks measured: 0.7 GB, 1.4 GB, and 0.4 GB for the two Snakemake processes around it."""

OTHER_MEMORY_MB = 5_000
"""Of one job at the papers' sizes, where 3.0 GB were measured (scale trial); more where the counted numbers of its
models alone would fill that."""

AROUND_MB = 1_500
"""Of the interpreter, its libraries and the Snakemake processes around it: beside what is counted."""

ROOM = 1.25
"""Memory asked for per memory expected."""

STARTING_MINUTES = {"smoke": 10, "reduced": 20}
"""Scale -> minutes for starting, a slow file system, and what `assumed_seconds` leaves out: sensitivities and searches
while a classifier trains (1.6 minutes where 0.3 seconds were assumed, at reduced scale)."""

OTHER_STARTING_MINUTES = 120
"""The same at the papers' sizes, where nothing but the trial has been measured."""

MARGIN = 4
"""Minutes asked for per minute assumed: of the trainings with a minute or more, all took less than three and a half."""

LONGEST_MINUTES = 24 * 60
"""Never more in one go: many partitions end there, and a training goes on with its next attempt."""

SHORT_MINUTES = 30
"""Up to here a training, its attacks and its scores are one job."""

STATES_PER_SECOND = 40_000
"""Of exact walks and searches, half of what one core did with 2 x 200 units (paper_figures/benchmarks/)."""

CLIENT_MB = 100
"""Below this a benchmark's memory is that of a client which waited for a warm interpreter, not of the job."""


def memory_mb(scale: str, attempt: int, counted: float = 0.0) -> int:
    """Of one job that holds `counted` MB of numbers, for its attempt (from 1)."""
    return attempt * max(MEMORY_MB.get(scale, OTHER_MEMORY_MB), ceil(ROOM * (AROUND_MB + counted)))


def counted_mb(spec: Trainable, datasets: dict[str, DatasetSpec], kind: str) -> float:
    """MB of weights, their copies and a mini-batch's states that a job of `kind` (train, attack, score) holds."""
    return rates.held({"kind": kind, **counts.sizes(spec, datasets[spec.dataset])})


def minutes(scale: str, seconds: float, attempt: int) -> int:
    """Time limit of a job that is assumed to take so long, for its attempt (from 1)."""
    starting = STARTING_MINUTES.get(scale, OTHER_STARTING_MINUTES)
    return min(attempt * ceil(starting + MARGIN * seconds / 60), LONGEST_MINUTES)


def training_seconds(spec: Trainable, datasets: dict[str, DatasetSpec]) -> float:
    """Assumed, of all replicates, on one core."""
    return spec.replicates * assumed_seconds(spec, datasets)


def attack_seconds(spec: Trainable, attack: AttackSpec) -> float:
    """Assumed, of all replicates: every walk and every search needs its whole budget."""
    states = attack.exact_steps + attack.extraction_steps * len(attack.extraction)
    return spec.replicates * (PRIOR_SECONDS["attack"] + states / STATES_PER_SECOND)


def score_seconds(spec: Trainable) -> float:
    """Assumed, of all replicates."""
    return spec.replicates * PRIOR_SECONDS["score"]


def group(scale: str, spec: Trainable, datasets: dict[str, DatasetSpec]) -> str | None:
    """Group of a run's jobs: "cell" where its training is short, so that they are submitted together; else None."""
    return "cell" if minutes(scale, training_seconds(spec, datasets), 1) <= SHORT_MINUTES else None


def advice(plan: Plan, datasets: dict[str, DatasetSpec]) -> list[str]:
    """What to know before hundreds of jobs are submitted: one line each."""
    lines = []
    if plan.config.device != "cuda" and plan.config.scale == "paper":
        lines.append("no GPU is asked for: --config device=cuda gives every training one")
    epochs = {
        name: training_seconds(spec, datasets) / spec.training.epochs / 60
        for name, spec in plan.runs.items()
        if isinstance(spec, (RunSpec, ClassifierRunSpec, TranslationRunSpec))
    }
    long = {name for name, minutes_each in epochs.items() if minutes_each > LONGEST_MINUTES}
    figures = sorted({f.key for f in plan.figures.values() if long & {cell.run.run_id for cell in f.cells}})
    if long:
        lines.append(
            f"{len(long)} trainings ({', '.join(figures)}) have epochs of more than {LONGEST_MINUTES // 60} hours on "
            "one CPU, and checkpoints are written between epochs: they need a GPU, or longer jobs (--set-resources "
            "train:runtime=<minutes>)"
        )
    return lines


def compare(results: Path, plan: Plan, datasets: dict[str, DatasetSpec], scale: str) -> pd.DataFrame:
    """One row per rule: what finished jobs took beside what their first attempt would have asked for.

    results: folder of a run. Columns: rule, jobs, longest_min, in_time (share that ended within its limit), ratio
    (largest seconds per assumed second, of jobs over a minute), measured_mb (jobs whose memory was measured), most_mb
    (their largest peak), asked_mb. Raises UserError where the folder has no benchmark of a run of `plan`.
    """
    rows = []
    for path in sorted(Path(results).glob("benchmarks/*/*.tsv")):
        _, run, *attack = path.stem.split("-")
        if run not in plan.runs:
            continue
        spec, rule = plan.runs[run], path.parent.name
        if rule == "train":
            assumed = training_seconds(spec, datasets)
        elif rule == "attack" and attack[0] in plan.attacks:
            assumed = attack_seconds(spec, plan.attacks[attack[0]])
        else:
            assumed = score_seconds(spec)
        took = pd.read_csv(path, sep="\t", na_values="-").iloc[-1]
        rows.append({"rule": rule, "assumed": assumed, "seconds": took["s"], "mb": took["max_rss"]})
    if not rows:
        raise UserError(f"{results}: no benchmarks of runs of scale {scale}; give the folder of a run and its scale")
    return pd.DataFrame([_row(rule, part, scale) for rule, part in pd.DataFrame(rows).groupby("rule", sort=False)])


def _row(rule: str, jobs: pd.DataFrame, scale: str) -> dict[str, object]:
    limits = 60 * jobs["assumed"].map(lambda seconds: minutes(scale, seconds, 1))
    long, measured = jobs[jobs["seconds"] > 60], jobs[jobs["mb"] > CLIENT_MB]
    return {
        "rule": rule,
        "jobs": len(jobs),
        "longest_min": jobs["seconds"].max() / 60,
        "in_time": (jobs["seconds"] <= limits).mean(),
        "ratio": (long["seconds"] / long["assumed"]).max(),
        "measured_mb": len(measured),
        "most_mb": measured["mb"].max(),
        "asked_mb": memory_mb(scale, 1),
    }


def main(arguments: list[str]) -> int:
    """Print `compare` for a folder of results and its scale (the folder's name if not given)."""
    results = Path(arguments[0] if arguments else "results/reduced")
    scale = arguments[1] if len(arguments) > 1 else results.name
    try:
        plan = expand(load_config({"scale": scale}), dataset_names())
        table = compare(results, plan, registry(ROOT / "config" / "datasets.yaml"), scale)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
