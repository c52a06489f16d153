"""Scores of single examples: what each is made of, their rank correlations, claims and the figure."""

import numpy as np
import pytest
import synthetic_scores as synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.metrics import roc_auc_score

from memorization import single_examples as scoring
from memorization import tidy
from memorization.expansion import PAPERS
from memorization.figures_closer_scores import example_scores
from memorization.gates import closer_scores as gates

NONE = None
REFERENCE = tidy.read_reference(PAPERS / "closer_look" / "reference.csv")


def agree(table, first="difficulty", second="memorisation", group="clean"):
    return gates.scores_agree(table, NONE, first=first, second=second, group=group, examples=180)


# --- what scores are made of ----


def test_scores_are_read_from_the_runs_that_measure_them():
    scores = scoring.of_examples(synthetic.table(truth=np.arange(200) / 200, noise=0))
    assert list(scores) == [*scoring.SCORES, "mislabelled"]
    assert scores["mislabelled"].sum() == 20
    np.testing.assert_allclose(scores["difficulty"], np.arange(200) / 200)
    np.testing.assert_allclose(scores["memorisation"], np.arange(200) / 200)
    assert scores["critical"].is_monotonic_increasing
    # An example that one of the two models never learns counts there as forgotten in each of 60 epochs.
    events = np.arange(200) / 20
    events[synthetic.NEVER] = (events[synthetic.NEVER] + 60) / 2
    np.testing.assert_allclose(scores["forgetting"], events)


def test_a_replaced_label_that_stayed_right_is_not_mislabelled():
    table = synthetic.table()
    table.loc[(table["measure"] == "label") & (table["part"] == "given"), "value"] = 3.0
    table.loc[(table["measure"] == "label") & (table["part"] == "true"), "value"] = 3.0
    assert not scoring.of_examples(table)["mislabelled"].any()


@settings(deadline=None, max_examples=30)
@given(arrays(float, (2, 12), elements=st.integers(0, 5)))
def test_correlation_is_spearmans(pair):
    interval = scoring.rank_correlation(*pair, resamples=20)
    if (np.ptp(pair, axis=1) == 0).any():
        assert np.isnan(interval.estimate)
    else:
        assert interval.estimate == pytest.approx(stats.spearmanr(*pair).statistic, abs=1e-9)


def test_correlation_interval_covers_and_needs_pairs():
    rng = np.random.default_rng(1)
    x = rng.standard_normal(400)
    interval = scoring.rank_correlation(x, x + rng.standard_normal(400))
    assert interval.low < 0.69 < interval.high  # 6/pi asin(rho/2) of rho = 1/sqrt(2)
    assert interval.high - interval.low < 0.2
    assert np.isnan(scoring.rank_correlation(x[:9], x[:9]).estimate)
    holes = np.where(np.arange(400) < 392, np.nan, x)
    assert np.isnan(scoring.rank_correlation(holes, x).estimate)


@settings(deadline=None, max_examples=30)
@given(arrays(float, 30, elements=st.integers(0, 6)))
def test_detection_is_the_area_under_the_roc_curve(score):
    marked = np.arange(30) % 3 == 0
    assert scoring.detection(score, marked, resamples=5).estimate == pytest.approx(roc_auc_score(marked, score))


def test_detection_without_one_kind_is_unknown():
    assert np.isnan(scoring.detection([1.0, 2.0], [True, True]).estimate)


# --- claims ----


def test_scores_that_agree_are_reproduced_and_others_not():
    rising, falling = np.arange(200) / 200, 1 - np.arange(200) / 200
    assert agree(synthetic.table(truth=rising)).verdict_supported is True
    assert agree(synthetic.table(truth=rising, memorisation=falling)).verdict_supported is False
    unrelated = np.random.default_rng(0).permutation(200) / 200
    outcome = agree(synthetic.table(truth=rising, memorisation=unrelated))
    assert outcome.verdict_supported is False
    assert outcome.low < 0 < outcome.high


def test_agreement_is_undecided_with_few_examples_or_a_constant():
    unrelated = np.random.default_rng(0).permutation(100) / 100
    few = synthetic.table(examples=100, truth=np.arange(100) / 100, memorisation=unrelated)
    constant = synthetic.table(memorisation=np.zeros(200))
    missing = synthetic.table()[lambda t: t["measure"] != "memorisation"]
    for table in (few, constant, missing, synthetic.table().iloc[:0]):
        assert agree(table).verdict_supported is None


@pytest.mark.parametrize(("wrong", "verdict"), [(1.0, True), (-1.0, False), (0.0, False)])
def test_finding_wrong_labels(wrong, verdict):
    table = synthetic.table(truth=np.random.default_rng(0).random(200), wrong=wrong)
    outcome = gates.scores_find_mislabelled(table, NONE, score="memorisation", examples=200)
    assert outcome.verdict_supported is verdict


def test_finding_wrong_labels_needs_some():
    table = synthetic.table(mislabelled=0)
    outcome = gates.scores_find_mislabelled(table, NONE, score="memorisation", examples=200)
    assert outcome.verdict_supported is None


# --- drawing ----


def test_figure_is_drawn_whatever_is_missing():
    whole = synthetic.table()
    drawn = example_scores(whole, REFERENCE)
    assert len(drawn.axes) == 5
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert sum(text.replace(".", "").replace("-", "").isdigit() for text in texts) == 25
    for part in (
        whole.iloc[:0],
        whole[whole["measure"] != "memorisation"],
        whole[~whole["measure"].str.startswith("critical")],
        synthetic.table(mislabelled=0),
        synthetic.table(examples=5),
    ):
        example_scores(part, REFERENCE).canvas.draw()
