"""Rows of details.csv for figures on classifiers that fit data or noise: curves over epochs, per noise and seed.

Replicates of equal number share initial weights and shuffling whatever the noise: a seed is paired over noise levels.
"""

import numpy as np
import pandas as pd

from memorization import tidy

KIND, LEVEL = "data.noise.kind", "data.noise.level"
REAL = "none"
COLUMNS = [*tidy.MODEL, "seed", "kind", "level", "epoch", "value"]


def curves(table: pd.DataFrame, measure: str, part: str) -> pd.DataFrame:
    """One row per model and epoch of one measure on one part of the data: `COLUMNS`, level 0 where nothing is noise."""
    frame = tidy.rows(table, "details")
    frame = frame[(frame["measure"] == measure) & (frame["part"] == part) & (frame["replicate"] >= 0)]
    kind = frame[KIND] if KIND in frame else pd.Series(REAL, frame.index)
    level = pd.to_numeric(frame[LEVEL]) if LEVEL in frame else pd.Series(np.nan, frame.index)
    level = level.fillna(1.0).where(kind != REAL, 0.0)
    return frame.assign(seed=tidy.seeds(frame), kind=kind, level=level)[COLUMNS].sort_values("epoch", kind="stable")


def of(frame: pd.DataFrame, kind: str, level: float | None = None) -> pd.DataFrame:
    """The curves of one kind of noise, and of one level unless it is left open."""
    chosen = frame["kind"] == kind
    return frame[chosen if level is None else chosen & np.isclose(frame["level"], level)]


def wide(frame: pd.DataFrame) -> pd.DataFrame:
    """Seeds x epochs (rising) of some curves, mean over back ends; seeds that lack an epoch are left out."""
    return frame.pivot_table(index="seed", columns="epoch", values="value").dropna()


def at_end(frame: pd.DataFrame) -> pd.DataFrame:
    """Seeds x levels at each model's last epoch."""
    return _chosen(frame, "max")


def at_start(frame: pd.DataFrame) -> pd.DataFrame:
    """Seeds x levels at each model's first epoch."""
    return _chosen(frame, "min")


def _chosen(frame: pd.DataFrame, which: str) -> pd.DataFrame:
    rows = frame[frame["epoch"] == frame.groupby(tidy.MODEL)["epoch"].transform(which)]
    return rows.pivot_table(index="seed", columns="level", values="value").dropna()


def best(frame: pd.DataFrame) -> pd.DataFrame:
    """Seeds x levels at each model's best epoch."""
    top = frame.groupby([*tidy.MODEL, "seed", "level"], as_index=False)["value"].max()
    return top.pivot_table(index="seed", columns="level", values="value").dropna()


def smoothed(matrix: pd.DataFrame) -> pd.DataFrame:
    """Running mean of three epochs of a seeds x epochs matrix; of two at its ends."""
    return matrix.T.rolling(3, center=True, min_periods=1).mean().T


def others_peak(matrix: pd.DataFrame) -> pd.Series:
    """Per seed the epoch at which the mean curve of the *other* seeds is highest (seeds x epochs).

    A seed's own maximum lies above its end whatever the curve; its value where others peak need not.
    """
    total = matrix.sum()
    return matrix.apply(lambda row: (total - row).idxmax(), axis=1)


def at(matrix: pd.DataFrame, epochs: pd.Series) -> pd.Series:
    """Per seed its curve at its own one of `epochs`; between two measurements on the line that joins them."""
    shared = matrix.index.intersection(epochs.index)
    values = [np.interp(epochs[seed], matrix.columns.astype(float), matrix.loc[seed]) for seed in shared]
    return pd.Series(values, index=shared, dtype=float)
