"""What the papers' sizes would cost: the assumed work of the whole plan, corrected by what a trial cell took per batch.

`snakemake --config scale=trial` trains one cell of every figure at full size for a few batches; then

    python -m memorization.costs results/trial

prints a table per figure: trainings, models, and core-hours of training and of exact ranks on this machine.
"""

import json
import sys
from pathlib import Path

import pandas as pd

from memorization import contracts
from memorization.configuration import ROOT, load_config
from memorization.data.registry import DatasetSpec, registry
from memorization.expansion import Cell, Plan, dataset_names, expand
from memorization.federated_specs import FederatedRunSpec
from memorization.federated_text_specs import FederatedTextRunSpec
from memorization.monitor import MAILBOX_CHARACTERS, assumed_seconds
from memorization.preflight import expected_examples
from memorization.spec_base import Trainable

STATES_PER_SECOND = 85_000
"""Of an exact walk, one core (paper_figures/benchmarks/walk.csv)."""


def seconds_per_batch(results: Path) -> dict[tuple[str, str], float]:
    """(back end, run id) -> seconds per mini-batch of one replicate, evaluation after it included, of finished runs; of
    a federation per round, everything that follows its training included.

    Raises UserError for a run whose curves break their contract.
    """
    found = {}
    for path in sorted(Path(results).glob("runs/*/*/run.json")):
        record = json.loads(path.read_text())
        curves = contracts.read("curves", path.parent)
        steps = curves.groupby("replicate")["step"].max().sum()
        took = curves["wall_s"].max() - curves["wall_s"].min()
        if record["spec"].get("task") in ("federated", "federated_text"):
            took = record["wall_s"]
        found[record["backend"], record["run"]] = took / steps
    return found


def estimate(
    paper: Plan, trial: Plan, seconds: dict[tuple[str, str], float], datasets: dict[str, DatasetSpec]
) -> pd.DataFrame:
    """One row per figure of `paper`: figure, runs, models, tried, training_h and exact_h.

    seconds: of the trial's runs (`seconds_per_batch`). training_h: core-hours of all trainings, NaN where no cell of
    the figure was tried. exact_h: at most, where every walk needs its whole budget.
    """
    rows = []
    for key, figure in paper.figures.items():
        cells = {(cell.backend, cell.run.run_id): cell for cell in figure.cells}
        tried = trial.figures[key].cells if key in trial.figures else ()
        rates = [rate for cell in tried if (rate := _rate(seconds, datasets, cell)) is not None]
        total = sum(c.run.replicates * assumed_seconds(c.run, datasets) for c in cells.values())
        walks = sum(c.run.replicates * c.attack.exact_steps for c in cells.values() if c.attack is not None)
        rows.append(
            {
                "figure": figure.key,
                "runs": len(cells),
                "models": sum(cell.run.replicates for cell in cells.values()),
                "tried": f"{len(rates)} of {len(tried)}",
                "training_h": total * sum(rates) / len(rates) / 3600 if rates else float("nan"),
                "exact_h": walks / STATES_PER_SECOND / 3600,
            }
        )
    return pd.DataFrame(rows)


def _rate(seconds: dict[tuple[str, str], float], datasets: dict[str, DatasetSpec], cell: Cell) -> float | None:
    """Seconds that a batch of a trial cell took per second assumed; None where it was not trained.

    Batches are as large whatever the data's size, so that a stand-in gives the same answer.
    """
    took = seconds.get((cell.backend, cell.run.run_id))
    if took is None:
        return None
    return took * _batches(cell.run, datasets[cell.run.dataset]) / assumed_seconds(cell.run, datasets)


def _batches(spec: Trainable, dataset: DatasetSpec) -> float:
    """Mini-batches of one replicate's whole training, by the registry's sizes; of a federation its rounds."""
    if isinstance(spec, (FederatedRunSpec, FederatedTextRunSpec)):
        return spec.training.rounds
    examples = expected_examples(spec, dataset)
    if examples is None:
        examples = MAILBOX_CHARACTERS * spec.corpus.fraction / spec.training.sequence_length
    return spec.training.epochs * examples / spec.training.batch_size


def main(results: str) -> None:
    """Print the table for the default papers and back ends."""
    paper, trial = (expand(load_config({"scale": scale}), dataset_names()) for scale in ("paper", "trial"))
    datasets = registry(ROOT / "config" / "datasets.yaml")
    table = estimate(paper, trial, seconds_per_batch(Path(results)), datasets)
    print(table.to_string(index=False, float_format=lambda hours: f"{hours:.3g}"))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "results/trial")
