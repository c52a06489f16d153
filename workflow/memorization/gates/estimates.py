"""Tests of the estimators of exposure against the exact one, over all models of a run. The unit is a seed: models of
different figures that share seed and replicate share their random streams.
"""

from itertools import pairwise

import numpy as np
import pandas as pd

from memorization import statistics, tidy
from memorization.gates.outcome import Outcome, decide, shown, undecided

COLUMN = {"sampled": "sampled_bits", "skew_normal": "skew_normal_bits"}


def compared(table: pd.DataFrame, method: str, importance: bool = False) -> pd.DataFrame:
    """The models with an exact exposure and an estimate by `method`: columns of `estimates`, unit ("seed/replicate"),
    first (bool: exact rank 1), known_bits (exact), error (bits, estimate minus known_bits).

    importance: where no walk was finished, as of hardly exposed canaries none is, known_bits is importance-sampled.
    """
    frame = tidy.rows(table, "estimates")
    known = frame["exact_bits"].fillna(frame["importance_bits"]) if importance else frame["exact_bits"]
    frame = frame.assign(known_bits=known).dropna(subset=["known_bits", COLUMN[method]])
    error = frame[COLUMN[method]] - frame["known_bits"]
    return frame.assign(unit=tidy.seeds(frame), first=frame["rank"] == 1, error=error)


def estimate_unbiased(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    method: str,
    margin: float,
    seeds: int,
    importance: bool = False,
) -> Outcome:
    """Estimate minus exact (with `importance` else importance-sampled) exposure is zero on average over canaries that
    do not rank first, within +-margin bits (TOST of the seeds' mean errors). Of `sampled` only those count whose
    estimate is not at its limit.
    """
    frame = compared(table, method, importance)
    frame = frame[~frame["first"] & ~(frame["sampled_at_limit"] & (method == "sampled"))]
    values = frame.groupby("unit")["error"].mean()
    if len(values) < 3:
        return undecided(f"{len(values)} seeds with an exact rank beyond 1 and such an estimate, 3 needed", len(values))
    interval, test = statistics.equivalence(values, -margin, margin)
    verdict = decide(test.p_value < 0.05, interval.low > margin or interval.high < -margin, len(values), seeds)
    off = float((frame["error"].abs() > margin).mean())
    summary = f"mean error {shown(interval, 'bits')} (90 %); {off:.0%} of {len(frame)} models off by more than "
    summary += f"{margin:g} bits, at most by {frame['error'].abs().max():.3g}; "
    summary += (
        f"{int(frame['exact_bits'].isna().sum())} of them against importance sampling, an estimate too"
        if importance
        else _left_out(table)
    )
    return Outcome(verdict, *interval, *test, n=len(values), summary=summary)


def _left_out(table: pd.DataFrame) -> str:
    every = tidy.rows(table, "estimates")
    return f"{int(every['exact_bits'].isna().sum())} of {len(every)} without a finished exact rank left out"


def sampled_at_limit(table: pd.DataFrame, reference: pd.DataFrame, *, share: float, seeds: int) -> Outcome:
    """Of the models whose canary ranks first, more than `share` have a sampled estimate at its limit (bootstrap of
    seeds, 95 %): it then tells the number of references and nothing of the canary.
    """
    frame = compared(table, "sampled")
    frame = frame[frame["first"]]
    n = frame["unit"].nunique()
    if n < statistics.FEWEST:
        return undecided(f"rank 1 in models of {n} seeds, {statistics.FEWEST} needed", n)
    limited = frame["sampled_at_limit"].to_numpy()
    interval = statistics.cluster_bootstrap(lambda rows: float(limited[rows].mean()), frame["unit"])
    verdict = decide(interval.low > share, interval.high < share, n, seeds)
    summary = f"at its limit in {int(limited.sum())} of {len(frame)} models with rank 1, share {shown(interval)}; "
    summary += f"there {frame['error'].mean():.3g} bits off on average; {_left_out(table)}"
    return Outcome(verdict, *interval, n=n, summary=summary)


def estimate_tells_first(
    table: pd.DataFrame, reference: pd.DataFrame, *, method: str, share: float, seeds: int
) -> Outcome:
    """That the estimate is log2|R| or more, and that the canary ranks first, agree in more than `share` of the models:
    the mean of the share among those that rank first and of that among those that do not (bootstrap of seeds, 95 %), so
    that always giving one answer is right in half. n is the number of seeds with the rarer kind.
    """
    frame = compared(table, method)
    leading, others = (frame.loc[frame["first"] == first, "unit"].nunique() for first in (True, False))
    n = min(leading, others)
    if n < statistics.FEWEST:
        why = f"canaries that rank first in {leading} seeds, that do not in {others}; {statistics.FEWEST} needed"
        return undecided(why, n)
    said = frame[COLUMN[method]] >= frame["space_bits"] - 1e-9
    right, first = (said == frame["first"]).to_numpy(), frame["first"].to_numpy()
    interval = statistics.cluster_bootstrap(lambda rows: _balanced(right[rows], first[rows]), frame["unit"])
    missed, wrong = int((frame["first"] & ~said).sum()), int((~frame["first"] & said).sum())
    verdict = decide(interval.low > share, interval.high < share, n, seeds)
    summary = f"mean of the shares right of both kinds {shown(interval)}; right in {int(right.sum())} of {len(frame)} "
    summary += f"models; missed {missed} of "
    summary += f"{int(frame['first'].sum())} with rank 1, wrong on {wrong} of {int((~frame['first']).sum())} others; "
    return Outcome(verdict, *interval, n=n, summary=summary + _left_out(table))


def _balanced(right: np.ndarray, first: np.ndarray) -> float:
    """Mean of the shares of `right` where `first` and where not; NaN where a resample lacks one of the two."""
    return float((right[first].mean() + right[~first].mean()) / 2) if first.any() and not first.all() else np.nan


BINS = (0.0, 5.0, 10.0, 20.0, np.inf)


def binned(frame: pd.DataFrame) -> pd.Series:
    """Name of the class of known exposure per row of `compared`, "rank 1" for the most likely fills."""
    names = [f"{low:g}–{high:g}" if np.isfinite(high) else f"≥ {low:g}" for low, high in pairwise(BINS)]
    kind = pd.cut(frame["known_bits"], BINS, right=False, labels=names).astype(object)
    return kind.mask(frame["first"], "rank 1")


CLASSES = (*(f"{low:g}–{high:g}" for low, high in pairwise(BINS[:-1])), f"≥ {BINS[-2]:g}", "rank 1")
"""The names that `binned` gives, in order."""
