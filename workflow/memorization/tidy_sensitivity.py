"""Rows of details.csv for the figures on loss-sensitivity, per training set (real or noise, kind of classes) and seed.

Replicates of equal number share initial weights and shuffling whatever they are trained on: a seed pairs training sets.
"""

import numpy as np
import pandas as pd

from memorization import tidy

KIND, CLASSES, DRAW = "data.noise.kind", "data.classes", "data.noise.seed"
NORMS = ("l1", "l2", "linf")
REAL, RANDOM, AGAIN = "real", "random", "random, another draw"
"""Training sets: images, noise inputs, and noise inputs that were drawn independently of those."""


def _training_set(frame: pd.DataFrame) -> pd.Series:
    kind = frame[KIND] if KIND in frame else pd.Series("none", frame.index)
    draw = pd.to_numeric(frame[DRAW]).fillna(0) if DRAW in frame else pd.Series(0, frame.index)
    names = np.where(kind == "none", REAL, np.where(draw == 0, RANDOM, AGAIN))
    return pd.Series(names, frame.index).where(kind.isin(["none", "inputs"]))


def _chosen(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    frame = tidy.rows(table, "details")
    frame = frame[(frame["measure"] == measure) & (frame["replicate"] >= 0)]
    classes = frame[CLASSES] if CLASSES in frame else pd.Series("own", frame.index)
    frame = frame.assign(seed=tidy.seeds(frame), data=_training_set(frame), classes=classes.fillna("own"))
    return frame.dropna(subset=["data"])


def inequality(table: pd.DataFrame, norm: str = "l1", part: str = "") -> pd.DataFrame:
    """Gini coefficient of loss-sensitivity: backend, run, replicate, seed, data, classes, step, value.

    part: "" of its mean over the updates so far, "now" of the sensitivity of the loss after just that many updates.
    """
    frame = _chosen(table, f"gini_{norm}")
    frame = frame[frame["part"] == part].sort_values("step", kind="stable")
    return frame[[*tidy.MODEL, "seed", "data", "classes", "step", "value"]]


def final(frame: pd.DataFrame, classes: str) -> pd.DataFrame:
    """Seeds x training sets: the value at each model's last step, for one kind of classes."""
    frame = frame[frame["classes"] == classes]
    last = frame[frame["step"] == frame.groupby(tidy.MODEL)["step"].transform("max")]
    return last.pivot_table(index="seed", columns="data", values="value")


def matrices(table: pd.DataFrame) -> pd.DataFrame:
    """Class sensitivity, long: backend, run, replicate, seed, data, term, example, value."""
    frame = _chosen(table, "sensitivity_class").rename(columns={"item": "term", "other": "example"})
    return frame[[*tidy.MODEL, "seed", "data", "term", "example", "value"]].astype({"term": int, "example": int})


def spread(table: pd.DataFrame) -> pd.DataFrame:
    """One row per seed and training set: mean over the class matrix's diagonal, off it, and the ratio off/diagonal."""
    frame = matrices(table)
    same = np.where(frame["term"] == frame["example"], "diagonal", "off")
    means = frame.assign(same=same).pivot_table(index=["seed", "data"], columns="same", values="value")
    for column in ("diagonal", "off"):
        if column not in means:
            means[column] = np.nan
    return means.assign(ratio=means["off"] / means["diagonal"]).dropna().reset_index()
