"""What the papers' sizes would cost: the assumed work of the whole plan, corrected by what a trial cell took.

`snakemake --config scale=trial` trains one cell of every figure at full size for a few batches; then

    python -m memorization.costs results/trial

prints a table per figure: trainings, models, and core-hours of training and of exact ranks on this machine.
"""

import json
import sys
from pathlib import Path

import pandas as pd

from memorization.configuration import ROOT, load_config
from memorization.data.registry import DatasetSpec, registry
from memorization.expansion import Cell, Plan, dataset_names, expand
from memorization.monitor import assumed_seconds

STATES_PER_SECOND = 85_000
"""Of an exact walk, one core (paper_figures/benchmarks/walk.csv)."""


def measured_seconds(results: Path) -> dict[tuple[str, str], float]:
    """(back end, run id) -> seconds that the training of a finished run took, by its run.json."""
    found = {}
    for path in sorted(Path(results).glob("runs/*/*/run.json")):
        record = json.loads(path.read_text())
        found[record["backend"], record["run"]] = record["wall_s"]
    return found


def estimate(
    paper: Plan, trial: Plan, seconds: dict[tuple[str, str], float], datasets: dict[str, DatasetSpec]
) -> pd.DataFrame:
    """One row per figure of `paper`: DataFrame with figure, runs, models, measured, training_h and exact_h.

    seconds: of the trial's trainings (`measured_seconds`). training_h: core-hours of all trainings, NaN where the trial
    has no finished cell of the figure. exact_h: at most, where every walk needs its whole budget.
    """
    rows = []
    for key, figure in paper.figures.items():
        cells = {(cell.backend, cell.run.run_id): cell for cell in figure.cells}
        tried = trial.figures[key].cells if key in trial.figures else ()
        rates = [rate for cell in tried if (rate := _rate(seconds, datasets, cell)) is not None]
        total = sum(c.run.replicates * assumed_seconds(c.run, datasets) for c in cells.values())
        steps = sum(c.run.replicates * c.attack.exact_steps for c in cells.values() if c.attack is not None)
        rows.append(
            {
                "figure": figure.key,
                "runs": len(cells),
                "models": sum(cell.run.replicates for cell in cells.values()),
                "tried": f"{len(rates)} of {len(tried)}",
                "training_h": total * sum(rates) / len(rates) / 3600 if rates else float("nan"),
                "exact_h": steps / STATES_PER_SECOND / 3600,
            }
        )
    return pd.DataFrame(rows)


def _rate(seconds: dict[tuple[str, str], float], datasets: dict[str, DatasetSpec], cell: Cell) -> float | None:
    """Seconds that a trial cell took per second assumed; None where it was not trained."""
    took = seconds.get((cell.backend, cell.run.run_id))
    return None if took is None else took / (cell.run.replicates * assumed_seconds(cell.run, datasets))


def main(results: str) -> None:
    """Print the table for the default papers and back ends."""
    paper, trial = (expand(load_config({"scale": scale}), dataset_names()) for scale in ("paper", "trial"))
    datasets = registry(ROOT / "config" / "datasets.yaml")
    table = estimate(paper, trial, measured_seconds(Path(results)), datasets)
    print(table.to_string(index=False, float_format=lambda hours: f"{hours:.3g}"))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "results/trial")
