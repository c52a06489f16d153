"""Tests on regularisers (A Closer Look, Figures 10 and 11): H13, H14, U7.

Seeds are the unit. Trainings on random and on real labels share them, and so do the settings: differences are paired.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy_regularisers
from memorization.gates.outcome import Outcome, shown, sided, undecided
from memorization.tidy_regularisers import BOTH, KEYS, NONE, Points

CHANCE = 0.1
"""Accuracy of a guess among ten classes, on random labels and on real ones."""
RESAMPLES = 1_999


def frontier(x: Sequence[float], y: Sequence[float], chance: float = CHANCE) -> tuple[np.ndarray, np.ndarray]:
    """A technique's curve in Figure 10: the best validation accuracy that comes with at most a training accuracy x on
    random labels, float[k] each, ascending; linear between.

    It starts at the guess (chance, chance), which every technique tends to when it is made strong enough; without that
    a technique that never caps memorisation would have no value where the others do.
    """
    xs, ys = np.append(chance, x), np.append(chance, y)
    order = np.lexsort((ys, xs))
    return xs[order], np.maximum.accumulate(ys[order])


def area(x: Sequence[float], y: Sequence[float], end: float, chance: float = CHANCE) -> float:
    """Mean height of the frontier from `chance` to `end`."""
    if end <= chance:
        return np.nan
    xs, ys = frontier(x, y, chance)
    grid = np.concatenate([[chance], xs[(xs > chance) & (xs < end)], [end]])
    heights = np.interp(grid, xs, ys)
    return float(((heights[1:] + heights[:-1]) / 2 * np.diff(grid)).sum() / (end - chance))


def areas(points: Points, chosen: np.ndarray) -> pd.DataFrame:
    """Technique -> `area` of means over seeds, on the range that all techniques have: a row per draw.

    chosen: int[draws, m], the seeds of each draw. The unregularised setting belongs to each technique as its weakest
    strength.
    """
    technique = points.settings["technique"].to_numpy()
    own = {name: (technique == name) | (technique == NONE) for name in KEYS if (technique == name).any()}
    x, y = (values[:, chosen].mean(2).T for values in (points.fitted, points.validated))
    ends = np.min([x[:, rows].max(1) for rows in own.values()], axis=0)
    listed = {
        name: [area(a, b, end) for a, b, end in zip(x[:, rows], y[:, rows], ends, strict=True)]
        for name, rows in own.items()
    }
    return pd.DataFrame(listed)


def resampled(points: Points, resamples: int = RESAMPLES) -> pd.DataFrame:
    """`areas` of resampled seeds."""
    n = points.fitted.shape[1]
    return areas(points, np.random.default_rng(0).integers(n, size=(resamples, n)))


def _common(points: Points, fitted: float, techniques: int) -> str:
    """Why the table cannot decide; empty where it can."""
    names = points.settings["technique"]
    n = points.fitted.shape[1]
    if (found := names[names != NONE].nunique()) < techniques or NONE not in set(names) or n < 3:
        return f"{found} of {techniques} techniques with {n} common seeds, 3 needed"
    base = float(points.fitted[(names == NONE).to_numpy()].mean())
    if base < fitted:
        return f"without regularisation random labels are fitted to {100 * base:.1f} %, {100 * fitted:g} % needed"
    return ""


def technique_is_best(
    table: pd.DataFrame, reference: pd.DataFrame, *, best: str, combined: bool, fitted: float, seeds: int
) -> Outcome:
    """H13: technique `best` has the largest area under the frontier, with 95 % of the resampled seeds.

    combined: dropout with adversarial training is among the rivals. fitted: training accuracy on random labels that is
    needed without regularisation, for there must be memorisation to cap.
    """
    points = tidy_regularisers.points(tidy_regularisers.one_back_end(tidy_regularisers.trainings(table)))
    n = points.fitted.shape[1]
    if why := _common(points, fitted, len(KEYS)):
        return undecided(why, n)
    rivals = [name for name in KEYS if combined or name != BOTH]
    found, draws = areas(points, np.arange(n)[None])[rivals].iloc[0], resampled(points)[rivals]
    first = float((draws.idxmax(axis=1) == best).mean())
    single = int((areas(points, np.arange(n)[:, None])[rivals].idxmax(axis=1) == best).sum())
    ranked = found.sort_values(ascending=False)
    told = ", ".join(f"{name} {100 * value:.1f}" for name, value in ranked.items())
    other = ranked.drop(best).index[0]
    lead = (draws[best] - draws[other]).quantile([0.025, 0.975])
    interval = statistics.Interval(float(found[best] - found[other]), *map(float, lead))
    percent = statistics.Interval(*(100 * value for value in interval))
    summary = (
        f"mean validation accuracy under the frontier (%): {told}; {best} first in {100 * first:.0f} % of resampled "
        f"seeds and in {single} of {n} seeds; it minus {other}: {shown(percent)} points, {n} of {seeds} planned seeds"
    )
    verdict, why = sided(first >= 0.95, first <= 0.05, interval.estimate > 0, n, seeds)
    return Outcome(verdict, *interval, statistic=first, n=n, summary=summary + why)


def _final(table: pd.DataFrame, value: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`value` of random and of real labels: a row per seed, a column per setting; settings and seeds of both."""
    frame = tidy_regularisers.one_back_end(tidy_regularisers.trainings(table))
    labels = (frame["technique"] + " " + frame["setting"]).where(frame["technique"] != NONE, NONE)
    wide = frame.assign(label=labels).pivot_table(index="seed", columns=["data", "label"], values=value)
    sides = [wide[data] if data in wide else wide.iloc[:, :0] for data in ("randY", "real")]
    labels = [name for name in sides[0] if name in sides[1]]
    sides = [side[labels].dropna() for side in sides]
    seeds = sides[0].index.intersection(sides[1].index)
    return sides[0].loc[seeds], sides[1].loc[seeds]


