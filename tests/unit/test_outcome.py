"""Rules that turn estimates into verdicts."""

import numpy as np
import pandas as pd
import pytest

from memorization.gates.outcome import above, below, direction, sided
from memorization.statistics import Interval


@pytest.mark.parametrize(
    ("found", "contradicted", "toward", "n", "verdict"),
    [
        (True, False, True, 5, True),
        (np.bool_(True), np.bool_(False), np.bool_(True), 5, True),  # a verdict is Python's own
        (False, True, False, 3, False),  # contradicted, however few the seeds
        (False, False, True, 5, None),  # the right side, not significant
        (False, False, True, 50, None),
        (False, False, False, 5, False),  # not even the right side, with the planned seeds
        (False, False, False, 4, None),
    ],
)
def test_sided(found, contradicted, toward, n, verdict):
    decided, why = sided(found, contradicted, toward, n, planned=5)
    assert decided is verdict
    assert bool(why) is (verdict is None)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        (Interval(4, 2, 6), True),
        (Interval(4, -1, 9), None),
        (Interval(-1, -5, 3), False),
        (Interval(-4, -6, -2), False),
    ],
)
def test_above_and_below(interval, verdict):
    assert above(interval, 0, 5, planned=5)[0] is verdict
    mirrored = Interval(3 - interval.estimate, 3 - interval.high, 3 - interval.low)
    assert below(mirrored, 3, 5, planned=5)[0] is verdict


SKEWED = [-7, -6, 1, 3, 9, 9.1, 13, 23, 53, 59]
"""Student's 95 % interval of these holds 0, the one-sided signed-rank test has p = 19/1024."""


@pytest.mark.parametrize(
    ("values", "sign"),
    [
        ([1, 2, 3, 4, 5], 1),
        ([-1, -2, -3, -4, -5], -1),
        ([-1, 2, 3, 4, 5], 0),
        ([0, 0, 0, 0, 0], 0),
        ([1, 2, 3, 4], 0),
        (SKEWED, 1),
    ],
)
def test_direction(values, sign):
    assert direction(pd.Series(values, dtype=float)) == sign
