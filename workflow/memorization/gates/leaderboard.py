"""Tests on all defences together: does only differential privacy help, and is it better than to train less? The unit is
a seed, compared with the undefended model of that seed. All margins are ours.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy_leaderboard
from memorization.gates.outcome import Outcome, shown, undecided

FEWEST = 3
"""Seeds, below which nothing is said of a defence."""
LEVEL = 0.05


def states(rows: pd.DataFrame, margin: float) -> pd.Series:
    """Arm (`tidy_leaderboard.ARM`) -> state of its canaries: "protected", where the mean exposure is shown to be less
    than `margin` bits above that of canaries that were not inserted (one-sided t at .05); else "exposed", where it is
    beyond their law (Gamma test, Bonferroni over arms); else "open".
    """
    arms = rows.groupby(tidy_leaderboard.ARM)["bits"]
    return arms.apply(lambda bits: _state(bits, margin, arms.ngroups)).astype(object)


def _state(bits: pd.Series, margin: float, arms: int) -> str:
    if len(bits) < FEWEST:
        return "open"
    high = statistics.t_interval(bits, 1 - 2 * LEVEL).high
    if high < statistics.NULL_MEAN_BITS + margin:
        return "protected"
    return "exposed" if statistics.exponential_null(bits).p_value < LEVEL / arms else "open"


def _split(
    rows: pd.DataFrame, defence: str, level: str | None, apart: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of `defence` (at `level`, or any), and those of all other defences but the ones named in `apart`."""
    own = (rows["defence"] == defence) & (rows["level"] == level if level is not None else True)
    other = ~rows["defence"].isin(["none", defence, *apart])
    return rows[own], rows[other]


def _unexposed(rows: pd.DataFrame, margin: float) -> str:
    """Why no defence can be judged: set-ups whose undefended models have not memorised the canary; empty if none."""
    plain = states(rows[rows["defence"] == "none"], margin)
    lacking = sorted({arm[0] for arm, state in plain.items() if state != "exposed"})
    missing = sorted(set(rows["setup"]) - {arm[0] for arm in plain.index})
    return ", ".join(lacking + missing)


def only_protects(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    defence: str,
    margin: float,
    seeds: int,
    level: str | None = None,
    apart: Sequence[str] = (),
) -> Outcome:
    """`defence` protects (`states`), at every level or the one given, and no other does; those in `apart` do not count.

    Contradicted by another defence that protects, or by `defence` where it leaves the canary exposed; undecided while
    any of them is open.
    """
    rows = tidy_leaderboard.board(table)
    own, other = _split(rows[rows["canary"] == "digits"], defence, level, apart)
    judged = pd.concat([own, other])
    if not len(own) or not len(other):
        return undecided(f"no model with {defence}" if not len(own) else f"no defence beside {defence}")
    base = rows[(rows["defence"] == "none") & (rows["canary"] == "digits") & rows["setup"].isin(judged["setup"])]
    n = int(judged.groupby(tidy_leaderboard.ARM).size().min())
    if lacking := _unexposed(pd.concat([base, judged]), margin):
        return undecided(f"undefended models have not memorised the canary: {lacking}", n)
    found = states(judged, margin)
    mine = found.index.get_level_values("defence") == defence
    told = [
        f"{state}: {_listed(found[found == state])}"
        for state in ("protected", "open", "exposed")
        if state in set(found)
    ]
    summary = f"{'; '.join(told)}; {n} of {seeds} planned seeds at least"
    verdict = None
    if (found[mine] == "exposed").any() or (found[~mine] == "protected").any():
        verdict = False
    elif (found[mine] == "protected").all() and (found[~mine] == "exposed").all():
        verdict = True
    return Outcome(verdict, n=n, summary=summary)


def _listed(found: pd.Series) -> str:
    """Labels of arms; those of federations are marked."""
    return ", ".join(label + " (federated)" * (setup == "federated") for setup, *_, label in found.index)


