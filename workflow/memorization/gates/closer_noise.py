"""Tests on classifiers that fit more and more noise (Arpit et al. 2017, Figs 7 and 8): H8 to H11, and subsets."""

from dataclasses import replace

import numpy as np
import pandas as pd

from memorization import statistics, tidy_noise
from memorization.gates.outcome import Outcome, equivalent, shown, sided, undecided

FEWEST = 3
"""Seeds, below which nothing is decided."""
TIE = 0.01
"""Critical sample ratio: where none exceeds it there is nothing to compare."""
TRAINED = 0.9
"""Training accuracy from which a network has memorised."""


def _too_small(frame: pd.DataFrame, what: str) -> Outcome | None:
    seeds, levels = frame.shape
    if seeds < FEWEST or levels < 2:
        return undecided(f"{what} of {seeds} seeds at {levels} levels of noise, {FEWEST} and 2 needed", seeds)
    return None


def _listed(frame: pd.DataFrame) -> str:
    """`20 %: 0.012, 40 %: 0.031`: means of a seeds x levels matrix."""
    return ", ".join(f"{level:.0%}: {mean:.3g}" for level, mean in frame.mean().items())


def csr_rises_with_noise(
    table: pd.DataFrame, reference: pd.DataFrame, *, kind: str, radius: float, seeds: int
) -> Outcome:
    """H8: at the end of training the critical sample ratio of validation images rises with the share of noise (Page's
    trend test, seeds as blocks; between two levels Wilcoxon's). Undecided if all ratios are below 1 %. The interval is
    of highest minus lowest level.
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
    """H9: the highest and the last validation accuracy fall with the share of noise (as `csr_rises_with_noise`; both
    must).
    """
    curves = tidy_noise.of(tidy_noise.curves(table, "accuracy", "validation"), kind)
    ends, most = tidy_noise.at_end(curves), tidy_noise.best(curves)
    if small := _too_small(ends, "validation accuracy"):
        return small
    summary = f"last {_listed(ends)}; highest {_listed(most)}"
    outcomes = [_trend(frame, -1, seeds, summary) for frame in (ends, most)]
    verdicts = [outcome.verdict_supported for outcome in outcomes]
    verdict = False if False in verdicts else None if None in verdicts else True
    return replace(max(outcomes, key=lambda outcome: outcome.p_value), verdict_supported=verdict)


def _trend(frame: pd.DataFrame, sign: int, planned: int, summary: str) -> Outcome:
    """Does a seeds x levels matrix rise (sign 1) or fall (-1) with the level?"""
    values = sign * frame.to_numpy()
    if values.shape[1] > 2:
        name, test, opposite = "Page", statistics.page(values), statistics.page(-values)
    else:  # Page's test needs three levels
        pair = values[:, 1], values[:, 0]
        name, test, opposite = "Wilcoxon", statistics.wilcoxon_paired(*pair), statistics.wilcoxon_paired(*pair[::-1])
    change = statistics.t_interval(frame.iloc[:, -1] - frame.iloc[:, 0])
    n, toward = len(frame), test.statistic > opposite.statistic
    verdict, why = sided(test.p_value < 0.05, opposite.p_value < 0.05, toward, n, planned)
    return Outcome(verdict, *change, *test, n=n, summary=f"{summary}; {name} p = {test.p_value:.2g}{why}")


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
    before = min(early) == 1
    against, toward = any(fall.high < 0 for fall in falls), before and all(fall.estimate > 0 for fall in falls)
    verdict, why = sided(before and weakest.low > 0, against, toward, len(plain), seeds)
    flat = equivalent(test.p_value, interval, margin)
    summary = f"{'; '.join(listed)}; without noise {shown(interval)} lost (90 %), TOST p = {test.p_value:.2g}{why}"
    if verdict and not flat:
        verdict = flat
    return Outcome(verdict, *weakest, n=len(plain), summary=summary)


def csr_jumps_after_peak(
    table: pd.DataFrame, reference: pd.DataFrame, *, kind: str, radius: float, seeds: int
) -> Outcome:
    """H11: the critical sample ratio is higher at the end than where validation accuracy peaks (Wilcoxon, paired by
    seed; at every level that was memorised). Undecided if all ratios are below 1 %.
    """
    levels = _memorised(table, kind)
    curves = tidy_noise.curves(table, f"csr_{radius:g}", "validation")
    found, rises, listed, counts = [], [], [], []
    for level in levels:
        ratios = tidy_noise.wide(tidy_noise.of(curves, kind, level))
        if not len(ratios) or ratios.to_numpy().max() < TIE:
            continue
        _, validation = _matrices(table, kind, level)
        before = tidy_noise.at(ratios, tidy_noise.smoothed(validation).idxmax(axis=1))
        after = ratios.loc[before.index].iloc[:, -1]
        found.append(statistics.wilcoxon_paired(after, before))
        rises.append(statistics.t_interval(after - before))
        counts.append(len(before))
        higher = f"higher in {(after > before).sum()} of {counts[-1]} seeds"
        listed.append(f"{level:.0%}: {before.mean():.3g} to {after.mean():.3g}, {higher}")
    if not found:
        return undecided(f"at no level of noise 90 % training accuracy and critical samples at r = {radius:g}")
    worst = max(range(len(found)), key=lambda i: found[i].p_value)
    n, against, toward = min(counts), any(r.high < 0 for r in rises), all(r.estimate > 0 for r in rises)
    verdict, why = sided(found[worst].p_value < 0.05, against, toward, n, seeds)
    summary = f"r = {radius:g}: from validation's peak to the end {'; '.join(listed)}"
    summary += f"; largest p = {found[worst].p_value:.2g}{why}"
    return Outcome(verdict, *rises[worst], *found[worst], n=n, summary=summary)


def patterns_first(table: pd.DataFrame, reference: pd.DataFrame, *, kind: str, seeds: int) -> Outcome:
    """Beyond the paper: where validation accuracy peaks, more of the training examples whose labels were replaced are
    classified as what they are than as they are labelled; at the end it is the other way round (Wilcoxon, paired by
    seed, both at every level that was memorised). The tenth whose new label happens to be right counts on both sides.
    """
    parts = [tidy_noise.curves(table, "accuracy", part) for part in ("corrupted_true", "corrupted")]
    tests, listed, leads, ends = [], [], [], []
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
        ends.append(statistics.t_interval(memorised))
        listed.append(
            f"{level:.0%}: at the peak {tidy_noise.at(true, peak).mean():.0%} true against "
            f"{tidy_noise.at(given, peak).mean():.0%} given, at the end {true.iloc[:, -1].mean():.0%} against "
            f"{given.iloc[:, -1].mean():.0%}"
        )
    if not tests:
        return undecided("at no level of noise 90 % training accuracy")
    worst, n = max(tests, key=lambda test: test.p_value), len(lead)
    against, toward = any(i.high < 0 for i in leads + ends), all(i.estimate > 0 for i in leads + ends)
    verdict, why = sided(worst.p_value < 0.05, against, toward, n, seeds)
    least = min(leads, key=lambda interval: interval.estimate)
    return Outcome(verdict, *least, *worst, n=n, summary="; ".join(listed) + why)
