"""The skew-normal model of log-perplexities: fit, goodness of fit, and its lower tail in bits (Secret Sharer §4.3)."""

from dataclasses import dataclass, field
from math import isfinite, nan

import numpy as np
from scipy import optimize, special, stats

from memorization.errors import UserError

LN2 = np.log(2.0)
REFIT_SIZE = 2000
"""Bootstrap refits use resamples of at most this many costs and are rescaled to the whole sample's size."""
_SHAPE_LIMIT = 200.0
_TAIL = 1e-3
_NODES, _WEIGHTS = np.polynomial.laguerre.laggauss(64)


@dataclass(frozen=True)
class SkewNormalFit:
    """rho(x) = (2/w) phi(z) Phi(a z), z = (x - m)/w, with location m and scale w in bits, shape a (brief 4.5).

    converged       the optimiser met its gradient test away from the shape limit; False for degenerate costs (scale 0)
    ks_p_naive      Kolmogorov-Smirnov p as if the parameters had not been fitted on the same data: too large
    ks_p_bootstrap  parametric bootstrap: the same statistic of refitted samples of the fit; NaN without resamples
    refits          float64[B, 3] location, scale, shape of refits to resamples of the costs, for intervals
    refit_size      size of these resamples
    """

    location_bits: float
    scale_bits: float
    shape: float
    converged: bool
    references: int
    ks_statistic: float = nan
    ks_p_naive: float = nan
    ks_p_bootstrap: float = nan
    refits: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    refit_size: int = 0

    @property
    def parameters(self) -> tuple[float, float, float]:
        """(shape, location, scale) in scipy.stats.skewnorm's order."""
        return self.shape, self.location_bits, self.scale_bits


def cdf(x: np.ndarray, shape: float, location: float, scale: float) -> np.ndarray:
    """Phi(z) - 2 T(z, a) with Owen's T: accurate absolutely, not in the far lower tail."""
    z = (x - location) / scale
    return special.ndtr(z) - 2 * special.owens_t(z, shape)


def log_cdf(x: np.ndarray, shape: float, location: float, scale: float) -> np.ndarray:
    """Natural log of the skew-normal distribution function, any distance into the lower tail.

    Where the distribution function is below 1e-3 it is integrated in log space: the log density g is concave, so with
    u = slope * (z - t), the integral of exp g(t) dt for t < z is exp(g(z)) / slope times that of exp(-u) h(u) du with
    0 < h <= 1 smooth: Gauss-Laguerre with 64 nodes (relative error below 1e-9). scipy's logcdf is -inf from about
    1,070 bits on, and Owen's T cancels for positive shapes long before.
    """
    z = np.atleast_1d((np.asarray(x, dtype=np.float64) - location) / scale)
    value = cdf(z, shape, 0.0, 1.0)
    tail = (value < _TAIL) & (z < 0)
    out = np.log(np.clip(value, _TAIL / 2, 1.0))

    def log_density(t: np.ndarray) -> np.ndarray:
        return LN2 - t * t / 2 - np.log(2 * np.pi) / 2 + special.log_ndtr(shape * t)

    at = z[tail][:, None]
    slope = -at + shape * _hazard(shape * at)
    inner = np.exp(log_density(at - _NODES / slope) - log_density(at) + _NODES)
    out[tail] = (log_density(at) - np.log(slope))[:, 0] + np.log(inner @ _WEIGHTS)
    return out


def _hazard(t: np.ndarray) -> np.ndarray:
    """phi(t) / Phi(t), stable for t far below zero: sqrt(2/pi) / erfcx(-t / sqrt 2)."""
    return np.sqrt(2 / np.pi) / special.erfcx(-t / np.sqrt(2))


