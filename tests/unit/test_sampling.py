"""Which records make up a batch. Poisson sampling against Opacus' sampler: tests/parity/test_torch_privacy.py."""

import numpy as np
import pytest
from scipy import stats

from memorization.configuration import validate
from memorization.errors import UserError
from memorization.sampling import epoch_order, poisson_batches, shuffled_batches
from memorization.spec_base import canonical_json
from memorization.specs import RunSpec, TrainingSpec
from memorization.streams import stream


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


BAGGING = TrainingSpec(sampling="with_replacement")


@pytest.mark.parametrize("epoch", [1, 7])
def test_the_default_order_is_what_it_was_before_there_was_a_choice(epoch):
    found = epoch_order(TrainingSpec(), 3, 1, epoch, 50)
    assert found.tolist() == stream(3, 1, f"shuffle-{epoch}").permutation(50).tolist()
    assert epoch_order(TrainingSpec(shuffle=False), 3, 1, epoch, 5).tolist() == [0, 1, 2, 3, 4]


def test_the_default_is_in_no_name():
    assert "sampling" not in canonical_json(RunSpec().training)
    bagged = RunSpec(training=BAGGING)
    assert '"sampling":"with_replacement"' in canonical_json(bagged)
    assert bagged.run_id != RunSpec().run_id


def test_draws_with_replacement_repeat_and_leave_out():
    """As many draws as windows; every window equally often, independently: the law of a bootstrap sample."""
    count, epochs = 200, 400
    drawn = np.array([epoch_order(BAGGING, 0, 0, e, count) for e in range(epochs)])
    assert (drawn.shape, drawn.dtype) == ((epochs, count), np.int64)
    times = np.array([np.bincount(row, minlength=count) for row in drawn])
    assert times.max() > 1
    missing = (1 - 1 / count) ** count
    left_out = (times == 0).mean(axis=1)
    assert left_out.mean() == pytest.approx(missing, abs=5 * left_out.std() / np.sqrt(epochs))
    assert stats.chisquare(times.sum(axis=0)).pvalue > 1e-4
    assert times.var() == pytest.approx(1 - 1 / count, rel=0.05)


def test_draws_with_replacement_are_those_of_their_seed_replicate_and_epoch():
    same = epoch_order(BAGGING, 5, 2, 3, 100)
    assert epoch_order(BAGGING, 5, 2, 3, 100).tolist() == same.tolist()
    for other in ((6, 2, 3), (5, 1, 3), (5, 2, 4)):
        assert epoch_order(BAGGING, *other, 100).tolist() != same.tolist()


@pytest.mark.parametrize(
    "tree",
    [
        {"training": {"sampling": "with_replacement", "shuffle": False}},
        {"training": {"sampling": "with_replacement", "gradient_clip": None}, "privacy": {"clip": 1.0}},
    ],
)
def test_bagging_goes_neither_with_a_fixed_order_nor_with_privacy(tree):
    with pytest.raises(UserError, match=r"training\.sampling with_replacement: .*leave it out") as caught:
        validate(RunSpec, tree, "here")
    assert "\n" not in str(caught.value)
