"""Intervals and tests against known values, known laws, and hand-made data."""

import numpy as np
import pytest
from scipy import stats

from memorization import statistics


def test_binomial_interval_of_the_brief():
    assert statistics.binomial_interval(16, 20) == pytest.approx((0.8, 0.563, 0.943), abs=1e-3)


@pytest.mark.parametrize("values", [[], [3.0], [3.0, 4.0]])
def test_small_samples_have_no_invented_limits(values):
    assert np.isnan(statistics.bootstrap_interval(values).low)
    assert np.isnan(statistics.t_interval(values[:1]).low)
    assert np.isnan(statistics.bootstrap_interval([1.0, 2.0, 3.0, 4.0, *values][:5], np.median).low)


def test_bootstrap_covers_and_handles_constants():
    x = np.random.default_rng(1).normal(5, 1, 40)
    for statistic in (np.mean, np.median):
        found = statistics.bootstrap_interval(x, statistic)
        assert found.low < statistic(x) < found.high
        assert found.high - found.low < 1.2
    assert statistics.bootstrap_interval([2.0] * 5) == (2, 2, 2)


def test_cluster_bootstrap_is_wider_than_ignoring_clusters():
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=8), 20) + rng.normal(scale=0.1, size=160)
    mean = lambda i: float(values[i].mean())  # noqa: E731
    clustered = statistics.cluster_bootstrap(mean, np.repeat(np.arange(8), 20))
    naive = statistics.cluster_bootstrap(mean, np.arange(160))
    assert clustered.high - clustered.low > 2 * (naive.high - naive.low)
    assert np.isnan(statistics.cluster_bootstrap(mean, np.arange(160) // 80).low)


def test_wilcoxon_needs_five_pairs():
    assert statistics.wilcoxon_paired([2, 3, 4, 5, 6.5], [1, 1, 1, 1, 1]).p_value == pytest.approx(1 / 32)
    assert statistics.wilcoxon_paired([2, 3, 4, 5], [1, 1, 1, 1]).p_value > 0.05
    assert statistics.wilcoxon_paired([1, 1], [1, 1]).p_value == 1


def test_equivalence_agrees_with_its_interval():
    rng = np.random.default_rng(2)
    for centre in np.linspace(-3, 3, 25):
        interval, test = statistics.equivalence(rng.normal(centre, 1, 12), -2, 2)
        assert (test.p_value < 0.05) == (interval.low > -2 and interval.high < 2)
    assert statistics.equivalence([1, 1, 1], -2, 2)[1].p_value == 1 / 8
    assert statistics.equivalence([1] * 5, -2, 2)[1].p_value == 1 / 32
    assert statistics.equivalence([3, 3, 3], -2, 2)[1].p_value == 1


def test_jonckheere_is_the_statistic_of_ordered_pairs():
    groups = [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0, 7.0]]
    pairs = [np.sign(b - a) for i, g in enumerate(groups) for h in groups[i + 1 :] for a in g for b in h]
    result = statistics.jonckheere(groups)
    expected = stats.kendalltau([0, 0, 1, 1, 2, 2, 2], np.concatenate(groups)).statistic
    assert sum(pairs) > 0
    assert result.statistic == pytest.approx(expected)
    assert statistics.jonckheere(groups[::-1]).p_value > 0.5 > result.p_value


def test_censored_tau_is_kendalls_without_bounds_and_ignores_open_pairs_with_them():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 30))
    none = np.zeros(30, dtype=bool)
    assert statistics.censored_tau(x, y, none) == pytest.approx(stats.kendalltau(x, y).statistic)
    assert statistics.censored_tau(x, y, ~none) == 0
    x, y = np.arange(3.0), np.array([5.0, 3.0, 1.0])
    assert statistics.censored_tau(x, y, np.array([True, False, False])) == -1  # at least 5: above 3 and 1
    assert statistics.censored_tau(x, y, np.array([False, False, True])) == pytest.approx(-1 / 3)  # 1 may be 9


def test_page_finds_a_trend():
    assert statistics.page([[1, 2, 3], [1, 2, 3], [1, 3, 2], [1, 2, 3]]).p_value < 0.05


def test_exponential_null_is_calibrated():
    rng = np.random.default_rng(3)
    p = [statistics.exponential_null(rng.exponential(1 / np.log(2), 5)).p_value for _ in range(2_000)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.015)
    assert statistics.exponential_null([3.0]).p_value == pytest.approx(1 / 8)
    low, high = statistics.exponential_band(0.9)
    assert (2**-low, 2**-high) == pytest.approx((0.95, 0.05))


def test_firth_is_finite_under_separation_and_near_the_truth_without():
    intercept, slope = statistics.firth_logistic([1, 2, 3, 4], [0, 0, 1, 1])
    assert 0 < slope < 20
    assert -intercept / slope == pytest.approx(2.5, abs=1e-3)
    rng = np.random.default_rng(4)
    x = rng.uniform(20, 40, 400)
    y = rng.random(400) < 1 / (1 + np.exp(-(x - 30.7)))
    found = statistics.logistic_midpoint(x, y)
    assert found.low < 30.7 < found.high
    assert found.high - found.low < 1.5


def test_logistic_midpoint_does_not_guess():
    assert np.isnan(statistics.logistic_midpoint([1, 2, 3], [1, 1, 1]).estimate)
    assert np.isnan(statistics.logistic_midpoint([1, 2, 3, 4], [1, 1, 0, 0]).estimate)
    assert np.isinf(statistics.logistic_midpoint([1, 2], [0, 1]).high)
