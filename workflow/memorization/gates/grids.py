"""Tests on architectures (Table 4) and on batch size and units (Table 5).

Cells share their seeds: the same canary at the same place, from streams of the same names. Comparisons that treat
them as independent are then conservative for differences between cells.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy_grids
from memorization.gates.outcome import Outcome, decide, equivalent, shown, undecided

RECURRENT = ("GRU", "LSTM")
CONVOLUTIONAL = ("CNN", "WaveNet")
VALUES = {"skew_normal": "estimated", "bits": "exact or importance-sampled"}
"""Columns of `tidy_grids.models` that exposure is taken from -> what they are called."""


def _groups(table: pd.DataFrame, value: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Recurrent and convolutional models of Table 4 with that value; the transformer is ours and in neither."""
    frame = tidy_grids.by_architecture(table).dropna(subset=[value])
    return tuple(frame[frame["family"].isin(names)] for names in (RECURRENT, CONVOLUTIONAL))


def _above(high: pd.DataFrame, low: pd.DataFrame, value: str) -> tuple[bool, str]:
    """Is every row's mean in `high` above every one's in `low`? And the two nearest ones, in words."""
    means = [group.groupby("label")[value].mean() for group in (high, low)]
    least, most = means[0].idxmin(), means[1].idxmax()
    text = f"least recurrent mean {means[0][least]:.3g} ({least}), largest other {means[1][most]:.3g} ({most})"
    return bool(means[0][least] > means[1][most]), text


def recurrent_memorise_more(
    table: pd.DataFrame, reference: pd.DataFrame, *, value: str, rows: int, seeds: int
) -> Outcome:
    """G11: each recurrent row's mean exposure is above each convolutional one's, and pooled groups differ (one-sided
    Mann-Whitney test; Cliff's delta, its interval from resampled seeds).

    value: `skew_normal`, the paper's estimate, or `bits`, exact where known. rows: how many there must be.
    """
    high, low = _groups(table, value)
    found = high["label"].nunique() + low["label"].nunique()
    if found < rows or min(len(high), len(low)) < 4:
        return undecided(f"{found} of {rows} rows with {VALUES[value]} exposures", min(len(high), len(low)))
    ordered, text = _above(high, low, value)
    both = pd.concat([high.assign(recurrent=True), low.assign(recurrent=False)], ignore_index=True)
    x, recurrent = both[value].to_numpy(), both["recurrent"].to_numpy()

    def delta(index: np.ndarray) -> float:
        a, b = x[index][recurrent[index]], x[index][~recurrent[index]]
        return float(np.sign(a[:, None] - b).mean()) if len(a) and len(b) else np.nan

    interval = statistics.cluster_bootstrap(delta, both["seed"])
    above, below = (
        stats.mannwhitneyu(x[recurrent], x[~recurrent], alternative=side).pvalue for side in ("greater", "less")
    )
    n = both["seed"].nunique()
    verdict = decide(ordered and above < 0.05, below < 0.05, n, seeds)
    summary = (
        f"{VALUES[value]} exposure: {text} bits; Cliff's delta {shown(interval)}, Mann-Whitney p = {above:.2g}, "
        f"{len(high)} against {len(low)} models, {n} of {seeds} planned seeds"
    )
    return Outcome(verdict, *interval, p_value=float(above), n=n, summary=summary)


def recurrent_predict_better(table: pd.DataFrame, reference: pd.DataFrame, *, rows: int, seeds: int) -> Outcome:
    """Table 4: each recurrent row's mean test loss is below each convolutional one's; pooled, Mann-Whitney."""
    high, low = _groups(table, "test_loss")
    found, n = high["label"].nunique() + low["label"].nunique(), pd.concat([high, low])["seed"].nunique()
    if found < rows or min(len(high), len(low)) < 4:
        return undecided(f"{found} of {rows} rows with a test loss", n)
    ordered, _ = _above(low, high, "test_loss")
    better, worse = (
        stats.mannwhitneyu(high["test_loss"], low["test_loss"], alternative=side).pvalue for side in ("less", "greater")
    )
    means = [group.groupby("label")["test_loss"].mean() for group in (high, low)]
    summary = (
        f"test losses {means[0].min():.3g} to {means[0].max():.3g} recurrent, {means[1].min():.3g} to "
        f"{means[1].max():.3g} others (nats); Mann-Whitney p = {better:.2g}, {n} of {seeds} planned seeds"
    )
    verdict = decide(ordered and better < 0.05, worse < 0.05, n, seeds)
    return Outcome(verdict, float(means[0].mean() - means[1].mean()), p_value=float(better), n=n, summary=summary)


