"""Tests on finished models: Table 1, Figure 2, and the error of the skew-normal estimate."""

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy
from memorization.gates.outcome import Outcome, decide, shown, undecided, within


def rank_one_share(
    table: pd.DataFrame, reference: pd.DataFrame, *, share: float, worst_rank: int, seeds: int
) -> Outcome:
    """G1: Clopper-Pearson interval of the share of exact rank 1 contains `share`, and no rank is beyond
    `worst_rank`.

    Every model counts: a rank whose walk ran out of budget is known by its bounds, and the claim stays undecided as
    long as those leave it open. Leaving such models out would drop the badly ranked ones.
    """
    known = tidy.known_ranks(tidy.rows(table, "exposure"))
    if len(known) < seeds:
        return undecided(f"{len(known)} models, {seeds} needed", len(known))
    first = int((known["rank"] == 1).sum())
    interval = statistics.binomial_interval(first, len(known))
    far = int((known["rank"].fillna(known["rank_low"]) > worst_rank).sum())
    summary = f"rank 1 in {first} of {len(known)} models, {shown(interval)}; {far} beyond rank {worst_rank}"
    unknown = int(known["rank"].isna().sum()) - int((known["rank"].isna() & (known["rank_low"] > worst_rank)).sum())
    if unknown and not far:
        return undecided(f"{summary}; {unknown} models without a finished exact rank", len(known))
    supported = interval.low <= share <= interval.high and not far
    return Outcome(supported, *interval, n=len(known), summary=summary)


def base_exposure(table: pd.DataFrame, reference: pd.DataFrame, *, low: float, high: float, seeds: int) -> Outcome:
    """G2: exact exposure is log2|R| in most models (binomial test), and the median skew-normal one lies in
    [low, high]. Models without a finished exact rank count as below the ceiling, unless that decides the claim.
    """
    known = tidy.known_ranks(tidy.rows(table, "exposure"))
    skew, n = known["skew_normal"].dropna(), len(known)
    if min(n, len(skew)) < seeds:
        return undecided(f"{n} models, {len(skew)} with a fitted exposure, {seeds} needed", n)
    full = int((known["rank"] == 1).sum())  # the ceiling is 29.897 bits, so "29.9" means rank 1
    unknown = int((known["rank"].isna() & ~known["beaten"]).sum())
    p, best = (float(stats.binom.sf(k - 1, n, 0.5)) for k in (full, full + unknown))
    median = statistics.bootstrap_interval(skew, np.median)
    inside = bool(within(median, low, high, len(skew), seeds))
    summary = f"exact exposure at its ceiling in {full} of {n}; skew-normal median {shown(median, 'bits')}"
    if inside and p >= 0.05 > best:
        return undecided(f"{summary}; {unknown} models without a finished exact rank", n)
    return Outcome(p < 0.05 and inside, *median, statistic=full, p_value=p, n=n, summary=summary)


def runner_up_gap(table: pd.DataFrame, reference: pd.DataFrame, *, low: float, high: float, seeds: int) -> Outcome:
    """G3: bootstrap median of the gap from the canary to the next fill, where the canary has rank 1, in [low,
    high].
    """
    frame = tidy.gaps(table)
    gap = frame.loc[frame["first"], "gap_bits"].to_numpy()
    if len(gap) < statistics.FEWEST:
        needed = f"{statistics.FEWEST} needed for an interval of the median"
        return undecided(f"{len(gap)} models with the canary at rank 1, {needed}", len(gap))
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
    fit = fit[(fit["references"] >= references) & fit["converged"]]
    p = fit["ks_p_bootstrap"].dropna().to_numpy()
    if not len(p):
        return undecided("no converged fit with a bootstrap p-value")
    kept = int((p > alpha).sum())
    test = stats.binomtest(kept, len(p), 0.5, alternative="greater")
    share = statistics.binomial_interval(kept, len(p))
    verdict = decide(test.pvalue < 0.05, share.high < 0.5, len(p), seeds)
    naive = int((fit["ks_p_naive"] > alpha).sum())
    summary = (
        f"K-S p > {alpha:g} in {kept} of {len(p)} models by the bootstrap (median p {np.median(p):.3g}), "
        f"in {naive} by the plain test, which is too lenient"
    )
    return Outcome(verdict, *share, statistic=kept, p_value=test.pvalue, n=len(p), summary=summary)


def skew_normal_error(table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, seeds: int) -> Outcome:
    """G4: skew-normal minus exact exposure, canaries below the ceiling only, equivalent to zero (TOST, per
    seed).
    """
    models = tidy.trials(table)
    frame = models.dropna(subset=["exact", "skew_normal"])
    frame = frame[frame["rank"] > 1].assign(error=lambda f: f["skew_normal"] - f["exact"])
    values = frame.groupby("seed")["error"].mean().to_numpy()
    if len(values) < 3:
        return undecided(f"{len(values)} seeds with an exact rank beyond 1, 3 needed", len(values))
    interval, test = statistics.equivalence(values, -margin, margin)
    outside = interval.low > margin or interval.high < -margin
    verdict = decide(test.p_value < 0.05, outside, len(values), seeds)
    spread = 1.96 * frame["error"].std() if len(frame) > 1 else np.nan
    limits = f"limits of agreement +-{spread:.3g}"
    left_out = f"{int(models['exact'].isna().sum())} without a finished exact rank left out"
    summary = f"mean error {shown(interval, 'bits')} (90 %), {limits}; {len(frame)} canaries, {left_out}"
    return Outcome(verdict, *interval, *test, n=len(values), summary=summary)
