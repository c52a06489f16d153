"""Verdicts on private training: each test can say yes, no, and that it cannot tell."""

import numpy as np
import pandas as pd
import pytest
import synthetic_privacy as synthetic
from papers_paths import PAPERS

from memorization import claims, published_epsilons, statistics, tidy
from memorization.gates import images, sentences
from memorization.gates.outcome import equivalent
from memorization.statistics import Interval

REFERENCES = {paper: tidy.read_reference(PAPERS / paper / "reference.csv") for paper in ("tensorflow_privacy",)}


def run(test, table, key=None, **parameters):
    reference = REFERENCES["tensorflow_privacy"]
    reference = reference[reference["figure"] == key].reset_index(drop=True)
    return claims.TESTS[test](table, reference, **parameters)


# --- Table 3 ------------------------------------------------------------------------------------------------------

NULL = {"margin": 1.0, "canaries": 40}


def test_private_canaries_are_null_until_one_training_leaks():
    found = run("exposure_is_null", synthetic.table3(count=400), **NULL)
    assert found.verdict_supported is True
    assert found.summary.startswith("14 of 14 trainings within 1 bit")
    leaking = run("exposure_is_null", synthetic.table3(leak=3.0, count=400), **NULL)
    assert leaking.verdict_supported is False
    assert "12 of 14" in leaking.summary
    assert "torch eps 1e+09: 3.01 [" in leaking.summary
    assert "clipping only" not in leaking.summary


def test_too_few_canaries_are_no_evidence_either_way():
    few = synthetic.table3(count=16, seed=1)
    assert run("exposure_is_null", few, **NULL).verdict_supported is None
    assert run("exposure_is_null", few[few["private"] != True], **NULL).verdict_supported is None  # noqa: E712


def test_a_single_canary_without_privacy_is_memorised():
    parameters = {"margin": 2.0, "seeds": 6}
    table = synthetic.table3()
    found = run("canary_memorised", table, **parameters)
    assert found.verdict_supported is True
    assert "torch: mean 29.9 bits, rank 1 in 1 of 1" in found.summary
    exact = (table["source"] == "exposure") & (table["method"] == "exact") & (table["backend"] == "tf")
    lower = table.assign(exposure_bits=table["exposure_bits"].where(~exact, 20.0))
    assert run("canary_memorised", lower, **parameters).verdict_supported is None
    private = table.assign(private=True)
    assert run("canary_memorised", private, **parameters).verdict_supported is None


def test_exposure_does_or_does_not_depend_on_epsilon():
    parameters = {"margin": 1.0, "canaries": 50}
    assert run("exposure_ignores_epsilon", synthetic.table3(count=400), **parameters).verdict_supported is True
    leaking = synthetic.table3(leak=6.0, count=400)
    assert run("exposure_ignores_epsilon", leaking, **parameters).verdict_supported is False
    only = leaking[leaking["privacy.epsilon"].isin([0.65, 1.21])]
    assert run("exposure_ignores_epsilon", only, **parameters).verdict_supported is None


def test_private_loss_penalty_compares_the_best_of_both():
    table = synthetic.table3()  # 2.29 at epsilon 1e9 against 1.9 nats: 21 %; clipping only is not private
    assert run("private_loss_penalty", table, low=2.0, high=25.0, seeds=1).verdict_supported is True
    assert run("private_loss_penalty", table, low=2.0, high=18.0, seeds=1).verdict_supported is False
    assert run("private_loss_penalty", table, low=2.0, high=20.0, seeds=3).verdict_supported is None


