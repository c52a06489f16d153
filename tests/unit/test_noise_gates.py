"""Claims on Figs 7 to 9 of A Closer Look: every verdict on synthetic curves, and the ways a table cannot decide."""

import numpy as np
import pytest
import synthetic_noise as synthetic

from memorization import tidy_noise
from memorization.gates import closer_critical, closer_noise

NONE = None
RATIOS = {("csr_0.3", "validation"): synthetic.csr, ("csr_count_0.3", "validation"): lambda *a: 200 * synthetic.csr(*a)}


def reversed_(value):
    """The same curves with the levels of noise in reverse order."""
    return lambda kind, level, epoch: value(kind, 1 - level, epoch)


def flat(value):
    return lambda kind, level, epoch: value


# --- H8, H9 ----


@pytest.mark.parametrize("kind", ["inputs", "labels"])
def test_ratio_rises_with_noise(kind):
    outcome = closer_noise.csr_rises_with_noise(synthetic.table(RATIOS), NONE, kind=kind, radius=0.3, seeds=5)
    assert outcome.verdict_supported is True
    assert outcome.low < outcome.estimate < outcome.high
    assert outcome.estimate == pytest.approx(0.3, abs=0.01)
    assert "counts 20%: 34" in outcome.summary


def test_ratio_that_falls_or_stays_is_not_reproduced():
    down = synthetic.table({("csr_0.3", "validation"): reversed_(synthetic.csr)})
    same = synthetic.table({("csr_0.3", "validation"): flat(0.3)}, spread=0)
    for table in (down, same):
        outcome = closer_noise.csr_rises_with_noise(table, NONE, kind="inputs", radius=0.3, seeds=5)
        assert outcome.verdict_supported is False


def test_a_rise_that_chance_explains_stays_open():
    """One seed of five falls: the trend points the claimed way, but is not significant."""
    table = synthetic.table(RATIOS, cells=[("inputs", 0.2), ("inputs", 0.8)], spread=0)
    odd = (table["replicate"] == 0) & (table["data.noise.level"] == 0.8)
    table.loc[odd, "value"] = 0.0
    outcome = closer_noise.csr_rises_with_noise(table, NONE, kind="inputs", radius=0.3, seeds=5)
    assert outcome.verdict_supported is None
    assert outcome.p_value > 0.05
    assert "5 seeds do not tell it from chance" in outcome.summary


@pytest.mark.parametrize(("value", "verdict"), [(synthetic.csr, True), (reversed_(synthetic.csr), False)])
def test_two_levels_are_compared_by_pairs(value, verdict):
    table = synthetic.table({("csr_0.3", "validation"): value}, cells=[("inputs", 0.2), ("inputs", 0.8)])
    outcome = closer_noise.csr_rises_with_noise(table, NONE, kind="inputs", radius=0.3, seeds=5)
    assert outcome.verdict_supported is verdict
    assert "Wilcoxon" in outcome.summary


def test_ratio_is_undecided_if_tied_or_with_few_seeds_or_levels():
    tied = synthetic.table({("csr_0.3", "validation"): lambda kind, level, epoch: 0.005 * level}, spread=0)
    few = synthetic.table({("csr_0.3", "validation"): flat(0.3)}, seeds=4, spread=0)
    one = synthetic.table(RATIOS, cells=[("inputs", 0.8)])
    none = synthetic.table({("csr_3", "validation"): synthetic.csr})
    for table in (tied, few, one, none):
        outcome = closer_noise.csr_rises_with_noise(table, NONE, kind="inputs", radius=0.3, seeds=5)
        assert outcome.verdict_supported is None
        assert outcome.summary


@pytest.mark.parametrize(
    ("value", "verdict"),
    [(synthetic.validation, True), (reversed_(synthetic.validation), False), (flat(0.5), False)],
)
def test_accuracy_against_noise(value, verdict):
    table = synthetic.table({("accuracy", "validation"): value}, spread=0)
    for kind in ("inputs", "labels"):
        outcome = closer_noise.accuracy_falls_with_noise(table, NONE, kind=kind, seeds=5)
        assert outcome.verdict_supported is verdict


