"""Tests on the number of insertions: Figure 5."""

import pandas as pd

from memorization import statistics, tidy, tidy_defences
from memorization.gates.outcome import Outcome, decide, shown, undecided


def by_insertions(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model: insertions, pair, space_bits, and the columns of `tidy_defences.canary_bits`."""
    exposure = tidy.rows(table, "exposure")
    about = exposure.assign(pair=tidy.seeds(exposure), insertions=exposure.get("canary.insertions"))
    about = about.drop_duplicates(tidy.MODEL)[[*tidy.MODEL, "pair", "insertions", "space_bits"]]
    return tidy_defences.canary_bits(exposure, tidy.MODEL).merge(about, on=tidy.MODEL)


def exposure_rises(table: pd.DataFrame, reference: pd.DataFrame, *, method: str, seeds: int) -> Outcome:
    """Exposure rises with the number of insertions (Page's trend test over seeds that all levels share), and that of
    the most is beyond the law of canaries that were not inserted (Gamma test).
    """
    frame = by_insertions(table)
    wide = frame.pivot_table(index="pair", columns="insertions", values=method).dropna()
    n = len(wide)
    if n < 2 or wide.shape[1] < 3:
        return undecided(f"{n} seeds at {wide.shape[1]} numbers of insertions; 2 seeds at 3 needed", n)
    trend = statistics.page(wide.to_numpy())
    most = wide.iloc[:, -1]
    beyond = statistics.exponential_null(most).p_value < 0.05
    interval = statistics.t_interval(most)
    means = "; ".join(f"{level:g}: {value:.3g}" for level, value in wide.mean().items())
    summary = f"mean {method.replace('_', '-')} exposure by insertions {means} bits"
    falls = statistics.page(wide.iloc[:, ::-1].to_numpy()).p_value < 0.05
    return Outcome(decide(trend.p_value < 0.05 and beyond, falls, n, seeds), *interval, *trend, n=n, summary=summary)


def short_of_extraction(table: pd.DataFrame, reference: pd.DataFrame, *, insertions: int, seeds: int) -> Outcome:
    """With that many insertions the canary is still not extractable: no search returns it, and every outcome is certain
    (`tidy.trials`).
    """
    trials = tidy.trials(table).merge(by_insertions(table)[[*tidy.MODEL, "insertions"]], on=tidy.MODEL)
    trials = trials[trials["insertions"] == insertions]
    known = trials[trials["decided"]]
    n, won = len(known), int(known["success"].sum())
    if not n:
        return undecided(f"no decided search at {insertions} insertions")
    bits = statistics.t_interval(trials["skew_normal"])
    share = statistics.binomial_interval(won, n)
    summary = f"extracted in {won} of {n} models at {insertions} insertions, skew-normal exposure {shown(bits, 'bits')}"
    summary += f" of {trials['space_bits'].max():.3g}"
    verdict = False if won else True if n >= seeds else None
    return Outcome(verdict, *share, statistic=won, n=n, summary=summary)
