"""Intervals and tests: thin wrappers over SciPy, plus Firth's logistic regression, which SciPy lacks.

The unit of every sample is a seed (an independent training), never a checkpoint or a canary (brief §6).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

FEWEST = 6
"""Values (or clusters) from which a bootstrap interval of a median is given: below, not even their whole range covers
the median with 95 % (1 - 2^(1-n))."""
NULL_MEAN_BITS = 1 / np.log(2)
"""Mean exposure of a canary that was not inserted: it is exponential, P(exposure >= x) = 2^-x (brief §4.6).
"""


class Interval(NamedTuple):
    """A point estimate and its confidence limits (NaN where the sample is too small for them)."""

    estimate: float
    low: float
    high: float


class Test(NamedTuple):
    """A test's statistic and p-value."""

    __test__ = False  # not a test case of pytest
    statistic: float
    p_value: float


def binomial_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """A share with Clopper and Pearson's exact interval."""
    low, high = stats.binomtest(successes, n).proportion_ci(confidence, method="exact")
    return Interval(successes / n, low, high)


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's interval of the mean; without limits below two values."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return Interval(float(x.mean()) if len(x) else np.nan, np.nan, np.nan)
    half = stats.t.ppf((1 + confidence) / 2, len(x) - 1) * stats.sem(x)
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


