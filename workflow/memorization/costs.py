"""What a plan will cost before anything is run: per figure hours, memory and disk, from recorded jobs (`costing`).

    snakemake costs                          the figures of the configuration, at every scale
    python -m memorization.costs --check     what the other records would have said of each recorded figure
    python -m memorization.costs --record results/smoke results/reduced     paper_figures/benchmarks/jobs.csv anew

Hours are those of one job slot of the recorded machine. A job that is recorded itself takes what it took; all others
take what their counted operations cost in the recorded jobs (`costing.rates`). This machine's own finished runs say how
much slower or faster it is, and count as records too, at the recorded machine's speed (`converted`).
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from memorization import tables
from memorization.configuration import ROOT, Config, load_config, read_yaml
from memorization.costing import records
from memorization.costing.counts import GIGA
from memorization.costing.rates import Model
from memorization.data.registry import DatasetSpec, registry
from memorization.errors import UserError
from memorization.expansion import Figure, Plan, dataset_names, expand

SCALES = ("smoke", "reduced", "paper")
KEY = ["kind", "backend", "run", "part"]
PASSES, FLOPS = 3, 2
"""Of a training step over one forward pass; floating-point operations of a multiplication and its addition."""

Job = dict[str, Any]


def jobs_of(figure: Figure, datasets: dict[str, DatasetSpec]) -> dict[tuple[str, ...], Job]:
    """The described jobs (`records.described`) that a figure needs, each once."""
    wanted = {tables.DERIVED.get(source, source) for source in figure.spec.sources}
    scored = bool(wanted & set(tables.SCORE_SOURCES))
    attacked = bool(wanted - {*tables.RUN_SOURCES, *tables.SCORE_SOURCES, "static"})
    found = {}
    for cell in figure.cells:
        asked = [("train", None)]
        asked += [("attack", cell.attack)] if cell.attack and attacked else []
        asked += [("score", cell.score)] if cell.score and scored else []
        for kind, part in asked:
            job = records.described(kind, cell.backend, cell.run, part, datasets[cell.run.dataset])
            found[tuple(job[name] for name in KEY)] = job
    return found


class Estimator:
    """Seconds, memory and disk of jobs: recorded where they are, else by the rates of all records."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.cpu = Model(table[table["device"] == "cpu"])
        self.gpu = Model(table[table["device"] == "gpu"])
        known = table[table["device"] == "cpu"].dropna(subset=["seconds"]).groupby(KEY)["seconds"].median()
        self.known: dict[tuple[str, ...], float] = known.to_dict()

    def seconds(self, key: tuple[str, ...], job: Job) -> float:
        return self.known.get(key) or self.cpu.seconds(job)

    def row(self, jobs: dict[tuple[str, ...], Job]) -> dict[str, float]:
        """Of several jobs together: sums, and the memory of the one that needs most."""
        trained = [job for job in jobs.values() if job["kind"] == "train"]
        memory = [mb for job in jobs.values() if np.isfinite(mb := self.cpu.memory_mb(job))]
        return {
            "trainings": len(trained),
            "models": int(sum(job["replicates"] for job in trained)),
            "jobs": len(jobs),
            "recorded": sum(key in self.known for key in jobs),
            "cpu_h": sum(self.seconds(key, job) for key, job in jobs.items()) / 3600,
            "gpu_h": sum(self.gpu.seconds(job) for job in jobs.values()) / 3600 if jobs else 0.0,
            "memory_gb": max(memory, default=float("nan") if jobs else 0.0) / 1e3,
            "disk_gb": sum(self.cpu.disk_mb(job) for job in trained) / 1e3,
            "pflop": sum(job.get("products") or 0.0 for job in trained) * GIGA * PASSES * FLOPS / 1e15,
        }


def table(plan: Plan, estimator: Estimator, datasets: dict[str, DatasetSpec]) -> pd.DataFrame:
    """One row per figure of `plan`, and a last one, "all", in which what figures share is counted once.

    Columns: paper, figure, trainings, models, jobs, recorded (jobs that are), cpu_h, gpu_h (NaN without a record of a
    GPU), memory_gb of its largest job, disk_gb of its runs (of "all" with downloads), pflop of arithmetic in training.
    """
    rows, everything = [], {}
    for (paper, key), figure in plan.figures.items():
        jobs = jobs_of(figure, datasets)
        everything |= jobs
        rows.append({"paper": paper, "figure": key, **estimator.row(jobs)})
    last = {"paper": "", "figure": "all", **estimator.row(everything)}
    used = {cell.run.dataset for figure in plan.figures.values() for cell in figure.cells}
    last["disk_gb"] += sum(_downloads(datasets[name]) for name in used) / 1e9
    return pd.DataFrame([*rows, last])


def _downloads(dataset: DatasetSpec) -> float:
    """Bytes of a data set's files, kept as they came and unpacked; unknown sizes count as nothing."""
    return 2.0 * sum(file.bytes or 0 for file in dataset.files.values())


