"""What a test of a claim returns, and the rules that turn an interval into a verdict.

A test returns None as its verdict when the table cannot decide: too few seeds, or the wrong size of
experiment. A test that finds its effect at level .05 counts with any number of seeds; the absence of one
counts as "not reproduced" only with as many seeds as the brief plans (`seeds`), or where the data contradict
the claim.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from memorization import statistics, tidy
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


def sided(found: bool, contradicted: bool, toward: bool, n: int, planned: int) -> tuple[bool | None, str]:
    """As `decide` for a claim of a direction, and why it stays open (for the summary; empty where it does not).

    toward: all estimates lie on the claimed side. Then the absence of significance shows little: with five seeds a
    signed-rank test needs all five to agree, which those of an effect of one standard deviation do in 42 % of
    experiments. Where an estimate does not even lie there, effects above 1.645 / sqrt(n) standard deviations (0.74 with
    five seeds) are excluded at level .05; that counts as "not reproduced" from the planned seeds on.
    """
    if found or contradicted:
        return bool(found), ""
    if toward:
        return None, f"; in the claimed direction, but {n} seeds do not tell it from chance"
    return (False, "") if n >= planned else (None, f"; {n} seeds are too few to say that it is absent")


def above(interval: Interval, least: float, n: int, planned: int) -> tuple[bool | None, str]:
    """`sided` for the claim that a value exceeds `least`, by its interval."""
    return sided(interval.low > least, interval.high < least, interval.estimate > least, n, planned)


def below(interval: Interval, limit: float, n: int, planned: int) -> tuple[bool | None, str]:
    """`sided` for the claim that a value stays under `limit`, by its interval."""
    return sided(interval.high < limit, interval.low > limit, interval.estimate < limit, n, planned)


def direction(differences: pd.Series) -> int:
    """1 or -1 where paired differences, one per seed, lie above or below 0 (Wilcoxon's signed-rank test at .05 on that
    side, as the claims are tested themselves), else 0.
    """
    above, below = (statistics.wilcoxon_paired(differences, 0 * differences, side) for side in ("greater", "less"))
    return int(above.p_value < 0.05) - int(below.p_value < 0.05)


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
