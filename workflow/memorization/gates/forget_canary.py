"""Tests on the exposure of one user's canary in a federation that is asked to forget it. All claims and margins are
ours; seeds (federations) are the unit, and methods are compared within seeds.
"""

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy_forget
from memorization.gates.forget_rates import FEWEST
from memorization.gates.outcome import Outcome, above, below, equivalent, shown, undecided

LEVEL = 0.05


def at_end(table: pd.DataFrame, method: str, measure: str = "exposure_bits") -> pd.Series:
    """One value per seed (index) at a method's last round; method "base": before any request."""
    found = tidy_forget.measured(tidy_forget.rows(table), measure)
    found = tidy_forget.last(found[found["method"] == method]).dropna(subset=["value"])
    return found.groupby("seed")["value"].mean()


def paired(table: pd.DataFrame, method: str, rival: str, measure: str = "exposure_bits") -> pd.Series:
    """Per seed that has both: the value of `method` minus that of `rival`, both at their ends."""
    return (at_end(table, method, measure) - at_end(table, rival, measure)).dropna()


def _nothing_to_forget(table: pd.DataFrame) -> str:
    """Why forgetting cannot be tested; empty where the base models have memorised the canary."""
    base = at_end(table, "base")
    if len(base) < FEWEST:
        return f"exposure before forgetting of {len(base)} seeds, {FEWEST} needed"
    if statistics.exponential_null(base).p_value >= LEVEL:
        return f"the base models have not memorised the canary: {base.mean():.3g} bits in the mean"
    return ""


def canary_exposure_lowered(
    table: pd.DataFrame, reference: pd.DataFrame, *, method: str, rival: str, seeds: int
) -> Outcome:
    """After `method` the canary's exposure is below that of `rival` ("base": the model before), in the mean over seeds
    (paired, Student's 95 % interval).
    """
    if why := _nothing_to_forget(table):
        return undecided(why)
    change = paired(table, method, rival)
    if len(change) < FEWEST:
        return undecided(f"{method} beside {rival} in {len(change)} seeds, {FEWEST} needed", len(change))
    interval = statistics.t_interval(change)
    verdict, why = below(interval, 0, len(change), seeds)
    ends = f"{at_end(table, rival).mean():.3g} to {at_end(table, method).mean():.3g}"
    summary = f"{shown(interval, 'bits')}, {rival} to {method} {ends} bits; {len(change)} of {seeds} planned seeds"
    return Outcome(verdict, *interval, n=len(change), summary=summary + why)


def canary_as_retrained(
    table: pd.DataFrame, reference: pd.DataFrame, *, method: str, margin: float, seeds: int
) -> Outcome:
    """The canary's exposure after `method` is within `margin` bits of that after retraining without it (TOST)."""
    if why := _nothing_to_forget(table):
        return undecided(why)
    gap = paired(table, method, "retrain")
    if len(gap) < FEWEST:
        return undecided(f"{method} beside retraining in {len(gap)} seeds, {FEWEST} needed", len(gap))
    interval, test = statistics.equivalence(gap, -margin, margin)
    summary = f"{method} minus retraining: {shown(interval, 'bits')} (90 %); {len(gap)} of {seeds} planned seeds"
    verdict = equivalent(test.p_value, interval, margin)
    return Outcome(verdict, *interval, *test, n=len(gap), summary=summary)


def mean_limits(exposures: pd.Series) -> tuple[float, float]:
    """90 % limits of the mean of exponentially distributed exposures: 2 n mean / true mean is chi-squared, 2n d.o.f."""
    n = len(exposures)
    return tuple(2 * float(np.sum(exposures)) / stats.chi2.ppf(share, 2 * n) for share in (0.95, 0.05))


