"""The exact rank of a canary by walking the tree of fills, with or without pruning (brief 4.7 and 4.8).

Costs only grow along a path, so a prefix that already costs more than the canary has no leaf that ranks before it:
branch and bound counts the same leaves as a full walk. For a canary of c bits at most 2**c prefixes of each length are
expanded, because the probabilities of one length sum to at most one.
"""

import time
from dataclasses import dataclass, field
from math import log2, nan

import numpy as np

from memorization.backends.base import LanguageModel, State
from memorization.canaries import TokenFormat
from memorization.search.tree import Tree, fill_costs, score

__all__ = ["Rank", "exact_rank", "fill_costs", "rank_in"]

CHUNK = 2048
TOLERANCE = 1e-6
MARGIN = 1e-3


@dataclass(frozen=True)
class Rank:
    """A canary's rank among all fills: 1 = most likely, itself included, ties count against it (Definition 2).

    rank         NaN when the step budget ran out (algorithm "bounds"); then low and high are proven bounds
    rank_low     1 + other fills cheaper by more than the numerical margin
    rank_high    1 + other fills that are not dearer by more than the margin
    histogram    int64[edges + 1] leaves per bin of a full walk, the first below and the last at or above all edges
    """

    rank: float
    rank_low: int
    rank_high: int
    space: int
    cost_bits: float
    prefix_cost_bits: float
    algorithm: str
    model_steps: int
    seconds: float
    histogram: np.ndarray | None = None

    @property
    def exposure_bits(self) -> float:
        """log2|R| - log2(rank) (Definition 3); NaN with the rank."""
        return log2(self.space) - log2(self.rank) if self.rank == self.rank else nan

    @property
    def exposure_interval_bits(self) -> tuple[float, float]:
        """Exposure at rank_high and at rank_low."""
        return log2(self.space) - log2(self.rank_high), log2(self.space) - log2(self.rank_low)


@dataclass
class _Pending:
    """Nodes of one depth that were reached but not fed yet: their parents' states and how they leave them."""

    state: State
    parent: np.ndarray
    symbol: np.ndarray
    cost: np.ndarray
    own: np.ndarray

    def split(self, count: int) -> tuple["_Pending", "_Pending | None"]:
        """The last `count` nodes, and the rest (None if there is none)."""
        if count >= len(self.cost):
            return self, None
        arrays = (self.parent, self.symbol, self.cost, self.own)
        return (
            _Pending(self.state, *(a[-count:] for a in arrays)),
            _Pending(self.state, *(a[:-count] for a in arrays)),
        )


