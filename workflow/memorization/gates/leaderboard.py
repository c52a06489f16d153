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
NOTHING = "has learned nothing"
NOT_STOPPED = "loss still falling: not stopped"


def states(rows: pd.DataFrame, margin: float, least_learned: float) -> pd.Series:
    """Arm (`tidy_leaderboard.ARM`) of `tidy_leaderboard.changes` -> state of its canaries: "exposed", where they are
    beyond the law of canaries that were not inserted (Gamma test) and their mean is shown to be more than `margin` bits
    above that law's (one-sided t; both at .05, Bonferroni over arms); else `NOTHING`, where training gained less than
    the share `least_learned` of what it gains undefended (mean over pairs; not asked where the untrained loss is
    unknown); else "protected", where the mean is shown to be less than `margin` bits above (one-sided t at .05; a lower
    bound shows nothing); else "open".
    """
    arms = rows.groupby(tidy_leaderboard.ARM)
    found = {arm: _state(own, margin, least_learned, arms.ngroups) for arm, own in arms}
    index = pd.MultiIndex.from_tuples(list(found), names=tidy_leaderboard.ARM)
    return pd.Series(list(found.values()), index=index, dtype=object)


def _state(own: pd.DataFrame, margin: float, least_learned: float, arms: int) -> str:
    bits = own["bits"].dropna()
    if len(bits) < FEWEST:
        return "open"
    limit = statistics.NULL_MEAN_BITS + margin
    beyond = statistics.exponential_null(bits).p_value < LEVEL / arms
    if beyond and statistics.t_interval(bits, 1 - 2 * LEVEL / arms).low > limit:
        return "exposed"
    if own["learned"].mean() < least_learned:
        return NOTHING
    below = statistics.t_interval(bits, 1 - 2 * LEVEL).high < limit
    return "protected" if below and not own["bound"].any() else "open"


