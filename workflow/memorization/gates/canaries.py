"""Tests on the canaries themselves: their formats (Table 6), their number (Table 7), the kinds of secrets."""

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy_canaries
from memorization.gates.outcome import Outcome, decide, shown, undecided
from memorization.statistics import Interval


def format_raises_exposure(
    table: pd.DataFrame, reference: pd.DataFrame, *, formats: list[str], epoch: float, seeds: int
) -> Outcome:
    """G19: mean exposure of canaries of `formats` minus that of the plain one with the same seed, one-sided paired t.

    An exposure that is only a lower bound counts as that bound; how many there are is said.
    """
    frame = tidy_canaries.format_exposures(table)
    effects = tidy_canaries.format_effects(frame, epoch)
    if not set(formats) <= set(effects):
        return undecided(f"no measurement of {', '.join(formats)} and the plain format at epoch {epoch:g}")
    values = effects[formats].dropna().mean(axis=1).to_numpy()
    if len(values) < 3:
        return undecided(f"{len(values)} seeds, 3 needed", len(values))
    interval = statistics.t_interval(values)
    test = stats.ttest_1samp(values, 0, alternative="greater") if np.ptp(values) else None
    p = float(test.pvalue) if test else 0.5 ** len(values)
    verdict = decide(p < 0.05 and interval.estimate > 0, interval.high < 0, len(values), seeds)
    each = "; ".join(f"{name}: {effects[name].mean():+.2g}" for name in formats)
    limits = int((frame["bound"] & (frame["epoch"] == epoch)).sum())
    summary = f"{shown(interval, 'bits')} more than the plain format at epoch {epoch:g} ({each}), {len(values)} seeds"
    summary += f"; {limits} exposures only as lower bounds" * bool(limits)
    return Outcome(verdict, *interval, p_value=p, n=len(values), summary=summary)


def later_is_more_exposed(
    table: pd.DataFrame, reference: pd.DataFrame, *, early: float, late: float, seeds: int
) -> Outcome:
    """Table 6: exposure at epoch `late` minus `early`, mean over formats per seed, one-sided paired t."""
    frame = tidy_canaries.format_exposures(table)
    wide = frame.pivot_table(index=["seed", "format"], columns="epoch", values="bits")
    if not {early, late} <= set(wide):
        return undecided(f"epochs {early:g} and {late:g} were not both measured")
    values = (wide[late] - wide[early]).dropna().groupby("seed").mean().to_numpy()
    if len(values) < 3:
        return undecided(f"{len(values)} seeds, 3 needed", len(values))
    interval = statistics.t_interval(values)
    test = stats.ttest_1samp(values, 0, alternative="greater")
    verdict = decide(test.pvalue < 0.05, interval.high < 0, len(values), seeds)
    summary = (
        f"{shown(interval, 'bits')} more at epoch {late:g} than at {early:g}, mean over formats, {len(values)} seeds"
    )
    return Outcome(verdict, *interval, float(test.statistic), float(test.pvalue), len(values), summary)


def stratified_tau(x: np.ndarray, y: np.ndarray, strata: np.ndarray) -> float:
    """Kendall's tau-a of float[n] x and y over pairs of one stratum whose x differ; NaN without such pairs."""
    pairs = (strata[:, None] == strata[None, :]) & (x[:, None] != x[None, :])
    if not pairs.any():
        return np.nan
    order = np.sign(x[:, None] - x[None, :]) * np.sign(y[:, None] - y[None, :])
    return float(order[pairs].mean())


