"""Tests on word-level models: Figures 1, 3 and 4."""

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy, tidy_words
from memorization.gates.outcome import Outcome, decide, shown, undecided
from memorization.statistics import Interval


def alike(found: pd.DataFrame, band: float) -> list[pd.DataFrame]:
    """`tidy_words.settings` rows in disjoint groups of two or more within +-`band` (a share) of a perplexity, best
    first.
    """
    ordered, groups = found.sort_values("loss"), []
    while len(ordered):
        near = ordered["loss"] <= ordered["loss"].iloc[0] + 2 * np.log1p(band)
        groups += [ordered[near]] if near.sum() > 1 else []
        ordered = ordered[~near]
    return groups


def utility_leaves_exposure_open(
    table: pd.DataFrame, reference: pd.DataFrame, *, band: float, bits: float, settings: int
) -> Outcome:
    """G18: in some group of settings whose perplexities are within +-`band`, mean exposures range over more than `bits`
    bits.

    The range's 95 % limits are Tukey's for all settings of all groups together, so that picking the extreme ones is
    paid for. Seeds are blocks: every setting has the same, and a seed is a canary.
    """
    models = tidy_words.models(table)
    every = tidy_words.settings(models)
    groups = alike(every, band)
    if not groups or models.groupby("setting").size().min() < 2:
        return undecided(f"{len(groups)} groups of settings within {band:.0%}; 2 models per setting needed", len(every))
    squares = freedom = 0.0
    for group in groups:
        wide = models[models["setting"].isin(group["setting"])].pivot(index="pair", columns="setting", values="bits")
        rest = wide.sub(wide.mean(axis=1), axis=0).sub(wide.mean() - wide.to_numpy().mean(), axis=1)
        squares += float(np.square(rest.to_numpy()).sum())
        freedom += (wide.shape[0] - 1) * (wide.shape[1] - 1)
    compared, seeds = sum(map(len, groups)), models["pair"].nunique()
    error = np.sqrt(squares / freedom / seeds)
    ranges = [float(np.ptp(group["bits"])) for group in groups]
    best = groups[int(np.argmax(ranges))]
    half = float(stats.studentized_range.ppf(0.95, compared, freedom) * error)
    width = Interval(max(ranges), max(ranges) - half, max(ranges) + half)
    p = float(stats.studentized_range.sf(max(ranges) / error, compared, freedom)) if error > 0 else np.nan
    ends = f"{best['perplexity'].min():.0f} to {best['perplexity'].max():.0f}"
    summary = f"range {shown(width, 'bits')} among {len(best)} settings of perplexity {ends}"
    summary += f"; {compared} of {len(every)} settings in {len(groups)} groups, {seeds} seeds"
    verdict = decide(width.low > bits, width.high < bits, len(every), settings)
    return Outcome(verdict, *width, p_value=p, n=len(every), summary=summary)


def some_setting_ranks_first(table: pd.DataFrame, reference: pd.DataFrame, *, settings: int) -> Outcome:
    """Fig 4: in every model of some setting the canary's exact rank is 1."""
    models = tidy_words.models(table)
    if not len(models):
        return undecided("no model")
    share = models.groupby("setting")["first"].mean()
    first = int((share == 1).sum())
    largest = statistics.t_interval(models.loc[models["setting"] == share.idxmax(), "bits"])
    summary = (
        f"the canary ranks first in all models of {first} of {len(share)} settings, in some of {(share > 0).sum()}"
    )
    summary += f"; largest exposure {models['bits'].max():.3g} of {models['space_bits'].max():.3g} bits"
    return Outcome(decide(first > 0, False, len(share), settings), *largest, n=len(share), summary=summary)


