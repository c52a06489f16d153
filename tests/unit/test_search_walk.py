"""Exact rank against brute force: trees with ties, interleaved and suffix text, chunk sizes, step budgets."""

from math import isnan, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memorization.backends.controls import MarkovModel, OracleModel, UniformModel
from memorization.canaries import CanaryFormat, TokenFormat
from memorization.errors import UserError
from memorization.search import Tree, exact_rank, fill_costs
from memorization.search.tree import bins_of
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of(["\nthe random number is 0123456789-"])
FORMATS = ["the {d}{d}{d}", "{d}-{d}{d}", "the {d}{d}{d} is", "{d}-{d}-{d}-", "the {d}"]
UNLIMITED = 10**9


class Scaled:
    """A model whose costs are an affine map of another's, `factor` per token."""

    def __init__(self, model: MarkovModel, factor: float) -> None:
        self._model, self._factor, self.vocabulary = model, factor, model.vocabulary
        self.concatenate = model.concatenate

    def log_perplexity(self, ids):
        return self._factor * self._model.log_perplexity(ids)

    def start(self, prefix):
        log2_probabilities, state = self._model.start(prefix)
        return self._factor * log2_probabilities, state

    def step(self, state, ids, columns=None):
        log2_probabilities, state = self._model.step(state, ids, columns)
        return self._factor * log2_probabilities, state


def case(text: str, seed: int, ties: bool):
    fmt = CanaryFormat.parse(text)
    model = MarkovModel(VOCABULARY, seed, ties=ties)
    tokens, fills = fmt.tokens(VOCABULARY), fmt.enumerate()
    return model, tokens, fills, fill_costs(model, tokens, fills)[1]


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("chunk", [1, 7, 2048])
def test_fill_costs_are_the_log_perplexity_of_whole_lines(text, chunk):
    model, tokens, fills, _ = case(text, 0, ties=False)
    shuffled = np.random.default_rng(0).permutation(fills)[:100]
    prefix, costs = fill_costs(model, tokens, shuffled, chunk=chunk)
    np.testing.assert_allclose(prefix + costs, model.log_perplexity(tokens.ids(shuffled)), rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    text=st.sampled_from(FORMATS),
    seed=st.integers(0, 10**6),
    ties=st.booleans(),
    prune=st.booleans(),
    chunk=st.sampled_from([3, 64, 2048]),
    which=st.integers(0, 10**6),
)
def test_rank_equals_brute_force(text, seed, ties, prune, chunk, which):
    model, tokens, fills, costs = case(text, seed, ties)
    own = which % len(fills)
    rank = exact_rank(model, tokens, fills[own], max_steps=UNLIMITED, chunk=chunk, prune=prune)
    assert rank.rank == np.count_nonzero(costs <= costs[own] + 1e-6)
    assert rank.rank_low == 1 + np.count_nonzero(costs < costs[own] - 1e-3)
    assert rank.rank_high == np.count_nonzero(costs <= costs[own] + 1e-3)
    assert rank.algorithm == ("pruned_walk" if prune else "full_walk")


@pytest.mark.parametrize("text", FORMATS)
def test_full_walk_takes_one_step_per_inner_node_and_counts_every_leaf(text):
    model, tokens, fills, costs = case(text, 4, ties=False)
    edges = np.linspace(costs.min() + 1, costs.max() - 1, 6)
    rank = exact_rank(model, tokens, fills[0], max_steps=UNLIMITED, prune=False, edges=edges)
    tree = Tree.plant(model, tokens)
    assert rank.model_steps == tree.full_steps + tree.depth - 1  # the canary's own cost comes first
    expected = np.histogram(costs, bins=[-np.inf, *edges, np.inf])[0]
    assert rank.histogram.tolist() == expected.tolist()


@pytest.mark.parametrize("edges", [np.arange(0, 100, 0.1), np.arange(3.0, 9.0), np.array([1.0]), np.array([1, 2, 7.5])])
def test_bins_are_those_of_a_search(edges):
    rng = np.random.default_rng(0)
    beside = np.concatenate([np.nextafter(edges, -np.inf), edges, np.nextafter(edges, np.inf)])
    values = np.concatenate([beside, rng.normal(20, 40, 5000), [-np.inf, np.inf, np.nan]])
    np.testing.assert_array_equal(bins_of(values, edges), np.searchsorted(edges, values, side="right"))


def test_step_counts_of_the_papers_formats():
    """Brief 4.7: 111,111,111 steps for nine digits; dashes add one step per prefix they follow."""
    vocabulary = Vocabulary.of(["\n0123456789-"])

    def steps(text: str) -> int:
        return Tree.plant(UniformModel(vocabulary), CanaryFormat.parse(text).tokens(vocabulary)).full_steps

    assert steps("{d}" * 9) == 111_111_111
    assert steps("{d}{d}{d}-{d}{d}-{d}{d}{d}{d}") == 111_111_111 + 10**3 + 10**5
    assert steps("-".join(["{d}"] * 9)) == 111_111_111 + 111_111_110
    assert steps("{d}" * 9 + "-0") == 111_111_111 + 2 * 10**9


