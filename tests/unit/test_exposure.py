"""Exposure by sampling, the decision between methods, and the rows of exposure.csv."""

import logging
from math import isnan, log2

import numpy as np
import pytest
from scipy import stats

from memorization import contracts
from memorization.backends.controls import MarkovModel, OracleModel, UniformModel
from memorization.canaries import CanaryFormat
from memorization.exposure import decide, measure, sampled, sampled_each
from memorization.importance import plan
from memorization.sampled import FEW
from memorization.search import exact_rank, fill_costs
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of(["\nthe random number is 0123456789-"])


def rows(model, text, fill, *, exact_steps=0, references=500, controls=3, seed=0, **options):
    fmt, rng = CanaryFormat.parse(text), np.random.default_rng(seed)
    fill = fmt.parse_fill(fill)
    frame = measure(
        model,
        fmt,
        fill,
        fmt.sample(rng, controls, exclude=fill),
        fmt.sample(rng, references, exclude=fill),
        exact_steps=exact_steps,
        rng=rng,
        **options,
    )
    contracts.check("exposure", frame.assign(replicate=0))
    return frame


def test_sampled_counts_ties_against_the_canary():
    found = sampled(3.0, np.array([1.0, 3.0, 4.0, 5.0]), space_bits=20)
    assert found.bits == pytest.approx(-log2(3 / 5))
    assert found.low_bits < found.bits < found.high_bits
    assert not found.extrapolated


def test_sampled_without_hits_is_only_a_lower_bound():
    """95 % lower bound about log2(n / 3); no upper limit but log2|R| (brief 4.4)."""
    n = 3000
    found = sampled(0.0, np.ones(n), space_bits=30)
    assert found.bits == pytest.approx(log2(n + 1))
    assert found.low_bits == pytest.approx(log2(n / 3), abs=0.01)
    assert found.high_bits == 30
    assert found.extrapolated


@pytest.mark.parametrize("canaries", [FEW, 5 * FEW])
def test_many_canaries_against_the_same_references(canaries):
    """Counted or sorted: shares and Clopper-Pearson limits as SciPy's binomial test has them, ties against a canary."""
    rng = np.random.default_rng(canaries)
    references = rng.integers(10, 60, 500).astype(float)
    costs = np.concatenate([rng.integers(5, 65, canaries - 3), [0.0, 10.0, 99.0]])
    for cost, found in zip(costs, sampled_each(costs, references, space_bits=40), strict=True):
        count, n = sum(r <= cost for r in references), len(references)
        side, level = ("less", 0.95) if count == 0 else ("greater", 0.95) if count == n else ("two-sided", 0.95)
        low, high = stats.binomtest(count, n, alternative=side).proportion_ci(level)
        assert found.share == (1 + count) / (1 + n)
        assert found.bits == -log2(found.share)
        assert found.share_high == pytest.approx(high)
        assert found.share_low == pytest.approx(max(low, 2.0**-40))
        assert (found.low_bits, found.high_bits) == (-log2(found.share_high), -log2(found.share_low))


def test_sampled_interval_covers():
    """True share 1 %: 95 % intervals of 400 samples, at least 365 cover."""
    rng, truth = np.random.default_rng(0), -log2(0.01)
    intervals = [sampled(0.01, rng.random(1000), space_bits=40) for _ in range(400)]
    assert sum(i.low_bits <= truth <= i.high_bits for i in intervals) >= 365


def test_all_other_fills_as_references_give_the_exact_exposure():
    model = MarkovModel(VOCABULARY, 7, ties=True)
    fmt = CanaryFormat.parse("{d}{d}{d}")
    frame = rows(model, fmt.text, "123", references=10**6, controls=20, exact_steps=10**6)
    inserted = frame[frame["kind"] == "inserted"].set_index("method")
    assert inserted.loc["sampled", "rank"] == pytest.approx(inserted.loc["exact", "rank"])
    for _, row in frame[frame["method"] == "sampled"].iterrows():
        true = exact_rank(model, fmt.tokens(VOCABULARY), fmt.parse_fill(row["fill"]), max_steps=10**6)
        assert row["rank"] == pytest.approx(true.rank)
        assert row["exposure_low_bits"] == row["exposure_bits"] == row["exposure_high_bits"]


