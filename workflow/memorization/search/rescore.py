"""What makes a rank exact: fills that cost about as much as the canary are scored again in float64.

A walk adds up costs in a quick floating-point type. If no cost in it, the canary's included, is off by more than half
of a `margin` (less the tolerance for ties), then whatever lies further than the margin from the canary is on the right
side of it, and only fills within the margin have to be scored again, by the same weights in float64. How far costs are
off is measured, not assumed: on the canary, on fills that differ from it in one place, and on every fill that is scored
again. The margin must be at least `SAFETY` times the largest difference seen, so that a cost would have to be off by
eight times of what was seen to do harm; where it is not, the walk is repeated with a margin that is.
"""

from dataclasses import dataclass, field

import numpy as np

from memorization.search.tree import Tree, score

SAFETY = 16
"""The margin over the largest difference seen between a fill's cost and its cost in float64."""

NEIGHBOURS = 16
"""Fills that are scored twice before the walk, at most."""

LEAST_STEPS = 1 << 14
"""float64 steps that are always worth it; beyond, as many as the walk took."""

MOST = 2_000_000
"""Fills kept for scoring again: one takes some 20 bytes."""


@dataclass
class Near:
    """Leaves of a walk whose cost is within the margin of the canary's: int[n, S] paths, float64[n] costs."""

    most: int = MOST
    count: int = 0
    _paths: list[np.ndarray] = field(default_factory=list)
    _costs: list[np.ndarray] = field(default_factory=list)

    def add(self, paths: np.ndarray, costs: np.ndarray) -> None:
        """Beyond `most` they are only counted."""
        self.count += len(costs)
        if self.count > self.most:
            self._paths, self._costs = [], []
        else:
            self._paths.append(paths)
            self._costs.append(costs)

    def all(self, tree: Tree) -> tuple[np.ndarray, np.ndarray]:
        """Paths and costs together."""
        paths = np.concatenate([np.zeros((0, tree.depth), dtype=tree.symbol), *self._paths])
        return paths, np.concatenate([np.zeros(0), *self._costs])


def steps_of(paths: np.ndarray) -> int:
    """Model steps that `score` takes for int[n, S] paths, if all are sorted and scored at once."""
    if not len(paths):
        return 0
    rows = paths[np.lexsort(paths.T[::-1]), :-1]
    fresh = np.ones(rows.shape, dtype=bool)
    fresh[1:] = np.logical_or.accumulate(rows[1:] != rows[:-1], axis=1)
    return int(fresh.sum())


def neighbours(tree: Tree, fill: np.ndarray) -> np.ndarray:
    """int[m, L]: int[L] `fill` with one hole's symbol replaced by another, hole by hole, `NEIGHBOURS` at most."""
    widths = np.array([len(tree.slots[slot]) for slot in tree.holes])
    found = []
    for shift in range(1, int(widths.max(initial=1))):
        for hole in np.flatnonzero(widths > shift):
            other = np.array(fill)
            other[hole] = (other[hole] + shift) % widths[hole]
            found.append(other)
            if len(found) == NEIGHBOURS:
                return np.stack(found)
    return np.stack(found) if found else np.zeros((0, len(fill)), dtype=np.int64)


class Arbiter:
    """The same weights in float64, the canary's cost by them, and how far from them a walk's costs were seen to be.

    error_bits  the largest difference so far
    steps       float64 steps so far, and those of the fills that were scored by both before the walk
    """

    def __init__(self, bulk: Tree, twin: Tree, fill: np.ndarray, tolerance: float) -> None:
        """`bulk` and `twin`: the same weights in the walk's type and in float64; `tolerance` (bits) decides ties."""
        self._tree, self._twin, self._tolerance = bulk, twin, tolerance
        fills = np.concatenate([np.atleast_2d(fill), neighbours(bulk, fill)])
        costs, steps = score(bulk, fills)
        exact, more = score(twin, fills)
        self.cost, self.steps, self.error_bits = float(exact[0]), steps + more, 0.0
        self._saw(costs, exact)

    @classmethod
    def of(cls, bulk: Tree, twin: Tree | None, fill: np.ndarray, tolerance: float) -> "Arbiter | None":
        """None where the model has no twin in float64."""
        return None if twin is None else cls(bulk, twin, fill, tolerance)

    def _saw(self, costs: np.ndarray, exact: np.ndarray) -> None:
        """Fills that have probability zero in both have no difference."""
        known = np.isfinite(costs) & np.isfinite(exact)
        worst = np.inf if (np.isfinite(costs) != np.isfinite(exact)).any() else 0.0
        self.error_bits = max(self.error_bits, worst, float(np.abs(costs[known] - exact[known]).max(initial=0.0)))

    def needed(self) -> float:
        """The least margin, in bits, that what was seen allows."""
        return SAFETY * self.error_bits + self._tolerance

    def count(self, near: Near, most_steps: int) -> int | None:
        """Fills among `near` that cost at most as much as the canary, ties included; None where there are too many."""
        if near.count > near.most:
            return None
        paths, costs = near.all(self._tree)
        if steps_of(paths) > max(LEAST_STEPS, most_steps):
            return None
        if not len(paths):
            return 0
        exact, steps = score(self._twin, self._tree.fills(paths))
        self.steps += steps
        self._saw(costs, exact)
        return int(np.count_nonzero(exact <= self.cost + self._tolerance))
