"""Tests on critical samples through training on images, noise inputs and random labels (Arpit et al. 2017, Fig 9): H12,
and the unplotted claims U4 (training examples) and U5 (other radii).
"""

import numpy as np
import pandas as pd

from memorization import statistics, tidy_noise
from memorization.gates.closer_noise import FEWEST, TIE
from memorization.gates.outcome import Outcome, direction, equivalent, shown, sided, undecided

NAMES = {"none": "real", "inputs": "randX", "labels": "randY"}
"""data.noise.kind -> the paper's name of the training set."""


def _ratios(table: pd.DataFrame, radius: float, part: str) -> dict[str, pd.DataFrame]:
    """Kind of noise -> seeds x epochs from the first on; only complete noise (and none), kinds with enough seeds.

    The untrained network (epoch 0) is a control of its own: its logits are nearly tied, which says nothing of data.
    """
    curves = tidy_noise.curves(table, f"csr_{radius:g}", part)
    curves = curves[curves["epoch"] > 0]
    found = {
        kind: tidy_noise.wide(tidy_noise.of(curves, kind, 0.0 if kind == tidy_noise.REAL else 1.0)) for kind in NAMES
    }
    return {kind: matrix for kind, matrix in found.items() if len(matrix) >= FEWEST}


def noise_more_critical(table: pd.DataFrame, reference: pd.DataFrame, *, radius: float, seeds: int) -> Outcome:
    """H12, U5: at the end of training the critical sample ratio of real validation images is higher after training on
    noise inputs, and after training on random labels, than after training on real data (Wilcoxon, paired; both must).
    """
    ratios = _ratios(table, radius, "validation")
    if set(ratios) != set(NAMES):
        return undecided(f"critical samples at r = {radius:g} in {FEWEST} seeds of {len(ratios)} of 3 training sets")
    ends = {kind: matrix.iloc[:, -1] for kind, matrix in ratios.items()}
    summary = f"r = {radius:g}: " + ", ".join(f"{NAMES[kind]} {end.mean():.3g}" for kind, end in ends.items())
    summary += _untrained(table, radius)
    noise = tidy_noise.curves(table, f"csr_{radius:g}", "gaussian")
    own = tidy_noise.at_end(tidy_noise.of(noise, "inputs", 1.0))
    summary += f"; randX on Gaussian images {own.mean(axis=None):.3g}" if len(own) else ""
    if max(end.max() for end in ends.values()) < TIE:
        return undecided(f"{summary}; all below 1 %", min(map(len, ends.values())))
    differences = [(ends[kind] - ends[tidy_noise.REAL]).dropna() for kind in ("inputs", "labels")]
    tests = [statistics.wilcoxon_paired(d, np.zeros(len(d))) for d in differences]
    intervals = [statistics.t_interval(d) for d in differences]
    worst = max((0, 1), key=lambda i: (tests[i].p_value, -intervals[i].estimate))
    n = min(map(len, differences))
    against, toward = any(i.high < 0 for i in intervals), all(i.estimate > 0 for i in intervals)
    verdict, why = sided(tests[worst].p_value < 0.05, against, toward, n, seeds)
    return Outcome(verdict, *intervals[worst], *tests[worst], n=n, summary=summary + why)


def radii_agree(table: pd.DataFrame, reference: pd.DataFrame, *, radius: float, other: float, seeds: int) -> Outcome:
    """U5 (footnote 6): at another radius the conclusion on noise and real data is the same. Each kind of noise whose
    critical sample ratio differs from real data's at `radius`, either way, differs the same way at `other`
    (`direction`); not testable where none differs at `radius`: then there is no conclusion to agree with.
    """
    found = {}
    for r in (radius, other):
        ratios = _ratios(table, r, "validation")
        if set(ratios) != set(NAMES):
            return undecided(f"critical samples at r = {r:g} in {FEWEST} seeds of {len(ratios)} of 3 training sets")
        ends = {kind: matrix.iloc[:, -1] for kind, matrix in ratios.items()}
        found[r] = {kind: (ends[kind] - ends[tidy_noise.REAL]).dropna() for kind in ("inputs", "labels")}
    n = min(len(values) for kinds in found.values() for values in kinds.values())
    intervals = {r: {kind: statistics.t_interval(values) for kind, values in found[r].items()} for r in found}
    told = "; ".join(
        f"r = {r:g}: " + ", ".join(f"{NAMES[kind]} {shown(one)}" for kind, one in kinds.items())
        for r, kinds in intervals.items()
    )
    summary = f"minus real, {told}; {n} of {seeds} planned seeds"
    signs = {kind: direction(values) for kind, values in found[radius].items()}
    differing = [kind for kind, sign in signs.items() if sign]
    if not differing:
        return undecided(f"at r = {radius:g} itself neither differs from real data for sure: {summary}", n)
    again = {kind: signs[kind] * direction(found[other][kind]) for kind in differing}
    toward = all(signs[kind] * intervals[other][kind].estimate > 0 for kind in differing)
    verdict, why = sided(min(again.values()) > 0, min(again.values()) < 0, toward, n, seeds)
    worst = min((intervals[other][kind] for kind in differing), key=lambda one: abs(one.estimate))
    return Outcome(verdict, *worst, n=n, summary=summary + why)