def extractable_share_trend(
    table: pd.DataFrame, reference: pd.DataFrame, *, along: str, rises: bool, models: int
) -> Outcome:
    """G12: per model the percentage of phrases that can be extracted, against their number or their insertions (the
    other held fixed): stratified Kendall's tau with a bootstrap over models, which are what is independent.

    Phrases whose extraction is not decided count as not extracted, and again as extracted: the worse answer is taken.
    """
    frame = tidy_canaries.extractable(table)
    other = "insertions" if along == "phrases" else "phrases"
    n = frame["seed"].nunique()
    if n < statistics.FEWEST or frame[along].nunique() < 2:
        return undecided(f"{n} models at {frame[along].nunique()} levels of {along}; 6 models at 2 levels needed", n)
    sign, x, strata = 1 if rises else -1, frame[along].to_numpy(float), frame[other].to_numpy()

    def trend(values: np.ndarray) -> Interval:
        return statistics.cluster_bootstrap(lambda i: sign * stratified_tau(x[i], values[i], strata[i]), frame["seed"])

    found = [trend(frame[column].to_numpy()) for column in ("percent", "most")]
    worse = min(found, key=lambda one: one.low)
    verdict = decide(worse.low > 0, max(one.high for one in found) < 0, n, models)
    ends = [sign * worse.estimate, *sorted((sign * worse.low, sign * worse.high))]
    open_share = float((frame["most"] - frame["percent"]).mean())
    means = frame.groupby(along)["percent"].mean()
    listed = ", ".join(f"{level:g}: {share:.3g} %" for level, share in means.items())
    summary = f"Kendall's tau with {along} {shown(Interval(*ends))} over {n} models (extracted at {listed})"
    summary += f"; {open_share:.2g} % of phrases undecided" * bool(open_share)
    return Outcome(verdict, *ends, n=n, summary=summary)


def secrets_are_exposed(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """Ours: secrets of every kind are more exposed than canaries that were not inserted (Gamma test, Bonferroni)."""
    frame = tidy_canaries.secrets(table)
    groups = {kind: group["bits"].to_numpy() for kind, group in frame.groupby("kind")}
    fewest = min(map(len, groups.values()), default=0)
    if len(groups) < 2 or fewest < 2:
        return undecided(f"{len(groups)} kinds with {fewest} models or more; 2 kinds with 2 needed", fewest)
    p = {kind: statistics.exponential_null(bits).p_value * len(groups) for kind, bits in groups.items()}
    worst = max(p, key=p.get)
    verdict = decide(p[worst] < 0.05, False, fewest, seeds)
    listed = "; ".join(f"{k}: {b.mean():.1f} of {frame.loc[frame['kind'] == k, 'space_bits'].iloc[0]:.1f} bits"
                       for k, b in groups.items())  # fmt: skip
    summary = f"{listed}; least sure: {worst}, corrected p {min(p[worst], 1):.2g}"
    return Outcome(verdict, p_value=min(p[worst], 1.0), n=int(frame["seed"].nunique()), summary=summary)


def secrets_need_few_queries(table: pd.DataFrame, reference: pd.DataFrame, *, orders: float, seeds: int) -> Outcome:
    """Ours: of secrets that the search returns, log10(|R| / queries), least median of a kind (bootstrap over seeds)."""
    frame = tidy_canaries.secrets(table)
    frame = frame[frame["success"].eq(True)].dropna(subset=["queries"]).reset_index(drop=True)
    n = frame["seed"].nunique()
    if n < statistics.FEWEST:
        return undecided(f"{len(frame)} secrets of {n} seeds were extracted, {statistics.FEWEST} seeds needed", n)
    # A number of queries that is only a lower bound: assume no gain.
    spent = np.where(frame["queries_bound"].eq(True), frame["space_bits"], np.log2(frame["queries"].clip(lower=1)))
    gain, kinds = (frame["space_bits"] - spent).to_numpy(float) * np.log10(2), frame["kind"].to_numpy()

    def least(rows: np.ndarray) -> float:
        return min(float(np.median(gain[rows][kinds[rows] == kind])) for kind in np.unique(kinds[rows]))

    found = statistics.cluster_bootstrap(least, frame["seed"])
    verdict = decide(found.low >= orders, found.high < orders, n, seeds)
    listed = "; ".join(f"{k}: {np.median(gain[kinds == k]):.1f} (n = {np.sum(kinds == k)})" for k in np.unique(kinds))
    summary = f"median orders of magnitude saved, least kind {shown(found)}: {listed}"
    return Outcome(verdict, *found, n=n, summary=summary)
