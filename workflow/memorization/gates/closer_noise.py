"""Tests on classifiers that fit more and more noise (Arpit et al. 2017, Figs 7 and 8): H8 to H11, and subsets."""

import numpy as np
import pandas as pd

from memorization import statistics, tidy_noise
from memorization.gates.outcome import Outcome, decide, equivalent, shown, undecided

FEWEST = 3
"""Seeds (and levels of noise), below which nothing is decided."""
TIE = 0.01
"""Critical sample ratio: where none exceeds it there is nothing to compare."""
TRAINED = 0.9
"""Training accuracy from which a network has memorised."""


def _too_small(frame: pd.DataFrame, what: str) -> Outcome | None:
    seeds, levels = frame.shape
    if seeds < FEWEST or levels < FEWEST:
        return undecided(f"{what} of {seeds} seeds at {levels} levels of noise, {FEWEST} needed", seeds)
    return None


def _listed(frame: pd.DataFrame) -> str:
    """`20 %: 0.012, 40 %: 0.031`: means of a seeds x levels matrix."""
    return ", ".join(f"{level:.0%}: {mean:.3g}" for level, mean in frame.mean().items())


def csr_rises_with_noise(
    table: pd.DataFrame, reference: pd.DataFrame, *, kind: str, radius: float, seeds: int
) -> Outcome:
    """H8: at the end of training the critical sample ratio of validation images rises with the share of noise (Page's
    trend test, seeds as blocks). Undecided if all ratios are below 1 %. The interval is of highest minus lowest level.
    """
    curves = tidy_noise.of(tidy_noise.curves(table, f"csr_{radius:g}", "validation"), kind)
    ends = tidy_noise.at_end(curves)
    if small := _too_small(ends, "critical samples"):
        return small
    counts = tidy_noise.of(tidy_noise.curves(table, f"csr_count_{radius:g}", "validation"), kind)
    summary = f"r = {radius:g}: {_listed(ends)}; counts {_listed(tidy_noise.at_end(counts))}"
    if ends.to_numpy().max() < TIE:
        return undecided(f"{summary}; all below 1 %", len(ends))
    return _trend(ends, 1, seeds, summary)


def accuracy_falls_with_noise(table: pd.DataFrame, reference: pd.DataFrame, *, kind: str, seeds: int) -> Outcome:
    """H9: the highest and the last validation accuracy fall with the share of noise (Page's test, both must)."""
    curves = tidy_noise.of(tidy_noise.curves(table, "accuracy", "validation"), kind)
    ends, most = tidy_noise.at_end(curves), tidy_noise.best(curves)
    if small := _too_small(ends, "validation accuracy"):
        return small
    summary = f"last {_listed(ends)}; highest {_listed(most)}"
    outcomes = [_trend(frame, -1, seeds, summary) for frame in (ends, most)]
    verdicts = [outcome.verdict_supported for outcome in outcomes]
    worst = max(outcomes, key=lambda outcome: outcome.p_value)
    verdict = False if False in verdicts else None if None in verdicts else True
    return Outcome(verdict, worst.estimate, worst.low, worst.high, worst.statistic, worst.p_value, worst.n, summary)


def _trend(frame: pd.DataFrame, sign: int, planned: int, summary: str) -> Outcome:
    """Does a seeds x levels matrix rise (sign 1) or fall (-1) with the level?"""
    values = sign * frame.to_numpy()
    test, opposite = statistics.page(values), statistics.page(-values)
    change = statistics.t_interval(frame.iloc[:, -1] - frame.iloc[:, 0])
    verdict = decide(test.p_value < 0.05, opposite.p_value < 0.05, len(frame), planned)
    return Outcome(verdict, *change, *test, n=len(frame), summary=f"{summary}; Page p = {test.p_value:.2g}")


def _memorised(table: pd.DataFrame, kind: str) -> list[float]:
    """Levels at which every seed ends with nearly all of its training examples right, by their given labels."""
    ends = tidy_noise.at_end(tidy_noise.of(tidy_noise.curves(table, "accuracy", "train"), kind))
    return [level for level in ends if len(ends) >= FEWEST and ends[level].min() >= TRAINED]


