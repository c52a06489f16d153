"""Tests on secrets in mail: Table 2 of The Secret Sharer."""

import pandas as pd

from memorization import statistics, tidy_secrets
from memorization.gates.outcome import Outcome, decide, shown, undecided


def secrets_extracted(table: pd.DataFrame, reference: pd.DataFrame) -> Outcome:
    """G14: how many of the planted secrets a search returned. Never a verdict: the paper's secrets were real, ours are
    planted in another release of the mail.
    """
    frame = tidy_secrets.secrets(table)
    if not len(frame):
        return undecided("no secret in the table")
    count = int(frame["extracted"].sum())
    unknown = int((~frame["extracted"] & ~frame["beaten_in_search"] & ~frame["outranked"]).sum())
    summary = (
        f"{count} of {len(frame)} planted synthetic secrets extracted ({unknown} undecided); no verdict: the "
        "paper's were real, in another release of the mail"
    )
    return undecided(summary, frame["run"].nunique(), estimate=float(count))


def secrets_memorised(table: pd.DataFrame, reference: pd.DataFrame, *, owners: int) -> Outcome:
    """Are planted secrets more exposed than numbers that were not planted? Sum of the sampled exposures against its
    Gamma law under no memorisation, where every exposure is exponential, also of several secrets in one model.
    """
    frame = tidy_secrets.secrets(table).dropna(subset=["sampled"])
    n = frame["run"].nunique()
    if not n:
        return undecided("no sampled exposure in the table")
    test = statistics.exponential_null(frame["sampled"])
    mean = statistics.t_interval(frame["sampled"])
    limit = int(frame["extrapolated_sampled"].eq(True).sum())
    summary = (
        f"sampled exposure {shown(mean, 'bits')} ({limit} at the sample's limit) over {len(frame)} secrets of {n} "
        f"owners, 1.44 expected of numbers that were not planted; p = {test.p_value:.2g}"
    )
    verdict = decide(test.p_value < 0.05, False, n, owners)
    return Outcome(verdict, *mean, statistic=test.statistic, p_value=test.p_value, n=n, summary=summary)


def secret_search_is_rank(table: pd.DataFrame, reference: pd.DataFrame, *, secrets: int) -> Outcome:
    """A check of ours: a secret is extracted exactly where it is its format's most likely fill.

    Counts only secrets for which both are certain: a search that proved its answer or found a likelier fill, and a rank
    that the walk or the samples show to be 1, or not.
    """
    frame = tidy_secrets.secrets(table)
    searched = frame["provable"] | frame["beaten_in_search"]
    ranked = (frame["rank_high"] <= 1) | frame["outranked"]
    frame = frame[searched & ranked]
    n = frame["run"].nunique()
    if len(frame) < secrets:
        return undecided(f"{len(frame)} secrets with both a decided search and a certain rank, {secrets} needed", n)
    won = frame["extracted"] & ~frame["beaten_in_search"]
    agree = int((won == ~frame["outranked"]).sum())
    summary = f"extraction and rank 1 agree for {agree} of {len(frame)} secrets ({int(won.sum())} extracted)"
    return Outcome(agree == len(frame), agree / len(frame), n=n, summary=summary)