def test_pruned_walk_expands_exactly_the_prefixes_that_are_cheap_enough():
    model, tokens, fills, costs = case("{d}{d}{d}{d}", 5, ties=False)
    own = int(np.argsort(costs)[len(costs) // 50])
    prefixes = {tuple(f[:d]) for f in fills for d in range(4)}
    tree = Tree.plant(model, tokens)

    def cost(prefix) -> float:
        state, edges, total = tree.root, tree.root_edges, 0.0
        for depth, symbol in enumerate(prefix):
            total += edges[0, symbol]
            if depth < 3:
                edges, state = tree.step(state, np.array([symbol]), depth + 1)
        return total

    cheap = sum(cost(p) <= costs[own] + 1e-3 for p in prefixes)
    rank = exact_rank(model, tokens, fills[own], max_steps=UNLIMITED)
    assert rank.model_steps == cheap + 3
    assert cheap < len(prefixes)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), budget=st.integers(1, 400), prune=st.booleans(), text=st.sampled_from(FORMATS))
def test_bounds_contain_the_rank_when_the_budget_runs_out(seed, budget, prune, text):
    model, tokens, fills, costs = case(text, seed, ties=True)
    own = seed % len(fills)
    rank = exact_rank(model, tokens, fills[own], max_steps=budget, chunk=16, prune=prune)
    true = np.count_nonzero(costs <= costs[own] + 1e-6)
    assert rank.rank_low <= true <= rank.rank_high <= len(fills)
    if rank.algorithm == "bounds":
        assert isnan(rank.rank)
        assert isnan(rank.exposure_bits)
        assert rank.model_steps <= budget + Tree.plant(model, tokens).depth
    else:
        assert rank.rank == true


def test_uniform_model_has_exposure_zero_because_ties_count_against_the_canary():
    tokens = CanaryFormat.parse("{d}{d}{d}").tokens(VOCABULARY)
    rank = exact_rank(UniformModel(VOCABULARY), tokens, np.array([3, 1, 4]), max_steps=UNLIMITED)
    assert rank.rank == 1000
    assert rank.exposure_bits == 0.0


def test_memorised_canary_has_rank_one_in_few_steps():
    fmt = CanaryFormat.parse("the random number is " + "{d}" * 9)
    model = OracleModel(VOCABULARY, "the random number is 281265017", 0.9)
    rank = exact_rank(model, fmt.tokens(VOCABULARY), fmt.parse_fill("281265017"), max_steps=10_000)
    assert (rank.rank, rank.rank_low, rank.rank_high) == (1, 1, 1)
    assert rank.exposure_bits == pytest.approx(log2(10**9))
    assert rank.model_steps < 50
    assert rank.cost_bits == pytest.approx(-9 * log2(0.9))


@pytest.mark.parametrize("factor", [np.log(2), 1 / 30, 7.0])
def test_rank_does_not_change_when_costs_are_scaled(factor):
    """Mean natural-log cross-entropy is such a map (tensorflow/privacy#172)."""
    model, tokens, fills, _ = case("the {d}{d}{d}", 9, ties=False)
    for fill in fills[::237]:
        plain = exact_rank(model, tokens, fill, max_steps=UNLIMITED)
        scaled = exact_rank(Scaled(model, factor), tokens, fill, max_steps=UNLIMITED)
        assert plain.rank == scaled.rank


def test_null_canaries_have_mean_exposure_one_over_ln_two():
    """Exponential with mean 1.44 and as large an s.d. (brief 4.6): 300 models, standard error 0.083."""
    fmt = CanaryFormat.parse("{d}{d}{d}")
    tokens, rng = fmt.tokens(VOCABULARY), np.random.default_rng(1)
    exposures = [
        exact_rank(MarkovModel(VOCABULARY, s), tokens, rng.integers(0, 10, 3), max_steps=UNLIMITED).exposure_bits
        for s in range(300)
    ]
    assert abs(np.mean(exposures) - 1 / np.log(2)) < 0.3


def test_a_model_without_finite_probabilities_is_named():
    model = UniformModel(VOCABULARY)
    model._table = np.full_like(model._table, np.nan)
    with pytest.raises(UserError, match="not finite"):
        fill_costs(model, CanaryFormat.parse("{d}").tokens(VOCABULARY), np.array([[1]]))


class Diverged:
    """A model that is fine after the prefix and not a number from the first symbol on."""

    def __init__(self, model: MarkovModel) -> None:
        self._model, self.vocabulary = model, model.vocabulary
        self.start, self.log_perplexity, self.concatenate = model.start, model.log_perplexity, model.concatenate

    def step(self, state, ids, columns=None):
        log2_probabilities, state = self._model.step(state, ids, columns)
        return np.full_like(log2_probabilities, np.nan), state


def test_a_cost_that_is_not_a_number_is_no_rank_one():
    tokens = CanaryFormat.parse("{d}{d}").tokens(VOCABULARY)
    with pytest.raises(UserError, match="not a number"):
        exact_rank(Diverged(MarkovModel(VOCABULARY, 0)), tokens, np.array([1, 2]), max_steps=100)


def test_formats_that_are_too_deep_are_refused():
    holes = (np.zeros(2, int),) * 128
    tokens = TokenFormat(np.array([0]), holes, (np.zeros(0, int),) * len(holes))
    with pytest.raises(UserError, match="at most 127"):
        Tree.plant(UniformModel(VOCABULARY), tokens)