def test_null_controls_have_mean_exposure_one_over_ln_two():
    frame = rows(MarkovModel(VOCABULARY, 1, order=3), "{d}" * 9, "281265017", references=4000, controls=500)
    null = frame[frame["kind"] == "control"]["exposure_bits"]
    assert len(null) == 500
    assert abs(null.mean() - 1 / np.log(2)) < 0.3


def test_memorised_canary_by_every_method():
    model = OracleModel(VOCABULARY, "the random number is 281265017", 0.8)
    text = "the random number is " + "{d}" * 9
    frame = rows(model, text, "281265017", exact_steps=10_000).query("kind == 'inserted'").set_index("method")
    space = log2(10**9)
    assert frame.loc["exact", ["rank", "algorithm"]].tolist() == [1.0, "pruned_walk"]
    assert frame.loc["exact", "exposure_bits"] == pytest.approx(space)
    assert frame.loc["importance", "exposure_bits"] == pytest.approx(space)
    assert frame.loc["importance", "extrapolated"]  # no likelier fill was drawn: only an upper bound
    assert frame.loc["sampled", "exposure_bits"] == pytest.approx(log2(501))
    assert frame.loc["sampled", "extrapolated"]
    assert frame.loc["skew_normal", "extrapolated"]
    assert frame["prefix_cost_bits"].nunique() == 1


def test_methods_follow_the_budget():
    model = MarkovModel(VOCABULARY, 1, order=2)
    plain = rows(model, "{d}" * 6, "281265")
    assert plain[plain["kind"] == "inserted"]["method"].tolist() == ["sampled", "skew_normal"]
    assert plain["planned_steps"].isna().all()
    poor = rows(model, "{d}" * 6, "281265", exact_steps=10)
    assert poor[poor["kind"] == "inserted"]["method"].tolist() == ["importance", "sampled", "skew_normal"]
    assert not poor["extrapolated"][poor["method"] == "importance"].any()
    rich = rows(model, "{d}" * 6, "281265", exact_steps=10**6)
    assert "exact" in rich["method"].tolist()
    assert (rich[rich["kind"] == "control"]["method"] == "sampled").all()
    extra = rows(model, "{d}" * 6, "281265", skew_normal_controls=True)
    assert (extra[extra["kind"] == "control"]["method"] == "skew_normal").sum() == 3


def test_decision_uses_the_plan_and_is_logged(caplog):
    fmt = CanaryFormat.parse("{d}" * 5)
    found = plan(UniformModel(VOCABULARY), fmt.tokens(VOCABULARY), np.zeros(5, int), np.random.default_rng(0))
    with caplog.at_level(logging.INFO, logger="memorization.exposure"):
        assert decide(found, found.full_steps) == "walk"
        assert decide(found, found.full_steps - 1) == "sample"
    assert len(caplog.records) == 2
    assert "importance" in caplog.messages[1]


def test_degenerate_costs_do_not_stop_a_measurement():
    frame = rows(UniformModel(VOCABULARY), "{d}{d}{d}", "123", exact_steps=1000, references=100)
    by_method = frame[frame["kind"] == "inserted"].set_index("method")["exposure_bits"]
    assert by_method["exact"] == 0.0
    assert by_method["sampled"] == 0.0
    assert isnan(by_method["skew_normal"])


def test_costs_are_those_of_the_canary():
    model = MarkovModel(VOCABULARY, 2)
    fmt = CanaryFormat.parse("the {d}{d} is")
    frame = rows(model, fmt.text, "42")
    prefix, (cost,) = fill_costs(model, fmt.tokens(VOCABULARY), fmt.parse_fill("42")[None])
    assert frame["cost_bits"][0] == pytest.approx(cost)
    assert frame["prefix_cost_bits"][0] == pytest.approx(prefix)
