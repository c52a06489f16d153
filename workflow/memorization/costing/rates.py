"""Seconds, memory and disk per counted operation, fitted to recorded jobs.

Memory is what is counted (copies of the weights, a batch's states) and, per kind of job and back end, what a process
holds without them.

Per kind of job and task one non-negative rate for each count (relative least squares: a long job weighs as much as a
short one), and per class of such jobs (back end, architecture, private or not, unit) a factor: the median of what its
jobs took over what the rates say. So a class with few records borrows the shape from the others, the level is its own.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from memorization.costing.records import COUNTED

CLASS = ("backend", "architecture", "private", "unit")
LEAST_SECONDS = 3.0
"""Shorter jobs weigh as one of so many seconds: what they take is mostly the machine's business."""
FEWEST = 10
"""Records of a kind and task below which only one rate is fitted, of `ONLY`: the more counts, the more of what takes
time would be laid at the door of what does not grow."""
ONLY = {"train": ("products",), "attack": ("scored",), "score": ("scored",)}
COPIES, KEPT = 6, 2
"""Of the weights of the replicate in training (with gradients, moments, two to spare), and of all replicates'."""
DISK = ("job", "replicates", "models_mb")
RESERVE = 90
"""Percentile of recorded memory, beside what is counted, that is predicted: a median would not do for half of all."""


@dataclass
class Rates:
    """Of one kind and task: rate per count, factor per class."""

    names: tuple[str, ...]
    rates: np.ndarray
    factors: dict[tuple[Any, ...], float] = field(default_factory=dict)

    def shape(self, row: dict[str, Any]) -> float:
        """What the rates alone say."""
        return float(sum(rate * _number(row.get(name)) for name, rate in zip(self.names, self.rates, strict=True)))

    def predict(self, row: dict[str, Any]) -> float:
        """With the factor of its class, or of the nearest one: same back end, as private, then any of the back end."""
        wanted = tuple(row[name] for name in CLASS)
        for alike in (
            lambda known: known == wanted,
            lambda known: (known[0], known[2]) == (wanted[0], wanted[2]),
            lambda known: known[0] == wanted[0],
            lambda known: True,
        ):
            near = [factor for known, factor in self.factors.items() if alike(known)]
            if near:
                return float(np.exp(np.mean(np.log(near)))) * self.shape(row)
        return self.shape(row)


def _number(value: Any) -> float:
    return 0.0 if value is None or value != value else float(value)


def fit(rows: pd.DataFrame, measured: str, names: tuple[str, ...], least: float, percentile: float = 50) -> Rates:
    """Rates of `names` for column `measured` of recorded jobs of one kind and task, all of it there."""
    counted = rows[list(names)].fillna(0).to_numpy(float)
    took = rows[measured].to_numpy(float)
    scale = np.where(counted.max(axis=0) > 0, counted.max(axis=0), 1.0)
    weight = 1 / np.maximum(took, least)
    rates = nnls(counted / scale * weight[:, None], took * weight)[0] / scale
    said = np.maximum(counted @ rates, 1e-9)
    factors = {}
    for key, places in rows.reset_index(drop=True).groupby(list(CLASS)).indices.items():
        factors[key] = float(np.percentile(np.maximum(took[places], 1e-3) / said[places], percentile))
    return Rates(names, rates, factors)


class Model:
    """Rates for everything that is recorded: `seconds`, `memory_mb` and `disk_mb` of a described job."""

    def __init__(self, records: pd.DataFrame) -> None:
        self.times = {
            key: fit(rows, "seconds", tuple(COUNTED) if len(rows) >= FEWEST else ONLY[key[0]], LEAST_SECONDS)
            for key, rows in records.dropna(subset=["seconds"]).groupby(["kind", "task"])
        }
        self.memory = {
            key: float(np.percentile([max(r["memory_mb"] - held(r), 0.0) for r in rows.to_dict("records")], RESERVE))
            for key, rows in records.dropna(subset=["memory_mb"]).groupby(["kind", "backend"])
        }
        self.disk = {
            key: fit(rows, "disk_mb", DISK, 0.1)
            for key, rows in records.dropna(subset=["disk_mb"]).groupby(["kind", "task"])
        }

    def seconds(self, row: dict[str, Any]) -> float:
        """NaN for a kind of job and task without any record."""
        return _of(self.times, (row["kind"], row["task"]), row)

    def memory_mb(self, row: dict[str, Any]) -> float:
        return self.memory.get((row["kind"], row["backend"]), float("nan")) + held(row)

    def disk_mb(self, row: dict[str, Any]) -> float:
        return _of(self.disk, (row["kind"], row["task"]), row) if row["kind"] == "train" else 0.0


def held(row: dict[str, Any]) -> float:
    """MB of counted numbers that a job holds at once."""
    weights, models, batch = (_number(row.get(name)) for name in ("weights_mb", "models_mb", "batch_mb"))
    return (COPIES * weights + batch if row["kind"] == "train" else 0.0) + KEPT * models


def _of(fitted: dict[Any, Rates], key: tuple[str, str], row: dict[str, Any]) -> float:
    return fitted[key].predict(row) if key in fitted else float("nan")