def check(table: pd.DataFrame, plan: Plan, scale: str, datasets: dict[str, DatasetSpec]) -> pd.DataFrame:
    """What each figure of `plan` took by the records, and what the records of all other runs would have said of it.

    Columns: figure, jobs, recorded_h, predicted_h, ratio; figures without any record at `scale` are left out.
    """
    own = table[(table["scale"] == scale) & (table["device"] == "cpu")].dropna(subset=["seconds"])
    took = own.groupby(KEY)["seconds"].median().to_dict()
    rows = []
    for (_, key), figure in plan.figures.items():
        jobs = {name: job for name, job in jobs_of(figure, datasets).items() if name in took}
        if not jobs:
            continue
        model = Model(table[~table["run"].isin({job["run"] for job in jobs.values()}) & (table["device"] == "cpu")])
        said = sum(model.seconds(job) for job in jobs.values()) / 3600
        measured = sum(took[name] for name in jobs) / 3600
        rows.append({"figure": key, "jobs": len(jobs), "recorded_h": measured, "predicted_h": said})
    found = pd.DataFrame(rows, columns=["figure", "jobs", "recorded_h", "predicted_h"])
    return found.assign(ratio=found["predicted_h"] / found["recorded_h"])


def speed(own: pd.DataFrame, committed: pd.DataFrame, device: str = "cpu") -> float:
    """How many times as long this machine's jobs took as the committed records say; NaN with fewer than five jobs."""
    model = Model(committed[committed["device"] == device])
    long = own[(own["seconds"] >= 5) & (own["device"] == device)]
    ratios = [row["seconds"] / model.seconds(row) for row in long.to_dict("records")]
    ratios = [ratio for ratio in ratios if np.isfinite(ratio)]
    return float(np.median(ratios)) if len(ratios) >= 5 else float("nan")


def converted(own: pd.DataFrame, committed: pd.DataFrame) -> pd.DataFrame:
    """`own` with the seconds that the recorded machine would have taken, so that both can be records of one table.

    Divided by `speed`; where that is not known no seconds, only memory and disk. A device that only this machine has
    records of keeps its seconds: then it is the recorded one.
    """
    devices = set(own["device"])
    known = set(committed["device"])
    slower = {device: speed(own, committed, device) if device in known else 1.0 for device in devices}
    return own.assign(seconds=own["seconds"].astype(float) / own["device"].map(slower).astype(float))


def own_records(datasets: dict[str, DatasetSpec], root: Path = ROOT) -> pd.DataFrame:
    """Of every finished run in this checkout's results/."""
    frames = [records.of_results(path.parent, datasets) for path in sorted(root.glob("results/*/benchmarks"))]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=records.COLUMNS)


def overview(config: Config, root: Path = ROOT) -> tuple[pd.DataFrame, float]:
    """`table` of every scale under each other (column scale), and how much slower this machine is (`speed`)."""
    datasets = registry(ROOT / "config" / "datasets.yaml")
    committed, own = records.read(), own_records(datasets, root)
    both = [frame for frame in (committed, converted(own, committed)) if len(frame)]
    estimator = Estimator(pd.concat(both, ignore_index=True))
    frames = []
    for scale in SCALES:
        plan = expand(config.model_copy(update={"scale": scale}), dataset_names())
        frames.append(table(plan, estimator, datasets).assign(scale=scale))
    return pd.concat(frames, ignore_index=True), speed(own, committed)


def main(arguments: list[str]) -> int:
    """The command line (see the module's text). Returns the exit status."""
    options = argparse.ArgumentParser(prog="python -m memorization.costs", description=(__doc__ or "").split("\n")[0])
    options.add_argument("--check", action="store_true", help="predictions beside what was recorded")
    options.add_argument("--record", nargs="+", type=Path, metavar="RESULTS", help="write the committed records anew")
    given = options.parse_args(arguments)
    try:
        if given.record:
            _record(given.record)
        elif given.check:
            _check()
        else:
            show(configured())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def configured(scale: str = "reduced") -> Config:
    """config/config.yaml at `scale`."""
    return load_config(read_yaml(ROOT / "config" / "config.yaml") | {"scale": scale})


def show(config: Config, root: Path = ROOT) -> None:
    """Print the overview: one line per figure, the scales side by side."""
    from memorization.costing.display import overview_table

    shown, slower = overview(config, root)
    print(overview_table(shown, slower))


def _record(folders: list[Path]) -> None:
    datasets = registry(ROOT / "config" / "datasets.yaml")
    found = pd.concat([records.of_results(folder, datasets) for folder in folders], ignore_index=True)
    records.write(found)
    print(f"{len(found)} jobs: {records.COMMITTED.relative_to(ROOT)}")


def _check() -> None:
    from memorization.costing.display import check_table

    datasets, known = registry(ROOT / "config" / "datasets.yaml"), records.read()
    for scale in ("smoke", "reduced"):
        plan = expand(configured(scale), dataset_names())
        print(check_table(check(known, plan, scale, datasets), scale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
