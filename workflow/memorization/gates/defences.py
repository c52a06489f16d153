"""Tests on defences: regularisation, stopping, 8-bit weights, optimisers, bagging, sanitising, privacy (G15 to G17)."""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from memorization import statistics, tidy_defences
from memorization.gates.outcome import Outcome, decide, equivalent, shown, undecided

FEWEST = 3
"""Seeds, below which nothing is decided."""


def _memorised(bits: pd.Series, tests: int = 1) -> bool:
    """The positive control: are these exposures beyond the law of canaries that were not inserted (Gamma test)?"""
    return len(bits) > 0 and statistics.exponential_null(bits).p_value < 0.05 / tests


def defence_no_effect(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    defence: str,
    canary: str,
    margin: float,
    seeds: int,
    level: str | None = None,
) -> Outcome:
    """G15: at every level of `defence` (or the one given) the exposure at the end of training is that of the undefended
    model of the same seed, within +-margin bits (paired TOST; all levels must pass, which needs no correction).
    """
    final = tidy_defences.last(tidy_defences.epochs(table))
    found = tidy_defences.differences(final, defence, canary, level)
    n = min((len(values) for values in found.values()), default=0)
    if n < FEWEST:
        return undecided(f"{n} seeds with and without {defence}, {FEWEST} needed", n)
    results = {level: statistics.equivalence(values, -margin, margin) for level, values in found.items()}
    verdicts = [equivalent(test.p_value, interval, margin) for interval, test in results.values()]
    verdict = False if False in verdicts else None if None in verdicts else True
    listed = "; ".join(f"{level}: {shown(interval)}" for level, (interval, _) in results.items())
    interval, test = max(results.values(), key=lambda result: abs(result[0].estimate))
    summary = f"defended minus undefended (90 %) {listed} bits; {n} of {seeds} planned seeds"
    plain = final[(final["defence"] == "none") & (final["canary"] == canary)]
    if verdict and not _memorised(plain["bits"]):
        return undecided(f"{summary}; nothing was memorised without it either", n)
    return Outcome(verdict, *interval, *test, n=n, summary=summary)


def defence_lowers(
    table: pd.DataFrame,
    reference: pd.DataFrame,
    *,
    defence: str,
    canary: str,
    seeds: int,
    level: str | None = None,
) -> Outcome:
    """At every level of `defence` (or the one given) exposure is lower than in the undefended model of the same seed
    (paired t, one-sided; all levels must pass).
    """
    final = tidy_defences.last(tidy_defences.epochs(table))
    found = tidy_defences.differences(final, defence, canary, level)
    n = min((len(values) for values in found.values()), default=0)
    if n < FEWEST:
        return undecided(f"{n} seeds with and without {defence}, {FEWEST} needed", n)
    results = {level: (statistics.t_interval(values), _falls(values)) for level, values in found.items()}
    lowered = [test.p_value < 0.05 for _, test in results.values()]
    raised = any(interval.low > 0 for interval, _ in results.values())
    left = final[(final["defence"] == defence) & (final["canary"] == canary) & final["level"].isin(list(found))]
    listed = "; ".join(
        f"{level}: {shown(interval)} to {left.loc[left['level'] == level, 'bits'].mean():.3g}"
        for level, (interval, _) in results.items()
    )
    null = [level for level, group in left.groupby("level") if not _memorised(group["bits"])]
    summary = f"change (95 %) {listed} bits"
    summary += f"; not beyond the null law: {', '.join(null)}" * bool(null) + f"; {n} of {seeds} planned seeds"
    plain = final[(final["defence"] == "none") & (final["canary"] == canary)]
    summary += f"; test loss {plain['test_loss_nats'].mean():.3g} to {left['test_loss_nats'].mean():.3g} nats"
    interval, test = max(results.values(), key=lambda result: result[1].p_value)
    return Outcome(decide(all(lowered), raised, n, seeds), *interval, *test, n=n, summary=summary)


def _falls(values: pd.Series) -> statistics.Test:
    """One-sided paired t test of differences; equal ones are judged by the sign test."""
    if np.ptp(values) == 0:
        return statistics.Test(np.nan, 0.5 ** len(values) if values.iloc[0] < 0 else 1.0)
    result = stats.ttest_1samp(values, 0, alternative="less")
    return statistics.Test(float(result.statistic), float(result.pvalue))


