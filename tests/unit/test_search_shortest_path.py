"""Shortest-path search against brute force, for any batch size; the toy tree of Fig. 9; budgets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memorization.backends.controls import MarkovModel, OracleModel, table_model
from memorization.canaries import CanaryFormat, TokenFormat
from memorization.errors import UserError
from memorization.search import beam, brute_force, fill_costs, greedy, sampling, shortest_path
from memorization.search.shortest_path import Nodes, Queue
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of(["\nthe random number is 0123456789-"])
FORMATS = ["the {d}{d}{d}", "{d}-{d}{d}", "{d}{d} is", "{d}-{d}-", "{d}"]
UNLIMITED = 10**9


def ranked(text: str, seed: int, ties: bool):
    """Model, tokens, all fills by (cost, fill), and their costs."""
    fmt = CanaryFormat.parse(text)
    model = MarkovModel(VOCABULARY, seed, ties=ties)
    tokens, fills = fmt.tokens(VOCABULARY), fmt.enumerate()
    costs = fill_costs(model, tokens, fills)[1]
    order = np.lexsort((np.arange(len(costs)), costs))
    return model, tokens, fills[order], costs[order]


def figure_nine():
    """root -> a .4, b .6; a -> a .1, b .9; b -> a .5, b .5 (Secret Sharer Fig. 9)."""
    vocabulary = Vocabulary(("\n", "a", "b"))
    model = table_model(vocabulary, np.array([[1e-9, 0.4, 0.6], [1e-9, 0.1, 0.9], [1e-9, 0.5, 0.5]]))
    hole = np.array([1, 2])
    return model, TokenFormat(np.array([0]), (hole, hole), (np.zeros(0, int), np.zeros(0, int)))


def test_figure_nine():
    model, tokens = figure_nine()
    fills = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    costs = fill_costs(model, tokens, fills)[1]
    np.testing.assert_allclose(costs, -np.log2([0.04, 0.36, 0.3, 0.3]), atol=1e-6)
    np.testing.assert_allclose(costs, [4.64, 1.474, 1.737, 1.737], atol=4e-3)
    found = shortest_path(model, tokens, k=4, max_steps=100)
    assert found.fills.tolist() == [[0, 1], [1, 0], [1, 1], [0, 0]]
    assert shortest_path(model, tokens, batch=1, max_steps=100).fills.tolist() == [[0, 1]]
    assert greedy(model, tokens).fills.tolist() == [[1, 0]]
    assert beam(model, tokens, width=2).fills.tolist() == [[0, 1]]


@settings(max_examples=40, deadline=None)
@given(
    text=st.sampled_from(FORMATS),
    seed=st.integers(0, 10**6),
    ties=st.booleans(),
    k=st.sampled_from([1, 9, 40]),
    batch=st.sampled_from([4, 64, 512]),
    cached=st.sampled_from([1, 50, 10_000]),
)
def test_top_k_equals_brute_force_for_any_batch_and_cache(text, seed, ties, k, batch, cached):
    model, tokens, fills, costs = ranked(text, seed, ties)
    found = shortest_path(model, tokens, k=k, batch=batch, max_steps=UNLIMITED, cached_states=cached)
    assert found.provable
    np.testing.assert_array_equal(found.fills, fills[:k])
    np.testing.assert_allclose(found.costs_bits, costs[:k], rtol=1e-12)
    exhaustive = brute_force(model, tokens, max_steps=UNLIMITED, k=k)
    np.testing.assert_array_equal(exhaustive.fills, found.fills)


@pytest.mark.parametrize("ties", [False, True])
def test_sequential_equivalent_counts_the_prefixes_cheaper_than_the_best_fill(ties):
    model, tokens, fills, costs = ranked("{d}{d}{d}{d}", 2, ties)
    results = [shortest_path(model, tokens, batch=b, max_steps=UNLIMITED) for b in (1, 16, 512)]
    prefixes = {tuple(f[:d]) for f in fills for d in range(4)}
    padded = np.array([[*p, *[0] * (4 - len(p))] for p in prefixes])
    table = dict(zip(prefixes, padded, strict=True))
    empty = np.zeros(0, dtype=np.int64)

    def cost(prefix: tuple) -> float:
        part = TokenFormat(tokens.prefix, tokens.holes[: len(prefix)], (empty,) * len(prefix))
        return fill_costs(model, part, table[prefix][None, : len(prefix)])[1][0] if prefix else 0.0

    expected = sum(cost(p) < costs[0] for p in prefixes)
    assert {r.sequential_equivalent for r in results} == {expected}
    if not ties:
        assert results[0].pops == expected


def test_budget_gives_a_lower_bound_and_no_proof():
    model, tokens, _, costs = ranked("{d}{d}{d}{d}", 3, ties=False)
    needed = shortest_path(model, tokens, batch=1, max_steps=UNLIMITED)
    for budget in (1, 5, 50, needed.model_steps // 2):
        found = shortest_path(model, tokens, batch=8, max_steps=budget)
        assert not found.provable
        assert found.lower_bound_bits <= costs[0] + 1e-9
        assert found.model_steps <= budget + 8 * 4
        assert found.sequential_equivalent <= needed.sequential_equivalent


def test_certain_fills_of_an_unfinished_search_are_the_true_ones():
    model, tokens, fills, _ = ranked("{d}{d}{d}", 8, ties=False)
    certain = 0
    for budget in (20, 40, 60, 80, 100):
        found = shortest_path(model, tokens, k=100, batch=4, max_steps=budget)
        np.testing.assert_array_equal(found.fills[: found.proven()], fills[: found.proven()])
        certain = max(certain, found.proven())
    assert certain > 0


def test_memorised_secret_is_extracted_with_few_queries():
    fmt = CanaryFormat.parse("the random number is " + "{d}" * 9)
    model = OracleModel(VOCABULARY, "the random number is 281265017", 0.8)
    found = shortest_path(model, fmt.tokens(VOCABULARY), max_steps=5000)
    assert fmt.fill_text(found.fills[0]) == "281265017"
    assert found.provable
    assert found.sequential_equivalent < 100


def test_the_papers_stop_may_miss_what_the_provable_stop_finds():
    missed = 0
    for seed in range(60):
        model, tokens, fills, costs = ranked("{d}{d}{d}", seed, ties=False)
        found = shortest_path(model, tokens, batch=1, max_steps=UNLIMITED, stop="paper")
        assert found.costs_bits[0] >= costs[0]
        assert not found.provable or np.array_equal(found.fills[0], fills[0])
        missed += not np.array_equal(found.fills[0], fills[0])
    assert 0 < missed < 10


def test_queue_pops_in_order_of_cost_whatever_was_pushed_when():
    rng = np.random.default_rng(0)

    def nodes(costs: np.ndarray) -> Nodes:
        n = len(costs)
        return Nodes(costs, np.zeros(n, np.int8), np.arange(n), np.zeros((n, 1), np.uint8))

    queue, held, popped = Queue(8), [], []
    for _ in range(60):
        fresh = rng.integers(0, 20, 40) + float(popped[-1].max() if popped else 0)
        held += fresh.tolist()
        queue.push(nodes(fresh))
        assert queue.minimum() == min(held)
        batch = np.sort(queue.pop(10, np.inf).cost)
        np.testing.assert_array_equal(batch, sorted(held)[:10])
        held = sorted(held)[10:]
        popped.append(batch)
    while (rest := queue.pop(100, np.inf)) is not None:
        np.testing.assert_array_equal(np.sort(rest.cost), sorted(held)[: len(rest.cost)])
        held = sorted(held)[len(rest.cost) :]
    assert not held


def test_beam_is_exact_when_wide_enough_and_says_so():
    model, tokens, fills, _ = ranked("{d}-{d}{d}", 5, ties=False)
    wide = beam(model, tokens, width=1000, k=5)
    assert wide.provable
    np.testing.assert_array_equal(wide.fills, fills[:5])
    narrow = beam(model, tokens, width=3)
    assert not narrow.provable
    assert narrow.model_steps == 1 + 3 + 3 + 3


def test_sampling_follows_the_models_renormalised_distribution():
    """Two holes, every fill listed: frequencies by the kept cheapest would not show it, so count paths directly."""
    from memorization.search.baselines import _sample_chunk
    from memorization.search.result import Best
    from memorization.search.tree import Tree

    model, tokens = figure_nine()
    tree, rng = Tree.plant(model, tokens), np.random.default_rng(0)
    counts = np.zeros(4)
    for _ in range(4000):
        best = Best(tree, 1)
        _sample_chunk(tree, best, rng, 1)
        counts[best.paths[0, 0] * 2 + best.paths[0, 1]] += 1
    np.testing.assert_allclose(counts / 4000, [0.04, 0.36, 0.3, 0.3], atol=0.03)
    found = sampling(model, tokens, samples=200, rng=rng)
    assert found.fills.tolist() == [[0, 1]]
    assert not found.provable


def test_brute_force_stops_at_its_budget():
    model, tokens, fills, _ = ranked("{d}{d}{d}", 6, ties=False)
    assert not brute_force(model, tokens, max_steps=30, chunk=50).provable
    assert brute_force(model, tokens, max_steps=UNLIMITED, chunk=50).fills.tolist() == fills[:1].tolist()


@pytest.mark.parametrize("wrong", [{"k": 0}, {"batch": 0}, {"stop": "never"}])
def test_wrong_arguments_are_named(wrong):
    model, tokens = figure_nine()
    with pytest.raises(UserError, match="shortest_path"):
        shortest_path(model, tokens, max_steps=10, **wrong)
