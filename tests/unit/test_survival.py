"""Medians of right-censored times, against counting and against times whose law is known."""

import numpy as np
import pytest

from memorization.survival import median_time


def test_without_censoring_it_is_the_lower_median_and_the_interval_covers_it():
    found = median_time([9, 3, 5, 4, 7], [False] * 5)
    assert (found.estimate, found.low, found.high) == (5, 3, 9)


def test_censored_runs_count_until_they_were_stopped():
    # Product limit by hand: 5 at risk at 2 (4/5), 3 at risk at 4 (8/15), 2 at 6 (4/15).
    found = median_time([2, 3, 4, 6, 8], [False, True, False, False, True])
    assert found.estimate == 6
    assert found.high == np.inf


def test_fewer_than_half_leave_the_median_open():
    assert median_time([5, 9, 9, 9], [False, True, True, True]).estimate == np.inf
    assert median_time([9, 9, 9], [True] * 3) == (np.inf, np.inf, np.inf)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_times_have_no_limits(count):
    found = median_time([4.0] * count, [False] * count)
    assert np.isnan(found.low)
    assert np.isnan(found.high)
    assert found.estimate == 4 or count == 0


def test_the_interval_covers_a_known_median_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        times, limit = rng.exponential(1 / np.log(2), 40), rng.uniform(0.5, 4, 40)
        found = median_time(np.minimum(times, limit), times > limit)
        covered.append(found.low <= 1 <= found.high)
    assert 0.91 < np.mean(covered) < 0.99