def _untrained(table: pd.DataFrame, radius: float) -> str:
    """The control's ratio, for a summary."""
    curves = tidy_noise.curves(table, f"csr_{radius:g}", "validation")
    start = curves.loc[curves["epoch"] == 0, "value"]
    return f"; untrained {start.mean():.3g}" if len(start) else ""


def csr_rises_then_levels(
    table: pd.DataFrame, reference: pd.DataFrame, *, radius: float, margin: float, seeds: int
) -> Outcome:
    """H12: on all three training sets the critical sample ratio rises from the first epoch to the last (Wilcoxon,
    paired), and its change over the last third of training is within +-margin of its level at the end (TOST of the
    fitted line).
    """
    ratios = _ratios(table, radius, "validation")
    if set(ratios) != set(NAMES):
        return undecided(f"critical samples at r = {radius:g} in {FEWEST} seeds of {len(ratios)} of 3 training sets")
    n = min(map(len, ratios.values()))
    verdicts, listed, worst = [], [], None
    for kind, matrix in ratios.items():
        end, rise = matrix.iloc[:, -1], matrix.iloc[:, -1] - matrix.iloc[:, 0]
        if end.mean() < TIE:
            return undecided(f"r = {radius:g}: {NAMES[kind]} ends at {end.mean():.2g}, below 1 %", n)
        risen = statistics.wilcoxon_paired(rise, np.zeros(len(rise)))
        change = _late_change(matrix) / end.mean()
        interval, test = statistics.equivalence(change, -margin, margin)
        against, toward = statistics.t_interval(rise).high < 0, rise.mean() > 0
        rises, _ = sided(risen.p_value < 0.05, against, toward, len(rise), seeds)
        flat = equivalent(test.p_value, interval, margin)
        verdicts += [rises, flat]
        listed.append(
            f"{NAMES[kind]} {matrix.iloc[:, 0].mean():.3g} to {end.mean():.3g} (p = {risen.p_value:.2g}), "
            f"last third {shown(interval)} of it (90 %)"
        )
        if worst is None or abs(interval.estimate) > abs(worst[0].estimate):
            worst = interval, test
    verdict = False if False in verdicts else None if None in verdicts else True
    summary = f"r = {radius:g}: {'; '.join(listed)}{_untrained(table, radius)}"
    return Outcome(verdict, *worst[0], *worst[1], n=n, summary=summary)


def _late_change(matrix: pd.DataFrame) -> pd.Series:
    """Per seed the change of its curve over the last third of training, by the line fitted to what was measured there
    (and where that third begins, between two measurements).
    """
    epochs = matrix.columns.to_numpy(dtype=float)
    start = 2 / 3 * epochs[-1]
    first = tidy_noise.at(matrix, pd.Series(start, matrix.index))
    late = epochs > start
    x = np.concatenate([[start], epochs[late]])
    y = np.column_stack([first, matrix.loc[first.index].to_numpy()[:, late]])
    slopes = np.polyfit(x, y.T, 1)[0]
    return pd.Series(slopes * (epochs[-1] - start), first.index)


def train_csr_rises_then_falls(table: pd.DataFrame, reference: pd.DataFrame, *, radius: float, seeds: int) -> Outcome:
    """U4 (footnote 5): on training examples the critical sample ratio first rises and then falls, on all three sets:
    both differences from where the *other* seeds' mean curve peaks are above 0 (bootstrap over seeds).
    """
    ratios = _ratios(table, radius, "train")
    if set(ratios) != set(NAMES):
        return undecided(f"training examples at r = {radius:g} in {FEWEST} seeds of {len(ratios)} of 3 training sets")
    intervals, listed = [], []
    for kind, matrix in ratios.items():
        peak = tidy_noise.others_peak(matrix)
        top = tidy_noise.at(matrix, peak)
        parts = [statistics.bootstrap_interval(top - matrix.iloc[:, end]) for end in (0, -1)]
        intervals += parts
        listed.append(
            f"{NAMES[kind]} {matrix.iloc[:, 0].mean():.3g}, {top.mean():.3g} at epoch {peak.median():g}, "
            f"{matrix.iloc[:, -1].mean():.3g} at the end"
        )
    n = min(map(len, ratios.values()))
    weakest = min(intervals, key=lambda interval: interval.low)
    against, toward = any(i.high < 0 for i in intervals), all(i.estimate > 0 for i in intervals)
    verdict, why = sided(weakest.low > 0, against, toward, n, seeds)
    return Outcome(verdict, *weakest, n=n, summary=f"r = {radius:g}: {'; '.join(listed)}{why}")
