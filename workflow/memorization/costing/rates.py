"""Seconds, memory and disk per counted operation, fitted to recorded jobs.

Memory is what is counted (copies of the weights, a batch's states) and, per kind of job and back end, what a process
holds without them.

Per kind of job and task one non-negative rate for each count (relative least squares: a long job weighs as much as a
short one), and per class of such jobs (back end, architecture, private or not, unit) a factor: the median of what its
jobs took over what the rates say. So a class with few records borrows the shape from the others, the level is its own.
"""

from collections.abc import Callable
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
    """`seconds`, `memory_mb`, `disk_mb` of a described job, by rates that are fitted when they are first asked for."""

    def __init__(self, records: pd.DataFrame) -> None:
        self._records = records
        self._fitted: dict[tuple[str, ...], Any] = {}

    def _of(self, measured: str, by: str, row: dict[str, Any], fitted: Callable[[pd.DataFrame], Any]) -> Any:
        """What `fitted` makes of the records of `measured` that are of the row's kind and `by`; None without any."""
        key = (measured, row["kind"], row[by])
        if key not in self._fitted:
            alike = (self._records["kind"] == row["kind"]) & (self._records[by] == row[by])
            rows = self._records[alike].dropna(subset=[measured])
            self._fitted[key] = fitted(rows) if len(rows) else None
        return self._fitted[key]

    def seconds(self, row: dict[str, Any]) -> float:
        """NaN for a kind of job and task without any record."""

        def fitted(rows: pd.DataFrame) -> Rates:
            names = tuple(COUNTED) if len(rows) >= FEWEST else ONLY[row["kind"]]
            return fit(rows, "seconds", names, LEAST_SECONDS)

        rates = self._of("seconds", "task", row, fitted)
        return rates.predict(row) if rates else float("nan")

    def memory_mb(self, row: dict[str, Any]) -> float:
        def fitted(rows: pd.DataFrame) -> float:
            beside = [max(r["memory_mb"] - held(r), 0.0) for r in rows.to_dict("records")]
            return float(np.percentile(beside, RESERVE))

        beside = self._of("memory_mb", "backend", row, fitted)
        return held(row) + (float("nan") if beside is None else beside)

    def disk_mb(self, row: dict[str, Any]) -> float:
        if row["kind"] != "train":
            return 0.0
        rates = self._of("disk_mb", "task", row, lambda rows: fit(rows, "disk_mb", DISK, 0.1))
        return rates.predict(row) if rates else float("nan")


def held(row: dict[str, Any]) -> float:
    """MB of counted numbers that a job holds at once."""
    weights, models, batch = (_number(row.get(name)) for name in ("weights_mb", "models_mb", "batch_mb"))
    return (COPIES * weights + batch if row["kind"] == "train" else 0.0) + KEPT * models