def test_accuracy_that_falls_only_at_the_end_is_not_enough():
    """The highest is the same at every level."""
    table = synthetic.table({("accuracy", "validation"): lambda kind, level, epoch: 0.8 - 0.5 * level * (epoch > 10)},
                            spread=0)  # fmt: skip
    assert closer_noise.accuracy_falls_with_noise(table, NONE, kind="labels", seeds=5).verdict_supported is False


# --- H10 ----


def peak(table):
    return closer_noise.peak_before_memorising(table, NONE, kind="labels", margin=0.01, seeds=5)


def test_peak_before_memorising():
    outcome = peak(synthetic.table(synthetic.accuracies()))
    assert outcome.verdict_supported is True
    assert outcome.low > 0.05


def test_curve_that_keeps_rising_has_no_peak():
    """A curve's own maximum is above its end even here: what is lost after the others' peak is not."""
    rising = lambda kind, level, epoch: (0.8 - 0.2 * level) * epoch / 40  # noqa: E731
    assert (
        peak(synthetic.table(synthetic.accuracies() | {("accuracy", "validation"): rising})).verdict_supported is False
    )


def test_noisy_plateau_has_no_peak():
    plateau = lambda kind, level, epoch: 0.5 * min(epoch, 2)  # noqa: E731
    table = synthetic.table(synthetic.accuracies() | {("accuracy", "validation"): plateau}, spread=0.004)
    assert peak(table).verdict_supported is False


def test_fall_without_noise_contradicts():
    falls = lambda kind, level, epoch: synthetic.validation("labels", max(level, 0.3), epoch) - level * epoch / 100  # noqa: E731
    outcome = peak(synthetic.table(synthetic.accuracies() | {("accuracy", "validation"): falls}))
    assert outcome.verdict_supported is False
    assert "without noise" in outcome.summary


def test_peak_after_memorising_contradicts():
    late = lambda kind, level, epoch: 0.1 + min(epoch, 30) / 60 - 0.3 * level * (epoch > 35)  # noqa: E731
    assert peak(synthetic.table(synthetic.accuracies() | {("accuracy", "validation"): late})).verdict_supported is False


def test_peak_is_undecided_where_nothing_was_memorised():
    never = synthetic.table(synthetic.accuracies() | {("accuracy", "train"): flat(0.6)})
    assert peak(never).verdict_supported is None
    without = synthetic.table(synthetic.accuracies(), cells=synthetic.CELLS[1:])
    assert peak(without).verdict_supported is None


# --- H11, subsets ----


def jump(value, **options):
    table = synthetic.table(synthetic.accuracies() | {("csr_0.3", "validation"): value}, **options)
    return closer_noise.csr_jumps_after_peak(table, NONE, kind="labels", radius=0.3, seeds=5)


def test_ratio_jumps_in_the_transition():
    assert jump(synthetic.csr).verdict_supported is True
    assert jump(flat(0.3), spread=0).verdict_supported is False
    assert jump(lambda kind, level, epoch: 0.5 - epoch / 100).verdict_supported is False
    assert jump(flat(0.001), spread=0.0001).verdict_supported is None
    assert jump(flat(0.3), spread=0, seeds=4).verdict_supported is None
    assert jump(synthetic.csr, seeds=4).verdict_supported is None  # four seeds cannot be significant


def subsets(true, given):
    measures = synthetic.accuracies() | {("accuracy", "corrupted_true"): true, ("accuracy", "corrupted"): given}
    return closer_noise.patterns_first(synthetic.table(measures), NONE, kind="labels", seeds=5)


def test_patterns_are_learned_first():
    memorised = lambda kind, level, epoch: 1 - np.exp(-((epoch / 12) ** 2))  # noqa: E731
    forgotten = lambda kind, level, epoch: 0.7 * (1 - np.exp(-epoch)) * np.exp(-((epoch / 12) ** 2))  # noqa: E731
    assert subsets(forgotten, memorised).verdict_supported is True
    assert subsets(memorised, forgotten).verdict_supported is False
    assert subsets(flat(0.0), memorised).verdict_supported is False


# --- H12, U4, U5 ----


def critical(value, part="validation", **options):
    options = {"cells": synthetic.COMPLETE} | options
    return synthetic.table({("csr_0.3", part): value}, **options)


