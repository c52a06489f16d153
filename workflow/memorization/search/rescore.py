"""What makes a rank exact: fills that cost about as much as the canary are scored again in float64.

A walk adds up costs in a quick floating-point type. If no cost in it, the canary's included, is off by more than half
of a `margin` (less the tolerance for ties), then whatever lies further than the margin from the canary is on the right
side of it, and only fills within the margin have to be scored again, by the same weights in float64. How far costs are
off is measured, not assumed: on the canary, on a few leaves of every part of the walk, and on every fill that is scored
again. The margin must be at least `SAFETY` times the largest difference seen, so that a cost would have to be off by
eight times of what was seen to do harm; where it is not, the walk is repeated with a margin that is.
"""

from dataclasses import dataclass, field

import numpy as np

from memorization.search.tree import Tree, score

SAFETY = 16
"""The margin over the largest difference seen between a fill's cost and its cost in float64."""

PROBES = 256
"""Leaves of a walk, wherever they lie, that are scored again to see how far costs are off."""

FAMILY = 16
"""Of them from one part of the walk, at most."""

ATTEMPTS = 3
"""Walks, each with a wider margin."""

LEAST_STEPS = 1 << 14
"""float64 steps that are always worth it; beyond, as many as the walk took."""

MOST = 2_000_000
"""Fills kept for scoring again: one takes some 20 bytes."""


@dataclass
class Kept:
    """Leaves of a walk: int[n, S] paths and float64[n] costs, in parts."""

    count: int = 0
    paths: list[np.ndarray] = field(default_factory=list)
    costs: list[np.ndarray] = field(default_factory=list)

    def add(self, paths: np.ndarray, costs: np.ndarray) -> None:
        """Keep these too."""
        self.count += len(costs)
        self.paths.append(paths)
        self.costs.append(costs)


class Near(Kept):
    """Those whose cost is within the margin of the canary's. Beyond `MOST` they are only counted."""

    def add(self, paths: np.ndarray, costs: np.ndarray) -> None:
        """See `Kept.add`."""
        super().add(paths, costs)
        if self.count > MOST:
            self.paths, self.costs = [], []


class Probes(Kept):
    """A few from everywhere: every `_every`-th part of a walk gives one family; when there are too many, every second
    one is dropped, and from then on only half as many parts give one.
    """

    _every, _seen = 1, 0

    def add(self, paths: np.ndarray, costs: np.ndarray) -> None:
        """See `Kept.add`."""
        self._seen += 1
        if self._seen % self._every:
            return
        super().add(paths, costs)
        while self.count > PROBES and len(self.costs) > 1:
            self.paths, self.costs, self._every = self.paths[::2], self.costs[::2], 2 * self._every
            self.count = sum(map(len, self.costs))


def steps_of(paths: np.ndarray) -> int:
    """Model steps that `score` takes for int[n, S] paths, if all are sorted and scored at once."""
    if not len(paths):
        return 0
    rows = paths[np.lexsort(paths.T[::-1]), :-1]
    fresh = np.ones(rows.shape, dtype=bool)
    fresh[1:] = np.logical_or.accumulate(rows[1:] != rows[:-1], axis=1)
    return int(fresh.sum())


class Arbiter:
    """The same weights in float64, and how far from their costs a walk's were seen to be.

    error_bits  the largest difference so far
    """

    def __init__(self, twin: Tree, fill: np.ndarray, walked: float, tolerance: float) -> None:
        """`walked`: what int[L] `fill` costs in the walk's type; `tolerance` (bits) decides ties."""
        self._twin, self._own, self._walked, self._tolerance = twin, twin.paths(fill), walked, tolerance
        self.error_bits = 0.0

    def look(self) -> None:
        """See how far the canary's cost is off."""
        self._saw(np.array([self._walked]), score(self._twin, self._twin.fills(self._own))[0])

    def needed(self) -> float:
        """The least margin, in bits, that what was seen allows."""
        return SAFETY * self.error_bits + self._tolerance

    def count(self, near: Near, probes: Probes, most_steps: int) -> int | None:
        """Fills among `near` that cost at most as much as the canary, ties included; None where there are too many."""
        if near.count > MOST or (near.count and steps_of(np.concatenate(near.paths)) > max(LEAST_STEPS, most_steps)):
            return None
        paths = np.concatenate([self._own, *near.paths, *probes.paths])
        exact, _ = score(self._twin, self._twin.fills(paths))
        self._saw(np.concatenate([[self._walked], *near.costs, *probes.costs]), exact)
        return int(np.count_nonzero(exact[1 : 1 + near.count] <= exact[0] + self._tolerance))

    def _saw(self, costs: np.ndarray, exact: np.ndarray) -> None:
        """What is impossible for one of them only is infinitely far off."""
        known = np.isfinite(costs) & np.isfinite(exact)
        apart = np.abs(np.where(known, costs, 0) - np.where(known, exact, 0))
        apart[np.isfinite(costs) != np.isfinite(exact)] = np.inf
        self.error_bits = max(self.error_bits, float(apart.max()))