def recurrent_losses_equal(
    table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, rows: int, seeds: int
) -> Outcome:
    """Table 4: the recurrent rows reach the same test loss: every pair within +-margin nats (TOST, paired by seed)."""
    wide = _groups(table, "test_loss")[0].pivot_table(index="seed", columns="label", values="test_loss").dropna()
    labels, n = list(wide), len(wide)
    if len(labels) < rows or n < 3:
        return undecided(f"{len(labels)} of {rows} recurrent rows with {n} common seeds, 3 needed", n)
    pairs = [(a, b) for i, a in enumerate(labels) for b in labels[:i]]
    found = {pair: statistics.equivalence(wide[pair[0]] - wide[pair[1]], -margin, margin) for pair in pairs}
    verdicts = [equivalent(test.p_value, interval, margin) for interval, test in found.values()]
    (one, other), (interval, test) = max(found.items(), key=lambda item: abs(item[1][0].estimate))
    summary = (
        f"{verdicts.count(True)} of {len(pairs)} pairs within {margin:g} nats; "
        f"largest difference {one} - {other}: {shown(interval, 'nats')} (90 %), {n} of {seeds} planned seeds"
    )
    verdict = False if False in verdicts else None if None in verdicts else True
    return Outcome(verdict, *interval, *test, n=n, summary=summary)


def _columns(frame: pd.DataFrame, low: int, high: int, units: int) -> dict[int, list[np.ndarray]]:
    """Units -> exposures by batch size from `low` to `high`, for columns of at least `units` units that reach both."""
    part = frame[frame["batch"].between(low, high) & (frame["units"] >= units)]
    columns = {}
    for number, group in part.groupby("units"):
        sizes = sorted(group["batch"].unique())
        if len(sizes) >= 3 and sizes[0] == low and sizes[-1] == high:
            columns[int(number)] = [group.loc[group["batch"] == b, "skew_normal"].to_numpy() for b in sizes]
    return columns


def _ratio(columns: list[np.ndarray], resamples: int = 1_999) -> statistics.Interval:
    """Mean at the largest over mean at the smallest batch size, with a percentile interval from 3 models each on."""
    first, last = columns[0], columns[-1]
    point = float(last.mean() / first.mean())
    if min(len(first), len(last)) < 3:
        return statistics.Interval(point, np.nan, np.nan)
    rng = np.random.default_rng(0)
    draws = [rng.choice(last, len(last)).mean() / rng.choice(first, len(first)).mean() for _ in range(resamples)]
    return statistics.Interval(point, *map(float, np.percentile(draws, [2.5, 97.5])))


def larger_batches_memorise_more(
    table: pd.DataFrame, reference: pd.DataFrame, *, low: int, high: int, units: int, seeds: int
) -> Outcome:
    """G10: exposure rises with the batch size from `low` to `high` in every column of at least `units` units
    (Jonckheere-Terpstra); the ratio of its ends, and where each column is largest, are reported.
    """
    frame = tidy_grids.by_batch_and_units(table).dropna(subset=["skew_normal"])
    columns = _columns(frame, low, high, units)
    n = frame["seed"].nunique()
    if not columns:
        return undecided(f"no column of {units} units or more with batch sizes from {low} to {high}", n)
    tests = {number: statistics.jonckheere(groups) for number, groups in columns.items()}
    falls = [statistics.jonckheere(groups, "less").p_value < 0.05 for groups in columns.values()]
    peaks = frame.groupby(["units", "batch"])["skew_normal"].mean().unstack().idxmax(axis=1)
    told = [
        f"{number} units: ratio {shown(_ratio(groups))}, p = {tests[number].p_value:.2g}, largest at {peaks[number]}"
        for number, groups in columns.items()
    ]
    worst = max(tests.values(), key=lambda test: test.p_value)
    verdict = decide(worst.p_value < 0.05, any(falls), n, seeds)
    ratio = min((_ratio(groups) for groups in columns.values()), key=lambda one: one.estimate)
    summary = f"batch {low} to {high}, {'; '.join(told)}; {n} of {seeds} planned seeds"
    return Outcome(verdict, *ratio, *worst, n=n, summary=summary)


def batch_effect_turns_over(
    table: pd.DataFrame, reference: pd.DataFrame, *, peaks: Mapping[int, int], last: int, seeds: int
) -> Outcome:
    """Table 5: beyond a column's peak exposure falls again: from batch size `peaks[units]` to `last`, fixed beforehand
    as the paper's, in every such column (Jonckheere-Terpstra).
    """
    frame = tidy_grids.by_batch_and_units(table).dropna(subset=["skew_normal"])
    told, falls, rises, statistic = [], [], [], []
    for units, peak in peaks.items():
        own = frame[(frame["units"] == int(units)) & frame["batch"].between(peak, last)]
        groups = [group["skew_normal"].to_numpy() for _, group in own.groupby("batch")]
        if len(groups) < 2 or own["batch"].max() != last:
            return undecided(f"{units} units: no batch sizes from {peak} to {last}", frame["seed"].nunique())
        test = statistics.jonckheere(groups, "less")
        falls.append(test.p_value)
        rises.append(statistics.jonckheere(groups).p_value)
        statistic.append(test.statistic)
        told.append(f"{units} units: {groups[0].mean():.3g} to {groups[-1].mean():.3g} bits, p = {test.p_value:.2g}")
    n = frame["seed"].nunique()
    verdict = decide(max(falls) < 0.05, min(rises) < 0.05, n, seeds)
    return Outcome(verdict, p_value=max(falls), statistic=max(statistic), n=n, summary="; ".join(told))