def spearman(random: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Spearman's correlation of two float[..., settings], float[...]; NaN where all values of one are equal."""
    ranks = [stats.rankdata(values, axis=-1) for values in (random, real)]
    a, b = (rank - rank.mean(-1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))


def _reversals(random: pd.DataFrame, real: pd.DataFrame) -> list[str]:
    """Pairs of settings ordered one way on random labels and the other way on real ones, each by a paired t-test at
    .05 over the number of pairs (both must hold, so the two sets need no further correction).
    """
    labels = list(random)
    pairs = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
    listed = []
    for a, b in pairs:
        tests = [stats.ttest_rel(side[a], side[b]) for side in (random, real)]
        sure = all(test.pvalue < 0.05 / len(pairs) for test in tests)
        if sure and tests[0].statistic * tests[1].statistic < 0:
            low, high = (a, b) if tests[0].statistic < 0 else (b, a)
            listed.append(f"{low} is below {high} on random labels, above it on real ones")
    return listed


def orderings_differ(table: pd.DataFrame, reference: pd.DataFrame, *, settings: int, seeds: int) -> Outcome:
    """H14: by final training loss the settings are ordered differently on random and on real labels.

    Spearman's correlation of the settings' mean losses has a bootstrap upper limit below 1 (over seeds), and, since
    noise alone keeps it below 1, at least one pair of settings is reversed for sure (`_reversals`).
    """
    random, real = _final(table, "loss")
    n, found = len(random), random.shape[1]
    if found < settings or n < 3:
        return undecided(f"{found} of {settings} settings with {n} common seeds, 3 needed", n)
    drawn = np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
    draws = spearman(*(side.to_numpy()[drawn].mean(1) for side in (random, real)))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    interval = statistics.Interval(float(spearman(random.mean(), real.mean())), float(low), float(high))
    reversed_ = _reversals(random, real)
    minimised = float(spearman(*(side.mean() for side in _final(table, "epoch_loss"))))
    told = reversed_[0] + (f" (and {len(reversed_) - 1} more)" if len(reversed_) > 1 else "") if reversed_ else "none"
    summary = (
        f"Spearman {shown(interval)} over {found} settings (of the losses as minimised {minimised:.2f}); pairs surely "
        f"reversed: {told}; {n} of {seeds} planned seeds"
    )
    same = np.isclose(interval.estimate, 1)
    verdict, why = sided(bool(high < 1 and reversed_), bool(same and np.isclose(low, 1)), not same, n, seeds)
    return Outcome(verdict, *interval, statistic=len(reversed_), n=n, summary=summary + why)


def slowdowns(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of `trainings` with regularisation: `slowdown`, log2 of the epochs to 100 % training accuracy over those of
    the same seed and data without; `bound`: it never got there, and this is the least that it is.

    Seeds whose unregularised training never got there have none.
    """
    base = frame[(frame["technique"] == NONE) & ~frame["censored"]]
    base = base[["backend", "seed", "data", "epochs"]].rename(columns={"epochs": "base"})
    found = frame[frame["technique"] != NONE].merge(base, on=["backend", "seed", "data"])
    return found.assign(slowdown=np.log2(found["epochs"] / found["base"]), bound=found["censored"])


def regularisation_slows(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """U7 (footnote 3): with regularisation it takes more epochs to 100 % training accuracy, on random and real labels.

    Per seed the mean slowdown over techniques of the mean over their strengths, where a training that never got there
    counts as the least that it can be: Wilcoxon's signed-rank test on either set. Such bounds show no absence: with one
    among them the claim stays open unless it is found.
    """
    found = slowdowns(tidy_regularisers.one_back_end(tidy_regularisers.trainings(table)))
    told, tests, against, toward, intervals, n = [], [], False, True, [], []
    for data in ("randY", "real"):
        part = found[found["data"] == data]
        per = part.groupby(["seed", "technique"])["slowdown"].mean().unstack()
        values = per.mean(axis=1).to_numpy()
        n.append(len(values))
        if len(values) < 3 or per.shape[1] < len(KEYS):
            why = f"{data}: {per.shape[1]} of {len(KEYS)} techniques, {len(values)} seeds that are fitted without any"
            return undecided(why, len(values))
        tests.append(statistics.wilcoxon_paired(values, np.zeros(len(values))))
        intervals.append(statistics.t_interval(values))
        bounds = int(part["bound"].sum())
        if not bounds:
            against |= statistics.wilcoxon_paired(values, np.zeros(len(values)), "less").p_value < 0.05
            toward &= intervals[-1].estimate > 0
        listed = ", ".join(f"{name} {2**value:.3g}" for name, value in per.mean().items())
        times = statistics.Interval(*(2**v for v in intervals[-1]))
        told.append(f"{data}: {'at least ' * bool(bounds)}{shown(times)} times the epochs, p = {tests[-1].p_value:.2g} "
                    f"({listed}; {bounds} of {len(part)} never fitted)")  # fmt: skip
    worst = max(range(2), key=lambda i: tests[i].p_value)
    verdict, why = sided(all(test.p_value < 0.05 for test in tests), against, toward, min(n), seeds)
    summary = f"{'; '.join(told)}; {min(n)} of {seeds} planned seeds{why}"
    return Outcome(verdict, *intervals[worst], *tests[worst], n=min(n), summary=summary)
