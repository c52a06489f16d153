"""Importance estimates of walk size and rank: unbiased, and their intervals cover the truth."""

import numpy as np
import pytest

from memorization.backends.controls import MarkovModel, OracleModel, UniformModel
from memorization.canaries import CanaryFormat
from memorization.importance import plan
from memorization.search import exact_rank, fill_costs
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of(["\nthe random number is 0123456789-"])
FMT = CanaryFormat.parse("{d}-{d}{d}{d}")
TOKENS = FMT.tokens(VOCABULARY)


def truth(model, fill):
    rank = exact_rank(model, TOKENS, fill, max_steps=10**9)
    return rank.rank, rank.model_steps - 4  # without scoring the canary itself


@pytest.mark.parametrize("quantile", [0.0, 0.001, 0.05, 0.5])
def test_intervals_cover_the_true_rank_and_step_count(quantile):
    """95 % intervals, 60 models: at least 51 must cover (P < 0.1 % below that at 95 %)."""
    covered = np.zeros(2, dtype=int)
    for seed in range(60):
        model = MarkovModel(VOCABULARY, seed, concentration=1.0)
        costs = fill_costs(model, TOKENS, FMT.enumerate())[1]
        fill = FMT.enumerate()[np.argsort(costs)[int(quantile * len(costs))]]
        rank, steps = truth(model, fill)
        found = plan(model, TOKENS, fill, np.random.default_rng(seed), samples=600)
        covered += [
            found.rank.low <= rank <= found.rank.high,
            found.pruned_steps.low <= steps <= found.pruned_steps.high,
        ]
    assert (covered >= 51).all(), covered


def test_estimates_are_unbiased():
    model = MarkovModel(VOCABULARY, 3, concentration=1.0)
    fill = np.array([7, 2, 9, 4])
    rank, steps = truth(model, fill)
    plans = [plan(model, TOKENS, fill, np.random.default_rng(s), samples=90) for s in range(300)]
    for values, true in (([p.rank.value for p in plans], rank), ([p.pruned_steps.value for p in plans], steps)):
        standard_error = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values) - true) < 4 * standard_error


def test_no_estimate_lies_outside_its_own_interval():
    for seed in range(40):
        model = MarkovModel(VOCABULARY, seed, concentration=1.0)
        found = plan(model, TOKENS, np.array([7, 2, 9, 4]), np.random.default_rng(seed), samples=400)
        for one in (found.rank, found.pruned_steps):
            assert one.low <= one.value <= one.high


def test_uniform_model_needs_the_whole_tree():
    found = plan(UniformModel(VOCABULARY), TOKENS, np.array([1, 2, 3, 4]), np.random.default_rng(0), samples=300)
    rank, steps = truth(UniformModel(VOCABULARY), np.array([1, 2, 3, 4]))
    assert found.rank.value == pytest.approx(rank, rel=0.01)
    assert found.pruned_steps.value == pytest.approx(steps)
    assert found.full_steps == steps


def test_sees_ranks_far_below_one_in_the_number_of_samples():
    """A rank of some thousand among 10**9: uniform references would need 10**6 draws to see it at all."""
    fmt = CanaryFormat.parse("{d}" * 9)
    tokens = fmt.tokens(VOCABULARY)
    model = MarkovModel(VOCABULARY, 5, order=1, concentration=0.3)
    rng = np.random.default_rng(0)
    fills = rng.integers(0, 10, (20_000, 9))
    costs = fill_costs(model, tokens, fills)[1]
    fill = fills[np.argmin(costs)]
    true = exact_rank(model, tokens, fill, max_steps=3_000_000)
    assert true.rank < 10**9 / 3000
    plans = [plan(model, tokens, fill, np.random.default_rng(s), samples=1500) for s in range(40)]
    assert sum(p.rank.low <= true.rank <= p.rank.high for p in plans) >= 33
    assert sum(p.pruned_steps.low <= true.model_steps <= p.pruned_steps.high for p in plans) >= 33
    assert np.median([p.rank.high / p.rank.low for p in plans]) < 3


def test_memorised_canary_is_planned_cheap_and_ranked_first_with_an_honest_limit():
    fmt = CanaryFormat.parse("the random number is " + "{d}" * 9)
    model = OracleModel(VOCABULARY, "the random number is 281265017", 0.5)
    fill = fmt.parse_fill("281265017")
    found = plan(model, fmt.tokens(VOCABULARY), fill, np.random.default_rng(0))
    assert found.rank.value == 1.0
    assert found.rank.low == 1.0
    assert 1.0 < found.rank.high < 10
    assert found.pruned_steps.value < 1000
    low_exposure, high_exposure = found.exposure_bits[1:]
    assert low_exposure < found.exposure_bits[0] <= high_exposure == pytest.approx(fmt.bits)
