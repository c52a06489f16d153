"""How unequally something is shared, and averages over log-spaced moments (A Closer Look, section 3.2)."""

from collections.abc import Sequence

import numpy as np


def gini(values: np.ndarray) -> np.ndarray:
    """Gini coefficient along the last axis of nonnegative float[..., n]: float64[...], 0 (all equal) to 1 - 1/n (one
    has all).

    Half the mean absolute difference of all pairs, over the mean. NaN where all values are 0. Raises ValueError for
    negative values, of which the coefficient is not defined.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    if ordered.size and ordered.min() < 0:
        raise ValueError(f"gini: values must not be negative, found {ordered.min():g}")
    n = ordered.shape[-1]
    weights = 2 * np.arange(1, n + 1) - n - 1
    total = n * ordered.sum(-1)
    return np.divide((ordered * weights).sum(-1), total, out=np.full(total.shape, np.nan), where=total > 0)


def log_spaced(last: int, count: int) -> list[int]:
    """At most `count` different whole numbers from 1 to `last`, equally spaced on a log scale, both ends included."""
    return sorted({round(float(x)) for x in np.geomspace(1, last, count)} | {1, last})


def running_means(times: Sequence[int]) -> np.ndarray:
    """float64[K, K] weights: row k times the values at increasing `times` [K] is their mean over every whole time from
    the first to times[k], with straight lines between the measured ones.

    Without them a mean over log-spaced times would be a mean over the beginning of training.
    """
    every = np.arange(times[0], times[-1] + 1)
    # Column k: what each time takes from the k-th measured value.
    shares = np.stack([np.interp(every, times, row) for row in np.eye(len(times))], axis=1)
    summed = np.cumsum(shares, axis=0)
    counts = np.asarray(times) - times[0] + 1
    return np.stack([summed[n - 1] / n for n in counts])
