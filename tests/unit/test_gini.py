"""Gini coefficient, log-spaced moments and means over them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from memorization.gini import gini, log_spaced, running_means

POSITIVE = arrays(float, st.integers(1, 20), elements=st.floats(0.01, 1e3))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([1, 1, 1, 1], 0.0), ([0, 0, 0, 1], 0.75), ([1, 2], 1 / 6), ([1, 2, 3], 2 / 9), ([5], 0.0)],
)
def test_values_by_hand(values, wanted):
    assert gini(np.array(values)) == pytest.approx(wanted)


@settings(deadline=None)
@given(POSITIVE)
def test_half_the_mean_difference_of_all_pairs_over_the_mean(values):
    pairs = np.abs(values[:, None] - values).mean()
    assert gini(values) == pytest.approx(pairs / (2 * values.mean()), abs=1e-9)


@settings(deadline=None)
@given(POSITIVE, st.floats(0.1, 10))
def test_scale_does_not_matter_and_a_constant_lowers_it(values, factor):
    assert gini(values * factor) == pytest.approx(gini(values), abs=1e-9)
    assert gini(values + factor) <= gini(values) + 1e-12


def test_last_axis_only_and_nothing_to_share():
    values = np.array([[[1.0, 1], [0, 1]], [[0, 0], [2, 6]]])
    np.testing.assert_allclose(gini(values), [[0, 0.5], [np.nan, 0.25]])


def test_negative_values_are_refused():
    with pytest.raises(ValueError, match="negative"):
        gini(np.array([1.0, -1.0]))


@pytest.mark.parametrize(
    ("last", "count", "wanted"), [(100, 3, [1, 10, 100]), (3, 12, [1, 2, 3]), (1, 5, [1]), (50, 1, [1, 50])]
)
def test_log_spaced(last, count, wanted):
    assert log_spaced(last, count) == wanted


def test_running_means_are_those_of_every_time_of_a_piecewise_linear_curve():
    times = [1, 2, 5, 13]
    curve = np.interp(np.arange(1, 14), times, [4.0, 1.0, 7.0, 3.0])
    wanted = [curve[:t].mean() for t in times]
    np.testing.assert_allclose(running_means(times) @ [4.0, 1.0, 7.0, 3.0], wanted)
    np.testing.assert_allclose(running_means(times).sum(1), 1)
