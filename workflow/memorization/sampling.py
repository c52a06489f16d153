"""Which records make up each step of training, private or not: the same in every back end. Pure NumPy."""

from collections.abc import Iterator

import numpy as np

from memorization.errors import UserError
from memorization.specs import TrainingSpec
from memorization.streams import stream


def poisson_batches(rng: np.random.Generator, examples: int, q: float, steps: int) -> Iterator[np.ndarray]:
    """`steps` batches int64[B_k] of record numbers, ascending: each of `examples` records is in each batch
    independently with probability `q` (Poisson sampling, which every accountant here assumes; Abadi et al. 2016).

    Batches vary in size and may be empty. The draws are those of `rng.random((steps, examples)) < q`, one row at a
    time, so the first k batches do not depend on how many are asked for. Raises UserError unless 0 < q <= 1.
    """
    if not 0 < q <= 1:
        raise UserError(
            f"Poisson sampling: batch_size / records is {q:.4g} with {examples} records: a batch may hold at most all "
            "of them: use a smaller training.batch_size or more data"
        )
    return (np.flatnonzero(rng.random(examples) < q) for _ in range(steps))


def shuffled_batches(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Consecutive batches int64[batch_size] of int64[N] `order`; the incomplete last one is dropped.

    With fewer than `batch_size` records the only batch holds all of them. Dropping keeps every batch at the size by
    which the sum is divided; the accountant's epsilon is nominal for these batches.
    """
    steps = max(1, len(order) // batch_size)
    return (order[first : first + batch_size] for first in range(0, steps * batch_size, batch_size))


def epoch_order(training: TrainingSpec, seed: int, replicate: int, epoch: int, count: int) -> np.ndarray:
    """int64[count]: the windows of one replicate's epoch 1, 2, ..., in the order in which mini-batches take them.

    Each once, in random order or (`shuffle` false) in the text's; or, sampled with replacement, independent uniform
    draws, of which a window is missing with probability (1 - 1 / count)^count, about 1 / e.
    """
    if training.sampling == "with_replacement":
        return stream(seed, replicate, f"replacement-{epoch}").integers(count, size=count, dtype=np.int64)
    if not training.shuffle:
        return np.arange(count)
    return stream(seed, replicate, f"shuffle-{epoch}").permutation(count)
