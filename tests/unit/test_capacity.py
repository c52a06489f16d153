"""Figs 5 and 6 of A Closer Look: claims on made-up tables, censoring, drawings."""

import numpy as np
import pandas as pd
import pytest
from synthetic_capacity import SIZES, WIDTHS, capacity, convergence

from memorization import figures_closer_capacity, tidy, tidy_capacity
from memorization.expansion import PAPERS
from memorization.gates import closer_capacity as gates


def rises(table, value="final", noise="inputs"):
    return gates.width_needed_rises(table, None, noise=noise, share=0.99, value=value, seeds=5)


def flat(table, noise="labels"):
    return gates.width_needed_is_flat(table, None, noise=noise, share=0.99, value="final", margin=1.0, seeds=5)


def removed(table):
    return gates.removing_noise_lowers_width(table, None, share=0.99, value="final", seeds=5)


def width_gain(table):
    return gates.noise_gains_more_from_width(table, None, seeds=5)


def slows(table):
    return gates.noise_slows_more_with_data(table, None, seeds=5)


# --- tables -------------------------------------------------------------------------------------------------------


def test_one_row_per_model_with_last_and_best_accuracy():
    frame = tidy_capacity.accuracies(capacity(replicates=2))
    assert len(frame) == 2 * len(WIDTHS) * 5
    assert (frame["best"] > frame["final"]).all()
    assert set(frame["noise"]) == {"none", "inputs"}
    assert frame["final"].between(30, 100).all()


def test_times_beyond_the_last_epoch_are_censored_at_it():
    frame = tidy_capacity.times(convergence(replicates=2, cap=30))
    late = frame[frame["censored"]]
    assert len(late)
    assert (late["epochs"] == 30).all()
    assert (frame.loc[~frame["censored"], "epochs"] <= 30).all()


def test_panels_of_figure_6_take_the_cells_that_vary():
    frame = tidy_capacity.times(convergence())
    assert sorted(tidy_capacity.at_widths(frame)["width"].unique()) == list(WIDTHS)
    assert sorted(tidy_capacity.at_sizes(frame)["examples"].unique()) == list(SIZES)


def test_the_width_needed_is_the_smallest_that_suffices():
    frame = tidy_capacity.needed(tidy_capacity.accuracies(capacity(rise=2.0)), "final", 0.99)
    real = frame[frame["noise"] == "none"]
    assert real["width"].between(4, 16).all()
    assert frame.groupby("level")["width"].median().loc[0.8] > real["width"].median()


# --- claims -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["final", "best"])
def test_a_rise_of_the_width_needed_is_found(value):
    outcome = rises(capacity(), value)
    assert outcome.verdict_supported is True
    assert 1 < outcome.low < outcome.estimate < outcome.high < 5
    assert outcome.n == 5


def test_a_fall_of_the_width_needed_contradicts():
    assert rises(capacity(rise=-2.0, least=32.0)).verdict_supported is False


def test_no_rise_counts_only_with_the_planned_seeds_and_a_sweep_that_straddles():
    assert rises(capacity(rise=0.0)).verdict_supported is not True
    assert rises(capacity(rise=0.0, replicates=3)).verdict_supported is None
    ends = rises(capacity(rise=0.0, least=1.0))
    assert ends.verdict_supported is None
    assert "does not straddle" in ends.summary


def test_few_seeds_or_levels_leave_it_open():
    assert rises(capacity(replicates=2)).verdict_supported is None
    assert rises(capacity(levels=(0.0, 0.8))).verdict_supported is None
    assert rises(capacity(), noise="labels").verdict_supported is None


def test_a_flat_width_passes_and_a_rising_one_does_not():
    assert flat(capacity(rise=0.0, kind="labels", least=9.0)).verdict_supported is True
    assert flat(capacity(rise=3.0, kind="labels")).verdict_supported is False
    assert flat(capacity(rise=0.0, kind="labels", least=1.0)).verdict_supported is None
    assert flat(capacity(replicates=2, kind="labels")).verdict_supported is None


def test_the_last_doubling():
    def gains(table):
        return gates.last_doubling_helps_noise(table, None, value="final", seeds=5).verdict_supported

    assert gains(capacity(rise=3.0)) is True
    assert gains(capacity(rise=-2.0, least=64.0)) is False
    assert gains(capacity(levels=(0.4, 0.8))) is None
    assert gains(capacity(replicates=2)) is None


def test_removing_the_noise():
    assert removed(capacity(rise=2.0, removed=0.0)).verdict_supported is True
    assert removed(capacity(rise=0.0, removed=2.0)).verdict_supported is False
    assert removed(capacity(replicates=2)).verdict_supported is None
    assert removed(capacity(rise=0.0, removed=0.0, least=1.0)).verdict_supported is None


