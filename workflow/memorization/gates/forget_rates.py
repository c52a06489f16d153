"""Tests on forgetting rates and what they cost (Learn to Forget, R3, R6, R10, R11): H1, H2, H5.

Seeds are the unit, data sets (or other settings) are strata of equal weight.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from memorization import tidy_forget
from memorization.gates.outcome import Outcome, below, equivalent, shown, undecided, within
from memorization.statistics import Interval

FEWEST = 3
"""Seeds of a stratum below which nothing is decided."""
TWO = ("confidence", "loss")
"""The oracles that claims are tested with: one looks at what Forsaken changes, the other at what it does not."""


def together(verdicts: Sequence[bool | None]) -> bool | None:
    """All must hold: False if one fails, None if one is undecided."""
    return False if False in verdicts else None if None in verdicts else True


def equal_within(interval: Interval, margin: float) -> bool | None:
    """TOST at level .05 by its 90 % interval: True inside +-margin, False outside, else None."""
    inside = -margin < interval.low and interval.high < margin
    return equivalent(0.0 if inside else 1.0, interval, margin)


def chosen(frame: pd.DataFrame, where: dict[str, Any]) -> pd.DataFrame:
    """The rows whose columns have these values; none where a column is missing."""
    for column, value in where.items():
        frame = frame[frame[column] == value] if column in frame else frame.iloc[:0]
    return frame


def strata(frame: pd.DataFrame, value: str, by: Sequence[str]) -> dict[str, np.ndarray]:
    """Name of a stratum -> one value per seed."""
    kept = frame.dropna(subset=[value])
    missing = [column for column in by if column not in kept]
    if missing or not len(kept):
        return {}
    seeds = kept.groupby([*by, "seed"])[value].mean()
    grouped = seeds.groupby(level=list(by))
    return {", ".join(map(str, np.atleast_1d(key))): group.to_numpy() for key, group in grouped}


def mean_of(groups: dict[str, np.ndarray], confidence: float = 0.95) -> Interval:
    """Mean of the strata's means with Welch and Satterthwaite's interval (independent seeds within strata)."""
    means = np.array([values.mean() for values in groups.values()])
    parts = np.array([values.var(ddof=1) / len(values) for values in groups.values()]) / len(groups) ** 2
    estimate, variance = float(means.mean()), float(parts.sum())
    if variance == 0:
        return Interval(estimate, estimate, estimate)
    freedom = variance**2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, groups.values(), strict=True))
    half = stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(variance)
    return Interval(estimate, estimate - half, estimate + half)


def bootstrap_of(groups: dict[str, np.ndarray], confidence: float = 0.95, resamples: int = 4_999) -> Interval:
    """Mean of the strata's means; percentile interval over seeds resampled within strata."""
    rng = np.random.default_rng(0)
    draws = [v[rng.integers(len(v), size=(resamples, len(v)))].mean(axis=1) for v in groups.values()]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.mean(draws, axis=0), [tail, 100 - tail])
    return Interval(float(np.mean([v.mean() for v in groups.values()])), float(low), float(high))


def listed(groups: dict[str, np.ndarray], unit: str = "") -> str:
    """`mnist 97.1, adult 88.0`: means of the strata."""
    return ", ".join(f"{name} {values.mean():.3g}{unit}" for name, values in groups.items())


def fewest(groups: dict[str, np.ndarray]) -> int:
    """Seeds of the stratum that has fewest."""
    return min((len(values) for values in groups.values()), default=0)


def forgetting_rate(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    threshold: float,
    seeds: int,
    method: str = "forsaken",
    where: dict[str, Any] | None = None,
    by: Sequence[str] = ("dataset",),
    each: bool = False,
    positives: int = 10,
) -> Outcome:
    """H1: the mean over strata of the forgetting rate (with `each`: every stratum's) is at least `threshold` per cent,
    by the confidence and by the loss oracle. Bootstrap over seeds within strata.

    Strata whose oracle tells members from others by less than 0.1 are left out, and those with fewer than `positives`
    examples that it takes for members before (C5). The estimate alone decides only with the planned seeds.
    """
    verdicts, words, worst = [], [], None
    for oracle in TWO:
        found = chosen(tidy_forget.results(table, oracle, method), where or {})
        groups, left_out = informative(found, by, positives)
        if not groups or fewest(groups) < FEWEST:
            words.append(f"{oracle}: {left_out or f'fewer than {FEWEST} seeds'}")
            verdicts.append(None)
            continue
        parts = {name: {name: values} for name, values in groups.items()} if each else {"mean": groups}
        intervals = {name: bootstrap_of(part) for name, part in parts.items()}
        lowest = min(intervals, key=lambda name: intervals[name].estimate)
        n = fewest(groups)
        verdicts.append(together([within(i, threshold, np.inf, n, seeds) for i in intervals.values()]))
        words.append(f"{oracle} {'least ' if each else ''}{shown(intervals[lowest], '%')} ({listed(groups)}{left_out})")
        if worst is None or intervals[lowest].estimate < worst[0].estimate:
            worst = intervals[lowest], n
    summary = f"forgetting rate of {method}: {'; '.join(words)}"
    if worst is None:
        return undecided(summary)
    return Outcome(together(verdicts), *worst[0], n=worst[1], summary=summary)


def informative(frame: pd.DataFrame, by: Sequence[str], positives: int = 1) -> tuple[dict[str, np.ndarray], str]:
    """Strata of forgetting rates that mean something, and a text on those that are left out."""
    every = strata(frame, "fr", by)
    told = strata(frame.assign(told=frame["t"] - frame["f"]), "told", by)
    hits = strata(frame, "positives", by)
    weak = [name for name in every if name not in told or told[name].mean() < 0.1]
    few = [name for name in every if name not in weak and hits.get(name, np.zeros(1)).mean() < positives]
    parts = [f"uninformative, t - f < 0.1: {', '.join(weak)}"] * bool(weak)
    parts += [f"fewer than {positives} members found before: {', '.join(few)}"] * bool(few)
    kept = {name: values for name, values in every.items() if name not in (*weak, *few)}
    return kept, "".join(f"; {part}" for part in parts)


def accuracy_drop(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    limit: float,
    seeds: int,
    method: str = "forsaken",
    where: dict[str, Any] | None = None,
    by: Sequence[str] = ("dataset",),
    each: bool = False,
) -> Outcome:
    """H2: test accuracy falls by less than `limit` points: one-sided 95 % limit of the mean over strata (with `each`:
    of every stratum). The worst stratum and the relative fall are reported.
    """
    found = chosen(tidy_forget.results(table, TWO[0], method), where or {})
    groups, relative = strata(found, "drop", by), strata(found, "relative", by)
    n = fewest(groups)
    if n < FEWEST:
        return undecided(f"test accuracy after {method}: {n} seeds, {FEWEST} needed", n)
    parts = [{name: values} for name, values in groups.items()] if each else [groups]
    intervals = [mean_of(part, 0.90) for part in parts]
    worst = max(intervals, key=lambda interval: interval.high)
    verdicts, whys = zip(*(below(i, limit, n, seeds) for i in intervals), strict=True)
    mean = np.mean([values.mean() for values in relative.values()])
    summary = (
        f"test accuracy after {method} lower by {'at most ' if each else ''}{shown(worst, 'points')} (90 %; "
        f"{listed(groups)}); relative {mean:.3g} %{max(whys)}"
    )
    return Outcome(together(verdicts), *worst, n=n, summary=summary)
