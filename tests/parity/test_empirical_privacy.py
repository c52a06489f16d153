"""Sampled and skew-normal exposure against tensorflow-empirical-privacy 0.1.0 (formerly TF Privacy's secret_sharer)."""

import numpy as np
import pytest
from scipy import stats

from memorization.exposure import fit_skew_normal, sampled, skew_normal

exposures = pytest.importorskip("tensorflow_privacy.privacy.privacy_tests.secret_sharer.exposures")

N = 4000
REFERENCES = stats.skewnorm.rvs(1.5, 100, 6, size=N, random_state=0)
CANARIES = np.quantile(REFERENCES, [0.002, 0.03, 0.2, 0.5, 0.9]) + 1e-3


def test_sampled_exposure_is_the_librarys_interpolation():
    """Equal hits, two conventions: the library divides rank by n, we by n + 1, as the canary is one of the fills."""
    (theirs,) = exposures.compute_exposure_interpolation({0: CANARIES}, REFERENCES).values()
    ours = [sampled(c, REFERENCES, space_bits=30).bits for c in CANARIES]
    np.testing.assert_allclose(ours, np.asarray(theirs) + np.log2((N + 1) / N), rtol=1e-12)


def test_both_put_ties_before_the_canary():
    references = [1.0, 2.0, 2.0, 3.0]
    (theirs,) = exposures.compute_exposure_interpolation({0: [2.0]}, references).values()
    assert sampled(2.0, np.array(references), 30).bits == pytest.approx(theirs[0] + np.log2(5 / 4))


def test_skew_normal_exposure_is_the_librarys_extrapolation():
    fit = fit_skew_normal(REFERENCES)
    far = np.append(CANARIES, [75.0, 80.0, 85.0])
    (theirs,) = exposures.compute_exposure_extrapolation({0: far}, REFERENCES).values()
    ours = [skew_normal(c, fit, space_bits=30).bits for c in far]
    np.testing.assert_allclose(ours, theirs, rtol=2e-3)
