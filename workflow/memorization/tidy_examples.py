"""Rows of details.csv on single examples and on filters, per training set, for Figures 1 and 2 of A Closer Look."""

import numpy as np
import pandas as pd

from memorization import tidy
from memorization.tidy_noise import KIND

KINDS = ("none", "labels", "inputs")
"""data.noise.kind from what shares most patterns to what shares none: real data, randY, randX."""


def _details(table: pd.DataFrame, kind: str, backend: str | None = None) -> pd.DataFrame:
    frame = tidy.rows(table, "details")
    own = frame[KIND] == kind if KIND in frame else pd.Series(kind == "none", frame.index)
    if backend is not None:
        own &= frame["backend"] == backend
    return frame[own]


def rates(table: pd.DataFrame, kind: str, backend: str | None = None) -> np.ndarray:
    """float64[N], rising: P(correct) of every example over the runs on one training set."""
    frame = _details(table, kind, backend)
    return np.sort(frame.loc[frame["measure"] == "p_correct", "value"].to_numpy())


def runs(table: pd.DataFrame, kind: str) -> int:
    """How many runs the rates of one training set are over; 0 without any."""
    frame = _details(table, kind)
    return int(frame.loc[frame["measure"] == "p_correct", "replicates"].max()) if len(frame) else 0


def ratios(table: pd.DataFrame, kind: str, *, within: bool, backend: str | None = None) -> tuple[float, np.ndarray]:
    """The variance ratio (difficulty.py) on one training set, and those of resampled runs; (NaN, none) without it."""
    frame = _details(table, kind, backend)
    frame = frame[frame["measure"] == ("variance_ratio_within" if within else "variance_ratio")].sort_values("item")
    own = frame.loc[frame["item"] < 0, "value"]
    resampled = frame.loc[frame["item"] >= 0, "value"].to_numpy()
    return (float(own.iloc[0]) if len(own) else np.nan), resampled


def filters(table: pd.DataFrame, kind: str, part: str) -> pd.DataFrame:
    """Rows `filter` of one training set and part (init or trained): replicate, item, other, value."""
    frame = _details(table, kind)
    frame = frame[(frame["measure"] == "filter") & (frame["part"] == part)]
    return frame[["backend", "replicate", "item", "other", "value"]]


def structure(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Seeds x (kind, part): `filter_tv` or `filter_low_frequency` of each network's first layer."""
    listed = []
    for kind in ("none", "labels"):
        frame = _details(table, kind)
        frame = frame[frame["measure"] == measure]
        listed.append(frame.assign(kind=kind, seed=tidy.seeds(frame))[["seed", "kind", "part", "value"]])
    found = pd.concat(listed, ignore_index=True)
    return found.pivot_table(index="seed", columns=["kind", "part"], values="value")
