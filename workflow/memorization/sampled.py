"""Exposure among fills drawn uniformly from the space (Secret Sharer §4.3, "sampling"; brief 4.4), and its interval."""

from dataclasses import dataclass
from math import log2, nan

import numpy as np
from scipy import stats

FEW = 16
"""Up to so many canaries their references are counted one by one; for more they are sorted once."""


@dataclass(frozen=True)
class Exposure:
    """An exposure in bits with its 95 % interval; `share` = rank / |R|, NaN where no rank is estimated."""

    bits: float
    low_bits: float
    high_bits: float
    extrapolated: bool
    share: float = nan
    share_low: float = nan
    share_high: float = nan


def sampled(cost: float, reference_costs: np.ndarray, space_bits: float) -> Exposure:
    """Exposure among float64[n] costs of fills drawn uniformly from R without the canary (brief 4.4).

    p = (1 + #{references that cost at most `cost`}) / (1 + n). Interval: Clopper-Pearson on the count, turned into
    bits, one-sided at 95 % where no (or every) reference is cheaper; never beyond log2|R|. It is exact, and the
    interval a point, when the references are all other fills. `extrapolated` marks a canary that beats every
    reference: its exposure is then only known to be large.
    """
    return sampled_each(np.array([cost]), reference_costs, space_bits)[0]


def sampled_each(costs: np.ndarray, reference_costs: np.ndarray, space_bits: float) -> list[Exposure]:
    """As `sampled`, of float64[m] costs of canaries, all against the same references."""
    references, n = np.asarray(reference_costs), len(reference_costs)
    if len(costs) > FEW:
        counts = np.searchsorted(np.sort(references), costs, side="right")
    else:
        counts = np.array([np.count_nonzero(references <= cost) for cost in costs])
    shares = (1 + counts) / (1 + n)
    if n + 1 >= round(2**space_bits):
        return [Exposure(-log2(p), -log2(p), -log2(p), False, p, p, p) for p in shares.tolist()]
    lows, highs = _clopper_pearson(counts, n)
    most = min(space_bits, log2(max(n, 1)))
    found = zip(shares.tolist(), np.maximum(lows, 2.0**-space_bits).tolist(), highs.tolist(), strict=True)
    return [Exposure(-log2(p), -log2(high), -log2(low), -log2(p) > most, p, low, high) for p, low, high in found]


def _clopper_pearson(counts: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """95 % limits of shares of which int[m] `counts` of n were seen, one-sided for none and all."""
    none, every = counts == 0, counts == n
    tail = np.where(none | every, 0.05, 0.025)
    low = stats.beta.ppf(tail, np.maximum(counts, 1), n - counts + 1)
    high = stats.beta.ppf(1 - tail, counts + 1, np.maximum(n - counts, 1))
    return np.where(none, 0.0, low), np.where(every, 1.0, high)