@dataclass
class _Walk:
    """Depth first over chunks: always the deepest level with a full chunk, else the shallowest with anything.

    Levels drain before they grow, so each keeps the states of a few chunks only, and pruned levels still fill batches.
    """

    tree: Tree
    path: np.ndarray
    limits: np.ndarray  # float64[3]: cheaper than [0], at most [1], at most [2]
    prune: bool
    edges: np.ndarray | None
    levels: list[list[_Pending]] = field(default_factory=list)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=np.int64))
    histogram: np.ndarray | None = None
    steps: int = 1
    own_reached: bool = False

    def __post_init__(self) -> None:
        self.levels = [[] for _ in self.tree.slots]
        if self.edges is not None:
            self.histogram = np.zeros(len(self.edges) + 1, dtype=np.int64)
        root = np.zeros(1), np.ones(1, dtype=bool)
        self._grow(0, self.tree.root, self.tree.root_edges, *root)

    def waiting(self) -> list[int]:
        """Nodes not fed yet, per depth."""
        return [sum(len(p.cost) for p in level) for level in self.levels]

    def run(self, chunk: int, max_steps: int) -> bool:
        """Walk to the end (True) or until `max_steps` model steps are spent (False)."""
        while any(waiting := self.waiting()):
            count = min(chunk, max_steps - self.steps)
            if count <= 0:
                return False
            full = [d for d, n in enumerate(waiting) if n >= chunk]
            depth = full[-1] if full else next(d for d, n in enumerate(waiting) if n)
            parts = self._take(depth, min(count, waiting[depth]))
            state = self.tree.model.concatenate([p.state.take(p.parent) for p in parts])
            symbols = np.concatenate([p.symbol for p in parts])
            edges, state = self.tree.step(state, symbols, depth)
            self.steps += len(symbols)
            self._grow(
                depth,
                state,
                edges,
                np.concatenate([p.cost for p in parts]),
                np.concatenate([p.own for p in parts]),
            )
        return True

    def bounds(self) -> tuple[int, int, int]:
        """Ranks at the three limits; the last one includes every leaf below a prefix that was not expanded."""
        low, rank, high = (1 + int(n) for n in self.counts)
        unseen = sum(n * self.tree.leaves_below[d] for d, n in enumerate(self.waiting()))
        return low, rank, high + unseen - (not self.own_reached)

    def _take(self, depth: int, count: int) -> list[_Pending]:
        level, parts = self.levels[depth], []
        while count:
            part, rest = level.pop().split(count)
            if rest is not None:
                level.append(rest)
            parts.append(part)
            count -= len(part.cost)
        return parts

    def _grow(self, depth: int, state: State, edges: np.ndarray, cost: np.ndarray, own: np.ndarray) -> None:
        """Children of fed nodes of `depth`: leaves are counted, others kept unless they cost too much."""
        child = cost[:, None] + edges
        own_child = np.zeros(child.shape, dtype=bool)
        own_child[own, self.path[depth]] = True
        if depth == self.tree.depth - 1:
            self._count(child, own_child)
            return
        # The canary's own path survives whatever rounding says: its leaf is known by its digits, not by its cost.
        keep = (child <= self.limits[2]) | own_child if self.prune else np.ones(child.shape, dtype=bool)
        parent, symbol = np.nonzero(keep)
        if not len(parent):
            return
        if len(parent) < len(cost):  # keep no state that no child needs
            used, parent = np.unique(parent, return_inverse=True)
            state = state.take(used)
        self.levels[depth + 1].append(
            _Pending(state, parent.astype(np.int32), symbol.astype(self.tree.symbol), child[keep], own_child[keep])
        )

    def _count(self, leaves: np.ndarray, own: np.ndarray) -> None:
        if self.edges is not None:
            bins = np.searchsorted(self.edges, leaves.ravel(), side="right")
            self.histogram += np.bincount(bins, minlength=len(self.edges) + 1)
        self.own_reached |= bool(own.any())
        low, tie, high = self.limits
        self.counts += [
            np.count_nonzero((leaves < low) & ~own),
            np.count_nonzero((leaves <= tie) & ~own),
            np.count_nonzero((leaves <= high) & ~own),
        ]


def exact_rank(
    model: LanguageModel,
    tokens: TokenFormat,
    fill: np.ndarray,
    *,
    max_steps: int,
    chunk: int = CHUNK,
    prune: bool = True,
    tolerance: float = TOLERANCE,
    margin: float = MARGIN,
    edges: np.ndarray | None = None,
) -> Rank:
    """The rank of int[L] `fill` among all fills of the format; see `rank_in`."""
    return rank_in(
        Tree.plant(model, tokens),
        fill,
        max_steps=max_steps,
        chunk=chunk,
        prune=prune,
        tolerance=tolerance,
        margin=margin,
        edges=edges,
    )


def rank_in(
    tree: Tree,
    fill: np.ndarray,
    *,
    max_steps: int,
    chunk: int = CHUNK,
    prune: bool = True,
    tolerance: float = TOLERANCE,
    margin: float = MARGIN,
    edges: np.ndarray | None = None,
) -> Rank:
    """Count the fills that cost at most as much as `fill`, int[L] (Secret Sharer Definition 2; brief 4.7, 4.8).

    `tolerance` (bits) decides ties; `margin` (bits) gives the interval rank_low..rank_high, because float32 results
    depend on batch shape and device. `prune=False` visits every leaf and, with increasing `edges` in bits, counts
    them per bin. Memory is bounded by about 3 `chunk` states per slot. After `max_steps` model steps the result is a
    pair of proven bounds: leaves counted so far, and those plus all leaves below the prefixes not expanded yet.
    """
    began = time.perf_counter()
    (cost,), scoring_steps = score(tree, np.atleast_2d(fill))
    limits = np.array([cost - margin, cost + tolerance, cost + margin])
    walk = _Walk(tree, tree.paths(fill)[0], limits, prune, None if prune else edges)
    finished = walk.run(tree.rows(chunk), max_steps)
    low, rank, high = walk.bounds()
    return Rank(
        rank=float(rank) if finished else nan,
        rank_low=low,
        rank_high=high,
        space=tree.size,
        cost_bits=float(cost),
        prefix_cost_bits=tree.prefix_cost_bits,
        algorithm=("pruned_walk" if prune else "full_walk") if finished else "bounds",
        model_steps=walk.steps + scoring_steps,
        seconds=time.perf_counter() - began,
        histogram=walk.histogram if finished else None,
    )