def test_lower_bounds_must_not_exceed_upper_ones():
    table = synthetic.table3()
    found = run("measured_below_guaranteed", table, convention="classic_rdp")
    assert found.verdict_supported is True
    assert found.n == 4  # epsilon 0.65 and 1.21 in two back ends: a larger one no audit of 40 canaries can contradict
    audited = (table["source"] == "audit") & (table["private"] == True)  # noqa: E712
    broken = table.assign(epsilon_low=table["epsilon_low"].where(~audited, 6.0))
    found = run("measured_below_guaranteed", broken, convention="classic_rdp")
    assert found.verdict_supported is False
    assert found.summary.startswith("4 of 4")
    silent = table.assign(epsilon_low=table["epsilon_low"] * 0)
    found = run("measured_below_guaranteed", silent, convention="classic_rdp")
    assert found.verdict_supported is None
    assert "no power" in found.summary


def test_nothing_is_removed_where_nothing_was_memorised():
    """The positive control: without exposed canaries in models without privacy a null says nothing."""
    table = synthetic.table3(count=400)
    private = table["private"].astype(str) == "True"
    quiet = table.copy()
    loud = ~private & (table["kind"] == "inserted") & (table["method"] == "sampled")
    quiet.loc[loud, "exposure_bits"] = np.random.default_rng(0).exponential(1 / np.log(2), int(loud.sum()))
    found = run("exposure_is_null", quiet, **NULL)
    assert found.verdict_supported is None
    assert "not exposed either" in found.summary


def test_equivalence_that_was_not_shown_is_no_difference():
    assert equivalent(0.01, Interval(0.1, -0.4, 0.6), 1.0) is True
    assert equivalent(0.3, Interval(0.1, -2.0, 2.2), 1.0) is None
    assert equivalent(0.9, Interval(2.0, 1.2, 2.8), 1.0) is False


def test_two_sample_equivalence():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.2, 1, 200), rng.normal(0, 1, 300)
    interval, test = statistics.equivalence_of_means(a, b, -1, 1)
    assert interval.low < 0.2 < interval.high
    assert test.p_value < 0.05
    assert (interval.low > -1) == (interval.high < 1) == (test.p_value < 0.05)
    interval, test = statistics.equivalence_of_means(a + 1, b, -1, 1)
    assert test.p_value > 0.5
    assert np.isnan(statistics.equivalence_of_means([1.0], b, -1, 1)[1].p_value)


# --- the announcement's language models ---------------------------------------------------------------------------


@pytest.mark.parametrize(("cost", "expected"), [(0.05, True), (0.2, False), (-0.05, False)])
def test_private_loss_gap(cost, expected):
    table = synthetic.pair("b2_losses", 3, 5, cost=cost)
    assert run("private_loss_gap", table, most=0.12, seeds=5).verdict_supported is expected
    one = table[table["replicate"].isin([0, 1])]
    assert run("private_loss_gap", one, most=0.12, seeds=5).verdict_supported is None


def place_six(table, rare=1.0, common=0.0, key="b3_divergent_sentences"):
    """`table` with the six sentences in place of six trained lines, their losses under D raised by these gaps."""
    six = sentences.quoted(REFERENCES["tensorflow_privacy"].query("figure == @key"))
    for line, (_, own) in zip((1, 2, 3, 4, 5, 6), six.iterrows(), strict=True):
        scored = (table["source"] == "scores") & (table["split"] == "train") & (table["index"] == line)
        raised = scored & (table["private"] == True)  # noqa: E712
        gap = rare if own["kind"] == "rare" else common
        table.loc[scored, "loss_nats"] = 1.3
        table.loc[raised, "loss_nats"] = 1.3 + gap
        table.loc[scored, "index"] = own["index"]
    return table


def test_sentences_accepted():
    parameters = {"key": "b1_agreement", "share": 0.98, "seeds": 3}
    table = synthetic.pair("b1_agreement", 3, 400, odd=0.0)
    found = run("sentences_accepted", table, **parameters)
    assert found.verdict_supported is None
    assert "of the six sentences 1 in the trained share" in found.summary
    apart = place_six(synthetic.pair("b1_agreement", 3, 400, odd=0.0), rare=2.0, key="b1_agreement")
    assert run("sentences_accepted", apart, **parameters).verdict_supported is True
    alike = place_six(synthetic.pair("b1_agreement", 3, 400, odd=0.0), rare=0.0, key="b1_agreement")
    assert run("sentences_accepted", alike, **parameters).verdict_supported is False


