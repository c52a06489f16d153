"""Batches of private training. Against Opacus' sampler: tests/parity/test_torch_privacy.py."""

import numpy as np
import pytest

from memorization.errors import UserError
from memorization.sampling import poisson_batches, shuffled_batches


def test_batches_are_the_rows_of_one_block_of_draws():
    batches = list(poisson_batches(np.random.default_rng(3), 40, 0.2, 25))
    expected = np.random.default_rng(3).random((25, 40)) < 0.2
    assert len(batches) == 25
    for batch, row in zip(batches, expected, strict=True):
        assert batch.dtype == np.int64
        assert batch.tolist() == np.flatnonzero(row).tolist()


def test_the_first_batches_do_not_depend_on_how_many_follow():
    few, many = (list(poisson_batches(np.random.default_rng(3), 40, 0.2, steps)) for steps in (3, 9))
    for one, other in zip(few, many[:3], strict=True):
        assert one.tolist() == other.tolist()


def test_inclusion_is_independent_with_probability_q():
    """Shares, pairs and batch sizes of 4,000 steps within five standard errors."""
    steps, examples, q = 4_000, 30, 0.1
    taken = np.zeros((steps, examples))
    for row, batch in zip(taken, poisson_batches(np.random.default_rng(0), examples, q, steps), strict=True):
        row[batch] = 1
    assert np.abs(taken.mean(axis=0) - q).max() < 5 * np.sqrt(q * (1 - q) / steps)
    pairs = (taken.T @ taken)[np.triu_indices(examples, 1)] / steps
    assert np.abs(pairs - q**2).max() < 5 * np.sqrt(q**2 / steps)
    assert taken.sum(axis=1).var() == pytest.approx(examples * q * (1 - q), rel=0.15)


def test_empty_batches_are_handed_out():
    assert 0 in {len(batch) for batch in poisson_batches(np.random.default_rng(0), 3, 0.1, 50)}


def test_with_q_one_every_batch_holds_everything():
    assert [b.tolist() for b in poisson_batches(np.random.default_rng(0), 4, 1.0, 2)] == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize("q", [0.0, 1.5, float("nan")])
def test_an_impossible_share_is_one_clear_line(q):
    with pytest.raises(UserError, match=r"training\.batch_size"):
        poisson_batches(np.random.default_rng(0), 4, q, 1)


def test_shuffled_batches_drop_the_rest():
    batches = list(shuffled_batches(np.array([4, 2, 0, 1, 3, 6, 5]), 3))
    assert [b.tolist() for b in batches] == [[4, 2, 0], [1, 3, 6]]


def test_fewer_records_than_a_batch_are_one_batch():
    assert [b.tolist() for b in shuffled_batches(np.array([1, 0]), 3)] == [[1, 0]]
