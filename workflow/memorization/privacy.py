"""Privacy accounting in one place: epsilon of the sampled Gaussian mechanism, and the noise that a wanted one needs.

The mechanism is `steps` times: take each record with probability q (Poisson), sum gradients clipped to l2 norm C, add
N(0, (sigma C)^2). Neighbours differ by one record added or removed. Three conventions turn it into (epsilon, delta):

classic_rdp  min over orders a of RDP(a) + ln(1/delta) / (a - 1): Mironov 2017, Proposition 3. The papers' numbers.
rdp          the same Rényi divergences, today's tighter conversion (Canonne, Kamath, Steinke 2020, Proposition 12).
pld          the privacy loss distribution itself, discretised upwards.

All three are upper bounds by `dp_accounting`, which takes seconds to import and is therefore imported late.
"""

import logging
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from memorization import contracts
from memorization.errors import UserError
from memorization.privacy_file import steps_per_epoch
from memorization.specs import PrivacySpec, RunSpec, Trainable

ORDERS = (*(1 + x / 10 for x in range(1, 100)), *map(float, range(12, 64)), 128.0, 256.0, 512.0, 1024.0)
"""Rényi orders that the RDP conventions minimise over: the published scripts' 1.1 .. 10.9 and 12 .. 63, and four high
ones. Without the latter the classic epsilon cannot fall below ln(1/delta) / 62 (0.19 at delta 1e-5, 0.33 at 1e-9); they
change no published value, whose best orders lie between 2.9 and 17. At tiny noise the lowest order, 1.1, decides the
epsilon: a grid that began lower would give a smaller one. Hence both ends are stored with every epsilon."""

CONVENTIONS = {"classic": "classic_rdp", "rdp": "rdp", "pld": "pld"}
"""`privacy.accountant` of a specification -> convention in privacy.csv."""

LEAST_NOISE, MOST_NOISE = 1e-6, 1e5
"""Noise multipliers between which calibration searches: epsilons from the conversion's floor to beyond 1e15."""
LEAST_PLD_NOISE = 0.3
"""Below, PLD is not computed: epsilon is in the hundreds or more and bounds nothing, and the discretised distribution,
whose range grows with epsilon, takes more than the 5 s and the memory of an evaluation at this noise."""
TOLERANCE = {"classic": 1e-6, "rdp": 1e-6, "pld": 5e-5}
"""Relative precision of a calibrated noise multiplier; epsilon moves at most about six times as much. One evaluation
takes 0.05 s by RDP and up to 5 s by PLD."""


def divergences(noise_multiplier: float, sample_rate: float, steps: int) -> np.ndarray:
    """Rényi divergences of the composed mechanism, float64[len(ORDERS)].

    dp_accounting's, which for a fractional order are slight overestimates (in 0.6.0 its series loses the signs), and
    infinite where that series does not converge: low orders at noise 0.2 to 3 and large sample rates. Those orders are
    integrated here; without them epsilon would jump up, by half in places, as the noise grows.
    """
    from dp_accounting import rdp

    # Where its series does not converge it warns, one line per order.
    logging.getLogger("absl").setLevel(logging.ERROR)
    accountant = rdp.RdpAccountant(ORDERS).compose(_event(noise_multiplier, sample_rate, steps))
    # The library shows its divergences only through its own conversion; its version is pinned.
    values = accountant._rdp
    for k in np.flatnonzero(np.isinf(values)):
        values[k] = steps * integrated_divergence(noise_multiplier, sample_rate, ORDERS[k])
    return values


def integrated_divergence(noise_multiplier: float, sample_rate: float, order: float) -> float:
    """Rényi divergence of one step, ln(A) / (order - 1), with A by the trapezoidal rule (relative error below 1e-9).

    A = E[(1 - q + q exp((2z - 1) / (2 sigma^2)))^order] over z ~ N(0, sigma^2): Mironov, Talwar, Zhang 2019, §3.3.
    """
    from scipy.special import logsumexp

    variance = noise_multiplier**2
    # The integrand's singularities lie pi sigma^2 off the real line; its bulk between 0 and the order.
    step = min(noise_multiplier / 20, variance / 2)
    z = np.arange(-12 * noise_multiplier, order + 12 * noise_multiplier, step)
    ratio = np.logaddexp(math.log1p(-sample_rate), math.log(sample_rate) + (2 * z - 1) / (2 * variance))
    log_a = logsumexp(order * ratio - z**2 / (2 * variance)) + math.log(step / math.sqrt(2 * math.pi * variance))
    return float(log_a) / (order - 1)


