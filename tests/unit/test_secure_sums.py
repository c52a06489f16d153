"""Pairwise masks: they cancel, and hide."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from memorization.secure_sums import UNIT, decoded, encoded, masked, securely_summed


@given(st.integers(1, 6), st.integers(1, 20), st.integers(0, 99))
def test_masked_sums_are_plain_sums(users, size, seed):
    uploads = np.random.default_rng(seed).normal(scale=10, size=(users, size)).astype(np.float32)
    plain = uploads.astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(securely_summed(uploads, seed, "mask-1"), plain, rtol=0, atol=users * UNIT / 2 + 1e-12)


def test_a_masked_upload_says_nothing_of_its_size():
    """Zeros and large numbers look alike: bits of masked uploads are uniform."""
    uploads = np.zeros((3, 20_000))
    uploads[1] = 100.0
    sent = masked(uploads, 0, "mask-1")
    for own in sent:
        assert stats.kstest(own / 2.0**64, "uniform").pvalue > 1e-4
    assert not np.array_equal(sent[0], masked(uploads, 0, "mask-2")[0])


def test_without_its_partners_a_mask_stays():
    uploads = np.ones((3, 50))
    partial = decoded(masked(uploads, 0, "mask-1")[:2].sum(axis=0, dtype=np.uint64))
    assert not np.isclose(partial, 2.0).any()


def test_encoding_of_negative_numbers():
    numbers = np.array([[-1.5, 0.0, 2.0**-32, 3e5]])
    np.testing.assert_array_equal(decoded(encoded(numbers)[0]), numbers[0])