def _split(
    rows: pd.DataFrame, defence: str, level: str | None, apart: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of `defence` (at `level`, or any), and those of all other defences but the ones named in `apart`."""
    own = (rows["defence"] == defence) & (rows["level"] == level if level is not None else True)
    other = ~rows["defence"].isin(["none", defence, *apart])
    return rows[own], rows[other]


def _digits(table: pd.DataFrame) -> pd.DataFrame:
    """`tidy_leaderboard.changes` of all models with a canary of digits."""
    rows = tidy_leaderboard.changes(tidy_leaderboard.board(table))
    return rows[rows["canary"] == "digits"]


def _unexposed(rows: pd.DataFrame, judged: pd.DataFrame, margin: float) -> str:
    """Why no defence can be judged: set-ups of `judged` whose undefended models (among `rows`) have not memorised the
    canary; empty if none.
    """
    plain = states(rows[(rows["defence"] == "none") & rows["setup"].isin(judged["setup"])], margin, 0.0)
    lacking = sorted({arm[0] for arm, state in plain.items() if state != "exposed"})
    missing = sorted(set(judged["setup"]) - {arm[0] for arm in plain.index})
    return ", ".join(lacking + missing)


def _fewest(rows: pd.DataFrame) -> int:
    """Seeds of the arm with the fewest; those without any say so themselves."""
    counts = rows.groupby(tidy_leaderboard.ARM)["bits"].count()
    return int(counts[counts > 0].min()) if (counts > 0).any() else 0


def only_protects(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    defence: str,
    margin: float,
    least_learned: float,
    seeds: int,
    level: str | None = None,
    apart: Sequence[str] = (),
) -> Outcome:
    """`defence` protects (`states`), at every level or the one given, and no other does; those in `apart` do not count.

    Contradicted by another defence that protects, or by `defence` where it leaves the canary exposed; undecided while
    any of them is open or has learned nothing: where nothing was learned, nothing was protected.
    """
    rows = _digits(table)
    own, other = _split(rows, defence, level, apart)
    if not len(own) or not len(other):
        return undecided(f"no model with {defence}" if not len(own) else f"no defence beside {defence}")
    judged = pd.concat([own, other])
    n = _fewest(judged)
    if lacking := _unexposed(rows, judged, margin):
        return undecided(f"undefended models have not memorised the canary: {lacking}", n)
    found = states(judged, margin, least_learned)
    mine = found.index.get_level_values("defence") == defence
    verdict = None
    if (found[mine] == "exposed").any() or (found[~mine] == "protected").any():
        verdict = False
    elif (found[mine] == "protected").all() and (found[~mine] == "exposed").all():
        verdict = True
    summary = f"{_told(found, judged)}; {_losses(rows, judged)}; {n} of {seeds} planned seeds at least"
    return Outcome(verdict, n=n, summary=summary)


def _told(found: pd.Series, rows: pd.DataFrame) -> str:
    """The arms by state, each with its mean loss; those of federations are marked."""
    loss = rows.groupby(tidy_leaderboard.ARM)["bits_per_character"].mean()
    told = []
    for state in ("protected", "open", NOTHING, "exposed"):
        named = [_named(arm, loss[arm]) for arm in found.index[found == state]]
        told += [f"{state}: {', '.join(named)}"] * bool(named)
    return "; ".join(told)


def _named(arm: tuple, loss: float) -> str:
    """Its label and loss."""
    setup, _, defence, _, label = arm
    about = "federated, " * (setup == "federated")
    return f"{label} ({about}{NOT_STOPPED if defence == 'stopping' and np.isnan(loss) else f'{loss:.3g}'})"


def _losses(rows: pd.DataFrame, judged: pd.DataFrame) -> str:
    """What the losses of the arms are to be compared with, by set-up."""
    told = []
    for setup in judged["setup"].unique():
        plain = rows[(rows["defence"] == "none") & (rows["setup"] == setup)]
        untrained = plain["untrained"].mean()
        before = f"untrained {untrained:.3g}" if untrained > 0 else "untrained unknown: whether any has learned is open"
        told.append(f"{setup}: undefended {plain['bits_per_character'].mean():.3g}, {before}")
    return f"losses in bits per character ({'; '.join(told)})"


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

    Pairs whose undefended exposure is only a lower bound do not count; a defended one that is may show that it is not
    lowered, not that it is.
    """
    rows = _digits(table)
    _, other = _split(rows, defence, None, apart)
    groups = dict(list(other.groupby(tidy_leaderboard.ARM)))
    judged = {arm: own.dropna(subset=["bits_change"]) for arm, own in groups.items()}
    judged = {arm: own for arm, own in judged.items() if len(own) >= FEWEST}
    few = ", ".join(_named(arm, own["bits_per_character"].mean()) for arm, own in groups.items() if arm not in judged)
    n = min((len(own) for own in judged.values()), default=0)
    if not judged:
        return undecided(f"no defence with {FEWEST} seeds that can be compared" + f": {few}" * bool(few), n)
    if lacking := _unexposed(rows, other, margin):
        return undecided(f"undefended models have not memorised the canary: {lacking}", n)
    intervals = {arm: statistics.t_interval(own["bits_change"], 1 - 2 * LEVEL) for arm, own in judged.items()}
    p_values = {arm: 1.0 if own["bound"].any() else _p_lower(own["bits_change"]) for arm, own in judged.items()}
    lowered = [arm for arm, p_value in p_values.items() if p_value < LEVEL / len(groups)]
    left = [arm for arm, interval in intervals.items() if not interval.low > -margin]
    told = ", ".join(f"{arm[-1]} {shown(intervals[arm])}" for arm in sorted(left, key=lambda a: intervals[a].estimate))
    summary = f"{len(judged) - len(left)} of {len(groups)} shown to lower it by less than {margin:g} bits"
    summary += f"; not: {told} bits (90 %)" * bool(left) + f"; fewer than {FEWEST} seeds: {few}" * bool(few)
    summary += f"; {len(lowered)} lower it; {n} of {seeds} planned seeds"
    worst = min(intervals, key=lambda arm: intervals[arm].estimate)
    verdict = False if lowered else None if left or few else True
    return Outcome(verdict, *intervals[worst], p_value=p_values[worst], n=n, summary=summary)


def _p_lower(values: pd.Series) -> float:
    """One-sided paired t test that differences are below zero; equal ones are judged by the sign test."""
    if np.ptp(values) == 0:
        return 0.5 ** len(values) if values.iloc[0] < 0 else 1.0
    return float(stats.ttest_1samp(values, 0, alternative="less").pvalue)


def better_than_stopping(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    defence: str,
    least_learned: float,
    seeds: int,
    level: str | None = None,
) -> Outcome:
    """At the validation loss that `defence` leaves, it leaves less of the canary than the undefended training that is
    stopped there (`tidy_leaderboard.at_equal_loss`, the lesser exposure; paired t, one-sided, Bonferroni over levels;
    all levels must pass). Contradicted where it leaves more even than the greater one.

    Only levels that have learned and at whose loss the undefended model has memorised the canary (Gamma test) say
    anything; undecided rather than true where the undefended was not measured at a level's loss.
    """
    rows = _digits(table)
    own, _ = _split(rows[rows["setup"] == "central"], defence, level, ())
    own = own.join(tidy_leaderboard.at_equal_loss(own, tidy_leaderboard.path(table)))
    told, judged, unmeasured = [], [], False
    for name, group in own.groupby("level", sort=False):
        known = group.dropna(subset=["least"])
        why = _incomparable(group, known, least_learned)
        unmeasured |= len(known) < FEWEST and why != NOTHING
        means = f"{known['bits'].mean():.3g} against {known['least'].mean():.3g} bits" * bool(len(known))
        change = statistics.t_interval(known["bits"] - known["least"])
        at = f"{name} (loss {group['bits_per_character'].mean():.3g}): "
        told.append(at + ", ".join(text for text in (means, why or shown(change)) if text))
        judged += [known] * (not why)
    if not judged:
        return undecided("; ".join(told) or f"no model with {defence} beside an undefended one")
    n = min(len(known) for known in judged)
    p_values = [1.0 if known["bound"].any() else _p_lower(known["bits"] - known["least"]) for known in judged]
    worst = judged[int(np.argmax(p_values))]
    verdict = _better(judged, p_values, unmeasured, n >= seeds)
    interval = statistics.t_interval(worst["bits"] - worst["least"])
    return Outcome(
        verdict, *interval, p_value=max(p_values), n=n, summary=f"{'; '.join(told)}; {n} of {seeds} planned seeds"
    )


def _incomparable(group: pd.DataFrame, known: pd.DataFrame, least_learned: float) -> str:
    """Why a level cannot be compared with stopping; empty where it can be. known: its rows with a stopped model."""
    if group["learned"].mean() < least_learned:
        return NOTHING
    if not len(known):
        return "no undefended model was measured at that loss"
    if len(known) < FEWEST:
        return f"{len(known)} seeds, {FEWEST} needed"
    return "" if statistics.exponential_null(known["least"]).p_value < LEVEL else "nothing to protect at that loss"


def _better(judged: list[pd.DataFrame], p_values: list[float], unmeasured: bool, planned: bool) -> bool | None:
    """Verdict over levels. planned: with as many seeds as planned, that it was not shown counts, unless it would be
    against the greater of the exposures around that loss.
    """
    shown_at = LEVEL / len(judged)
    known = [own[np.isfinite(own["most"])] for own in judged if np.isfinite(own["most"]).all()]
    if any(statistics.t_interval(own["bits"] - own["most"]).low > 0 for own in known):
        return False
    failed = [own for own, p in zip(judged, p_values, strict=True) if p >= shown_at]
    if not failed:
        return None if unmeasured else True
    certain = [own for own in failed if np.isfinite(own["most"]).all() and not own["bound"].any()]
    return False if planned and any(_p_lower(own["bits"] - own["most"]) >= shown_at for own in certain) else None


def all_protect(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    defence: str,
    levels: Sequence[str],
    margin: float,
    least_learned: float,
    seeds: int,
) -> Outcome:
    """`defence` protects (`states`) at each of `levels`, where undefended models leave the canary exposed. Contradicted
    by any level that leaves it exposed; undecided while one is missing, open or has learned nothing.
    """
    rows = _digits(table)
    own, _ = _split(rows, defence, None, ())
    own = own[own["level"].isin(levels)]
    if not len(own):
        return undecided(f"no model with {defence}")
    n = _fewest(own)
    if lacking := _unexposed(rows, own, margin):
        return undecided(f"undefended models have not memorised the canary: {lacking}", n)
    found = states(own, margin, least_learned)
    means = own.groupby("level")[["bits", "bits_per_character"]].mean()
    told = [
        f"{level}: {means.loc[level, 'bits']:.3g} bits at {means.loc[level, 'bits_per_character']:.3g} bits per "
        f"character, {found.xs(level, level='level').iloc[0]}"
        for level in sorted(means.index, key=float)
    ]
    missing = [level for level in levels if level not in means.index]
    told += [f"no model at {', '.join(missing)}"] * bool(missing)
    verdict = True if (found == "protected").all() and not missing else False if (found == "exposed").any() else None
    summary = f"{'; '.join(told)}; {_losses(rows, own)}; {n} of {seeds} planned seeds at least"
    return Outcome(verdict, n=n, summary=summary)
