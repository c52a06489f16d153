"""Empirical lower bound on epsilon from one training run with many canaries.

Steinke, Nasr, Jagielski: Privacy Auditing with One (1) Training Run (NeurIPS 2023, arXiv 2305.08846). Fair coins decide
which of m canaries are inserted. Whoever sees the model guesses the coins, or abstains. Under (epsilon, delta)
differential privacy each guess is right with probability at most about q = e^epsilon / (1 + e^epsilon), as if it came
from randomised response, so many right guesses refute a small epsilon.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy import stats

from memorization import contracts

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the canaries that are guessed, fixed beforehand. Few guesses are surer ones, many give more evidence; which
is better depends on the model, so all are tried, each at a fourth of the error (Bonferroni), and the best bound counts.
For 100 canaries, all guessed rightly, the correction costs 0.4 of epsilon 3.5."""


CONFIDENCE = 0.95
"""Of a bound, unless asked otherwise."""


@dataclass(frozen=True)
class Bound:
    """With the asked confidence the training is not (epsilon, delta)-private for any epsilon below `epsilon_low`."""

    epsilon_low: float
    guesses: int
    correct: int


def one_run_bound(
    scores: np.ndarray,
    included: np.ndarray,
    guesses: Sequence[int] | None,
    delta: float,
    confidence: float = 0.95,
) -> Bound:
    """The best lower bound over the given numbers of guesses, Bonferroni-corrected for how many there are.

    scores    float[m], higher = more likely inserted (such as -cost_bits); they may be infinite, not NaN
    included  bool[m], the fair coins; each canary must be one record, inserted at most once
    guesses   numbers of canaries to guess, chosen without looking at `scores`; None: `guess_counts(m)`

    For r guesses the upper half of r (rounded up) with the highest scores are guessed to be in, the lower half with the
    lowest out. Equal scores are ordered by index, which the coins do not know. Raises ValueError for bad input.
    """
    scores, included = np.asarray(scores, dtype=float), np.asarray(included, dtype=bool)
    if scores.ndim != 1 or scores.shape != included.shape or np.isnan(scores).any():
        raise ValueError(f"scores {scores.shape} and included {included.shape} must be [m], without NaN")
    counts = guess_counts(len(scores)) if guesses is None else list(guesses)
    if not counts or min(counts) < 1 or max(counts) > len(scores):
        raise ValueError(f"numbers of guesses {counts} must lie in 1..{len(scores)}")
    order = np.argsort(-scores, kind="stable")
    error = (1 - confidence) / len(counts)
    bounds = []
    for count in counts:
        highest, lowest = order[: (count + 1) // 2], order[len(order) - count // 2 :]
        correct = int(included[highest].sum() + (~included[lowest]).sum())
        bounds.append(Bound(epsilon_low(len(scores), count, correct, delta, error), count, correct))
    return max(bounds, key=lambda bound: (bound.epsilon_low, bound.guesses))


def guess_counts(m: int) -> list[int]:
    """The numbers of guesses tried by default, `SHARES` of m canaries: distinct, at least one."""
    return sorted({max(1, round(share * m)) for share in SHARES})


def attainable(m: int, delta: float, confidence: float = CONFIDENCE) -> float:
    """The largest bound that m canaries can give: every guess is right."""
    counts = guess_counts(m)
    return max(epsilon_low(m, count, count, delta, (1 - confidence) / len(counts)) for count in counts)


def p_value(m: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """At most how likely `correct` or more of `guesses` are right, of m canaries, under (epsilon, delta)-DP.

    With W ~ Binomial(guesses, e^epsilon / (1 + e^epsilon)) it is P[W >= v] + 2 m delta max_i P[v - i <= W < v] / i
    (their Corollary 5.4 and Appendix D): delta may spoil some runs, in which several guesses become certain at once.
    """
    right = 1 / (1 + np.exp(-epsilon))
    bound = stats.binom.sf(correct - 1, guesses, right)
    if delta > 0 and correct > 0:
        i = np.arange(1, correct + 1)
        below = np.cumsum(stats.binom.pmf(correct - i, guesses, right))
        bound += 2 * m * delta * np.max(below / i)
    return min(1.0, float(bound))


@cache
def epsilon_low(m: int, guesses: int, correct: int, delta: float, error: float) -> float:
    """The epsilon up to which `p_value` stays below `error`, by bisection (1e-6); 0 where not even 0 is refuted.

    Any epsilon with a p-value below `error` is a valid bound, also where the p-value should not be monotone.
    """
    if p_value(m, guesses, correct, 0.0, delta) >= error:
        return 0.0
    low, high = 0.0, 1.0
    while p_value(m, guesses, correct, high, delta) < error:
        low, high = high, 2 * high
    while high - low > 1e-6:
        middle = (low + high) / 2
        if p_value(m, guesses, correct, middle, delta) < error:
            low = middle
        else:
            high = middle
    return low


def audit_rows(
    scores: np.ndarray, included: np.ndarray, delta: float, confidence: float = CONFIDENCE, of: int | None = None
) -> pd.DataFrame:
    """Rows of contract `audit`: one bound per replicate, which is one training run.

    scores, included   float[R, m] and bool[R, m], as for `one_run_bound`
    of                 how many replicates the run has, where these are only some of them (default: R)

    `confidence` is that of the bounds of all `of` replicates together (Bonferroni), so that the largest may be quoted.
    """
    rows, each = [], 1 - (1 - confidence) / (of or len(scores))
    for replicate, (own, coins) in enumerate(zip(np.asarray(scores), np.asarray(included), strict=True)):
        bound = one_run_bound(own, coins, None, delta, each)
        rows.append(
            {
                "replicate": replicate,
                "canaries": len(own),
                "included": int(np.sum(coins)),
                "guesses": bound.guesses,
                "correct": bound.correct,
                "delta": delta,
                "confidence": confidence,
                "epsilon_low": bound.epsilon_low,
            }
        )
    return contracts.check("audit", pd.DataFrame(rows))