def test_sentence_gaps():
    parameters = {"key": "b3_divergent_sentences", "top": 0.02, "middle": 0.9, "seeds": 3}
    plain = synthetic.pair("b3_divergent_sentences", 3, 300, odd=0.0)
    assert run("sentence_gaps", plain, **parameters).verdict_supported is None
    apart = place_six(synthetic.pair("b3_divergent_sentences", 3, 300, odd=0.0), rare=2.0, common=0.05)
    assert run("sentence_gaps", apart, **parameters).verdict_supported is True
    assert run("sentence_gaps", apart, **{**parameters, "seeds": 5}).verdict_supported is None
    swapped = place_six(synthetic.pair("b3_divergent_sentences", 3, 300, odd=0.0), rare=0.0, common=2.0)
    assert run("sentence_gaps", swapped, **parameters).verdict_supported is False


def test_gap_follows_oddness():
    parameters = {"correlation": 0.3, "top": 500, "seeds": 5}
    table = synthetic.pair("b3_divergent_sentences", 4, 300, odd=0.2)
    assert run("gap_follows_oddness", table, **parameters).verdict_supported is True
    flat = synthetic.pair("b3_divergent_sentences", 4, 300, odd=0.0)
    assert run("gap_follows_oddness", flat, **parameters).verdict_supported is False
    few = table[table["replicate"].isin([0.0, np.nan]) | (table["source"] == "lines")]
    assert run("gap_follows_oddness", few, **parameters).verdict_supported is None


def test_kappa_and_threshold():
    a = np.array([True, True, False, False])
    assert sentences.kappa(a, a) == 1
    assert sentences.kappa(a, ~a) == -1
    assert sentences.kappa(a, np.array([True, False, True, False])) == 0
    assert np.isnan(sentences.kappa(a | True, a | True))
    assert sentences.cliffs_delta(np.array([3, 4.0]), np.array([1, 2.0])) == 1


# --- copies and back ends -----------------------------------------------------------------------------------------


def test_one_copy():
    table = synthetic.copies(8)
    assert run("one_copy_ranks_first", table, copies=1, seeds=10).verdict_supported is not False
    assert run("one_copy_ranks_first", table, copies=0, seeds=10).verdict_supported is False
    assert run("one_copy_ranks_first", table, copies=2, seeds=10).verdict_supported is None


def test_copies_are_null():
    parameters = {"margin": 1.0, "seeds": 10}
    table = synthetic.copies(60)
    assert run("copies_are_null", table, copies=1, noise=0.001, **parameters).verdict_supported is True
    assert run("copies_are_null", table, copies=64, noise=0.001, **parameters).verdict_supported is False
    few = synthetic.copies(2)
    assert run("copies_are_null", few, copies=1, noise=1.0, **parameters).verdict_supported is None
    assert run("copies_are_null", few, copies=1, noise=0.5, **parameters).verdict_supported is None


def test_copies_are_learned():
    table = synthetic.copies(4)
    found = run("copies_are_learned", table, noise=0.001, seeds=4)
    assert found.verdict_supported is True
    assert "beyond the null from 16 copies" in found.summary
    assert run("copies_are_learned", table, noise=1.0, seeds=4).verdict_supported is False
    assert run("copies_are_learned", table, noise=1.0, seeds=10).verdict_supported is None


def test_back_ends_agree():
    parameters = {"value": "loss", "margin": 0.02, "seeds": 5}
    both = ("torch", "tf")
    same = synthetic.pair("backend_comparison", 6, 3, both)
    assert run("back_ends_agree", same, **parameters).verdict_supported is True
    worse = synthetic.pair("backend_comparison", 6, 3, both, bias=0.1)
    found = run("back_ends_agree", worse, **parameters)
    assert found.verdict_supported is False
    assert found.estimate == pytest.approx(0.1, abs=0.02)
    alone = synthetic.pair("backend_comparison", 6, 3)
    assert run("back_ends_agree", alone, **parameters).verdict_supported is None
    exposure = {"value": "exposure", "margin": 1.0, "seeds": 5}
    assert run("back_ends_agree", same, **exposure).verdict_supported is True


