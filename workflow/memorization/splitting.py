"""How many fills rank before a canary, where nothing is known of a fill but its cost: importance splitting.

The share of fills that cost at most as much as the canary, 10^-9 say, is a product of shares of about a tenth: of all
fills, those of the cheapest tenth, of these again the cheapest tenth, and so on down to the canary's cost. Each is
estimated from a population that a Markov chain keeps uniform below the current cost: a move draws one or two holes
anew and is taken if the cost stays below (subset simulation, Au and Beck 2001; Cerou and Guyader 2007). Ours: the paper
has only uniform samples and the skew-normal fit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log2, prod

import numpy as np
from scipy import stats

RUNS, PARTICLES, SHARE, MOVES = 3, 80, 0.15, 5
PATIENCE = 5
"""Rounds of moves in which a run may fail to come down before it is given up."""
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Split:
    """An estimated rank (the canary itself included) with a 95 % interval between the independent runs.

    complete  every run came down to the canary's cost; else the rank is less than estimated, if anything
    """

    rank: float
    low: float
    high: float
    complete: bool
    scored: int


def split(
    score: Callable[[np.ndarray], np.ndarray],
    widths: Sequence[int],
    threshold: float,
    rng: np.random.Generator,
    most: int,
) -> Split:
    """Rank of a canary that costs `threshold` bits, scoring at most about `most` fills.

    score   int[n, holes] fills -> float64[n] bits
    widths  symbols per hole
    """
    widths = np.asarray(widths)
    fills = rng.integers(0, widths, size=(RUNS, PARTICLES, len(widths)))
    costs = _scored(score, fills)
    scored, log_share = costs.size, np.zeros(RUNS)
    live, done, idle = np.ones(RUNS, dtype=bool), np.zeros(RUNS, dtype=bool), np.zeros(RUNS, dtype=int)
    last = np.full(RUNS, np.inf)
    while live.any() and scored + MOVES * live.sum() * PARTICLES <= most:
        levels = np.sort(costs, axis=1)[:, int(SHARE * PARTICLES) - 1]
        levels = np.maximum(levels, threshold + TOLERANCE)
        falls = live & ((levels < last) | (levels <= threshold + TOLERANCE))
        idle[live & ~falls] += 1
        live &= idle < PATIENCE
        levels = np.where(falls, levels, last)
        below = costs <= levels[:, None]
        log_share[falls] += np.log2(below[falls].mean(axis=1))
        reached = falls & (levels <= threshold + TOLERANCE)
        done, live, last = done | reached, live & ~reached, levels
        for run in np.flatnonzero(falls & live):
            chosen = rng.choice(np.flatnonzero(below[run]), size=PARTICLES)
            fills[run], costs[run] = fills[run, chosen], costs[run, chosen]
        for _ in range(MOVES * bool(live.any())):
            _move(score, fills, costs, levels, live, widths, rng)
            scored += int(live.sum()) * PARTICLES
    return _summary(log_share, bool(done.all()), prod(widths.tolist()), scored)


def _scored(score: Callable[[np.ndarray], np.ndarray], fills: np.ndarray) -> np.ndarray:
    """float64[...] of int[..., holes] fills."""
    return score(fills.reshape(-1, fills.shape[-1])).reshape(fills.shape[:-1])


def _move(
    score: Callable[[np.ndarray], np.ndarray],
    fills: np.ndarray,
    costs: np.ndarray,
    levels: np.ndarray,
    live: np.ndarray,
    widths: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """One Metropolis step of every particle of the runs that are `live`, in place: one hole drawn anew, or two."""
    proposed = fills[live]
    rows = np.indices(proposed.shape[:2])
    for again in (np.ones(proposed.shape[:2], dtype=bool), rng.random(proposed.shape[:2]) < 0.5):
        hole = rng.integers(len(widths), size=proposed.shape[:2])
        drawn = rng.integers(0, widths[hole])
        proposed[(*rows, hole)] = np.where(again, drawn, proposed[(*rows, hole)])
    found = _scored(score, proposed)
    taken = found <= levels[live, None]
    fills[live] = np.where(taken[:, :, None], proposed, fills[live])
    costs[live] = np.where(taken, found, costs[live])


def _summary(log_share: np.ndarray, complete: bool, size: int, scored: int) -> Split:
    """Mean of the runs' shares; Student's interval of their logarithms, which are what varies evenly."""
    ranks, whole = log2(size) + log_share, log2(size)
    half = float(stats.t.ppf(0.975, len(ranks) - 1) * stats.sem(ranks))
    # Only the mean is held to what is possible: a run below rank 1 makes up for one above.
    rank = min(max(float(np.mean(2.0**ranks)), 1.0), float(size))
    low, high = (2.0 ** min(max(float(np.mean(ranks)) + side * half, 0.0), whole) for side in (-1, 1))
    return Split(rank, min(low, rank) if complete else 1.0, max(high, rank), complete, scored)