def strategies_by_rule(
    table: pd.DataFrame, reference: pd.DataFrame, *, a: int, b: int, band: float, reach: float
) -> Outcome:
    """Are settings `a` and `b`, which Figure 1 repeats, still what `tidy_words.pick` takes from this table?"""
    models = tidy_words.models(table)
    found = tidy_words.settings(models)
    picked = tidy_words.pick(found, band, reach)
    if picked is None or not {a, b} <= set(found["setting"]):
        return undecided(f"{len(found)} settings; {a} and {b} must be among them", len(found))
    same = np.mean([tidy_words.pick(other, band, reach) == (a, b) for other in tidy_words.resampled(models, 200)])
    by = found.set_index("setting")
    told = "; ".join(
        f"{name} = {k}: perplexity {by.loc[k, 'perplexity']:.0f}, {by.loc[k, 'bits']:.3g} bits"
        for name, k in zip("AB", picked, strict=True)
    )
    summary = f"the rule picks {told}; Figure 1 has {a} and {b}, picked in {same:.0%} of bootstrap samples"
    return Outcome(picked == (a, b), same, n=len(found), summary=summary)


def strategies(models: pd.DataFrame, insertions: int) -> tuple[int, int] | None:
    """Of `tidy_words.models` rows of two settings the more and the less exposed one with so many insertions."""
    means = models[models["insertions"] == insertions].groupby("setting")["bits"].mean().sort_values(ascending=False)
    return (int(means.index[0]), int(means.index[1])) if len(means) == 2 else None


def strategies_differ(
    table: pd.DataFrame, reference: pd.DataFrame, *, utility: float, insertions: int, seeds: int
) -> Outcome:
    """G18: canaries are more exposed under A than under B, paired by seed, at all other numbers of insertions than that
    by which A and B were told apart; and their perplexities differ by less than `utility` (a share, mean over seeds).
    """
    models = tidy_words.models(table)
    names = strategies(models, insertions)
    if names is None:
        return undecided(f"needs two settings with {insertions} insertions")
    models = models[(models["insertions"] > 0) & (models["insertions"] != insertions)]
    wide = models.pivot_table(index="pair", columns="setting", values=["bits", "loss"]).reindex(
        columns=[(v, s) for v in ("bits", "loss") for s in names]
    )
    wide = wide.dropna()
    more = (wide["bits"][names[0]] - wide["bits"][names[1]]).to_numpy()
    worse = np.expm1(wide["loss"][names[0]] - wide["loss"][names[1]])
    if len(more) < 3:
        return undecided(f"{len(more)} seeds with both strategies, 3 needed", len(more))
    interval, test = statistics.t_interval(more), stats.ttest_1samp(more, 0, alternative="greater")
    summary = f"A - B = {shown(interval, 'bits')}, {len(more)} seeds"
    summary += f"; A's perplexity differs from B's by {100 * worse.mean():+.2g} %"
    if abs(worse.mean()) > utility:
        return undecided(f"{summary}: not of the same utility", len(more))
    verdict = decide(test.pvalue < 0.05, interval.high < 0, len(more), seeds)
    return Outcome(verdict, *interval, float(test.statistic), float(test.pvalue), len(more), summary)


def extractable_at(table: pd.DataFrame, reference: pd.DataFrame, *, insertions: int, apart: int, seeds: int) -> Outcome:
    """Fig 1: under A the canary's exact rank is 1 in most models with so many insertions (Clopper-Pearson).

    A and B are told apart by `apart` insertions, as in `strategies_differ`. Models without a finished walk count as
    "not first" where a likelier fill was seen, else not at all.
    """
    models = tidy_words.models(table)
    names = strategies(models, apart)
    if names is None:
        return undecided(f"needs two settings with {apart} insertions")
    own = models[(models["insertions"] == insertions) & (models["setting"] == names[0])]
    known = own[own["first"] | own["beaten"]]
    if not len(known):
        return undecided(f"{len(own)} models with {insertions} insertions, no rank known")
    share = statistics.binomial_interval(int(known["first"].sum()), len(known))
    summary = f"rank 1 in {known['first'].sum()} of {len(known)} models with {insertions} insertions, {shown(share)}; "
    summary += f"mean exposure {own['bits'].mean():.3g} of {own['space_bits'].max():.3g} bits"
    verdict = decide(share.low > 0.5, share.high < 0.5, len(known), seeds)
    return Outcome(verdict, *share, n=len(known), summary=summary)


