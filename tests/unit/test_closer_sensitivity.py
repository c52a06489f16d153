"""Claims on Figs 3 and 4 of A Closer Look: every verdict on synthetic tables, drawings with gaps."""

import pytest
import synthetic_sensitivity as synthetic

from memorization import figures_closer_sensitivity as figures
from memorization import tidy
from memorization.expansion import PAPERS
from memorization.gates import closer_sensitivity as gates

REFERENCE = tidy.read_reference(PAPERS / "closer_look" / "reference.csv")
NONE = None
EQUAL, REVERSED = {"real": 0.25}, {"real": 0.2, "random": 0.4, "again": 0.4}


def few(table, seeds):
    return table[table["replicate"] < seeds]


# --- H3 ----


@pytest.mark.parametrize("classes", ["own", "unique"])
@pytest.mark.parametrize(("final", "verdict"), [(None, True), (REVERSED, False)])
def test_real_images_are_more_unequal(classes, final, verdict):
    outcome = gates.real_more_unequal(synthetic.gini(final), NONE, classes=classes, seeds=10)
    assert outcome.verdict_supported is verdict
    assert outcome.n == 10
    assert outcome.low < outcome.estimate < outcome.high


@pytest.mark.parametrize("classes", ["own", "unique"])
def test_equal_images_are_not_the_claim_whichever_side_chance_takes(classes):
    outcome = gates.real_more_unequal(synthetic.gini(EQUAL), NONE, classes=classes, seeds=10)
    assert outcome.verdict_supported is (None if outcome.estimate > 0 else False)


def test_inequality_is_undecided_with_few_seeds():
    for table in (few(synthetic.gini(EQUAL), 6), few(synthetic.gini(), 4), synthetic.gini().iloc[:0]):
        outcome = gates.real_more_unequal(table, NONE, classes="own", seeds=10)
        assert outcome.verdict_supported is None
        assert outcome.summary


def test_last_update_decides_and_not_the_sensitivity_of_the_moment():
    table = synthetic.gini()
    now = table["part"] == "now"
    table.loc[now & (table["data.noise.kind"] == "none"), "value"] = 0.0
    assert gates.real_more_unequal(table, NONE, classes="own", seeds=10).verdict_supported is True
    early = table[table["step"] < 1000]
    assert gates.real_more_unequal(early, NONE, classes="own", seeds=10).estimate < 0.12


@pytest.mark.parametrize(("again", "spread", "verdict"), [(0.25, 0.01, True), (0.35, 0.01, False), (0.25, 0.1, None)])
def test_two_draws_of_noise(again, spread, verdict):
    table = synthetic.gini({"again": again}, spread=spread)
    assert gates.random_sets_equal(table, NONE, margin=0.02, seeds=10).verdict_supported is verdict


def test_two_draws_need_two():
    one = {key: name for key, name in synthetic.SETS.items() if name != "again"}
    table = synthetic.gini(sets=one)
    assert gates.random_sets_equal(table, NONE, margin=0.02, seeds=10).verdict_supported is None


@pytest.mark.parametrize(
    ("final", "verdict"),
    [
        (None, True),
        (REVERSED, True),  # the norms agree, whatever they say
        ({("real", "linf"): 0.1}, False),
        (EQUAL, None),  # nothing to agree with
    ],
)
def test_norms(final, verdict):
    assert gates.norms_agree(synthetic.gini(final), NONE, seeds=10).verdict_supported is verdict


def test_a_norm_without_the_difference_does_not_agree():
    assert gates.norms_agree(synthetic.gini({("real", "l2"): 0.25}), NONE, seeds=10).verdict_supported is not True


def test_norms_with_few_seeds_are_undecided():
    table = few(synthetic.gini({("real", "l2"): 0.25}), 6)
    assert gates.norms_agree(table, NONE, seeds=10).verdict_supported is None


# --- H4 ----


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(None, True), ({"random": 1.5}, False), ({"real": 1.0, "random": 1.0}, False)]
)
def test_diagonal(ratio, verdict):
    assert gates.diagonal_dominates(synthetic.matrices(ratio), NONE, seeds=10).verdict_supported is verdict


@pytest.mark.parametrize(("ratio", "verdict"), [(None, True), ({"random": 0.6}, False)])
def test_off_diagonal(ratio, verdict):
    outcome = gates.real_more_off_diagonal(synthetic.matrices(ratio), NONE, seeds=10)
    assert outcome.verdict_supported is verdict


def test_equal_spread_is_not_the_claim_whichever_side_chance_takes():
    outcome = gates.real_more_off_diagonal(synthetic.matrices({"random": 0.3}), NONE, seeds=10)
    assert outcome.verdict_supported is (None if outcome.estimate > 0 else False)


def test_matrices_with_few_seeds_are_undecided():
    for table in (few(synthetic.matrices(), 4), synthetic.matrices().iloc[:0], synthetic.gini()):
        assert gates.diagonal_dominates(table, NONE, seeds=10).verdict_supported is None
        assert gates.real_more_off_diagonal(table, NONE, seeds=10).verdict_supported is None


# --- drawings ----


@pytest.mark.parametrize(
    ("draw", "table"),
    [(figures.fig03_sensitivity, synthetic.gini), (figures.fig04_class_sensitivity, synthetic.matrices)],
)
def test_figures_are_drawn_whatever_is_missing(draw, table):
    whole = table()
    drawn = draw(whole, REFERENCE)
    assert len(drawn.axes) >= 3
    text = " ".join(t.get_text() for one in drawn.axes for t in [*one.texts, one.title])
    assert "(a)" in text or "(b)" in " ".join(one.get_title("left") for one in drawn.axes)
    for part in (whole.iloc[:0], few(whole, 1), whole[whole["data.noise.kind"] == "none"], table(seeds=2)):
        draw(part, REFERENCE).canvas.draw()
