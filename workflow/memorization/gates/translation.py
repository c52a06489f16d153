"""Tests on translators (Figure 6, G8); that exposure rises with the insertions is `insertions.exposure_rises`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from memorization import statistics, tidy
from memorization.gates.insertions import by_insertions
from memorization.gates.outcome import Outcome, equivalent, shown, undecided, within


def pair_memorised(
    table: pd.DataFrame, reference: pd.DataFrame, *, insertions: Sequence[float], bits: float, seeds: int
) -> Outcome:
    """At one of these numbers of `insertions`, all of which are in the table, the mean skew-normal exposure (the
    paper's estimate) is at least `bits`, the ceiling; intervals share their level (Bonferroni).

    The estimate is an extrapolation. Where another fill is seen to be as likely as the canary, the exact exposure is
    below the ceiling, whatever the fit says: such models are counted, and the claim is then not supported.
    """
    frame = _judged(table)
    found = []
    for count in insertions:
        level = frame[frame["insertions"] == count].dropna(subset=["skew_normal"])
        values = level.groupby("pair")["skew_normal"].mean().to_numpy()
        if not len(values):
            return undecided(f"no model with {count:g} insertions")
        interval = statistics.t_interval(values, 1 - 0.05 / len(insertions))
        beaten = int(level["beaten"].sum())
        verdict = within(interval, bits, np.inf, len(values), seeds)
        verdict = (False if len(values) >= seeds else None) if verdict and beaten else verdict
        found.append((verdict, interval, beaten, len(values), count))
    told = "; ".join(
        f"{count:g} insertions: {shown(interval, 'bits')}"
        + (f", {beaten} of {n} with a likelier fill" if beaten else "")
        for _, interval, beaten, n, count in found
    )
    verdicts = [verdict for verdict, *_ in found]
    supported = True if True in verdicts else None if None in verdicts else False
    best = max(found, key=lambda one: one[1].estimate)
    summary = f"skew-normal exposure, {told}; the ceiling is {bits:g}"
    return Outcome(supported, *best[1], n=best[3], summary=summary)


def _judged(table: pd.DataFrame) -> pd.DataFrame:
    """`by_insertions`'s rows with `beaten`: another fill is as likely as the canary, by its exact rank; where there is
    none, among the sampled fills, or by importance splitting whose interval excludes ranks 1 and 2.
    """
    exposure = tidy.rows(table, "exposure")
    own = exposure[(exposure["kind"] == "inserted") & ~exposure["extrapolated"]]
    sampled = own[own["method"] == "sampled"][tidy.MODEL].assign(hit=True)
    split = own[own["method"] == "importance"][[*tidy.MODEL, "rank_low"]]
    frame = by_insertions(table).merge(sampled, on=tidy.MODEL, how="left").merge(split, on=tidy.MODEL, how="left")
    seen = frame["hit"].eq(True) | (frame["rank_low"] > 2)
    return frame.assign(beaten=(frame["rank"] > 1).where(frame["exact"].notna(), seen))


def absent_pair_is_null(table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, seeds: int) -> Outcome:
    """Without an insertion the pair is as exposed as the control pairs of the same models, within +-margin bits (TOST,
    per seed, sampled exposures). "No" by the null law too: the Gamma test of the sum (brief 4.6).
    """
    exposure = tidy.rows(table, "exposure")
    exposure = exposure[(exposure["method"] == "sampled") & (exposure.get("canary.insertions") == 0)]
    own = exposure[exposure["kind"] == "inserted"]
    values = own.groupby(tidy.seeds(own))["exposure_bits"].mean().to_numpy()
    never = exposure.loc[exposure["kind"] == "control", "exposure_bits"]
    if len(values) < 3 or not len(never):
        mean = f", mean exposure {values.mean():.3g} bits" if len(values) else ""
        return undecided(f"{len(values)} seeds without an insertion, 3 needed{mean}", len(values))
    interval, test = statistics.equivalence_of_means(values, never, -margin, margin)
    null = statistics.exponential_null(values)
    verdict = False if null.p_value < 0.05 else equivalent(test.p_value, interval, margin)
    summary = f"not inserted {values.mean():.3g} bits, control pairs {never.mean():.3g}; difference "
    summary += f"{shown(interval, 'bits')} (90 %), null law p = {null.p_value:.2g}, "
    summary += f"{len(values)} of {seeds} planned seeds"
    return Outcome(verdict, *interval, *test, n=len(values), summary=summary)
