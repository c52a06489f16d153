"""Tests on easy examples and on filters (Arpit et al. 2017, section 3.1, Figs 1 and 2): H1 and H2."""

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy_examples
from memorization.gates.outcome import Outcome, shown, sided, undecided
from memorization.statistics import Interval

FEWEST_RUNS = 20
"""Fewer say too little about the spread of success rates."""
NAMES = {"none": "real", "labels": "randY", "inputs": "randX"}


def _interval(estimate: float, resampled: np.ndarray, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    return Interval(estimate, *np.quantile(resampled, [tail, 1 - tail]))


def _found(table: pd.DataFrame, kinds: tuple[str, ...], within: bool) -> dict[str, tuple[float, np.ndarray]] | None:
    """Per training set the variance ratio and those of resampled runs; None where one is missing or has few runs."""
    found = {kind: tidy_examples.ratios(table, kind, within=within) for kind in kinds}
    enough = all(np.isfinite(one).all() and len(one) for _, one in found.values())
    return found if enough and min(tidy_examples.runs(table, kind) for kind in kinds) >= FEWEST_RUNS else None


def _too_few(table: pd.DataFrame, kinds: tuple[str, ...]) -> Outcome:
    fewest = min(tidy_examples.runs(table, kind) for kind in kinds)
    return undecided(f"{fewest} runs on a training set, {FEWEST_RUNS} of each needed", fewest)


def difficulty_order(table: pd.DataFrame, reference: pd.DataFrame, *, within: bool, runs: int) -> Outcome:
    """H1: success rates vary most between examples of real data, less under random labels, least on noise inputs:
    ratios of the variance ratios above 1 (bootstrap over runs, 95 %). within: only inside classes.
    """
    found = _found(table, tidy_examples.KINDS, within)
    if found is None:
        return _too_few(table, tidy_examples.KINDS)
    steps = []
    for above, below in (("none", "labels"), ("labels", "inputs")):
        (high, many), (low, few) = found[above], found[below]
        steps.append(_interval(np.log2(high / low), np.log2(many / few), 0.95))
    n = min(tidy_examples.runs(table, kind) for kind in tidy_examples.KINDS)
    worst = min(steps, key=lambda step: step.low)
    listed = ", ".join(f"{NAMES[kind]} {one:.3g}" for kind, (one, _) in found.items())
    summary = f"variance over that of a binomial: {listed}; log2 of real / randY {shown(steps[0])}, "
    summary += f"of randY / randX {shown(steps[1])}; {n} of {runs} planned runs each"
    against, toward = any(step.high < 0 for step in steps), all(step.estimate > 0 for step in steps)
    verdict, why = sided(worst.low > 0, against, toward, n, runs)
    return Outcome(verdict, *worst, n=n, summary=summary + why)


def noise_is_binomial(
    table: pd.DataFrame, reference: pd.DataFrame, *, within: bool, low: float, high: float, runs: int
) -> Outcome:
    """H1: on noise inputs no example is easier than another: the variance ratio lies in [low, high] (two one-sided
    tests at .05: the 90 % bootstrap interval over runs).
    """
    found = _found(table, ("inputs",), within)
    if found is None:
        return _too_few(table, ("inputs",))
    interval = _interval(*found["inputs"], 0.90)
    n = tidy_examples.runs(table, "inputs")
    inside = low <= interval.low and interval.high <= high
    outside = interval.high < low or interval.low > high
    summary = f"variance over that of a binomial {shown(interval)} (90 %), wanted in [{low:g}, {high:g}]; "
    summary += f"{n} of {runs} planned runs"
    return Outcome(True if inside else False if outside else None, *interval, n=n, summary=summary)


def labels_share_patterns(table: pd.DataFrame, reference: pd.DataFrame, *, within: bool, runs: int) -> Outcome:
    """H1: under random labels some examples are easier: the variance ratio is above 1 (bootstrap over runs, 95 %)."""
    found = _found(table, ("labels",), within)
    if found is None:
        return _too_few(table, ("labels",))
    interval = _interval(*found["labels"], 0.95)
    n = tidy_examples.runs(table, "labels")
    summary = f"variance over that of a binomial {shown(interval)}; {n} of {runs} planned runs"
    verdict, why = sided(interval.low > 1, interval.high < 1, interval.estimate > 1, n, runs)
    return Outcome(verdict, *interval, n=n, summary=summary + why)


# --- Figure 2 -----------------------------------------------------------------------------------------------------


def filters_gain_structure(
    table: pd.DataFrame, reference: pd.DataFrame, *, kind: str, measure: str, rises: bool, seeds: int
) -> Outcome:
    """H2: training on one data set (`none`: real, `labels`: randY) gives first-layer filters more structure than they
    start with. The network is the unit: exact sign-flip permutation test, paired, one-sided.
    """
    frame = tidy_examples.structure(table, measure)
    wanted = [(kind, "trained"), (kind, "init")]
    if not set(wanted) <= set(frame.columns):
        return undecided(f"no filters of networks trained on {NAMES[kind]}")
    return _compared(frame[wanted].dropna(), rises, seeds, f"{NAMES[kind]}, trained - initial")


def real_filters_more_structured(
    table: pd.DataFrame, reference: pd.DataFrame, *, measure: str, rises: bool, seeds: int
) -> Outcome:
    """H2: filters trained on real data have more structure than those trained on randY (same test)."""
    frame = tidy_examples.structure(table, measure)
    wanted = [("none", "trained"), ("labels", "trained")]
    if not set(wanted) <= set(frame.columns):
        return undecided("needs networks trained on real data and on randY")
    return _compared(frame[wanted].dropna(), rises, seeds, "real - randY, trained")


def _compared(pairs: pd.DataFrame, rises: bool, seeds: int, what: str) -> Outcome:
    """First column minus second, per network, expected above 0 where `rises`, else below."""
    n = len(pairs)
    if n < 5:
        return undecided(f"{n} networks of each kind, 5 needed", n)
    after, before = (pairs.iloc[:, column].to_numpy() for column in (0, 1))
    difference = after - before
    interval = statistics.t_interval(difference)
    side = "greater" if rises else "less"
    test = stats.permutation_test(
        (difference,), np.mean, permutation_type="samples", alternative=side, n_resamples=np.inf
    )
    found = test.pvalue < 0.05
    against = interval.high < 0 if rises else interval.low > 0
    summary = f"{what}: {after.mean():.3g} and {before.mean():.3g}, difference {shown(interval)}; "
    summary += f"exact p {test.pvalue:.3g}; {n} of {seeds} planned networks"
    toward = interval.estimate > 0 if rises else interval.estimate < 0
    verdict, why = sided(bool(found), bool(against), toward, n, seeds)
    return Outcome(verdict, *interval, p_value=float(test.pvalue), n=n, summary=summary + why)
