"""Tests on finished models: Table 1, Figure 2, and the error of the skew-normal estimate."""

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy
from memorization.gates.outcome import Outcome, decide, inserted, shown, undecided, within


def rank_one_share(
    table: pd.DataFrame, reference: pd.DataFrame, *, share: float, worst_rank: int, seeds: int
) -> Outcome:
    """G1: Clopper-Pearson interval of the share of exact rank 1 contains `share`, and no rank is beyond
    `worst_rank`.
    """
    rank = inserted(table, "exact")["rank"].to_numpy()
    if len(rank) < seeds:
        return undecided(f"{len(rank)} exact ranks, {seeds} needed", len(rank))
    interval = statistics.binomial_interval(int((rank == 1).sum()), len(rank))
    supported = interval.low <= share <= interval.high and bool((rank <= worst_rank).all())
    first = int((rank == 1).sum())
    summary = f"rank 1 in {first} of {len(rank)} models, {shown(interval)}; worst rank {rank.max():.0f}"
    return Outcome(supported, *interval, n=len(rank), summary=summary)


def base_exposure(table: pd.DataFrame, reference: pd.DataFrame, *, low: float, high: float, seeds: int) -> Outcome:
    """G2: exact exposure is log2|R| in most models (binomial test), and the median skew-normal one lies in
    [low, high].
    """
    exact, skew = inserted(table, "exact"), inserted(table, "skew_normal")["exposure_bits"]
    if min(len(exact), len(skew)) < seeds:
        return undecided(f"{len(exact)} exact and {len(skew)} fitted exposures, {seeds} needed", len(exact))
    full = int((exact["rank"] == 1).sum())  # the ceiling is 29.897 bits, so "29.9" means rank 1
    p = 1 - stats.binom.cdf(full - 1, len(exact), 0.5)
    median = statistics.bootstrap_interval(skew, np.median)
    supported = p < 0.05 and bool(within(median, low, high, len(skew), seeds))
    summary = f"exact exposure at its ceiling in {full} of {len(exact)}; skew-normal median {shown(median, 'bits')}"
    return Outcome(supported, *median, statistic=full, p_value=p, n=len(exact), summary=summary)


def runner_up_gap(table: pd.DataFrame, reference: pd.DataFrame, *, low: float, high: float, seeds: int) -> Outcome:
    """G3: bootstrap median of the gap from the canary to the next fill, where the canary has rank 1, in [low,
    high].
    """
    frame = tidy.gaps(table)
    gap = frame.loc[frame["first"], "gap_bits"].to_numpy()
    if len(gap) < 3:
        return undecided(f"{len(gap)} models with the canary at rank 1, 3 needed for an interval", len(gap))
    median = statistics.bootstrap_interval(gap, np.median)
    verdict = within(median, low, high, len(frame), seeds)
    summary = f"median gap {shown(median, 'bits')} in {len(gap)} rank-1 models of {len(frame)}"
    return Outcome(verdict, *median, n=len(gap), summary=summary)


def skew_normal_ks(
    table: pd.DataFrame, reference: pd.DataFrame, *, alpha: float, references: int, seeds: int
) -> Outcome:
    """G4: the K-S test (parametric-bootstrap p) does not reject in most models (binomial test)."""
    fit = tidy.rows(table, "fit")
    if not len(fit) or fit["references"].max() < references:
        most = fit["references"].max() if len(fit) else 0
        return undecided(f"{most:,} reference fills, the paper's check needs {references:,}", len(fit))
    p = fit.loc[fit["references"] >= references, "ks_p_bootstrap"].dropna().to_numpy()
    kept = int((p > alpha).sum())
    test = stats.binomtest(kept, len(p), 0.5, alternative="greater")
    share = statistics.binomial_interval(kept, len(p))
    verdict = decide(test.pvalue < 0.05, share.high < 0.5, len(p), seeds)
    summary = f"K-S p > {alpha:g} in {kept} of {len(p)} models, median p {np.median(p):.3g}"
    return Outcome(verdict, *share, statistic=kept, p_value=test.pvalue, n=len(p), summary=summary)


def skew_normal_error(table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, seeds: int) -> Outcome:
    """G4: skew-normal minus exact exposure, canaries below the ceiling only, equivalent to zero (TOST, per
    seed).
    """
    frame = tidy.trials(table).dropna(subset=["exact", "skew_normal"])
    frame = frame[frame["rank"] > 1].assign(error=lambda f: f["skew_normal"] - f["exact"])
    values = frame.groupby("seed")["error"].mean().to_numpy()
    if len(values) < 3:
        return undecided(f"{len(values)} seeds with an exact rank beyond 1, 3 needed", len(values))
    interval, test = statistics.equivalence(values, -margin, margin)
    outside = interval.low > margin or interval.high < -margin
    verdict = decide(test.p_value < 0.05, outside, len(values), seeds)
    spread = 1.96 * frame["error"].std() if len(frame) > 1 else np.nan
    limits = f"limits of agreement +-{spread:.3g}"
    summary = f"mean error {shown(interval, 'bits')} (90 %), {limits}; {len(frame)} canaries"
    return Outcome(verdict, *interval, *test, n=len(values), summary=summary)
