"""Tests on capacity and time to convergence (Arpit et al. 2017, Figs 5 and 6): H5 to H7, U2, U3, U6.

Cells share their seeds, so every comparison is paired by seed.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from memorization import statistics, survival, tidy_capacity
from memorization.gates.outcome import Outcome, equivalent, shown, sided, undecided

FEWEST = 3
"""Seeds, below which nothing is decided."""


def _needed(table: pd.DataFrame, noise: str, share: float, value: str) -> pd.DataFrame:
    """`tidy_capacity.needed` of the trainings with all their examples, without noise or with noise of that kind."""
    frame = tidy_capacity.accuracies(table)
    return tidy_capacity.needed(frame[frame["noise"].isin(("none", noise)) & ~frame["without"]], value, share)


def _doublings(widths: pd.DataFrame) -> pd.Series:
    """Per seed: by how many doublings a seeds x levels matrix of widths rises from the first level to the last (the
    slope of log2 width on the level, times its range).
    """
    levels = widths.columns.to_numpy(dtype=float)
    slope = np.polyfit(levels, np.log2(widths.to_numpy()).T, 1)[0]
    return pd.Series(slope * np.ptp(levels), index=widths.index)


def _listed(widths: pd.DataFrame) -> str:
    """`0 %: 32, 80 %: 128`: geometric means over seeds."""
    return ", ".join(f"{level:.0%}: {2 ** np.log2(column).mean():.3g}" for level, column in widths.items())


def width_needed_rises(
    table: pd.DataFrame, reference: pd.DataFrame, *, noise: str, share: float, value: str, seeds: int
) -> Outcome:
    """H5, U2: the width that reaches `share` of its own maximum validation accuracy (`final` or `best`) rises with the
    level of `noise` (Page's trend test, seeds as blocks). The interval is of the doublings over the range of levels.

    Undecided where the sweep shows no width that suffices but its ends.
    """
    found = _needed(table, noise, share, value)
    widths = tidy_capacity.wide(found, "width")
    n, levels = widths.shape
    if n < FEWEST or levels < 3:
        return undecided(f"{n} seeds at {levels} levels of {noise} noise, {FEWEST} and 3 needed", n)
    edges = f"{found['edge'].mean():.0%} at an end of the sweep"
    summary = f"width for {share:.0%} of the maximum ({value}) at {_listed(widths)}; {edges}"
    test, opposite = statistics.page(widths), statistics.page(-widths)
    rise = statistics.bootstrap_interval(_doublings(widths))
    summary += f"; {shown(rise, 'doublings')}, Page p = {test.p_value:.2g}, {n} of {seeds} planned seeds"
    toward = test.statistic > opposite.statistic
    verdict, why = sided(test.p_value < 0.05, opposite.p_value < 0.05, toward, n, seeds)
    if not verdict and found["edge"].mean() > 0.5:
        return undecided(f"{summary}; the sweep does not straddle that width", n)
    return Outcome(verdict, *rise, *test, n=n, summary=summary + why)


def width_needed_is_flat(
    table: pd.DataFrame, reference: pd.DataFrame, *, noise: str, share: float, value: str, margin: float, seeds: int
) -> Outcome:
    """U3: that width changes by less than `margin` doublings over the range of levels of `noise` (TOST of the slope,
    seeds as the unit). Undecided where most widths are at an end of the sweep, which look alike.
    """
    found = _needed(table, noise, share, value)
    widths = tidy_capacity.wide(found, "width")
    n, levels = widths.shape
    if n < FEWEST or levels < 2:
        return undecided(f"{n} seeds at {levels} levels of {noise} noise, {FEWEST} and 2 needed", n)
    interval, test = statistics.equivalence(_doublings(widths), -margin, margin)
    summary = f"width for {share:.0%} of the maximum ({value}) at {_listed(widths)}: {shown(interval, 'doublings')}"
    summary += f" (90 %), TOST within {margin:g} p = {test.p_value:.2g}, {n} of {seeds} planned seeds"
    verdict = equivalent(test.p_value, interval, margin)
    if verdict and found["edge"].mean() > 0.5:
        return undecided(f"{summary}; {found['edge'].mean():.0%} at an end of the sweep", n)
    return Outcome(verdict, *interval, *test, n=n, summary=summary)


def last_doubling_helps_noise(table: pd.DataFrame, reference: pd.DataFrame, *, value: str, seeds: int) -> Outcome:
    """Fig 5's caption: from the second largest width to the largest (4096 to 8192) validation accuracy gains more with
    noise, mean over its levels, than without (Wilcoxon's signed-rank test over seeds).
    """
    frame = tidy_capacity.accuracies(table)
    frame = frame[~frame["without"]]
    widths = np.sort(frame["width"].unique())[-2:]
    wide = frame.pivot_table(index=["backend", "seed", "level"], columns="width", values=value)
    if len(widths) < 2:
        return undecided("one width only")
    gain = (wide[widths[1]] - wide[widths[0]]).unstack("level").dropna()
    noisy = [level for level in gain if level > 0]
    if len(gain) < FEWEST or 0.0 not in gain or not noisy:
        return undecided(f"{len(gain)} seeds at {len(noisy)} levels of noise and without, {FEWEST} needed", len(gain))
    listed = ", ".join(f"{level:.0%}: {gain[level].mean():+.2g}" for level in gain)
    summary = f"points gained ({value}) from {widths[0]:.0f} to {widths[1]:.0f} units at {listed}"
    return _greater(gain[noisy].mean(axis=1) - gain[0.0], seeds, summary, "points")


def removing_noise_lowers_width(
    table: pd.DataFrame, reference: pd.DataFrame, *, share: float, value: str, seeds: int
) -> Outcome:
    """U6: trained on what noise has left of the data, a narrower network reaches `share` of its own maximum validation
    accuracy than with the noise in them (Wilcoxon's signed-rank test over seeds of the mean over levels).
    """
    frame = tidy_capacity.accuracies(table)
    found = tidy_capacity.needed(frame[frame["level"] > 0], value, share)
    wide = found.pivot_table(index=["backend", "seed", "level"], columns="without", values="width").dropna()
    if not {True, False} <= set(wide):
        return undecided("no training without the noise examples, or none with them")
    change = np.log2(wide[False] / wide[True]).unstack("level").dropna()
    if len(change) < FEWEST:
        return undecided(f"{len(change)} seeds, {FEWEST} needed", len(change))
    listed = "; ".join(
        f"{level:.0%}: {2 ** np.log2(part[False]).mean():.3g} to {2 ** np.log2(part[True]).mean():.3g}"
        for level, part in wide.groupby("level")
    )
    summary = f"width for {share:.0%} of the maximum ({value}), noise removed, at {listed}"
    outcome = _greater(change.mean(axis=1), seeds, summary, "doublings fewer")
    if not outcome.verdict_supported and found["edge"].mean() > 0.5:
        return undecided(f"{outcome.summary}; {found['edge'].mean():.0%} at an end of the sweep", outcome.n)
    return outcome


def _greater(values: pd.Series, planned: int, summary: str, unit: str) -> Outcome:
    """Are paired differences, one per seed, positive?"""
    test, opposite = (statistics.wilcoxon_paired(values, 0 * values, side) for side in ("greater", "less"))
    interval = statistics.bootstrap_interval(values)
    n, toward = len(values), interval.estimate > 0
    verdict, why = sided(test.p_value < 0.05, opposite.p_value < 0.05, toward, n, planned)
    summary += f": {shown(interval, unit)}, p = {test.p_value:.2g}, {n} of {planned} planned seeds{why}"
    return Outcome(verdict, *interval, *test, n=n, summary=summary)


def noise_gains_more_from_width(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """H6: log2 T(small) / T(large width) is larger with noise, mean over its levels, than without. Small is the
    narrowest width with which every run on real data got to 100 %, large the widest.
    """
    frame = tidy_capacity.at_widths(tidy_capacity.times(table))
    widths = _fitted(frame, "width")
    if len(widths) < 2:
        return undecided(f"real data fitted by every run at {len(widths)} widths, 2 needed")
    ends = {widths[0]: 1.0, widths[-1]: -1.0}
    medians = _ratios(frame, "width", widths[0], widths[-1])
    summary = f"T({widths[0]:.0f} units) / T({widths[-1]:.0f}), Kaplan-Meier medians: {medians}"
    return _contrast(frame, "width", ends, seeds, summary, "doublings more with noise")


def noise_slows_more_with_data(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """H7: the slope of log T on log N is larger with noise, mean over its levels, than without; over the sizes that
    every run on real data fitted. The level of T is not compared (the paper and its precursor disagree on it).
    """
    frame = tidy_capacity.at_sizes(tidy_capacity.times(table))
    sizes = _fitted(frame, "examples")
    if len(sizes) < 3:
        return undecided(f"real data fitted by every run at {len(sizes)} data sizes, 3 needed")
    centred = np.log2(sizes) - np.log2(sizes).mean()
    weights = dict(zip(sizes, centred / (centred**2).sum(), strict=True))
    medians = _ratios(frame, "examples", sizes[-1], sizes[0])
    summary = f"T(N = {sizes[-1]:.0f}) / T({sizes[0]:.0f}), Kaplan-Meier medians: {medians}"
    return _contrast(frame, "examples", weights, seeds, summary, "more exponent with noise")


def _fitted(frame: pd.DataFrame, along: str) -> list[float]:
    """Ascending values of `along` at which every run on real data got to 100 % (no noise level lacks them)."""
    censored = frame[frame["level"] == 0].groupby(along)["censored"].any()
    counts = frame.groupby(along)["level"].nunique().reindex(censored.index)
    return sorted(censored[~censored & (counts == counts.max())].index)


def _ratios(frame: pd.DataFrame, along: str, high: float, low: float) -> str:
    """`0 %: 3.2, 80 %: ≥ 5.1`: ratio of the medians at two values of `along`, per level."""
    told = []
    for level, group in frame.groupby("level"):
        parts = [group[group[along] == value] for value in (high, low)]
        above, below = (survival.median_time(part["epochs"], part["censored"]).estimate for part in parts)
        limit = parts[0]["epochs"].max()  # of a median that was not reached
        sign = "" if np.isfinite(above) else "≥ "
        ratio = f"{sign}{min(above, limit) / below:.3g}" if np.isfinite(below) else "unknown"
        told.append(f"{level:.0%}: {ratio}")
    return ", ".join(told)


def _bounds(frame: pd.DataFrame, along: str, weights: dict[float, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two seeds x levels matrices of sum weights[x] log2 T(x): as what it is at least, and at most. A censored T is
    only a lower bound, so it leaves one of them open (NaN) by the sign of its weight.
    """
    rows = frame[frame[along].isin(list(weights))]
    weight = rows[along].map(weights)
    rows = rows.assign(
        term=weight * np.log2(rows["epochs"]),
        high=rows["censored"] & (weight > 0),
        low=rows["censored"] & (weight < 0),
    )
    keys = ["backend", "seed", "level"]
    sums = rows.groupby(keys).agg(term=("term", "sum"), high=("high", "any"), low=("low", "any"), n=("term", "size"))
    sums = sums[sums["n"] == len(weights)]
    return tuple(sums["term"].mask(sums[side]).unstack("level") for side in ("low", "high"))


def _contrast(
    frame: pd.DataFrame, along: str, weights: dict[float, float], planned: int, summary: str, unit: str
) -> Outcome:
    """Is sum weights[x] log2 T(x) larger with noise than without? Found by what the difference is at least,
    contradicted by what it is at most; a level that censoring leaves open in that direction for some seed is left out.
    """
    least, most = _bounds(frame, along, weights)
    if 0.0 not in least or len(least.columns) < 2:
        return undecided(f"{summary}; needs real data and some level of noise")
    differences = [(one.drop(columns=0.0).sub(other[0.0], axis=0)) for one, other in ((least, most), (most, least))]
    closed = [part.dropna(axis=1) for part in differences]
    at_least, at_most = (part.mean(axis=1) if part.shape[1] else pd.Series(dtype=float) for part in closed)
    told = [f"{level:.0%} {part.mean():+.2g}" for level, part in closed[0].items()]
    left = [f"{level:.0%}" for level in differences[0] if level not in closed[0]]
    summary += f"; against real {', '.join(told) or 'unknown'}"
    summary += f" (left out, too many runs did not get there: {', '.join(left)})" * bool(left)
    opposite = statistics.wilcoxon_paired(at_most, 0 * at_most, "less").p_value if len(at_most) else 1.0
    if len(at_least) < FEWEST:
        verdict = False if opposite < 0.05 else None
        return Outcome(verdict, n=len(at_most), summary=f"{summary}; {len(at_least)} of {planned} planned seeds")
    outcome = _greater(at_least, planned, summary, unit)
    # Only what it is at most shows an absence; bounds alone do not.
    toward = not len(at_most) or at_most.mean() > 0
    verdict, _ = sided(outcome.p_value < 0.05, opposite < 0.05, toward, len(at_least), planned)
    return replace(outcome, verdict_supported=verdict)
