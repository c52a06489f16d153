"""Claims on Figs 1 and 2 of A Closer Look: every verdict on synthetic tables, drawings with gaps."""

import numpy as np
import pytest
import synthetic_examples as synthetic

from memorization import figures_closer_examples as figures
from memorization import tidy
from memorization.expansion import PAPERS
from memorization.gates import closer_examples as gates

REFERENCE = tidy.read_reference(PAPERS / "closer_look" / "reference.csv")
NONE = None

# --- H1 ----


@pytest.mark.parametrize(
    ("difficulty", "verdict"),
    [
        ({}, True),
        ({"none": 0.2, "labels": 3.0}, False),  # reversed
    ],
)
def test_order_of_difficulty(difficulty, verdict):
    for within in (False, True):
        outcome = gates.difficulty_order(synthetic.rates(difficulty), NONE, within=within, runs=100)
        assert outcome.verdict_supported is verdict
        assert outcome.n == 100
        assert outcome.low <= outcome.estimate <= outcome.high


@pytest.mark.parametrize("within", [False, True])
def test_randy_like_randx_is_not_the_claim_whichever_side_chance_takes(within):
    outcome = gates.difficulty_order(synthetic.rates({"labels": 0.0}), NONE, within=within, runs=100)
    assert outcome.verdict_supported is (None if outcome.estimate > 0 else False)


def test_within_classes_easy_classes_do_not_count():
    """randX whose classes differ: as uneven as randY over all examples, binomial inside classes."""
    table = synthetic.rates({"labels": 1.0}, class_bias={"inputs": 1.5})
    for within, verdict in ((False, False), (True, True)):
        outcome = gates.difficulty_order(table, NONE, within=within, runs=100)
        assert (outcome.verdict_supported is True) is verdict
        outcome = gates.noise_is_binomial(table, NONE, within=within, low=0.7, high=1.5, runs=100)
        assert outcome.verdict_supported is verdict


def test_noise_that_is_neither_shown_to_be_binomial_nor_not_is_undecided():
    table = synthetic.rates({"inputs": 0.18}, examples=200)
    outcome = gates.noise_is_binomial(table, NONE, within=False, low=0.7, high=1.5, runs=100)
    assert outcome.low < 1.5 < outcome.high
    assert outcome.verdict_supported is None
    assert gates.noise_is_binomial(synthetic.rates(), NONE, within=False, low=0.7, high=1.5, runs=100).verdict_supported


def test_random_labels_share_patterns():
    shared, none = (
        gates.labels_share_patterns(synthetic.rates({"labels": difficulty}), NONE, within=True, runs=100)
        for difficulty in (0.6, 0.0)
    )
    assert shared.verdict_supported is True
    assert none.verdict_supported is (None if none.estimate > 1 else False)


def test_few_runs_and_missing_training_sets_are_undecided():
    ungated = {"within": False, "runs": 100}
    for table in (synthetic.rates(runs=12), synthetic.rates(kinds=("none",)), synthetic.rates().iloc[:0]):
        for outcome in (
            gates.difficulty_order(table, NONE, **ungated),
            gates.noise_is_binomial(table, NONE, low=0.7, high=1.5, **ungated),
            gates.labels_share_patterns(table, NONE, **ungated),
        ):
            assert outcome.verdict_supported is None
            assert outcome.summary
    # Fewer than planned, no effect: nothing is said.
    some = synthetic.rates({"labels": 0.0}, runs=40)
    assert gates.labels_share_patterns(some, NONE, **ungated).verdict_supported is None


# --- H2 ----

TV = {"measure": "filter_tv", "rises": False, "seeds": 5}
LOW = {"measure": "filter_low_frequency", "rises": True, "seeds": 5}


@pytest.mark.parametrize("how", [TV, LOW])
def test_filters_gain_structure(how):
    table = synthetic.filters()
    outcome = gates.filters_gain_structure(table, NONE, kind="labels", **how)
    assert outcome.verdict_supported is True
    assert outcome.p_value == pytest.approx(1 / 32)
    assert gates.real_filters_more_structured(table, NONE, **how).verdict_supported is True


@pytest.mark.parametrize("trained", [1.4, 1.6])
def test_filters_without_structure_are_no_evidence_for_it(trained):
    table = synthetic.filters({"labels": trained, "none": trained})
    for how in (TV, LOW):
        assert gates.filters_gain_structure(table, NONE, kind="labels", **how).verdict_supported is False
    reversed_ = synthetic.filters({"labels": 0.8, "none": 1.2})
    assert gates.real_filters_more_structured(reversed_, NONE, **TV).verdict_supported is False


def test_few_networks_are_undecided():
    for table in (synthetic.filters(networks=4), synthetic.filters(kinds=("inputs",), trained={"inputs": 1.0})):
        assert gates.filters_gain_structure(table, NONE, kind="labels", **TV).verdict_supported is None
        assert gates.real_filters_more_structured(table, NONE, **TV).verdict_supported is None


# --- drawings ----

DRAWN = {
    "whole": (figures.fig01_easy_examples, synthetic.rates),
    "one set": (figures.fig01_easy_examples, lambda: synthetic.rates(kinds=("labels",), runs=12)),
    "few runs": (figures.fig01_easy_examples, lambda: synthetic.rates(runs=2, resamples=0)),
    "no rows": (figures.fig01_easy_examples, lambda: synthetic.rates().iloc[:0]),
    "filters": (figures.fig02_filters, synthetic.filters),
    "two networks": (figures.fig02_filters, lambda: synthetic.filters(networks=2)),
    "real only": (figures.fig02_filters, lambda: synthetic.filters(kinds=("none",))),
    "no filters": (figures.fig02_filters, lambda: synthetic.filters().iloc[:0]),
}


@pytest.mark.parametrize(("draw", "make"), DRAWN.values(), ids=DRAWN)
def test_figures_are_drawn_whatever_is_missing(draw, make):
    figure = draw(make(), REFERENCE[REFERENCE["figure"] == draw.__name__])
    figure.canvas.draw()


def test_rates_are_drawn_sorted_and_the_binomial_has_the_mean_of_randx():
    table = synthetic.rates()
    axes = figures.fig01_easy_examples(table, REFERENCE.iloc[:0]).axes[0]
    lines = {line.get_label().split(",")[0]: line for line in axes.lines}
    assert set(lines) == {"real", "randX", "randY", "binomial"}
    for line in lines.values():
        assert (np.diff(line.get_ydata()) >= 0).all()
    expected, drawn = lines["randX"].get_ydata(), lines["binomial"].get_ydata()
    assert drawn.mean() == pytest.approx(expected.mean(), abs=0.01)
