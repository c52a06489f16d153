"""Rows of details.csv for figures and claims on federated unlearning: methods, rounds, oracles, seeds.

A setting is a row of `results`: one federation (seed) of one cell, asked to forget in one way. Forgetting rates and
accuracies are in per cent, drops in points. Seeds of different cells share their random streams, cells of different
data sets share nothing.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from memorization import forget_requests, tidy

BASE = -1
"""`item` of the model before any request."""
ORACLES = ("confidence", "loss", "shadow", "lira")
FROM_SCRATCH = ("retrain", "sisa", "federaser")
"""Methods that begin with a new model: only where they end can be compared."""
UNIT = [*tidy.MODEL, "item"]
_DETAILS = ("step", "epoch", "measure", "part", "other", "value")


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of single federations, each with `seed`, `method` (base, or the request's) and `request.<field>`."""
    frame = tidy.rows(table, "details")
    frame = frame[frame["replicate"] >= 0]
    requests = forget_requests.read(table)
    fields = {name: f"request.{name}" for name in requests if name not in forget_requests.COLUMNS}
    frame = frame.merge(requests.rename(columns=fields), on=list(forget_requests.COLUMNS), how="left")
    method = frame["request.method"].astype(object).where(frame["item"] != BASE, "base")
    return frame.assign(seed=tidy.seeds(frame), method=method)


def measured(frame: pd.DataFrame, measure: str, *parts: str) -> pd.DataFrame:
    """Of `rows` those of one measure, on some parts of the data (none given: on any)."""
    chosen = frame["measure"] == measure
    return frame[chosen & frame["part"].isin(parts) if parts else chosen]


def last(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows at the last round of every federation and request."""
    return frame[frame["step"] == frame.groupby(UNIT)["step"].transform("max")]


def of_base(frame: pd.DataFrame) -> pd.Series:
    """Values before any request, one per federation (index: backend, run, replicate)."""
    return frame[(frame["item"] == BASE) & (frame["step"] == 0)].groupby(tidy.MODEL)["value"].first()


def trajectories(frame: pd.DataFrame, measure: str, *parts: str, start: float | None = None) -> pd.DataFrame:
    """One row per federation, request and round, with the base model's value (or `start`) as round 0."""
    own = measured(frame, measure, *parts)
    later = own[(own["item"] != BASE) & (own["step"] > 0)]
    first = later.drop_duplicates(UNIT).assign(step=0, epoch=0.0)
    before = of_base(own).rename("before").reset_index()
    first = first.merge(before, on=tidy.MODEL, how="left")
    own_start = own[(own["item"] != BASE) & (own["step"] == 0)].groupby(UNIT)["value"].first().rename("own")
    first = first.merge(own_start.reset_index(), on=UNIT, how="left")
    value = first["own"].fillna(first["before"]) if start is None else start
    first = first.assign(value=value).drop(columns=["before", "own"]).dropna(subset=["value"])
    listed = [one for one in (first, later) if len(one)]
    return pd.concat(listed, ignore_index=True).sort_values([*UNIT, "step"]) if listed else later


def rates(frame: pd.DataFrame, oracle: str) -> pd.DataFrame:
    """Forgetting rates by round, per cent; 0 in round 0 by definition."""
    return trajectories(frame, f"fr_{oracle}", "", "forget", start=0.0)


def accuracies(frame: pd.DataFrame, part: str = "test") -> pd.DataFrame:
    """Accuracies by round, per cent."""
    found = trajectories(frame, "accuracy", part)
    return found.assign(value=100 * found["value"])


def results(table: pd.DataFrame, oracle: str, method: str | None = None) -> pd.DataFrame:
    """One row per federation and request: its identity, the varied settings, and columns

    fr, fr_low, fr_high (at the last round), before, after (test accuracy; `before` of the request's own first model
    where it has one), drop (points), relative (drop in per cent of `before`), t, f, expected (FR of retraining,
    1 - f/t), informative (bool), positives (oracle's hits on the forget set before), forget_n, test_n.
    """
    frame = rows(table)
    rate = last(measured(frame, f"fr_{oracle}", "", "forget"))
    rate = (
        rate[rate["item"] != BASE].drop(columns=[c for c in _DETAILS if c != "value"]).rename(columns={"value": "fr"})
    )
    path = accuracies(frame)
    for name, moment in (("before", "min"), ("after", "max")):
        end = path[path["step"] == path.groupby(UNIT)["step"].transform(moment)].set_index(UNIT)["value"]
        rate = rate.merge(end.rename(name).reset_index(), on=UNIT, how="left")
    for end in ("low", "high"):
        limit = last(measured(frame, f"fr_{end}_{oracle}", "", "forget")).set_index(UNIT)["value"]
        rate = rate.merge(limit.rename(f"fr_{end}").reset_index(), on=UNIT, how="left")
    rate = rate.merge(_before(frame, oracle).reset_index(), on=tidy.MODEL, how="left")
    drop = rate["before"] - rate["after"]
    informative = rate["informative"].eq(1.0)
    rate = rate.assign(drop=drop, relative=100 * drop / rate["before"], informative=informative)
    return rate if method is None else rate[rate["method"] == method].reset_index(drop=True)


def _before(frame: pd.DataFrame, oracle: str) -> pd.DataFrame:
    """Per federation what the oracle said of the base model (index: backend, run, replicate)."""
    wanted = {
        "t": (f"oracle_t_{oracle}",),
        "f": (f"oracle_f_{oracle}",),
        "expected": (f"fr_retrain_expected_{oracle}",),
        "informative": (f"informative_{oracle}",),
        "positives": (f"oracle_positive_{oracle}", "forget"),
        "forget_n": (f"oracle_n_{oracle}", "forget"),
        "test_n": (f"oracle_n_{oracle}", "test"),
    }
    index = pd.MultiIndex.from_frame(frame[tidy.MODEL].drop_duplicates())
    found = {name: of_base(measured(frame, *key)).reindex(index) for name, key in wanted.items()}
    return pd.DataFrame(found, index=index)


def at_level(level: float, rate: Sequence[float], value: Sequence[float]) -> float:
    """`value` where `rate` first reaches `level`, on the line between two rounds; NaN where it never does."""
    rate, value = np.asarray(rate, dtype=float), np.asarray(value, dtype=float)
    reached = np.flatnonzero(rate >= level)
    if not len(reached):
        return np.nan
    j = reached[0]
    if j == 0 or rate[j] == rate[j - 1]:
        return float(value[j])
    share = (level - rate[j - 1]) / (rate[j] - rate[j - 1])
    return float(value[j - 1] + share * (value[j] - value[j - 1]))


def present(table: pd.DataFrame) -> list[str]:
    """The oracles that judged, in a fixed order."""
    measures = set(tidy.rows(table, "details")["measure"])
    return [oracle for oracle in ORACLES if f"oracle_t_{oracle}" in measures]