def stopping_insufficient(table: pd.DataFrame, reference: pd.DataFrame, *, seeds: int) -> Outcome:
    """G16: where the undefended model's validation loss is least, its canary is exposed beyond the law of canaries that
    were not inserted (Gamma test).
    """
    frame = tidy_defences.epochs(table)
    frame = frame[(frame["defence"] == "none") & (frame["canary"] == "digits")]
    best, final = tidy_defences.stopped(frame), tidy_defences.last(frame)
    values = best["bits"].to_numpy()
    if len(values) < FEWEST:
        return undecided(f"{len(values)} seeds, {FEWEST} needed", len(values))
    interval, test = statistics.t_interval(values), statistics.exponential_null(values)
    ceiling = tidy_defences.ceilings(table)["digits"]
    interval = interval._replace(high=min(interval.high, ceiling))
    verdict = decide(test.p_value < 0.05, interval.high < statistics.NULL_MEAN_BITS, len(values), seeds)
    share = np.mean(values >= ceiling - 1e-6)
    open_ = int((best.set_index("pair")["step"] == final.set_index("pair")["step"]).sum())
    summary = f"exposure {shown(interval, 'bits')} at the least validation loss (null mean 1.44), extractable in "
    summary += f"{share:.0%}; at the end {final['bits'].mean():.3g} bits"
    summary += f"; in {open_} of {len(values)} models the loss was still falling" * bool(open_)
    return Outcome(verdict, *interval, *test, n=len(values), summary=summary)


def quantisation_no_effect(
    table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, loss: float, seeds: int
) -> Outcome:
    """G15: the same models with 8-bit weights: exposure within +-margin bits (paired TOST), a canary at rank 1 stays
    there, and the test loss rises by less than `loss` nats per character on average.
    """
    frame = tidy_defences.quantised(table).dropna(subset=["bits_none", "bits_int8"])
    n = len(frame)
    if n < FEWEST:
        return undecided(f"{n} models with both kinds of weights, {FEWEST} needed", n)
    interval, test = statistics.equivalence(frame["bits_int8"] - frame["bits_none"], -margin, margin)
    first = frame[frame["rank_none"] == 1]
    kept = int((first["rank_int8"] == 1).sum())
    rise = statistics.t_interval((frame["loss_int8"] - frame["loss_none"]).dropna())
    summary = f"exposure {shown(interval, 'bits')} (90 %); rank 1 kept in {kept} of {len(first)} models; "
    summary += f"test loss {frame['loss_none'].mean():.3f} to {frame['loss_int8'].mean():.3f} nats"
    summary += f"; {n} of {seeds} planned seeds"
    verdict = equivalent(test.p_value, interval, margin)
    if len(first) > kept or rise.estimate >= loss:
        verdict = False
    if verdict and not (len(first) and np.isfinite(rise.estimate)):
        return undecided(f"{summary}; no canary at rank 1, or no test loss", n)
    return Outcome(verdict, *interval, *test, n=n, summary=summary)


def optimizers_equal(table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, seeds: int) -> Outcome:
    """G17: every two optimisers leave the same exposure, within +-margin bits, at equal validation loss
    (`tidy_defences.matched`; paired TOST, all pairs must pass).
    """
    return _variants_equal(table, "optimizer", "optimisers", margin, seeds)


def samplings_equal(table: pd.DataFrame, reference: pd.DataFrame, *, margin: float, seeds: int) -> Outcome:
    """X4, as `optimizers_equal`: training windows drawn without replacement (shuffled) and with (bagging)."""
    return _variants_equal(table, "sampling", "ways of drawing windows", margin, seeds)


def _variants_equal(table: pd.DataFrame, what: str, named: str, margin: float, seeds: int) -> Outcome:
    """`what`: a key of `tidy_defences.VARIANTS`, `named` so in summaries."""
    frame = tidy_defences.matched(tidy_defences.variants(table, what))
    wide = frame.pivot_table(index="pair", columns=what, values="bits").dropna()
    n = len(wide)
    if n < FEWEST or wide.shape[1] < 2:
        return undecided(f"{n} seeds trained by all of {wide.shape[1]} {named}, {FEWEST} needed", n)
    results = [statistics.equivalence(wide[a] - wide[b], -margin, margin) for a, b in combinations(wide.columns, 2)]
    verdicts = [equivalent(test.p_value, interval, margin) for interval, test in results]
    verdict = False if False in verdicts else None if None in verdicts else True
    means = "; ".join(f"{name} {value:.3g}" for name, value in wide.mean().sort_values().items())
    loss = frame.groupby(what)["validation_loss_nats"].mean()
    summary = f"at validation loss {loss.min():.3g} to {loss.max():.3g} nats: {means} bits; "
    summary += f"{verdicts.count(True)} of {len(verdicts)} pairs equivalent; {n} of {seeds} planned seeds"
    if verdict and not any(_memorised(wide[name], wide.shape[1]) for name in wide):
        return undecided(f"{summary}; at that loss nothing was memorised by any", n)
    interval, test = max(results, key=lambda result: abs(result[0].estimate))
    return Outcome(verdict, *interval, *test, n=n, summary=summary)
