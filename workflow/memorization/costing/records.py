"""What jobs took: rows of paper_figures/benchmarks/jobs.csv (committed), and of the runs on this machine.

One row per job: where and what it was, its counted operations (`counts`), seconds, peak memory and disk. Empty: not
recorded, or nothing that this kind of job counts.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from memorization import contracts
from memorization.cells import task_of
from memorization.configuration import ROOT, validate
from memorization.costing import counts
from memorization.data.registry import DatasetSpec
from memorization.errors import UserError
from memorization.specs import AttackSpec, RunSpec, ScoreSpec, Trainable

COMMITTED = ROOT / "paper_figures" / "benchmarks" / "jobs.csv"
ABOUT = ["scale", "kind", "task", "backend", "architecture", "private", "unit", "run", "part", "device", "hardware"]
MEASURED = ["seconds", "memory_mb", "disk_mb"]
COUNTED = [
    "job", "replicates", "steps", "products", "evaluated", "moments", "measured", "walked", "searched", "unrolled",
    "unrolled_steps", "scored", "resampled", "examples",
]  # fmt: skip
SIZES = ["weights_mb", "models_mb", "batch_mb"]
COLUMNS = [*ABOUT, *MEASURED, *COUNTED, *SIZES]
PARTS: dict[str, tuple[str, type]] = {"attack": ("attacks", AttackSpec), "score": ("scores", ScoreSpec)}
CLIENT_MB = 100
"""Below this a benchmark's memory is that of a client which waited for a warm interpreter, not of the job."""
PEAK = re.compile(r"^peak memory: (\d+) MB$", re.MULTILINE)


def described(
    kind: str, backend: str, spec: Trainable, part: AttackSpec | ScoreSpec | None, dataset: DatasetSpec
) -> dict[str, Any]:
    """What is known of a job before it runs: task, class and counts. kind: train, attack or score."""
    if kind == "train":
        counted = counts.training(spec, dataset)
    else:
        counted = (counts.attack if kind == "attack" else counts.score)(spec, part, dataset)
    return {
        "kind": kind,
        "task": spec.task,
        "backend": backend,
        "architecture": spec.model.architecture,
        "private": spec.privacy is not None,
        "unit": spec.corpus.unit if isinstance(spec, RunSpec) else "",
        "run": spec.run_id,
        "part": "" if part is None else part.attack_id if kind == "attack" else part.score_id,
        **counted,
        **counts.sizes(spec, dataset),
    }


def of_results(results: Path, datasets: dict[str, DatasetSpec]) -> pd.DataFrame:
    """The finished jobs of a results folder (results/<scale>) that Snakemake has benchmarked. Of jobs that started an
    interpreter of their own (a cluster's, `warm: false`) only memory and disk.
    """
    rows = [row for path in sorted(Path(results).glob("benchmarks/*/*.tsv")) for row in _job(path, results, datasets)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _job(benchmark: Path, results: Path, datasets: dict[str, DatasetSpec]) -> Iterator[dict[str, Any]]:
    """The row of one benchmark file; none where its run has been deleted or was of an earlier version."""
    kind, (backend, run, *part) = benchmark.parent.name, benchmark.stem.split("-")
    folder = Path(results) / "runs" / backend / run
    asked = folder / PARTS[kind][0] / part[0] / "spec.json" if part else None
    if not (folder / "run.json").exists() or (asked is not None and not asked.exists()):
        return
    record = json.loads((folder / "run.json").read_text())
    try:
        spec = validate(task_of(record["spec"], str(folder)), record["spec"], str(folder))
        wanted = validate(PARTS[kind][1], json.loads(asked.read_text()), str(asked)) if asked else None
    except UserError:
        return
    log = Path(results) / "logs" / kind / f"{benchmark.stem}.log"
    peak = PEAK.findall(log.read_text()) if log.exists() else []
    environment = record["environment"]
    names, numbers = (line.split("\t") for line in benchmark.read_text().splitlines()[:2])
    took = dict(zip(names, numbers, strict=True))
    resident = float(took["max_rss"]) if took.get("max_rss", "-") not in ("-", "NA") else 0.0
    cold = resident > CLIENT_MB  # then the imports are in its seconds, which warm jobs have not
    yield described(kind, backend, spec, wanted, datasets[spec.dataset]) | {
        "run": run,
        "scale": Path(results).name,
        "device": "gpu" if re.search("cuda|gpu", record.get("device", "cpu"), re.IGNORECASE) else "cpu",
        "hardware": f"{environment['cpu']}, {environment['logical_cpus']} CPUs",
        "seconds": None if cold else float(took["s"]),
        "memory_mb": float(peak[-1]) if peak else resident if cold else None,
        "disk_mb": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6 if kind == "train" else None,
    }


def read(path: Path = COMMITTED) -> pd.DataFrame:
    """A file that `write` wrote. Raises UserError where it is missing or has other columns."""
    if not Path(path).exists():
        raise UserError(f"{path}: no records of jobs; make them with `python -m memorization.costs --record results/…`")
    text = dict.fromkeys(set(ABOUT) - {"private"}, str)
    table = pd.read_csv(
        path, dtype=text, keep_default_na=False, na_values={name: [""] for name in [*MEASURED, *COUNTED]}
    )
    if list(table.columns) != COLUMNS:
        raise UserError(f"{path}: columns differ from {', '.join(COLUMNS)}; record anew (`--record`)")
    return table


def write(table: pd.DataFrame, path: Path = COMMITTED) -> None:
    """Sorted, four significant digits, atomically."""
    ordered = table.sort_values(["scale", "kind", "task", "backend", "run", "part"])
    with contracts.atomic(Path(path)) as temporary:
        ordered.to_csv(temporary, index=False, float_format="%.4g")
