"""The skew-normal fit, its goodness-of-fit p-values and its far tail."""

from math import isnan, log2

import numpy as np
import pytest
from scipy import integrate, special, stats

from memorization.errors import UserError
from memorization.exposure import fit_skew_normal, skew_normal
from memorization.skew_normal import cdf, log_cdf, tail_bits


@pytest.mark.parametrize("shape", [-5.0, -1.0, 1.5, 4.0])
def test_fit_recovers_the_parameters(shape):
    costs = stats.skewnorm.rvs(shape, 90, 7, size=20_000, random_state=0)
    fit = fit_skew_normal(costs)
    assert fit.converged
    assert fit.location_bits == pytest.approx(90, abs=0.5)
    assert fit.scale_bits == pytest.approx(7, rel=0.05)
    assert fit.shape == pytest.approx(shape, rel=0.25)


@pytest.mark.parametrize("shape", [-3.0, 0.0, 2.0])
def test_fit_is_at_least_as_likely_as_scipys(shape):
    costs = stats.skewnorm.rvs(shape, 100, 5, size=2000, random_state=1)
    fit = fit_skew_normal(costs)
    ours = stats.skewnorm.logpdf(costs, *fit.parameters).sum()
    theirs = stats.skewnorm.logpdf(costs, *stats.skewnorm.fit(costs)).sum()
    assert ours >= theirs - 0.01


@pytest.mark.parametrize("shape", [-4.0, -0.5, 0.0, 0.5, 3.0])
@pytest.mark.parametrize("z", [-3.2, -6.0, -20.0, -60.0])
def test_log_tail_against_numeric_integration(shape, z):
    """Log space, relative to the integrand at the end point, over the range where it matters."""

    def log_density(t):
        return np.log(2) - t * t / 2 - np.log(2 * np.pi) / 2 + special.log_ndtr(shape * t)

    width = 60 / (abs(z) * (1 + shape**2 * (shape > 0)))
    area, _ = integrate.quad(
        lambda u: np.exp(log_density(z - u) - log_density(z)), 0, width, epsrel=1e-12, epsabs=0, limit=500
    )
    assert log_cdf(z, shape, 0.0, 1.0)[0] == pytest.approx(log_density(z) + np.log(area), rel=1e-9)


def test_log_tail_of_the_symmetric_case_is_the_normal_one_far_out():
    z = np.array([-3.0, -10.0, -40.0, -100.0, -1000.0])
    np.testing.assert_allclose(log_cdf(z, 0.0, 0.0, 1.0), special.log_ndtr(z), rtol=1e-9)
    assert np.isfinite(log_cdf(-1000.0, 2.0, 0.0, 1.0)).all()


@pytest.mark.parametrize("shape", [-4.0, 0.0, 1.0, 6.0])
def test_log_cdf_is_smooth_where_the_methods_meet_and_agrees_with_scipy(shape):
    z = stats.skewnorm.ppf([1e-5, 9.99e-4, 1.001e-3, 0.01, 0.5, 0.99], shape)
    np.testing.assert_allclose(log_cdf(z, shape, 0.0, 1.0), np.log(stats.skewnorm.cdf(z, shape)), rtol=1e-5)
    np.testing.assert_allclose(cdf(z, shape, 0.0, 1.0), stats.skewnorm.cdf(z, shape), atol=1e-10)


@pytest.mark.parametrize(("factor", "offset"), [(np.log(2) / 30, 0.0), (3.0, -50.0)])
def test_exposure_does_not_change_under_affine_maps(factor, offset):
    costs = stats.skewnorm.rvs(2.0, 100, 5, size=3000, random_state=2)
    plain = skew_normal(70.0, fit_skew_normal(costs), 30)
    mapped = skew_normal(factor * 70.0 + offset, fit_skew_normal(factor * costs + offset), 30)
    assert mapped.bits == pytest.approx(plain.bits, rel=1e-3)
    assert plain.extrapolated


def test_extrapolation_is_flagged_beyond_the_space_and_beyond_the_sample():
    costs = stats.norm.rvs(100, 5, size=1000, random_state=3)
    fit = fit_skew_normal(costs)
    assert not skew_normal(float(np.quantile(costs, 0.01)), fit, space_bits=30).extrapolated
    assert skew_normal(80.0, fit, space_bits=30).bits > log2(1000)
    assert skew_normal(80.0, fit, space_bits=30).extrapolated
    assert skew_normal(float(np.quantile(costs, 0.01)), fit, space_bits=2).extrapolated


def test_bootstrap_interval_and_p_values():
    costs = stats.skewnorm.rvs(2.0, 100, 5, size=1500, random_state=4)
    fit = fit_skew_normal(costs, bootstrap=40, rng=np.random.default_rng(0))
    found = skew_normal(88.0, fit, 30)
    truth = -stats.skewnorm.logcdf(88.0, 2.0, 100, 5) / np.log(2)
    assert found.low_bits < found.bits < found.high_bits
    assert found.low_bits - 1 < truth < found.high_bits + 1
    assert fit.ks_p_naive > 0.5
    assert fit.ks_p_bootstrap > 0.05
    bimodal = np.concatenate([costs, costs + 20])
    assert fit_skew_normal(bimodal, bootstrap=40, rng=np.random.default_rng(0)).ks_p_bootstrap <= 1 / 41


def test_naive_p_is_too_large_for_fitted_parameters():
    """Under the null p should be uniform, mean 0.5; with fitted parameters it is far above."""
    naive = [fit_skew_normal(stats.skewnorm.rvs(2.0, 100, 5, size=400, random_state=s)).ks_p_naive for s in range(20)]
    assert np.mean(naive) > 0.65


@pytest.mark.parametrize("spread", [0.0, 1e-13])
def test_equal_costs_give_an_unconverged_fit_and_no_number(spread):
    costs = 30.0 + spread * np.arange(50)
    fit = fit_skew_normal(costs)
    assert not fit.converged
    assert isnan(tail_bits(30.0, fit)[0])


def test_nearly_degenerate_costs_still_fit():
    costs = 150.0 + 1e-3 * stats.skewnorm.rvs(1.0, size=2000, random_state=5)
    fit = fit_skew_normal(costs)
    assert fit.converged
    assert np.isfinite(tail_bits(149.9995, fit)).all()


@pytest.mark.parametrize("costs", [[1.0, 2.0], [1.0, np.nan, 2.0, 3.0]])
def test_unusable_references_are_named(costs):
    with pytest.raises(UserError, match="skew-normal fit"):
        fit_skew_normal(np.array(costs))