def retrained_is_null(table: pd.DataFrame, reference: pd.DataFrame, *, limit: float, seeds: int) -> Outcome:
    """Retrained models know nothing of the canary: exposures have the law of canaries that were not inserted,
    exponential with mean 1/ln 2 = 1.44 bits. Contradicted where they exceed it at level .05; supported where their mean
    is below `limit` bits at 95 % (the exponential law's exact limit). A control: if it fails, the pipeline is wrong.
    """
    found = at_end(table, "retrain")
    if len(found) < FEWEST:
        return undecided(f"retraining in {len(found)} seeds, {FEWEST} needed", len(found))
    n = len(found)
    low, high = mean_limits(found)
    p_value = statistics.exponential_null(found).p_value
    verdict = False if p_value < LEVEL else True if high < limit else None
    summary = (
        f"mean {found.mean():.3g} [{low:.3g}, {high:.3g}] bits (90 %), median {found.median():.3g}; expected of an "
        f"unseen canary 1.44 and 1; p = {p_value:.2g}; {n} of {seeds} planned seeds"
    )
    return Outcome(verdict, float(found.mean()), low, high, p_value=p_value, n=n, summary=summary)


def rounds_to_level(table: pd.DataFrame, method: str, level: float) -> tuple[pd.Series, float]:
    """Per seed (index) the rounds with user 0's text until the exposure reaches `level` bits, on the line between two
    measurements, and the last round measured, which stands for "not reached".
    """
    found = tidy_forget.measured(tidy_forget.rows(table), "exposure_relearned")
    found = found[found["method"] == method].dropna(subset=["value"]).sort_values("step")
    last = float(found["step"].max()) if len(found) else np.nan
    times = {seed: tidy_forget.at_level(level, own["value"], own["step"]) for seed, own in found.groupby("seed")}
    return pd.Series(times, dtype=float).fillna(last), last


def relearned_sooner(table: pd.DataFrame, reference: pd.DataFrame, *, method: str, level: float, seeds: int) -> Outcome:
    """When user 0's text is back, the canary's exposure reaches `level` bits in fewer rounds after `method` than in the
    retrained federation, which never saw it: mean rounds, cut off at the last one measured (paired, 95 % interval).

    Undecided where the method has not brought exposure below the level: nothing is there to be relearned.
    """
    (ours, last), (theirs, _) = (rounds_to_level(table, name, level) for name in (method, "retrain"))
    gap = (theirs - ours).dropna()
    if len(gap) < FEWEST:
        return undecided(f"relearning after {method} and retraining in {len(gap)} seeds, {FEWEST} needed", len(gap))
    told = f"{method} {ours.mean():.3g}, retraining {theirs.mean():.3g} rounds to {level:g} bits"
    if (ours <= 0).mean() > 0.5:
        return undecided(f"{told}: {method} leaves the exposure above the level in most seeds", len(gap))
    if (theirs >= last).all() and (ours >= last).all():
        return undecided(f"{told}: neither reaches the level within {last:g} rounds", len(gap))
    interval = statistics.t_interval(gap)
    verdict, why = above(interval, 0, len(gap), seeds)
    summary = f"{told}; sooner by {shown(interval, 'rounds')}; {len(gap)} of {seeds} planned seeds"
    return Outcome(verdict, *interval, n=len(gap), summary=summary + why)


def forgetting_spares_loss(
    table: pd.DataFrame, reference: pd.DataFrame, *, method: str, rival: str, margin: float, seeds: int
) -> Outcome:
    """The test loss after `method` is less than `margin` nats per character above that after `rival` (paired, one-sided
    95 % limit).
    """
    gap = paired(table, method, rival, "loss_nats")
    if len(gap) < FEWEST:
        return undecided(f"test loss of {method} and {rival} in {len(gap)} seeds, {FEWEST} needed", len(gap))
    interval = statistics.t_interval(gap, 0.90)
    verdict, why = below(interval, margin, len(gap), seeds)
    ends = f"{at_end(table, method, 'loss_nats').mean():.4g} and {at_end(table, rival, 'loss_nats').mean():.4g} nats"
    summary = f"{method} minus {rival}: {shown(interval, 'nats')} (90 %); {ends}; {len(gap)} of {seeds} planned seeds"
    return Outcome(verdict, *interval, n=len(gap), summary=summary + why)
