"""Scores of single training examples, all of the same ones, and how they rank them alike (beyond the papers).

Every score is high where an example is hard or has to be memorised. Their columns are `SCORES`.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from memorization import tidy
from memorization.statistics import Interval

SCORES = {
    "difficulty": "wrong after one epoch",
    "sensitivity": "loss-sensitivity",
    "critical": "critical samples",
    "forgetting": "forgetting events",
    "memorisation": "memorisation score",
}
"""Column -> name. The first three are the paper's (Figs 1, 3, 9), forgetting events those of Toneva et al. 2019, the
memorisation score that of Feldman and Zhang 2020."""
GROUPS = {"clean": "right label", "all": "all examples"}


def of_examples(table: pd.DataFrame) -> pd.DataFrame:
    """One row per example (index `item`): the columns of `SCORES` (NaN where not measured) and bool `mislabelled`.

    difficulty     share of models that misclassify it after one epoch
    sensitivity    L1 norm of the derivative of the mean loss by it, through training, mean over updates and models
    critical       share of (model, radius) pairs for which a critical sample lies near it
    forgetting     times that a model loses it after an epoch, mean over models; never learned counts as every epoch
    memorisation   how much likelier it is right in models that were trained on it than in others
    """
    frame = tidy.rows(table, "details")
    frame = frame[frame["item"] >= 0]
    columns = {name: pick(frame) for name, pick in _PICKS.items()}
    labels = frame[frame["measure"] == "label"].pivot_table(index="item", columns="part", values="value")
    labels = labels.reindex(columns=["given", "true"])
    # A replaced label may happen to be the right one.
    wrong = labels["given"] != labels["true"]
    scores = pd.DataFrame(columns).reindex(labels.index).reindex(columns=list(SCORES)).astype(float)
    return scores.assign(mislabelled=wrong).rename_axis("item")


def _difficulty(frame: pd.DataFrame) -> pd.Series:
    """Of the run that lasted shortest."""
    rows = frame[frame["measure"] == "p_correct"]
    return 1 - rows[rows["epoch"] == rows["epoch"].min()].groupby("item")["value"].mean()


def _sensitivity(frame: pd.DataFrame) -> pd.Series:
    return frame[frame["measure"] == "sensitivity_l1"].groupby("item")["value"].mean()


def _critical(frame: pd.DataFrame) -> pd.Series:
    return frame[frame["measure"].str.startswith("critical_")].groupby("item")["value"].mean()


def _forgetting(frame: pd.DataFrame) -> pd.Series:
    """Of the run whose sensitivity was measured; Toneva et al. too put what is never learned last."""
    runs = frame.loc[frame["measure"] == "sensitivity_l1", "run"].unique()
    rows = frame[frame["run"].isin(runs) & (frame["replicate"] >= 0)]
    keys = ["run", "replicate", "item"]
    events = rows[rows["measure"] == "forgetting_events"].set_index(keys)
    learned = rows[rows["measure"] == "learned_epoch"].set_index(keys)["value"].reindex(events.index)
    return events["value"].where(learned.notna(), events["epoch"]).groupby("item").mean()


def _memorisation(frame: pd.DataFrame) -> pd.Series:
    return frame[frame["measure"] == "memorisation"].groupby("item")["value"].mean()


_PICKS = {
    "difficulty": _difficulty,
    "sensitivity": _sensitivity,
    "critical": _critical,
    "forgetting": _forgetting,
    "memorisation": _memorisation,
}


def chosen(scores: pd.DataFrame, group: str) -> pd.DataFrame:
    """The rows of `of_examples` with their right label (`clean`), or all of them."""
    return scores if group == "all" else scores[~scores["mislabelled"]]


def rank_correlation(
    x: Sequence[float], y: Sequence[float], confidence: float = 0.95, resamples: int = 999, seed: int = 0
) -> Interval:
    """Spearman's correlation of float[n] x and y with a percentile bootstrap interval over examples.

    Examples are resampled, not models: the interval says how sure the correlation is for other examples under these
    models. Pairs with a NaN are left out; NaN where one of both is constant or fewer than 10 pairs are left.
    """
    pairs = np.column_stack([x, y]).astype(float)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    if len(pairs) < 10 or (np.ptp(pairs, axis=0) == 0).any():
        return Interval(np.nan, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    drawn = pairs[rng.integers(len(pairs), size=(resamples, len(pairs)))]
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(_spearman(drawn[..., 0], drawn[..., 1]), [tail, 100 - tail])
    return Interval(float(_spearman(pairs[:, 0], pairs[:, 1])), float(low), float(high))


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Along the last axis; NaN where one is constant."""
    ranks = [stats.rankdata(values, axis=-1) for values in (x, y)]
    a, b = (r - r.mean(axis=-1, keepdims=True) for r in ranks)
    scale = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.divide((a * b).sum(-1), scale, out=np.full(scale.shape, np.nan), where=scale > 0)


def detection(
    score: Sequence[float], marked: Sequence[bool], confidence: float = 0.95, resamples: int = 999, seed: int = 0
) -> Interval:
    """Area under the ROC curve of `score` float[n] as a detector of bool[n] `marked` examples, with a percentile
    bootstrap interval over both kinds of examples; ties count half. NaN where a kind has no score.
    """
    values, marks = np.asarray(score, dtype=float), np.asarray(marked, dtype=bool)
    known = np.isfinite(values)
    high, low = values[known & marks], values[known & ~marks]
    if not (len(high) and len(low)):
        return Interval(np.nan, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    draws = [_area(rng.choice(high, len(high)), rng.choice(low, len(low))) for _ in range(resamples)]
    tail = 50 * (1 - confidence)
    return Interval(_area(high, low), *map(float, np.percentile(draws, [tail, 100 - tail])))


def _area(high: np.ndarray, low: np.ndarray) -> float:
    """Mann and Whitney's U over the number of pairs."""
    ranks = stats.rankdata(np.concatenate([high, low]))
    return float((ranks[: len(high)].sum() / len(high) - (len(high) + 1) / 2) / len(low))
