"""Times until something happens, where some runs were stopped before it did: right-censored samples."""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy import stats

from memorization.statistics import Interval


def median_time(times: Sequence[float], censored: Sequence[bool], confidence: float = 0.95) -> Interval:
    """Kaplan and Meier's median of float[n] `times`, of which bool[n] `censored` are only lower bounds.

    Infinite where fewer than half got there; the interval inverts the log-log band of the survival curve (Brookmeyer
    and Crowley 1982), its upper end infinite where the data do not bound it. No limits below three times.
    """
    times, censored = np.asarray(times, dtype=float), np.asarray(censored, dtype=bool)
    if not len(times):
        return Interval(np.nan, np.nan, np.nan)
    curve = stats.ecdf(stats.CensoredData.right_censored(times, censored)).sf
    at, survive = curve.quantiles, curve.probabilities
    median = _first(at, survive <= 0.5)
    if len(times) < 3:
        return Interval(median, np.nan, np.nan)
    band = _band(survive, curve, confidence)
    return Interval(median, _first(at, band[0] <= 0.5), _first(at, band[1] < 0.5))


def _band(survive: np.ndarray, curve: object, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limits of the survival curve: one before the first event, zero once nobody is left."""
    with warnings.catch_warnings():  # undefined at exactly those two ends
        warnings.simplefilter("ignore", RuntimeWarning)
        limits = curve.confidence_interval(confidence, method="log-log")
    ends = (survive == 1) * 1.0
    return tuple(
        np.where(np.isfinite(side.probabilities), side.probabilities, ends) for side in (limits.low, limits.high)
    )


def _first(at: np.ndarray, reached: np.ndarray) -> float:
    """The first time at which something holds; infinite if it never does."""
    return float(at[np.argmax(reached)]) if reached.any() else np.inf