def bootstrap_interval(
    values: Sequence[float],
    statistic: Callable = np.mean,
    confidence: float = 0.95,
    resamples: int = 4_999,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap for medians, BCa otherwise; without limits below `FEWEST` (median) or three values.

    BCa needs a smooth statistic; the median of a small sample is not one (Efron & Tibshirani 1993, §14).
    """
    x = np.asarray(values, dtype=float)
    if len(x) < (FEWEST if statistic is np.median else 3):
        return Interval(float(statistic(x)) if len(x) else np.nan, np.nan, np.nan)
    if np.ptp(x) == 0:
        return Interval(float(x[0]), float(x[0]), float(x[0]))
    result = stats.bootstrap(
        (x,), statistic, confidence_level=confidence, n_resamples=resamples,
        method="percentile" if statistic is np.median else "BCa", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return Interval(float(statistic(x)), *map(float, result.confidence_interval))


def cluster_bootstrap(
    statistic: Callable[[np.ndarray], float],
    clusters: Sequence,
    confidence: float = 0.95,
    resamples: int = 499,
    seed: int = 0,
) -> Interval:
    """Percentile interval of `statistic(int row numbers)` when whole clusters of rows are resampled; without limits
    below `FEWEST` clusters.
    """
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    members = [np.flatnonzero(codes == k) for k in range(codes.max() + 1)]
    point = float(statistic(np.arange(len(codes))))
    if len(members) < FEWEST:
        return Interval(point, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    draws = [
        statistic(np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))]))
        for _ in range(resamples)
    ]
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return Interval(point, float(low), float(high))


def wilcoxon_paired(after: Sequence[float], before: Sequence[float], alternative: str = "greater") -> Test:
    """Wilcoxon's signed-rank test of after - before; all differences zero gives p = 1."""
    difference = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    if not difference.any():
        return Test(0.0, 1.0)
    result = stats.wilcoxon(difference, alternative=alternative)
    return Test(float(result.statistic), float(result.pvalue))


def equivalence(values: Sequence[float], low: float, high: float) -> tuple[Interval, Test]:
    """TOST: is the mean inside (low, high)? For paired samples pass the differences. 90 % interval, larger p.

    Schuirmann 1987. Equivalent at level .05 exactly when the 90 % interval lies inside (low, high). Equal values are
    judged by the sign test instead.
    """
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return t_interval(x, 0.90), Test(np.nan, np.nan)
    if np.ptp(x) == 0:  # no spread, as of whole epochs: t is undefined, and a few equal values are no proof
        return Interval(x[0], x[0], x[0]), Test(np.nan, 0.5 ** len(x) if low < x[0] < high else 1.0)
    sides = (stats.ttest_1samp(x, low, alternative="greater"), stats.ttest_1samp(x, high, alternative="less"))
    worst = max(sides, key=lambda side: side.pvalue)
    return t_interval(x, 0.90), Test(float(worst.statistic), float(worst.pvalue))


def equivalence_of_means(a: Sequence[float], b: Sequence[float], low: float, high: float) -> tuple[Interval, Test]:
    """TOST of two independent samples: is mean(a) - mean(b) inside (low, high)? 90 % interval, larger p (Welch's t)."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    difference = float(x.mean() - y.mean()) if len(x) and len(y) else np.nan
    if min(len(x), len(y)) < 2 or np.ptp(x) + np.ptp(y) == 0:
        return Interval(difference, np.nan, np.nan), Test(np.nan, np.nan)
    sides = (
        stats.ttest_ind(x, y + low, equal_var=False, alternative="greater"),
        stats.ttest_ind(x, y + high, equal_var=False, alternative="less"),
    )
    worst = max(sides, key=lambda side: side.pvalue)
    limits = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.90)
    return Interval(difference, float(limits.low), float(limits.high)), Test(
        float(worst.statistic), float(worst.pvalue)
    )


def jonckheere(groups: Sequence[Sequence[float]], alternative: str = "greater") -> Test:
    """Ordered alternatives over independent groups: Kendall's tau of group number and value.

    Jonckheere and Terpstra's statistic is an affine function of Kendall's S with tied group numbers.
    """
    order = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    result = stats.kendalltau(order, np.concatenate(groups), alternative=alternative)
    return Test(float(result.statistic), float(result.pvalue))


def censored_tau(x: np.ndarray, y: np.ndarray, bound: np.ndarray) -> float:
    """Kendall's tau-a of float64[n] x and y where bool[n] `bound` marks values of y that are only lower bounds.

    A pair whose order a bound leaves open counts as a tie (Brown, Hollander, Korwar 1974), so bounds cannot make up a
    trend, in either direction.
    """
    above = (y[:, None] > y[None, :]) & ~bound[None, :]  # y_i, or what it is at least, exceeds a y_j that is known
    above |= bound[:, None] & ~bound[None, :] & (y[:, None] >= y[None, :])
    order = above.astype(int) - above.T.astype(int)
    n = len(x)
    return float((np.sign(x[:, None] - x[None, :]) * order).sum() / (n * (n - 1))) if n > 1 else np.nan


def page(values: np.ndarray) -> Test:
    """Page's trend test: float[seeds, levels], does the value rise with the level?"""
    result = stats.page_trend_test(np.asarray(values, dtype=float))
    return Test(float(result.statistic), float(result.pvalue))


def exponential_null(exposures: Sequence[float]) -> Test:
    """Do exposures (bits) exceed those of canaries that were not inserted, whose sum is Gamma(n)?"""
    total = float(np.sum(exposures))
    return Test(total, float(stats.gamma.sf(total, len(exposures), scale=NULL_MEAN_BITS)))


def exponential_band(coverage: float = 0.90) -> tuple[float, float]:
    """Central interval of a control's exposure in bits, by the exponential law."""
    tail = (1 - coverage) / 2
    return tuple(stats.expon.ppf([tail, 1 - tail], scale=NULL_MEAN_BITS))


def _penalised(intercept: float, slope: float, x: np.ndarray, y: np.ndarray) -> float:
    """Logistic log-likelihood + half the log determinant of the information (Jeffreys' prior)."""
    eta = intercept + slope * x
    log_p, log_q = special.log_expit(eta), special.log_expit(-eta)
    weight = np.exp(log_p + log_q)
    total = weight.sum()
    centre = (weight * x).sum() / total if total > 0 else 0.0
    determinant = total * (weight * (x - centre) ** 2).sum()
    return float(np.sum(y * log_p + (1 - y) * log_q) + 0.5 * np.log(max(determinant, 1e-300)))


def firth_logistic(x: Sequence[float], y: Sequence[bool]) -> tuple[float, float]:
    """(intercept, slope) of Firth's logistic regression (Biometrika 1993): finite if x separates y."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    centre, spread = x.mean(), x.std() or 1.0
    z = (x - centre) / spread
    fit = optimize.minimize(
        lambda b: -_penalised(b[0], b[1], z, y), (0.0, 1.0), method="Nelder-Mead", options={"xatol": 1e-6}
    )
    slope = fit.x[1] / spread
    return float(fit.x[0] - slope * centre), float(slope)


def logistic_midpoint(x: Sequence[float], y: Sequence[bool], confidence: float = 0.95) -> Interval:
    """Where success becomes likelier than failure, with the profile penalised-likelihood interval. NaN where
    there is only one outcome or success does not rise with x; an end is infinite where the data do not bound
    it.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(np.unique(y)) < 2 or np.ptp(x) == 0:
        return Interval(np.nan, np.nan, np.nan)
    intercept, slope = firth_logistic(x, y)
    if slope <= 0:
        return Interval(np.nan, np.nan, np.nan)
    midpoint = -intercept / slope
    limit = _penalised(intercept, slope, x, y) - stats.chi2.ppf(confidence, 1) / 2

    def excess(m: float) -> float:
        best = optimize.minimize_scalar(
            lambda g: -_penalised(-np.exp(g) * m, np.exp(g), x, y),
            bounds=(np.log(slope) - 6, np.log(slope) + 6), method="bounded",
        )  # fmt: skip
        return -best.fun - limit

    reach = 2 * np.ptp(x) + abs(midpoint - np.median(x))
    low, high = (
        optimize.brentq(excess, midpoint, end, xtol=1e-4) if excess(end) < 0 else np.copysign(np.inf, sign)
        for sign, end in ((-1, midpoint - reach), (1, midpoint + reach))
    )
    return Interval(midpoint, float(low), float(high))
