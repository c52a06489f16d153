"""One row per model of the figures on capacity and data size: validation accuracy, time to fit, width needed."""

import numpy as np
import pandas as pd

from memorization import tidy

SETTINGS = {
    "model.units": ("width", 0.0),
    "data.train_examples": ("examples", 0.0),
    "data.noise.level": ("level", 0.0),
    "data.noise.kind": ("noise", "inputs"),
    "data.without_noise": ("without", False),
}
"""Varied key -> column, and its value where a figure does not vary the key."""

CONDITION = ["noise", "without", "examples", "level"]
"""What beside the width tells cells of one back end apart."""


def settings(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with the columns of `SETTINGS` and `seed`. Without noise (level 0) its kind is `none`."""
    found = {}
    for key, (column, default) in SETTINGS.items():
        values = rows[key] if key in rows else pd.Series(default, index=rows.index)
        found[column] = values.astype(str).eq("True") if isinstance(default, bool) else values.fillna(default)
    rows = rows.assign(**found, seed=tidy.seeds(rows) if len(rows) else "")
    numbers = {column: pd.to_numeric(rows[column]).astype(float) for column in ("width", "examples", "level")}
    rows = rows.assign(**numbers)
    return rows.assign(noise=rows["noise"].astype(object).where(rows["level"] > 0, "none"))


def accuracies(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model: `settings`, and validation accuracy in percent after the last epoch (`final`) and in the best
    epoch after training began (`best`).
    """
    rows = tidy.rows(table, "details")
    rows = rows[(rows["measure"] == "accuracy") & (rows["part"] == "validation") & (rows["epoch"] > 0)]
    ordered = settings(rows).sort_values("epoch", kind="stable")
    columns = ["seed", "width", *CONDITION]
    found = ordered.groupby([*tidy.MODEL, *columns])["value"].agg(final="last", best="max").reset_index()
    return found.assign(final=100 * found["final"], best=100 * found["best"])


def times(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model: `settings`, epochs to 100 % training accuracy (A17), and `censored`: after so many it had not
    got there.
    """
    rows = tidy.rows(table, "details")
    rows = settings(rows[rows["measure"] == "fitted_epoch"])
    rows = rows.assign(epochs=rows["value"].fillna(rows["epoch"]), censored=rows["value"].isna())
    return rows[[*tidy.MODEL, "seed", "width", *CONDITION, "epochs", "censored"]].reset_index(drop=True)


def needed(accuracy: pd.DataFrame, value: str, share: float) -> pd.DataFrame:
    """One row per back end, condition and seed of `accuracies`: `width`, the smallest one with which `value` reaches
    `share` of that seed's own maximum over widths (H5); `edge`: it is the sweep's smallest or largest.
    """
    keys = ["backend", *CONDITION, "seed"]
    rows = accuracy.dropna(subset=[value])
    most = rows.groupby(keys)[value].transform("max")
    found = rows[rows[value] >= share * most].groupby(keys)["width"].min()
    ends = rows.groupby(keys)["width"].agg(["min", "max"]).reindex(found.index)
    edge = found.eq(ends["min"]) | found.eq(ends["max"])
    return pd.DataFrame({"width": found, "edge": edge}).reset_index()


def wide(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """`value` with a row per (backend, seed) and a column per noise level, for seeds that have all of them."""
    return frame.pivot_table(index=["backend", "seed"], columns="level", values=value).dropna()


def at_widths(frame: pd.DataFrame) -> pd.DataFrame:
    """Of `times`: the rows of the data size at which the width varies (Fig 6 left), the largest if several do."""
    widths = frame.groupby("examples")["width"].nunique()
    return frame[frame["examples"] == _most(widths)]


def at_sizes(frame: pd.DataFrame) -> pd.DataFrame:
    """Of `times`: the rows of the width at which the data size varies (Fig 6 right), the largest if several do."""
    sizes = frame.groupby("width")["examples"].nunique()
    return frame[frame["width"] == _most(sizes)]


def _most(counts: pd.Series) -> float:
    """The largest index with the largest count; NaN without any."""
    return float(counts[counts == counts.max()].index.max()) if len(counts) else np.nan