def _negative_log_likelihood(theta: np.ndarray, x: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over float64[n] x, and its gradient, at (location, log scale, shape)."""
    location, log_scale, shape = theta
    scale = np.exp(log_scale)
    z = (x - location) / scale
    # One special function serves value and gradient: Phi(t) = erfcx(u) exp(-u^2) / 2 with u = -t / sqrt 2.
    u = np.maximum(-shape * z / np.sqrt(2), -26.0)  # Phi is 1 from there on, and erfcx would overflow
    scaled = special.erfcx(u)
    hazard = np.sqrt(2 / np.pi) / scaled
    pull = z - shape * hazard
    value = log_scale + np.mean(z * z / 2 + u * u - np.log(scaled / 2))
    gradient = -np.mean(pull) / scale, 1 - np.mean(z * pull), -np.mean(z * hazard)
    return value, np.array(gradient)


def _moments(x: np.ndarray) -> list[np.ndarray]:
    """Starting points for standardised costs: the method of moments, both signs where the skewness is near zero."""
    skewness = float(stats.skew(x))
    starts = []
    for s in (skewness,) if abs(skewness) > 0.1 else (-0.1, 0.1):
        cube = abs(np.clip(s, -0.95, 0.95)) ** (2 / 3)
        delta = np.sign(s) * np.sqrt(np.pi / 2 * cube / (cube + ((4 - np.pi) / 2) ** (2 / 3)))
        scale = 1 / np.sqrt(1 - 2 * delta**2 / np.pi)
        shape = np.clip(delta / np.sqrt(max(1 - delta**2, 1e-6)), -30, 30)
        starts.append(np.array([-scale * delta * np.sqrt(2 / np.pi), np.log(scale), shape]))
    return starts


def _maximise(costs: np.ndarray, start: np.ndarray | None = None) -> tuple[float, float, float, bool]:
    """(location, scale, shape, converged) by maximum likelihood; `start` as these three, else from moments."""
    mean, spread = float(np.mean(costs)), float(np.std(costs))
    if not spread > 1e-9 * max(1.0, abs(mean)):
        return mean, 0.0, 0.0, False
    x = (costs - mean) / spread
    if start is None:
        starts = _moments(x)
    else:
        starts = [np.array([(start[0] - mean) / spread, np.log(start[1] / spread), start[2]])]
    bounds = [(-10, 10), (-7, 4), (-_SHAPE_LIMIT, _SHAPE_LIMIT)]
    options = {"maxiter": 300, "ftol": 1e-13 if start is None else 1e-10, "gtol": 1e-6}
    fits = [
        optimize.minimize(
            _negative_log_likelihood,
            s,
            args=(x,),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options=options,
        )
        for s in starts
    ]
    best = min(fits, key=lambda f: f.fun)
    location, log_scale, shape = best.x
    gradient = float(np.abs(best.jac).max())
    converged = bool(isfinite(best.fun) and gradient < 1e-3 and abs(shape) < _SHAPE_LIMIT)
    return mean + spread * float(location), spread * float(np.exp(log_scale)), float(shape), converged


def fit_skew_normal(costs: np.ndarray, *, bootstrap: int = 0, rng: np.random.Generator | None = None) -> SkewNormalFit:
    """Maximum likelihood fit to float64[n] costs in bits of fills drawn uniformly (Secret Sharer §4.3; brief 4.5).

    With `bootstrap` > 0 (needs `rng`): that many refits to resamples, for intervals, and as many to samples of the fit,
    for the K-S p-value. Each uses at most `REFIT_SIZE` costs, to stay affordable; K-S statistics are compared as
    sqrt(n) D, whose limit does not depend on n. Never raises for degenerate costs: see `SkewNormalFit.converged`.
    """
    costs = np.asarray(costs, dtype=np.float64)
    if len(costs) < 3 or not np.isfinite(costs).all():
        raise UserError(f"skew-normal fit: {len(costs)} reference costs; needs at least three, all finite")
    location, scale, shape, converged = _maximise(costs)
    if scale == 0:
        return SkewNormalFit(location, scale, shape, converged, len(costs))
    ks = stats.kstest(costs, cdf, args=(shape, location, scale))
    p_bootstrap, refits, size = nan, np.zeros((0, 3)), min(len(costs), REFIT_SIZE)
    if bootstrap and rng is not None:
        start = np.array([location, scale, shape])
        refits = np.array([_maximise(rng.choice(costs, size), start)[:3] for _ in range(bootstrap)])
        null = [_ks_of_refit(start, size, rng) for _ in range(bootstrap)]
        observed = np.sqrt(len(costs)) * ks.statistic
        p_bootstrap = float((1 + np.count_nonzero(np.array(null) >= observed)) / (1 + bootstrap))
    return SkewNormalFit(
        location,
        scale,
        shape,
        converged,
        len(costs),
        float(ks.statistic),
        float(ks.pvalue),
        p_bootstrap,
        refits,
        size,
    )


def _ks_of_refit(parameters: np.ndarray, size: int, rng: np.random.Generator) -> float:
    """sqrt(n) times the K-S statistic of one sample of the fit, with parameters fitted to that sample."""
    location, scale, shape = parameters
    sample = stats.skewnorm.rvs(shape, location, scale, size=size, random_state=rng)
    m, w, a, _ = _maximise(sample, parameters)
    return float(np.sqrt(size) * stats.kstest(sample, cdf, args=(a, m, w)).statistic)


def tail_bits(cost: float | np.ndarray, fit: SkewNormalFit) -> np.ndarray:
    """float64[n]: -log2 of the fitted probability of costing at most `cost`; NaN for a degenerate fit."""
    cost = np.atleast_1d(np.asarray(cost, dtype=np.float64))
    if not fit.scale_bits > 0:
        return np.full(len(cost), nan)
    return np.maximum(-log_cdf(cost, *fit.parameters) / LN2, 0.0)


def tail_interval(cost: float | np.ndarray, fit: SkewNormalFit) -> tuple[np.ndarray, np.ndarray]:
    """95 % bootstrap intervals in bits of `tail_bits`, (float64[n] low, float64[n] high); NaN without refits.

    The refits' spread around their mean, shrunk by sqrt(refit_size / references): the m-out-of-n bootstrap's rescaling.
    """
    point = tail_bits(cost, fit)
    usable = fit.refits[fit.refits[:, 1] > 0] if len(fit.refits) else fit.refits
    if len(usable) < 2:
        return np.full(len(point), nan), np.full(len(point), nan)
    values = np.array([-log_cdf(cost, a, m, w) for m, w, a in usable]) / LN2
    shrink = np.sqrt(fit.refit_size / fit.references)
    low, high = point + shrink * (np.quantile(values, [0.025, 0.975], axis=0) - values.mean(axis=0))
    return np.maximum(low, 0.0), high