def test_noise_is_more_critical():
    outcome = closer_critical.noise_more_critical(critical(synthetic.csr), NONE, radius=0.3, seeds=5)
    assert outcome.verdict_supported is True
    assert outcome.estimate == pytest.approx(0.5, abs=0.01)
    only_labels = critical(lambda kind, level, epoch: 0.1 + 0.4 * (kind == "labels") * epoch / 40, spread=0)
    for table in (only_labels, critical(flat(0.2), spread=0), critical(reversed_(synthetic.csr))):
        assert closer_critical.noise_more_critical(table, NONE, radius=0.3, seeds=5).verdict_supported is False


def test_noise_is_undecided_if_tied_or_incomplete():
    for table in (
        critical(flat(0.001), spread=0.0005),
        critical(synthetic.csr, cells=synthetic.COMPLETE[:2]),
        critical(flat(0.2), seeds=4),
    ):
        assert closer_critical.noise_more_critical(table, NONE, radius=0.3, seeds=5).verdict_supported is None


def radii(value, other, **options):
    """U5, of ratios at two radii."""
    measures = {("csr_0.3", "validation"): value, ("csr_1", "validation"): other}
    table = synthetic.table(measures, **({"cells": synthetic.COMPLETE} | options))
    return closer_critical.radii_agree(table, NONE, radius=0.3, other=1.0, seeds=5)


def test_radii_agree_whatever_they_say():
    assert radii(synthetic.csr, synthetic.csr).verdict_supported is True
    less = lambda kind, level, epoch: 0.5 - 0.4 * level * epoch / 40  # noqa: E731
    assert radii(less, less).verdict_supported is True
    assert radii(synthetic.csr, less).verdict_supported is False
    assert radii(synthetic.csr, flat(0.3), spread=0).verdict_supported is False


def test_radii_without_a_conclusion_to_agree_with_are_undecided():
    nothing = radii(flat(0.2), synthetic.csr, spread=0)
    assert nothing.verdict_supported is None
    assert "neither differs" in nothing.summary
    assert radii(synthetic.csr, synthetic.csr, seeds=4).verdict_supported is None
    assert radii(synthetic.csr, synthetic.csr, cells=synthetic.COMPLETE[:2]).verdict_supported is None


def levels(value, **options):
    return closer_critical.csr_rises_then_levels(critical(value, **options), NONE, radius=0.3, margin=0.1, seeds=5)


def test_ratio_rises_then_levels_off():
    assert levels(synthetic.csr).verdict_supported is True
    assert levels(lambda kind, level, epoch: 0.02 + epoch / 80).verdict_supported is False  # it never levels off
    assert levels(lambda kind, level, epoch: 0.5 - 0.3 * min(epoch, 5) / 5).verdict_supported is False  # it falls
    assert levels(flat(0.3), spread=0).verdict_supported is False
    assert levels(flat(0.001), spread=0.0005).verdict_supported is None
    assert levels(synthetic.csr, spread=0.05).verdict_supported is not True  # too noisy to show that it is level


def test_ratio_of_training_examples_rises_then_falls():
    """U4; a flat noisy curve's own maximum lies above both its ends, and proves nothing."""

    def verdict(value, **options):
        table = critical(value, "train", **options)
        return closer_critical.train_csr_rises_then_falls(table, NONE, radius=0.3, seeds=5).verdict_supported

    hump = lambda kind, level, epoch: 0.1 + epoch / 20 * np.exp(-epoch / 8)  # noqa: E731
    assert verdict(hump) is True
    assert verdict(synthetic.csr, spread=0) is False
    assert verdict(flat(0.3), spread=0.02) is False
    assert verdict(hump, seeds=2) is None


# --- the tidy rows ----


def test_at_joins_measurements_and_others_peak_leaves_the_seed_out():
    frame = tidy_noise.curves(critical(lambda kind, level, epoch: epoch, spread=0), "csr_0.3", "validation")
    matrix = tidy_noise.wide(tidy_noise.of(frame, "labels", 1.0))
    epochs = matrix.iloc[:, 0] * 0 + 4.0
    assert tidy_noise.at(matrix, epochs).tolist() == [4.0] * 5
    matrix.iloc[0, 2] = 1000.0  # one seed's outlier
    peaks = tidy_noise.others_peak(matrix)
    assert peaks.iloc[0] == 40.0
    assert (peaks.iloc[1:] == 2.0).all()