def epsilon(noise_multiplier: float, sample_rate: float, steps: int, delta: float, convention: str) -> float:
    """Epsilon by one convention; NaN where PLD is not computed, infinite without noise."""
    return _epsilon_and_order(noise_multiplier, sample_rate, steps, delta, convention)[0]


def epsilons(noise_multiplier: float, sample_rate: float, steps: int, delta: float) -> list[dict[str, Any]]:
    """One row per convention: convention, epsilon, order, lowest_order, highest_order.

    epsilon is infinite for noise 0 (clipping only) and NaN for pld below `LEAST_PLD_NOISE`; order (the best one) is
    NaN for pld and where epsilon is infinite.
    """
    rows = []
    for convention in CONVENTIONS.values():
        value, order = _epsilon_and_order(noise_multiplier, sample_rate, steps, delta, convention)
        ends = (math.nan, math.nan) if convention == "pld" else (min(ORDERS), max(ORDERS))
        names = ("convention", "epsilon", "order", "lowest_order", "highest_order")
        rows.append(dict(zip(names, (convention, value, order, *ends), strict=True)))
    return rows


def calibrate(wanted: float, delta: float, sample_rate: float, steps: int, accountant: str) -> float:
    """The least noise multiplier whose epsilon by `accountant` (classic, rdp or pld) is at most `wanted`.

    Its epsilon is at most `wanted` and within 0.1 % of it (2 % in the few places where `divergences` of a low order
    change from the library's overestimate to the integral). One search serves all conventions and all magnitudes, since
    it is relative; dp_accounting's own calibration stops at an absolute 1e-6, 0.2 % of epsilon at 1e10.
    Raises UserError for an epsilon that no noise considered gives.
    """
    from scipy import optimize

    convention = CONVENTIONS[accountant]

    def excess(log_noise: float) -> float:
        value = epsilon(math.exp(log_noise), sample_rate, steps, delta, convention)
        return math.log(max(value, 1e-300) / wanted)

    start, factor = 1.0, 2.0
    if accountant == "pld" and wanted > floor(delta, "rdp"):
        # What RDP asks for is a little too much; PLD is dear, so its search begins there and in small steps.
        start, factor = calibrate(wanted, delta, sample_rate, steps, "rdp"), 1.1
    bracket = None
    if wanted > floor(delta, accountant):
        bracket = _bracket(excess, start, factor, *_limits(accountant))
    if bracket is None:
        lowest, highest = reachable(delta, sample_rate, steps, accountant)
        raise UserError(
            f"privacy.epsilon: {wanted:g} cannot be reached in {steps} steps at delta {delta:g} by the {accountant} "
            f"accountant; possible are {lowest:.4g} to {highest:.4g}"
        )
    log_noise, more = optimize.brentq(excess, *bracket, xtol=TOLERANCE[accountant]), TOLERANCE[accountant]
    while excess(log_noise) > 0:
        log_noise, more = min(log_noise + more, bracket[1]), 2 * more
    return math.exp(log_noise)


def reachable(delta: float, sample_rate: float, steps: int, accountant: str) -> tuple[float, float]:
    """The lowest and the highest epsilon that `calibrate` can reach: at the most and the least noise considered."""
    convention = CONVENTIONS[accountant]
    low, high = _limits(accountant)
    lowest = epsilon(high, sample_rate, steps, delta, convention)
    return max(lowest, floor(delta, accountant)), epsilon(low, sample_rate, steps, delta, convention)


def floor(delta: float, accountant: str) -> float:
    """What the conversion alone costs, with endless noise: no epsilon below it can be shown with `ORDERS`."""
    if accountant == "pld":
        return 0.0
    if accountant == "classic":
        return -math.log(delta) / (max(ORDERS) - 1)
    return max(0.0, min(math.log1p(-1 / a) - math.log(delta * a) / (a - 1) for a in ORDERS))


def check(spec: Trainable, examples: int | None, where: str) -> None:
    """Refuse at parse time what accounting would refuse later; cheap, imports nothing.

    examples: number of records, None while the data are not at hand. Raises UserError, beginning with `where`, for a
    batch larger than the data and for an epsilon below the conversion's `floor`.
    """
    privacy: PrivacySpec | None = getattr(spec, "privacy", None)
    if privacy is None:
        return
    if examples is not None:
        _require_batch(spec.training.batch_size, examples, where)
    lowest = floor(privacy.delta, privacy.accountant)
    if privacy.epsilon is not None and privacy.epsilon <= lowest:
        raise UserError(
            f"{where}: privacy.epsilon: {privacy.epsilon:g} cannot be reached: at delta {privacy.delta:g} the "
            f"{privacy.accountant} accountant shows at least {lowest:.3g} whatever the noise; raise epsilon or delta"
        )
    if privacy.epsilon is not None and examples is not None:
        steps = spec.training.epochs * steps_per_epoch(examples, spec.training.batch_size)
        # Without amplification by sampling a step's divergence of order a is a / (2 sigma^2); sampling only lowers it.
        highest = steps * ORDERS[0] / (2 * LEAST_NOISE**2) + math.log(1 / privacy.delta) / (ORDERS[0] - 1)
        if privacy.epsilon > highest:
            raise UserError(
                f"{where}: privacy.epsilon: {privacy.epsilon:g} cannot be reached: in {steps:g} steps even noise "
                f"{LEAST_NOISE:g} gives at most {highest:.3g}; leave epsilon out for clipping without noise"
            )