def test_noise_that_gains_more_from_width():
    outcome = width_gain(convergence())
    assert outcome.verdict_supported is True
    assert outcome.estimate == pytest.approx(4 * 0.5, abs=0.2)
    assert width_gain(convergence(saving=(0.8, 0.3))).verdict_supported is False
    equal = width_gain(convergence(saving=(0.5, 0.5), seed=1))
    assert equal.verdict_supported is (None if equal.estimate > 0 else False)
    assert width_gain(convergence(replicates=2)).verdict_supported is None


def test_noise_that_slows_more_with_data():
    outcome = slows(convergence())
    assert outcome.verdict_supported is True
    assert outcome.estimate == pytest.approx(0.4, abs=0.06)
    assert slows(convergence(growth=(0.5, 0.1))).verdict_supported is False
    assert slows(convergence(replicates=2)).verdict_supported is None


def test_censored_narrow_networks_on_noise_are_bounds_that_still_decide():
    """T is 20 to 46 epochs on real data, 20 to 184 on noise: stopped at 60, the ratio is at least 3."""
    outcome = width_gain(convergence(cap=60))
    assert outcome.verdict_supported is True
    assert outcome.estimate < width_gain(convergence()).estimate
    assert "≥" in outcome.summary


def test_bounds_alone_show_no_absence():
    """Narrow networks on noise are stopped at 100 epochs, where they would need 160: the ratio is at least 2.5, real
    data's is 4.
    """
    options = {"saving": (0.5, 0.5), "slower": 2.0}
    whole = width_gain(convergence(**options))
    assert whole.verdict_supported is (None if whole.estimate > 0 else False)
    stopped = width_gain(convergence(**options, cap=100))
    assert stopped.verdict_supported is None
    assert "≥ 2.5" in stopped.summary


def test_where_no_run_on_noise_gets_there_nothing_is_compared():
    table = convergence(growth=(0.1, -1.5), saving=(0.1, 3.0), cap=25)
    assert slows(table).verdict_supported is not True
    assert "left out" in slows(table).summary


def test_widths_that_real_data_did_not_fit_are_not_compared():
    table = convergence(saving=(1.0, 1.5), cap=100)
    frame = tidy_capacity.times(table)
    assert frame[(frame["level"] == 0) & (frame["width"] == 4)]["censored"].all()
    assert "T(16 units)" in width_gain(table).summary


def test_only_one_width_that_fits_leaves_it_open():
    assert width_gain(convergence(saving=(3.0, 3.0), cap=25)).verdict_supported is None


@pytest.mark.parametrize("gate", [rises, flat, removed, width_gain, slows])
def test_empty_tables_leave_everything_open(gate):
    assert gate(capacity().iloc[:0]).verdict_supported is None


def test_settings_that_a_figure_does_not_vary_have_their_defaults():
    table = capacity().drop(columns=["data.noise.kind", "data.without_noise"])
    frame = tidy_capacity.settings(table)
    assert not frame["without"].any()
    assert set(frame["noise"]) == {"none", "inputs"}
    assert isinstance(frame, pd.DataFrame)
    assert np.isfinite(frame["width"]).all()


# --- drawings -----------------------------------------------------------------------------------------------------

FIGURES = {
    "fig05_capacity": capacity,
    "fig06_convergence": lambda replicates: convergence(replicates, cap=60),
    "text_capacity_cifar10": lambda replicates: capacity(replicates, kind="labels"),
}


def drawn(name, table):
    """The figure, and everything written in its panels."""
    reference = tidy.read_reference(PAPERS / "closer_look" / "reference.csv", name)
    assert len(reference)
    figure = getattr(figures_closer_capacity, name)(table, reference)
    figure.canvas.draw()
    return figure, [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("replicates", [1, 3])
@pytest.mark.parametrize("name", FIGURES)
def test_drawings_tell_what_the_paper_says(name, replicates):
    figure, texts = drawn(name, FIGURES[name](replicates))
    assert any("paper: " in text for text in texts)
    assert not any("no model" in text for text in texts)
    assert {text.get_text() for text in figure.legends[0].texts} >= {"real data", "80% noise"}


@pytest.mark.parametrize("name", FIGURES)
def test_drawings_of_empty_tables_say_so(name):
    _, texts = drawn(name, capacity().iloc[:0])
    assert sum("no model" in text or "no training" in text for text in texts) >= 2


def test_medians_that_were_not_reached_are_drawn_as_triangles():
    figure, _ = drawn("fig06_convergence", convergence(cap=60))
    assert "more than half not there" in {text.get_text() for text in figure.legends[0].texts}
    figure, _ = drawn("fig06_convergence", convergence())
    assert "more than half not there" not in {text.get_text() for text in figure.legends[0].texts}