def exposure_rises_with_insertions(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """Fig 1: under each strategy exposure rises with the number of insertions (Jonckheere and Terpstra; every number
    has seeds of its own).
    """
    models = tidy_words.models(table)
    tests, told, fewest = [], [], 0
    for setting, own in models.groupby("setting"):
        levels = [(n, group["bits"].to_numpy()) for n, group in own.groupby("insertions")]
        if len(levels) < 3 or min(len(v) for _, v in levels) < 2:
            return undecided(f"{len(levels)} numbers of insertions; 3 with two seeds each needed", len(models))
        fewest = min(len(v) for _, v in levels)
        tests.append(statistics.jonckheere([v for _, v in levels]))
        told.append(f"setting {setting}: " + ", ".join(f"{n:g}: {v.mean():.3g}" for n, v in levels))
    if not tests:
        return undecided("no model")
    worst = max(tests, key=lambda test: test.p_value)
    falls = any(test.p_value > 1 - 0.05 / len(tests) for test in tests)
    summary = f"mean bits by insertions, {'; '.join(told)}"
    verdict = decide(worst.p_value < 0.05, falls, fewest, seeds)
    return Outcome(verdict, statistic=worst.statistic, p_value=worst.p_value, n=len(models), summary=summary)


def surrogate_trend(table: pd.DataFrame, reference: pd.DataFrame) -> Outcome:
    """G20: does exposure rise with insertions? Reported, never judged: the paper's model and data are closed."""
    models = tidy_words.models(table)
    levels = [(n, group["bits"].to_numpy()) for n, group in models.groupby("insertions")]
    if len(levels) < 2:
        return undecided(f"surrogate: {len(levels)} numbers of insertions, 2 needed", len(models))
    trend = statistics.jonckheere([v for _, v in levels])
    means = ", ".join(f"{n:g}: {v.mean():.3g}" for n, v in levels)
    summary = f"surrogate, not judged: mean bits by insertions {means}; Kendall's tau {trend.statistic:.2g}"
    summary += f", p = {trend.p_value:.2g}; {tidy.count_models(table)} models"
    last = statistics.t_interval(levels[-1][1])
    return Outcome(None, *last, *trend, n=len(models), summary=summary)


def digits_more_exposed(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """X6: a canary of digit tokens is more exposed than the same number in words, in models that are otherwise the same
    (one-sided paired t; a pair is a seed and a replicate, of which every number of insertions has its own).

    A pair at log2|R| in both counts as no difference, though it tells nothing; how many there are is said.
    """
    found = tidy_words.numerals(table)
    if not len(found):
        return undecided("no model")
    wide = found.pivot_table(index=["insertions", "pair"], columns="numerals", values="bits")
    wide = wide.reindex(columns=list(tidy_words.NUMERALS)).dropna()
    more = (wide["digits"] - wide["number words"]).to_numpy()
    if len(more) < 3:
        return undecided(f"{len(more)} seeds with both kinds of canary, 3 needed", len(more))
    interval, full = statistics.t_interval(more), found["space_bits"].max() - 1e-6
    at_ceiling = int((wide >= full).all(axis=1).sum())
    means = "; ".join(
        f"{n:g} insertions: {own['digits'].mean():.3g} against {own['number words'].mean():.3g}"
        for n, own in wide.groupby(level="insertions")
    )
    summary = f"digits - words = {shown(interval, 'bits')}, {len(more)} pairs of models ({means})"
    summary += f"; {at_ceiling} pairs at log2|R| in both" * bool(at_ceiling)
    if at_ceiling == len(more):
        return undecided(summary, len(more))
    if np.ptp(more) == 0:
        test = statistics.Test(np.nan, 0.5 ** len(more) if more[0] > 0 else 1.0)
    else:
        test = statistics.Test(*map(float, stats.ttest_1samp(more, 0, alternative="greater")))
    verdict = decide(test.p_value < 0.05, interval.high < 0, len(more) - at_ceiling, seeds)
    return Outcome(verdict, *interval, *test, n=len(more), summary=summary)