def account(spec: Trainable, examples: int) -> pd.DataFrame:
    """Rows of contract `privacy`, one per convention, for a private training on `examples` records.

    With neither a noise multiplier nor an epsilon in `spec.privacy` the noise is 0 and epsilon infinite. Steps are
    those of all epochs, even if patience may end a training earlier. Raises UserError as `check` and `calibrate` do,
    and for a specification that is not private.
    """
    privacy: PrivacySpec | None = spec.privacy
    if privacy is None:
        raise UserError("the specification has no `privacy`: there is nothing to account for")
    batch = spec.training.batch_size
    check(spec, examples, "accounting")
    rate, steps = batch / examples, max(1, round(spec.training.epochs * steps_per_epoch(examples, batch)))
    noise = privacy.noise_multiplier or 0.0
    if privacy.epsilon is not None:
        noise = calibrate(privacy.epsilon, privacy.delta, rate, steps, privacy.accountant)
    frame = pd.DataFrame(epsilons(noise, rate, steps, privacy.delta)).assign(
        delta=privacy.delta,
        noise_multiplier=noise,
        clip=privacy.clip,
        sample_rate=rate,
        steps=steps,
        examples=examples,
        batch_size=batch,
        unit=_unit(spec),
        sampling=privacy.sampling,
        target_epsilon=math.nan if privacy.epsilon is None else privacy.epsilon,
    )
    return contracts.check("privacy", frame)


def _unit(spec: Trainable) -> str:
    """What one record is. k copies of a canary in k windows are k records, to which the epsilon does not apply."""
    if isinstance(spec, RunSpec):
        return f"a training window of {spec.training.sequence_length} {spec.corpus.unit}s"
    return "an image"


def _event(noise_multiplier: float, sample_rate: float, steps: int) -> Any:
    import dp_accounting

    gaussian = dp_accounting.GaussianDpEvent(noise_multiplier)
    return dp_accounting.SelfComposedDpEvent(dp_accounting.PoissonSampledDpEvent(sample_rate, gaussian), steps)


@lru_cache(maxsize=1024)
def _epsilon_and_order(
    noise_multiplier: float, sample_rate: float, steps: int, delta: float, convention: str
) -> tuple[float, float]:
    if noise_multiplier == 0:
        return math.inf, math.nan
    if convention == "pld":
        if noise_multiplier < LEAST_PLD_NOISE:
            return math.nan, math.nan
        from dp_accounting import pld

        accountant = pld.PLDAccountant().compose(_event(noise_multiplier, sample_rate, steps))
        return float(accountant.get_epsilon(delta)), math.nan
    values = divergences(noise_multiplier, sample_rate, steps)
    if convention == "classic_rdp":
        bounds = values - math.log(delta) / (np.array(ORDERS) - 1)
        best = int(np.argmin(bounds))
        return float(bounds[best]), ORDERS[best]
    from dp_accounting import rdp

    value, order = rdp.compute_epsilon(ORDERS, values, delta)
    return float(value), float(order)


def _limits(accountant: str) -> tuple[float, float]:
    return LEAST_PLD_NOISE if accountant == "pld" else LEAST_NOISE, MOST_NOISE


def _bracket(
    excess: Callable[[float], float], start: float, factor: float, low: float, high: float
) -> tuple[float, float] | None:
    """Two log-noises with `excess` >= 0 at the first and <= 0 at the second, found by multiplying or dividing the noise
    by `factor` from `start` within [low, high]; None where there are none. `excess` falls as the noise grows.
    """
    at = before = max(start, low)
    rising = excess(math.log(at)) > 0
    while at < high if rising else at > low:
        before, at = at, min(at * factor, high) if rising else max(at / factor, low)
        if (excess(math.log(at)) > 0) is not rising:
            return (math.log(before), math.log(at)) if rising else (math.log(at), math.log(before))
    return None


def _require_batch(batch: int, examples: int, where: str) -> None:
    if examples < batch:
        raise UserError(
            f"{where}: training.batch_size: {batch} is more than the {examples} records of training data; "
            "lower it, or use more data"
        )
