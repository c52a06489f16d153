"""Holes of words: more symbols than a byte holds, expanded in small blocks, a queue that stays within its budget."""

import sys

import numpy as np
import pytest

from memorization.backends.controls import MarkovModel
from memorization.canaries import CanaryFormat
from memorization.importance import plan
from memorization.search import beam, brute_force, exact_rank, fill_costs, sampling, shortest_path, tree
from memorization.search.shortest_path import Nodes, Queue
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("\n", "<unk>", "the", "code", *(f"w{i}" for i in range(296))), "word")
FMT = CanaryFormat.parse("the code {w} {w}", words=VOCABULARY.words)
TOKENS = FMT.tokens(VOCABULARY)
MODEL = MarkovModel(VOCABULARY, 0, order=1, concentration=0.1)
UNLIMITED = 10**9


@pytest.fixture(scope="module")
def ranked():
    """All 88,804 fills by cost, and their costs."""
    fills = FMT.enumerate()
    costs = fill_costs(MODEL, TOKENS, fills)[1]
    order = np.argsort(costs, kind="stable")
    return fills[order], costs[order]


@pytest.fixture(params=[tree.CHILDREN, 5 * 298])
def blocks(request, monkeypatch):
    monkeypatch.setattr(tree, "CHILDREN", request.param)


def test_rank_equals_brute_force(ranked, blocks):
    fills, costs = ranked
    for own in (0, 7, 500):
        rank = exact_rank(MODEL, TOKENS, fills[own], max_steps=UNLIMITED)
        assert rank.rank == np.count_nonzero(costs <= costs[own] + 1e-6)


def test_searches_agree_with_brute_force(ranked, blocks):
    fills, costs = ranked
    assert shortest_path(MODEL, TOKENS, k=5, max_steps=UNLIMITED).fills.tolist() == fills[:5].tolist()
    assert brute_force(MODEL, TOKENS, max_steps=UNLIMITED).fills.tolist() == fills[:1].tolist()
    assert beam(MODEL, TOKENS, width=400).fills.tolist() == fills[:1].tolist()
    found = sampling(MODEL, TOKENS, samples=50, rng=np.random.default_rng(0))
    assert found.costs_bits[0] in costs


@pytest.mark.parametrize("budget", [3, 10, 40, 120])
def test_a_queue_of_what_the_budget_allows_gives_the_same_answer(ranked, budget, monkeypatch):
    costs = ranked[1]
    capped = shortest_path(MODEL, TOKENS, k=3, batch=4, max_steps=budget)
    # The package's name `shortest_path` is the function.
    monkeypatch.setattr(sys.modules["memorization.search.shortest_path"], "MANY", 10**6)
    whole = shortest_path(MODEL, TOKENS, k=3, batch=4, max_steps=budget)
    assert capped.fills.tolist() == whole.fills.tolist()
    assert capped.lower_bound_bits == whole.lower_bound_bits
    assert (capped.provable, capped.model_steps) == (whole.provable, whole.model_steps)
    assert capped.lower_bound_bits <= costs[len(capped.fills) if capped.provable else 0] + 1e-9


def test_importance_sampling_is_unbiased_in_blocks(ranked, blocks):
    fills, costs = ranked
    own = 300
    plans = [plan(MODEL, TOKENS, fills[own], np.random.default_rng(s), samples=40) for s in range(150)]
    values = [p.rank.value for p in plans]
    true = np.count_nonzero(costs <= costs[own] + 1e-6)
    assert abs(np.mean(values) - true) < 4 * np.std(values) / np.sqrt(len(values))
    assert sum(p.rank.low <= true <= p.rank.high for p in plans) >= 130


def test_a_capped_queue_remembers_the_cheapest_node_that_it_dropped():
    """Whatever comes after it: a lower bound that forgot it would be no bound."""

    def nodes(*costs):
        count = len(costs)
        depths, parents, paths = np.zeros(count, np.int8), np.zeros(count, np.int64), np.zeros((count, 1), np.uint8)
        return Nodes(np.array(costs, dtype=float), depths, parents, paths)

    queue = Queue(4, cap=2)
    queue.push(nodes(1, 2, 3, 9))
    assert queue.minimum() == 1
    assert queue.pop(2, np.inf).cost.tolist() == [1, 2]
    queue.push(nodes(8))
    assert queue.minimum() == 3
