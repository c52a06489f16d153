"""Forgetting rates and everything else that is judged about a model before and after unlearning (Learn to Forget,
section 4), as rows of details.csv. Pure NumPy and SciPy.

BT and AT are the forgotten examples that an oracle calls members before and after: FR = (AF - BF) / BT = 1 - AT / BT.
With hit rate t on members and f on examples that no model saw, a model trained from scratch without the examples is
expected at FR = 1 - f / t, not at 100 %.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from memorization.backends.details import ALL, Details
from memorization.membership import Oracles, true_class

INFORMATIVE = 0.1
"""t - f from which on an oracle's forgetting rate says something (C5)."""
FALSE_POSITIVE_RATES = (0.001, 0.01, 0.1)
BINS = 50
"""Of the largest posterior, between 0 and 1."""
JUDGED = ("forget", "retain", "test")
"""Parts that oracles are asked about."""

Answers = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Part of the data -> (one model's log posteriors float[n, K], nats; labels int64[n])."""


class Row(NamedTuple):
    """One number of details.csv; who and when is added by `write`."""

    measure: str
    part: str
    value: float
    other: int = ALL


class Rate(NamedTuple):
    """A forgetting rate in percent and its 95 % limits; NaN where it is undefined."""

    estimate: float
    low: float
    high: float


def forgetting_rate(before: np.ndarray, after: np.ndarray, resamples: int, rng: np.random.Generator) -> Rate:
    """FR of bool[n] oracle positives of the same examples before and after, with a percentile bootstrap over examples.

    Pairs stay together. A pair has one of four outcomes, so that a resample is a multinomial draw of their counts.
    """
    if not before.any():
        return Rate(np.nan, np.nan, np.nan)
    estimate = 100 * (1 - after.sum() / before.sum())
    if not resamples:
        return Rate(float(estimate), np.nan, np.nan)
    outcomes = np.bincount(2 * before + after, minlength=4)
    drawn = rng.multinomial(len(before), outcomes / len(before), resamples)
    asked = drawn[:, 2] + drawn[:, 3]
    drawn, asked = drawn[asked > 0], asked[asked > 0]
    low, high = np.percentile(100 * (1 - (drawn[:, 1] + drawn[:, 3]) / asked), [2.5, 97.5])
    return Rate(float(estimate), float(low), float(high))


def retrain_expected(t: float, f: float) -> float:
    """FR in percent of a model trained from scratch without the examples: 1 - f / t; NaN where t is 0."""
    return 100 * (1 - f / t) if t > 0 else np.nan


def auc(members: np.ndarray, others: np.ndarray) -> float:
    """Chance that a member's score exceeds another's, ties counted half (area under the ROC curve)."""
    return float(stats.mannwhitneyu(members, others).statistic) / (len(members) * len(others))


def true_positive_rate(members: np.ndarray, others: np.ndarray, false_positive_rate: float) -> float:
    """Largest share of members above a threshold that at most this share of others is above."""
    allowed = int(np.floor(false_positive_rate * len(others) + 1e-9))
    if allowed >= len(others):
        return 1.0
    return float(np.mean(members > np.sort(others)[len(others) - 1 - allowed]))


def density(log_posteriors: np.ndarray) -> np.ndarray:
    """float64[BINS]: shares of examples by largest posterior; they sum to 1."""
    counts, _ = np.histogram(np.exp(log_posteriors.max(axis=-1)).clip(0, 1), bins=BINS, range=(0, 1))
    return counts / max(1, counts.sum())


def judge_before(oracles: Oracles, before: Answers) -> list[Row]:
    """Everything about the first model: what its oracles are worth, and where examples' posteriors lie.

    Part "forget" of `oracle_t` and the like: D_e's members; f is taken on part "test".
    """
    scores = _scores(oracles, before)
    rows = [*_utility(before), *_answers(oracles, scores), *_lira(oracles, scores)]
    for name in oracles.names:
        t, f = (float(np.mean(scores[part][name] >= oracles.thresholds[name])) for part in ("forget", "test"))
        rows += [
            Row(f"oracle_t_{name}", "forget", t),
            Row(f"oracle_f_{name}", "test", f),
            Row(f"informative_{name}", "forget", float(t - f >= INFORMATIVE)),
            Row(f"fr_retrain_expected_{name}", "forget", retrain_expected(t, f)),
        ]
    shown = (("before", "forget"), ("nonmember", "test"))
    return rows + [row for name, part in shown for row in _density(name, before[part][0])]


def judge_after(
    oracles: Oracles,
    before: Answers,
    after: Answers,
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    densities: str | None = None,
) -> list[Row]:
    """Everything about a model that was asked to forget, by the first model's oracles.

    before, after: both models' answers about the same examples. `resamples` of each forgetting rate's interval; 0:
    none. `densities`: the name (after, retrain) under which the posteriors of D_e are recorded.
    """
    scores = _scores(oracles, after)
    rows = [*_utility(after), *_answers(oracles, scores), *_lira(oracles, scores)]
    asked = oracles.positives("forget", *before["forget"])
    for name in oracles.names:
        answered = scores["forget"][name] >= oracles.thresholds[name]
        rate = forgetting_rate(asked[name], answered, resamples, rng)
        rows.append(Row(f"fr_{name}", "forget", rate.estimate))
        if resamples:
            rows += [Row(f"fr_low_{name}", "forget", rate.low), Row(f"fr_high_{name}", "forget", rate.high)]
    return rows + (_density(densities, after["forget"][0]) if densities else [])


def write(
    details: Details, rows: Iterable[Row], *, replicate: int, step: int, epoch: float = 0.0, item: int = ALL
) -> None:
    """Add `rows` about one model: `step` is the unlearning round, `item` the request's number."""
    for row in rows:
        details.add(
            row.measure, row.part, row.value, step=step, epoch=epoch, replicate=replicate, item=item, other=row.other
        )


def _utility(answers: Answers) -> list[Row]:
    rows = []
    for part, (logs, labels) in answers.items():
        if len(labels):
            rows.append(Row("accuracy", part, float(np.mean(logs.argmax(axis=-1) == labels))))
            rows.append(Row("loss_nats", part, float(-true_class(logs, labels).mean())))
    return rows


def _scores(oracles: Oracles, answers: Answers) -> dict[str, dict[str, np.ndarray]]:
    """Part that is judged -> oracle -> scores of all its examples."""
    return {part: oracles.scores(part, *answers[part]) for part in JUDGED if part in answers and len(answers[part][1])}


def _answers(oracles: Oracles, scores: dict[str, dict[str, np.ndarray]]) -> list[Row]:
    """How many examples of each part the oracles call members, of how many."""
    rows = []
    for part, own in scores.items():
        for name in oracles.names:
            called = own[name] >= oracles.thresholds[name]
            rows.append(Row(f"oracle_positive_{name}", part, float(called.sum())))
            rows.append(Row(f"oracle_n_{name}", part, float(len(called))))
    return rows


def _lira(oracles: Oracles, scores: dict[str, dict[str, np.ndarray]]) -> list[Row]:
    """How well LiRA tells the forgotten examples from test examples."""
    if "lira" not in oracles.names:
        return []
    members, others = (scores[part]["lira"] for part in ("forget", "test"))
    rates = [Row("lira_tpr", f"{rate:g}", true_positive_rate(members, others, rate)) for rate in FALSE_POSITIVE_RATES]
    return [*rates, Row("lira_auc", "forget", auc(members, others))]


def _density(name: str, log_posteriors: np.ndarray) -> list[Row]:
    return [Row("confidence_density", name, float(share), bin_) for bin_, share in enumerate(density(log_posteriors))]
