"""Secure aggregation by pairwise masks (Bonawitz et al. 2017, without dropouts): the server sees noise, and the sum.

Uploads become integers modulo 2^64, so that masks cancel exactly and a masked upload is uniform whatever it hides. Used
to check that a dummy update passes such a service like any other (Learn to Forget's security claim, our surrogate b).
"""

import numpy as np

from memorization.streams import stream

UNIT = 2.0**-32
"""Of the integers: what an upload's numbers are rounded to."""


def encoded(uploads: np.ndarray) -> np.ndarray:
    """uint64[U, P] of float[U, P] below 2^31 / U in size."""
    return np.rint(np.asarray(uploads, dtype=np.float64) / UNIT).astype(np.int64).view(np.uint64)


def decoded(total: np.ndarray) -> np.ndarray:
    """The inverse of `encoded` for a sum uint64[P]: float64[P]."""
    return total.view(np.int64).astype(np.float64) * UNIT


def masked(uploads: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """What the server receives of weighted uploads float[U, P], uint64[U, P]: every pair of users shares a mask, which
    one adds and the other subtracts. `purpose` names the masks' streams; a round needs new ones.
    """
    sent = encoded(uploads)
    users, size = sent.shape
    for low in range(users):
        for high in range(low + 1, users):
            mask = stream(seed, low * users + high, purpose).integers(2**64, size=size, dtype=np.uint64)
            sent[low] += mask
            sent[high] -= mask
    return sent


def securely_summed(uploads: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """float64[P]: the server's sum of masked uploads."""
    return decoded(masked(uploads, seed, purpose).sum(axis=0, dtype=np.uint64))
