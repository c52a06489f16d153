"""Tests on loss-sensitivity through unrolled SGD (Arpit et al. 2017, Figs 3 and 4): H3, H4, and the unplotted U1.

Replicates of equal number start from the same weights and see their examples in the same order whatever the images are:
comparisons are paired by seed.
"""

import numpy as np
import pandas as pd

from memorization import statistics, tidy_sensitivity
from memorization.gates.outcome import Outcome, decide, direction, equivalent, shown, sided, undecided
from memorization.tidy_sensitivity import AGAIN, NORMS, RANDOM, REAL

FEWEST = 5
"""Seeds from which a signed-rank test can be significant at .05, one-sided (1/32)."""
LABELS = {"own": "ten classes", "unique": "a class per example"}


def _differences(table: pd.DataFrame, norm: str, classes: str, pair: tuple[str, str]) -> pd.Series:
    """Final Gini of the first training set minus that of the second, per seed; empty where one is missing."""
    wide = tidy_sensitivity.final(tidy_sensitivity.inequality(table, norm), classes).reindex(columns=list(pair))
    return (wide[pair[0]] - wide[pair[1]]).dropna()


def real_more_unequal(table: pd.DataFrame, reference: pd.DataFrame, *, classes: str, seeds: int) -> Outcome:
    """H3: at the end of training the Gini coefficient of mean loss-sensitivity (L1) over examples is higher for real
    images than for noise inputs (Wilcoxon, paired, one-sided). classes: `own` or `unique`.
    """
    difference = _differences(table, "l1", classes, (REAL, RANDOM))
    if len(difference) < FEWEST:
        return undecided(f"{len(difference)} seeds with both training sets, {FEWEST} needed", len(difference))
    levels = tidy_sensitivity.final(tidy_sensitivity.inequality(table), classes)
    interval = statistics.t_interval(difference)
    test = statistics.wilcoxon_paired(difference, np.zeros(len(difference)))
    summary = f"{LABELS[classes]}: Gini {levels[REAL].mean():.3f} real, {levels[RANDOM].mean():.3f} random; "
    n = len(difference)
    summary += f"difference {shown(interval)}, signed-rank p = {test.p_value:.2g}; {n} of {seeds} planned seeds"
    verdict, why = sided(test.p_value < 0.05, interval.high < 0, interval.estimate > 0, n, seeds)
    return Outcome(verdict, *interval, *test, n=n, summary=summary + why)


def random_sets_equal(table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, seeds: int) -> Outcome:
    """Control of H3: two independent draws of noise inputs have the same Gini coefficient, within +-margin (TOST,
    paired).
    """
    difference = _differences(table, "l1", "own", (RANDOM, AGAIN))
    if len(difference) < 2:
        return undecided(f"{len(difference)} seeds with both draws, 2 needed", len(difference))
    interval, test = statistics.equivalence(difference, -margin, margin)
    summary = f"difference {shown(interval)} (90 %); {len(difference)} of {seeds} planned seeds"
    return Outcome(equivalent(test.p_value, interval, margin), *interval, *test, n=len(difference), summary=summary)


def norms_agree(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """U1: under L2 and L-infinity real and noise inputs differ as they do under L1, in both labelings: on the same
    side, by the signed-rank test of H3 (`direction`). Not testable where L1 itself shows no difference.
    """
    found = {
        (norm, classes): _differences(table, norm, classes, (REAL, RANDOM)) for norm in NORMS for classes in LABELS
    }
    n = min(map(len, found.values()))
    if n < FEWEST:
        return undecided(f"{n} seeds with every norm and labeling, {FEWEST} needed", n)
    intervals = {key: statistics.t_interval(values) for key, values in found.items()}
    listed = "; ".join(
        f"{LABELS[classes]}: " + ", ".join(f"{norm} {shown(intervals[norm, classes])}" for norm in NORMS)
        for classes in LABELS
    )
    summary = f"real minus random {listed}; {n} of {seeds} planned seeds"
    signs = {key: direction(values) for key, values in found.items()}
    if any(signs["l1", classes] == 0 for classes in LABELS):
        return undecided(f"L1 itself shows no difference: {summary}", n)
    others = [(norm, classes) for norm in NORMS[1:] for classes in LABELS]
    agreeing = [signs[norm, classes] * signs["l1", classes] for norm, classes in others]
    toward = all(signs["l1", classes] * intervals[norm, classes].estimate > 0 for norm, classes in others)
    verdict, why = sided(min(agreeing) > 0, min(agreeing) < 0, toward, n, seeds)
    worst = min((intervals[key] for key in others), key=lambda one: abs(one.estimate))
    return Outcome(verdict, *worst, n=n, summary=summary + why)


# --- Figure 4 -----------------------------------------------------------------------------------------------------


def diagonal_dominates(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """H4: in every seed, on real and on noise inputs, the loss of a class depends most on the examples of that class:
    mean diagonal above mean of the rest (p by the sign test).
    """
    frame = tidy_sensitivity.spread(table)
    frame = frame[frame["data"].isin([REAL, RANDOM])]
    counts = frame.groupby("data")["seed"].nunique().reindex([REAL, RANDOM], fill_value=0)
    n = int(counts.min())
    if n < FEWEST:
        return undecided(f"{n} seeds with both training sets, {FEWEST} needed", n)
    above = frame["diagonal"] > frame["off"]
    logs = {name: statistics.t_interval(-np.log10(group["ratio"])) for name, group in frame.groupby("data")}
    listed = ", ".join(f"{name} {shown(interval)}" for name, interval in logs.items())
    summary = f"diagonal above the rest in {above.sum()} of {len(frame)} models; log10 of their ratio {listed}"
    worst = min(logs.values(), key=lambda interval: interval.estimate)
    verdict = decide(bool(above.all()), not above.all(), n, seeds)
    return Outcome(verdict, *worst, p_value=0.5**n if above.all() else np.nan, n=n, summary=summary)


def real_more_off_diagonal(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """H4: relative to the diagonal, the rest of the class matrix is larger for real images than for noise inputs
    (Wilcoxon, paired, one-sided, of the logarithm of that ratio).
    """
    wide = tidy_sensitivity.spread(table).pivot_table(index="seed", columns="data", values="ratio")
    wide = wide.reindex(columns=[REAL, RANDOM]).dropna()
    n = len(wide)
    if n < FEWEST:
        return undecided(f"{n} seeds with both training sets, {FEWEST} needed", n)
    difference = np.log10(wide[REAL] / wide[RANDOM])
    interval = statistics.t_interval(difference)
    test = statistics.wilcoxon_paired(difference, np.zeros(n))
    summary = f"rest/diagonal {wide[REAL].mean():.3g} real, {wide[RANDOM].mean():.3g} random; "
    summary += f"log10 of their ratio {shown(interval)}; {n} of {seeds} planned seeds"
    verdict, why = sided(test.p_value < 0.05, interval.high < 0, interval.estimate > 0, n, seeds)
    return Outcome(verdict, *interval, *test, n=n, summary=summary + why)
