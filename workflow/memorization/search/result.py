"""What every search returns, and the k cheapest leaves it keeps on the way."""

from dataclasses import dataclass
from math import inf

import numpy as np

from memorization.search.tree import Tree


@dataclass(frozen=True)
class SearchResult:
    """The cheapest fills a search found, and what they cost to find.

    fills                  int64[m, L], m <= k, by cost and then lexicographically
    costs_bits             float64[m]
    provable               no other fill can be cheaper (at the k-th place: strictly cheaper)
    lower_bound_bits       every fill that is not listed costs at least this much (0 where nothing is known)
    pops                   prefixes taken from the queue, the empty one included (baselines: prefixes expanded)
    model_steps            sequences times tokens fed, recomputed states included; the root's `start` counts one
    batches                model calls
    sequential_equivalent  prefixes cheaper than the best leaf, what one-at-a-time Dijkstra would pop, whatever the
                           batch size; a lower bound of it when not provable; -1 where a baseline cannot know it
    """

    algorithm: str
    fills: np.ndarray
    costs_bits: np.ndarray
    provable: bool
    lower_bound_bits: float
    pops: int
    model_steps: int
    batches: int
    sequential_equivalent: int
    seconds: float

    def proven(self) -> int:
        """How many leading fills are certainly the most likely ones, in this order."""
        return int(np.count_nonzero(self.costs_bits <= self.lower_bound_bits))


class Best:
    """The k cheapest leaves so far; equal costs are ordered by fill, so the outcome does not depend on batches."""

    def __init__(self, tree: Tree, k: int) -> None:
        self._k = k
        self.costs = np.zeros(0)
        self.paths = np.zeros((0, tree.depth), dtype=tree.symbol)

    @property
    def worst(self) -> float:
        """The k-th best cost, infinite while there are fewer than k."""
        return float(self.costs[-1]) if len(self.costs) >= self._k else inf

    def offer(self, parents: np.ndarray, costs: np.ndarray) -> None:
        """Leaves: int[n, S] paths whose last symbol is open, float64[n, b] costs per last symbol."""
        parent, symbol = np.nonzero((costs <= self.worst) & np.isfinite(costs))
        if not len(parent):
            return
        paths = parents[parent]
        paths[:, -1] = symbol
        self.add(paths, costs[parent, symbol])

    def add(self, paths: np.ndarray, costs: np.ndarray) -> None:
        """Leaves: int[n, S] whole paths, float64[n] costs."""
        paths, costs = np.concatenate([self.paths, paths]), np.concatenate([self.costs, costs])
        order = np.lexsort((*paths.T[::-1], costs))[: self._k]
        self.paths, self.costs = paths[order], costs[order]