def _matrices(table: pd.DataFrame, kind: str, level: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy on training and on validation examples, seeds x epochs."""
    parts = (tidy_noise.curves(table, "accuracy", part) for part in ("train", "validation"))
    train, validation = (tidy_noise.wide(tidy_noise.of(part, kind, level)) for part in parts)
    return train, validation


def _drops(validation: pd.DataFrame) -> pd.Series:
    """Per seed: accuracy where the other seeds' mean peaks, minus the last."""
    return tidy_noise.at(validation, tidy_noise.others_peak(validation)) - validation.iloc[:, -1]


def peak_before_memorising(
    table: pd.DataFrame, reference: pd.DataFrame, *, kind: str, margin: float, seeds: int
) -> Outcome:
    """H10: validation accuracy peaks (running mean of three) before training accuracy reaches 90 %, in every seed, and
    then falls: by more than without noise (paired bootstrap), where it does not fall (TOST within +-margin).

    Falls are measured where the other seeds' mean curve peaks: a curve's own maximum is above its end in any case.
    Levels at which some network never reaches 90 % say nothing.
    """
    levels = _memorised(table, kind)
    _, plain = _matrices(table, tidy_noise.REAL, 0.0)
    if not levels or len(plain) < FEWEST:
        return undecided(f"at no level of noise, or not without it, {FEWEST} networks of 90 % training accuracy")
    control = _drops(plain)
    interval, test = statistics.equivalence(control, -margin, margin)
    early, falls, listed = [], [], []
    for level in levels:
        train, validation = _matrices(table, kind, level)
        reached = (train >= TRAINED).idxmax(axis=1)
        peak = tidy_noise.smoothed(validation).idxmax(axis=1)
        early.append(float((peak < reached[peak.index]).mean()))
        drop = _drops(validation)
        falls.append(statistics.bootstrap_interval((drop - control).dropna()))
        listed.append(
            f"{level:.0%}: peak at epoch {peak.median():g}, 90 % at {reached.median():g}, before it in {early[-1]:.0%} "
            f"of seeds, then {drop.mean():.3g} lost"
        )
    weakest = min(falls, key=lambda fall: fall.low)
    found = min(early) == 1 and weakest.low > 0
    verdict = decide(found, any(fall.high < 0 for fall in falls), len(plain), seeds)
    flat = equivalent(test.p_value, interval, margin)
    summary = f"{'; '.join(listed)}; without noise {shown(interval)} (90 %)"
    if verdict and not flat:
        verdict = flat
    return Outcome(verdict, *weakest, *test, n=len(plain), summary=summary)


def csr_jumps_after_peak(
    table: pd.DataFrame, reference: pd.DataFrame, *, kind: str, radius: float, seeds: int
) -> Outcome:
    """H11: the critical sample ratio is higher at the end than where validation accuracy peaks (Wilcoxon, paired by
    seed; at every level that was memorised). Undecided if all ratios are below 1 %.
    """
    levels = _memorised(table, kind)
    curves = tidy_noise.curves(table, f"csr_{radius:g}", "validation")
    found, rises, listed = [], [], []
    for level in levels:
        ratios = tidy_noise.wide(tidy_noise.of(curves, kind, level))
        if not len(ratios) or ratios.to_numpy().max() < TIE:
            continue
        _, validation = _matrices(table, kind, level)
        before = tidy_noise.at(ratios, tidy_noise.smoothed(validation).idxmax(axis=1))
        after = ratios.loc[before.index].iloc[:, -1]
        found.append(statistics.wilcoxon_paired(after, before))
        rises.append(statistics.t_interval(after - before))
        listed.append(
            f"{level:.0%}: {before.mean():.3g} to {after.mean():.3g}, higher in {(after > before).sum()} seeds"
        )
    if not found:
        return undecided(f"at no level of noise 90 % training accuracy and critical samples at r = {radius:g}")
    worst = max(range(len(found)), key=lambda i: found[i].p_value)
    n = len(before)
    verdict = decide(found[worst].p_value < 0.05, any(rise.high < 0 for rise in rises), n, seeds)
    summary = f"r = {radius:g}: from validation's peak to the end {'; '.join(listed)} of {n}"
    return Outcome(verdict, *rises[worst], *found[worst], n=n, summary=summary)


def patterns_first(table: pd.DataFrame, reference: pd.DataFrame, *, kind: str, seeds: int) -> Outcome:
    """Beyond the paper: where validation accuracy peaks, more of the wrongly labelled training examples are classified
    as what they are than as they are labelled; at the end it is the other way round (Wilcoxon, paired by seed, both at
    every level that was memorised).
    """
    parts = [tidy_noise.curves(table, "accuracy", part) for part in ("corrupted_true", "corrupted")]
    tests, listed, leads, against = [], [], [], False
    for level in _memorised(table, kind):
        true, given = (tidy_noise.wide(tidy_noise.of(part, kind, level)) for part in parts)
        _, validation = _matrices(table, kind, level)
        if not len(true) or not len(given):
            continue
        peak = tidy_noise.smoothed(validation).idxmax(axis=1)
        lead = tidy_noise.at(true, peak) - tidy_noise.at(given, peak)
        memorised = given.iloc[:, -1] - true.iloc[:, -1]
        tests += [statistics.wilcoxon_paired(part, np.zeros(len(part))) for part in (lead, memorised)]
        leads.append(statistics.t_interval(lead))
        against |= leads[-1].high < 0 or statistics.t_interval(memorised).high < 0
        listed.append(
            f"{level:.0%}: at the peak {tidy_noise.at(true, peak).mean():.0%} true against "
            f"{tidy_noise.at(given, peak).mean():.0%} given, at the end {true.iloc[:, -1].mean():.0%} against "
            f"{given.iloc[:, -1].mean():.0%}"
        )
    if not tests:
        return undecided("at no level of noise 90 % training accuracy")
    worst, n = max(tests, key=lambda test: test.p_value), len(lead)
    verdict = decide(worst.p_value < 0.05, against, n, seeds)
    least = min(leads, key=lambda interval: interval.estimate)
    return Outcome(verdict, *least, *worst, n=n, summary="; ".join(listed))