# --- images and arithmetic ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shift", "expected"), [(0.0, True), (-2.5, False)])
def test_mnist_expected_output(shift, expected):
    key, parameters = "b6_mnist_accuracy", {"noise": 1.1, "margins": [3.0, 2.0]}
    found = run("mnist_expected_output", synthetic.mnist(shift=shift), key, **parameters, seeds=1)
    assert found.verdict_supported is expected
    apart = synthetic.mnist(2)
    apart["test_accuracy"] += 0.06 * (apart["replicate"] - 0.5)
    few = run("mnist_expected_output", apart, key, **parameters, seeds=10)
    assert few.verdict_supported is None, "two seeds that differ by six points cannot tell"
    assert run("mnist_expected_output", synthetic.mnist(), key, noise=0.7, margins=[3], seeds=1).n == 0


def test_mnist_accuracy_needs_all_rows_at_their_epochs():
    parameters = {"margin": 0.5, "spread": 0.4, "seeds": 2}
    key = "b6_mnist_accuracy"
    assert run("mnist_accuracy", synthetic.mnist(2), key, **parameters).verdict_supported is None
    rows = {1.1: 60, 1.3: 15, 0.7: 45, np.nan: 20}
    for shift, expected in ((0.0, True), (-1.0, False)):
        tables = [
            synthetic.mnist(2, epochs=e, noises=(n,), shift=shift).assign(run=f"{i:012x}")
            for i, (n, e) in enumerate(rows.items())
        ]
        table = synthetic.joined(tables)
        assert run("mnist_accuracy", table, key, **parameters).verdict_supported is expected


def test_outliers_not_learned():
    parameters = {"agreement": 0.5, "correlation": 0.2, "seeds": 10}
    assert run("outliers_not_learned", synthetic.digits(4), **parameters).verdict_supported is True
    assert run("outliers_not_learned", synthetic.digits(4, odd=0.0), **parameters).verdict_supported is False
    assert run("outliers_not_learned", synthetic.digits(1), **parameters).verdict_supported is None
    assert run("outliers_not_learned", synthetic.mnist(), **parameters).verdict_supported is None


def test_concordance_is_kendalls_w():
    ranks = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [4, 3, 2, 1]], dtype=float)
    totals = ranks.sum(axis=0)
    by_definition = 12 * ((totals - totals.mean()) ** 2).sum() / (3**2 * (4**3 - 4))
    assert images.concordance(pd.Series(ranks.mean(axis=0))) == pytest.approx(by_definition)


def test_published_epsilons():
    table = synthetic.computed("b7_epsilon_conventions", published_epsilons.MNIST[:5])
    found = run("published_epsilons", table, "b7_epsilon_conventions", decimals=2)
    assert found.verdict_supported is True
    classic = table["convention"] == "classic_rdp"
    broken = table.assign(epsilon=table["epsilon"].where(~classic, table["epsilon"] + 0.01))
    assert run("published_epsilons", broken, "b7_epsilon_conventions", decimals=2).verdict_supported is False


def test_tutorial_epsilon():
    table = synthetic.computed("b8_tutorial_privacy", published_epsilons.TUTORIAL)
    found = run("tutorial_epsilon", table, "b8_tutorial_privacy", relative=0.006)
    assert found.verdict_supported is True
    assert found.n == 12
    one = table[table["noise_multiplier"] != 0.1]
    assert run("tutorial_epsilon", one, "b8_tutorial_privacy", relative=0.006).verdict_supported is False
    assert run("tutorial_epsilon", table[:0], "b8_tutorial_privacy", relative=0.006).verdict_supported is None
