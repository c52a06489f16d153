"""What a test of a claim returns, and the rules that turn an interval into a verdict.

A test returns None as its verdict when the table cannot decide: too few seeds, or the wrong size of
experiment. A test that finds its effect at level .05 counts with any number of seeds; the absence of one
counts as "not reproduced" only with as many seeds as the brief plans (`seeds`), or where the data contradict
the claim.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from memorization import tidy
from memorization.statistics import Interval


@dataclass(frozen=True)
class Outcome:
    """What a test found. `n` counts independent seeds; `summary` is one line for people."""

    verdict_supported: bool | None
    estimate: float = np.nan
    low: float = np.nan
    high: float = np.nan
    statistic: float = np.nan
    p_value: float = np.nan
    n: int = 0
    summary: str = ""


def undecided(summary: str, n: int = 0, **numbers: float) -> Outcome:
    """The table cannot decide; `summary` says why."""
    return Outcome(None, n=n, summary=summary, **numbers)


def decide(found: bool, contradicted: bool, n: int, planned: int) -> bool | None:
    """True if found; False if contradicted or not found although n reaches the planned seeds; else None."""
    if found:
        return True
    return False if contradicted or n >= planned else None


def equivalent(p_value: float, interval: Interval, margin: float) -> bool | None:
    """Verdict of a TOST within +-margin: True where it passes, False where its interval lies outside, else None: that
    equivalence was not shown does not show a difference.
    """
    if p_value < 0.05:
        return True
    return False if interval.low > margin or interval.high < -margin else None


def within(interval: Interval, low: float, high: float, n: int, planned: int) -> bool | None:
    """Does a value lie in [low, high]? By its interval; by the estimate alone only with the planned seeds."""
    inside = low <= interval.low and interval.high <= high
    disjoint = interval.high < low or interval.low > high
    enough = n >= planned and low <= interval.estimate <= high
    return decide(inside or enough, disjoint, n, planned)


def shown(interval: Interval, unit: str = "") -> str:
    """`12.3 [11.0, 13.1] bits`."""
    tail = f" [{interval.low:.3g}, {interval.high:.3g}]" if np.isfinite(interval.low) else ""
    return f"{interval.estimate:.3g}{tail} {unit}".strip()


def per_seed(frame: pd.DataFrame, value: str) -> pd.Series:
    """One mean of `value` per independent seed."""
    return frame.groupby(tidy.seeds(frame))[value].mean()
