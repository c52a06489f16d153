"""Importance splitting against ranks that are known."""

from math import log2

import numpy as np
import pytest

from memorization.splitting import split

HOLES = 6


def additive(table):
    """A score whose costs are sums over the holes, as of a model that knows each hole's distribution."""
    return lambda fills: table[np.arange(HOLES), fills].sum(axis=1)


@pytest.fixture(scope="module")
def table():
    return np.random.default_rng(0).gamma(2.0, 2.0, (HOLES, 10))


@pytest.fixture(scope="module")
def every(table):
    """Costs of all 10^6 fills, ascending."""
    grids = np.indices([10] * HOLES).reshape(HOLES, -1).T
    return np.sort(additive(table)(grids))


@pytest.mark.parametrize("rank", [1, 20, 3_000, 400_000])
def test_estimates_are_within_a_bit_or_two_of_the_rank(table, every, rank):
    threshold = every[rank - 1]
    found = [split(additive(table), [10] * HOLES, threshold, np.random.default_rng(s), 10**6) for s in range(5)]
    assert all(one.complete for one in found)
    errors = np.array([log2(one.rank) - log2(rank) for one in found])
    assert abs(errors.mean()) < 1
    assert abs(errors).max() < 2.5
    assert sum(one.low <= rank <= one.high for one in found) >= 3
    assert max(one.scored for one in found) < 30_000


def test_a_memorised_fill_among_equals_is_found_by_its_neighbours(table):
    """The canary is cheap, fills that share digits with it somewhat: what a model does that memorises."""
    own = np.array([3, 1, 4, 1, 5, 9])

    def score(fills):
        shared = (fills == own).sum(axis=1)
        return 60 - 6.0 * shared + additive(table)(fills) / 10

    found = split(score, [10] * HOLES, float(score(own[None])[0]), np.random.default_rng(1), 10**6)
    assert found.complete
    assert log2(found.rank) < 2


def test_what_is_never_reached_is_no_estimate(table):
    """No fill is as cheap: the chain comes to a halt, or the budget ends, and the result says so."""
    cheapest = table.min(axis=1).sum()
    found = split(additive(table), [10] * HOLES, cheapest - 5, np.random.default_rng(2), 10**6)
    assert not found.complete
    assert found.low == 1
    short = split(additive(table), [10] * HOLES, cheapest, np.random.default_rng(3), 2_000)
    assert not short.complete
    assert short.scored <= 2_000
    assert short.high >= short.rank > 1_000


def test_every_fill_as_cheap_gives_the_whole_space():
    found = split(lambda fills: np.zeros(len(fills)), [10] * HOLES, 0.0, np.random.default_rng(4), 10**5)
    assert found.complete
    assert found.rank == pytest.approx(10**HOLES)
    assert found.scored == 240
