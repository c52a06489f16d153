"""Forgetting rates, their intervals and what is judged about a model, against brute force and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from memorization import forgetting
from memorization.backends.details import Details
from memorization.forgetting import auc, density, forgetting_rate, judge_after, judge_before, retrain_expected
from memorization.membership import calibrate, shadow_members

FLAGS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
RNG = np.random.default_rng


@settings(deadline=None)
@given(FLAGS)
def test_forgetting_rate_is_the_papers_by_counting(pairs):
    before, after = (np.array(flags) for flags in zip(*pairs, strict=True))
    positive_before = sum(before)
    rate = forgetting_rate(before, after, 20, RNG(0))
    if positive_before == 0:
        assert np.isnan(rate).all()
        return
    negative_before, negative_after = sum(~before), sum(~after)
    assert rate.estimate == pytest.approx(100 * (negative_after - negative_before) / positive_before)
    assert rate.low <= rate.high


def test_nothing_forgotten_everything_forgotten_and_more_positives_than_before():
    before = np.array([True] * 30 + [False] * 10)
    assert forgetting_rate(before, before, 100, RNG(0)) == (0, 0, 0)
    assert forgetting_rate(before, np.zeros(40, dtype=bool), 100, RNG(0)) == (100, 100, 100)
    assert forgetting_rate(before, np.ones(40, dtype=bool), 0, RNG(0)).estimate == pytest.approx(-100 / 3)
    assert np.isnan(forgetting_rate(before, before, 0, RNG(0)).low)


def test_the_interval_is_a_paired_bootstraps():
    rng = RNG(3)
    before = rng.random(150) < 0.8
    after = before & (rng.random(150) < 0.3) | (rng.random(150) < 0.05)
    drawn = rng.integers(150, size=(20_000, 150))
    brute = np.percentile(100 * (1 - after[drawn].sum(axis=1) / before[drawn].sum(axis=1)), [2.5, 97.5])
    found = forgetting_rate(before, after, 20_000, RNG(4))
    # The s.d. of a 2.5 % percentile of 20,000 draws is about 0.013 s.d. of the statistic (some 4.4 points).
    np.testing.assert_allclose([found.low, found.high], brute, atol=0.4)


def test_pairing_narrows_the_interval():
    before = RNG(0).random(200) < 0.5
    paired = forgetting_rate(before, before, 2000, RNG(1))
    unpaired = forgetting_rate(before, RNG(2).permutation(before), 2000, RNG(1))
    assert paired.high - paired.low == 0
    assert unpaired.high - unpaired.low > 10


def test_retraining_scores_one_minus_f_over_t():
    """C1 in a world where it is exact: a retrained model answers the forgotten examples as unseen ones."""
    t, f, n = 0.8, 0.6, 4000
    rng = RNG(9)
    before, after = rng.random(n) < t, rng.random(n) < f
    rate = forgetting_rate(before, after, 1000, rng)
    assert retrain_expected(t, f) == pytest.approx(25)
    assert rate.low < 25 < rate.high
    assert rate.high - rate.low < 10
    assert np.isnan(retrain_expected(0.0, 0.0))


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_auc_counts_pairs(members, others):
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    assert auc(np.array(members), np.array(others)) == pytest.approx(np.mean(pairs))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.sampled_from([0.0, 0.001, 0.1, 0.5, 1.0]),
)
def test_true_positive_rate_is_the_best_that_the_false_positive_rate_allows(members, others, level):
    members, others = np.array(members), np.array(others)
    borders = [-1, *range(10)]
    best = max(np.mean(members > border) for border in borders if np.mean(others > border) <= level + 1e-9)
    assert forgetting.true_positive_rate(members, others, level) == pytest.approx(best)


def test_density_is_a_share_of_examples_per_bin():
    posteriors = np.array([[0.5, 0.3, 0.2], [0.995, 0.004, 0.001], [1.0, 1e-30, 1e-30]])
    shares = density(np.log(posteriors))
    assert shares.sum() == pytest.approx(1)
    assert (shares[25], shares[49]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def judged(seed=0):
    """Oracles, and what a model that knows the forgotten examples and one that does not answer."""
    rng = RNG(seed)
    sizes = {"forget": 120, "retain": 90, "test": 200}

    def answers(known):
        logits = rng.normal(size=(*known.shape, 3))
        logits[..., 0] += 1 + 2 * known
        return special.log_softmax(logits, axis=-1)

    members = shadow_members(rng, 6, 200)
    zeros = {part: np.zeros(n, dtype=np.int64) for part, n in sizes.items()}
    unseen = {part: (answers(np.zeros((6, n), dtype=bool)), zeros[part]) for part, n in sizes.items()}
    oracles = calibrate(answers(members), np.zeros(200, dtype=np.int64), members, unseen)
    before = {part: (answers(np.full(n, part != "test")), zeros[part]) for part, n in sizes.items()}
    after = {part: (answers(np.full(n, part == "retain")), zeros[part]) for part, n in sizes.items()}
    return oracles, before, after


def lookup(rows, measure, part="forget"):
    (found,) = [row.value for row in rows if (row.measure, row.part) == (measure, part)]
    return found


def test_rows_of_the_first_model_agree_with_its_oracles():
    oracles, before, _ = judged()
    rows = judge_before(oracles, before)
    for name in oracles.names:
        t = oracles.positives("forget", *before["forget"])[name].mean()
        f = oracles.positives("test", *before["test"])[name].mean()
        assert lookup(rows, f"oracle_t_{name}") == pytest.approx(t)
        assert lookup(rows, f"oracle_f_{name}", "test") == pytest.approx(f)
        assert lookup(rows, f"oracle_positive_{name}") == round(t * 120)
        assert lookup(rows, f"oracle_n_{name}", "test") == 200
        assert lookup(rows, f"fr_retrain_expected_{name}") == pytest.approx(100 * (1 - f / t))
        assert lookup(rows, f"informative_{name}") == (t - f >= 0.1)
    logs = before["test"][0]
    assert lookup(rows, "accuracy", "test") == np.mean(logs.argmax(axis=1) == 0)
    assert lookup(rows, "loss_nats", "test") == pytest.approx(-logs[:, 0].mean())
    bins = [row for row in rows if row.measure == "confidence_density"]
    assert {row.part for row in bins} == {"before", "nonmember"}
    assert [row.other for row in bins if row.part == "before"] == list(range(50))


def test_rows_after_forgetting_and_the_rate_of_a_model_that_never_knew():
    oracles, before, after = judged()
    rows = judge_after(oracles, before, after, RNG(1), resamples=500, densities="retrain")
    first = judge_before(oracles, before)
    for name in oracles.names:
        rate = lookup(rows, f"fr_{name}")
        before_positive, after_positive = (lookup(table, f"oracle_positive_{name}") for table in (first, rows))
        assert rate == pytest.approx(100 * (1 - after_positive / before_positive))
        assert lookup(rows, f"fr_low_{name}") < rate < lookup(rows, f"fr_high_{name}")
        # C1: both shares of some 120 examples; a 99.9 % band of their difference.
        expected = lookup(first, f"fr_retrain_expected_{name}")
        share = after_positive / 120
        spread = 100 * 120 / before_positive * np.sqrt(share * (1 - share) * (1 / 120 + 1 / 200))
        assert abs(rate - expected) < stats.norm.ppf(0.9995) * spread
    assert 0.4 < lookup(rows, "lira_auc") < 0.6 < 0.8 < lookup(first, "lira_auc")
    assert lookup(rows, "lira_tpr", "0.01") < lookup(first, "lira_tpr", "0.01")
    assert {row.part for row in rows if row.measure == "confidence_density"} == {"retrain"}
    plain = judge_after(oracles, before, after, RNG(1), resamples=0)
    assert not [row for row in plain if row.measure.startswith(("fr_low", "confidence_density"))]


def test_parts_without_examples_or_oracles_are_judged_by_accuracy_alone():
    oracles, before, after = judged()
    empty = np.zeros((0, 3)), np.zeros(0, dtype=np.int64)
    rows = judge_after(oracles, before, after | {"retain": empty, "validation": after["test"]}, RNG(0))
    assert not [row for row in rows if row.part == "retain"]
    assert {row.measure for row in rows if row.part == "validation"} == {"accuracy", "loss_nats"}


def test_an_oracle_that_calls_nobody_a_member_has_no_rate():
    oracles, before, after = judged()
    deaf = type(oracles)(oracles.thresholds | {"loss": np.inf}, oracles.classifier, oracles.expected)
    assert np.isnan(lookup(judge_before(deaf, before), "fr_retrain_expected_loss"))
    assert np.isnan(lookup(judge_after(deaf, before, after, RNG(0)), "fr_loss"))


def test_rows_reach_the_table_with_who_and_when():
    oracles, before, _ = judged()
    details = Details()
    rows = judge_before(oracles, before)
    forgetting.write(details, rows, replicate=3, step=7, epoch=0.5, item=2)
    table = details.frame()
    assert len(table) == len(rows)
    assert set(table[["replicate", "step", "item"]].itertuples(index=False, name=None)) == {(3, 7, 2)}
    assert table.loc[table.measure == "lira_tpr", "part"].tolist() == ["0.001", "0.01", "0.1"]