def others_do_not_lower(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    defence: str,
    margin: float,
    seeds: int,
    apart: Sequence[str] = (),
) -> Outcome:
    """No defence but `defence` (and those in `apart`) lowers the exposure by `margin` bits or more: for each the mean
    change is shown to be above -margin (paired t, one-sided at .05; all must pass). Contradicted by one that lowers it
    (paired t, one-sided, Bonferroni over defences).
    """
    rows = tidy_leaderboard.changes(tidy_leaderboard.board(table))
    rows = rows[rows["canary"] == "digits"].dropna(subset=["bits_change"])
    _, other = _split(rows, defence, None, apart)
    groups = dict(list(other.groupby(tidy_leaderboard.ARM)["bits_change"]))
    n = min((len(values) for values in groups.values()), default=0)
    if n < FEWEST:
        return undecided(f"{n} seeds with and without every defence, {FEWEST} needed", n)
    base = rows[(rows["defence"] == "none") & rows["setup"].isin(other["setup"])]
    if lacking := _unexposed(pd.concat([base, other]), margin):
        return undecided(f"undefended models have not memorised the canary: {lacking}", n)
    intervals = {arm: statistics.t_interval(values, 1 - 2 * LEVEL) for arm, values in groups.items()}
    lowered = [arm for arm, values in groups.items() if _p_lower(values) < LEVEL / len(groups)]
    left = [arm for arm, interval in intervals.items() if not interval.low > -margin]
    told = ", ".join(f"{arm[-1]} {shown(intervals[arm])}" for arm in sorted(left, key=lambda a: intervals[a].estimate))
    summary = f"{len(groups) - len(left)} of {len(groups)} shown to lower it by less than {margin:g} bits"
    summary += f"; not: {told} bits (90 %)" * bool(left) + f"; {len(lowered)} lower it; {n} of {seeds} planned seeds"
    worst = min(intervals, key=lambda arm: intervals[arm].estimate)
    verdict = False if lowered else None if left else True
    return Outcome(verdict, *intervals[worst], p_value=_p_lower(groups[worst]), n=n, summary=summary)


def _p_lower(values: pd.Series) -> float:
    """One-sided paired t test that differences are below zero; equal ones are judged by the sign test."""
    if np.ptp(values) == 0:
        return 0.5 ** len(values) if values.iloc[0] < 0 else 1.0
    return float(stats.ttest_1samp(values, 0, alternative="less").pvalue)


def better_than_stopping(
    table: pd.DataFrame, reference: pd.DataFrame, *, defence: str, seeds: int, level: str | None = None
) -> Outcome:
    """At the validation loss that `defence` leaves, it leaves less of the canary than the undefended training that is
    stopped there (`tidy_leaderboard.at_equal_loss`; paired t, one-sided, Bonferroni over levels; all levels must pass).

    Only levels at whose loss the undefended model has memorised the canary (Gamma test) say anything.
    """
    rows = tidy_leaderboard.board(table)
    own, _ = _split(rows[rows["setup"] == "central"], defence, level, ())
    own = own[own["canary"] == "digits"]
    own = own.assign(stopped=tidy_leaderboard.at_equal_loss(own, tidy_leaderboard.path(table))).dropna(
        subset=["stopped"]
    )
    told, found, n = [], [], 0
    for name, group in own.groupby("level", sort=False):
        change = group["bits"] - group["stopped"]
        known = len(group) >= FEWEST and statistics.exponential_null(group["stopped"]).p_value < LEVEL
        interval = statistics.t_interval(change)
        means = f"{group['bits'].mean():.3g} against {group['stopped'].mean():.3g} bits"
        told.append(f"{name}: {means}" + (f", {shown(interval)}" if known else ", nothing to protect at that loss"))
        if known:
            found.append((interval, _p_lower(change)))
            n = len(group)
    if not found:
        return undecided("; ".join(told) or f"no model with {defence} beside an undefended one", n)
    summary = f"{'; '.join(told)}; {n} of {seeds} planned seeds"
    interval, p_value = max(found, key=lambda one: one[1])
    passed = [p < LEVEL / len(found) for _, p in found]
    contradicted = any(interval.low > 0 for interval, _ in found)
    verdict = True if all(passed) else False if contradicted or n >= seeds else None
    return Outcome(verdict, *interval, p_value=p_value, n=n, summary=summary)


def all_protect(table: pd.DataFrame, reference: pd.DataFrame, *, defence: str, margin: float, seeds: int) -> Outcome:
    """`defence` protects (`states`) at every level that was tried, where undefended models leave the canary exposed."""
    rows = tidy_leaderboard.board(table)
    rows = rows[rows["canary"] == "digits"]
    own, _ = _split(rows, defence, None, ())
    if not len(own):
        return undecided(f"no model with {defence}")
    n = int(own.groupby(tidy_leaderboard.ARM).size().min())
    base = rows[(rows["defence"] == "none") & rows["setup"].isin(own["setup"])]
    if lacking := _unexposed(pd.concat([base, own]), margin):
        return undecided(f"undefended models have not memorised the canary: {lacking}", n)
    found = states(own, margin)
    means = own.groupby("level")[["bits", "bits_per_character"]].mean()
    told = "; ".join(
        f"{level}: {means.loc[level, 'bits']:.3g} bits at {means.loc[level, 'bits_per_character']:.3g} bits per "
        f"character, {found.xs(level, level='level').iloc[0]}"
        for level in sorted(means.index, key=float)
    )
    verdict = True if (found == "protected").all() else False if (found == "exposed").any() else None
    return Outcome(verdict, n=n, summary=f"{told}; {n} of {seeds} planned seeds at least")
