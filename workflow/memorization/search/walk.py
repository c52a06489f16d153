"""The exact rank of a canary by walking the tree of fills, with or without pruning (brief 4.7 and 4.8).

Costs only grow along a path, so a prefix that already costs more than the canary has no leaf that ranks before it:
branch and bound counts the same leaves as a full walk. For a canary of c bits at most 2**c prefixes of each length are
expanded, because the probabilities of one length sum to at most one.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import log2, nan

import numpy as np

from memorization.backends.base import LanguageModel, State
from memorization.canaries import TokenFormat
from memorization.errors import UserError
from memorization.search.rescore import ATTEMPTS, FAMILY, Arbiter, Near, Probes
from memorization.search.tree import Tree, bins_of, fill_costs, score

__all__ = ["Rank", "exact_rank", "fill_costs", "rank_in"]

log = logging.getLogger(__name__)

TOLERANCE = 1e-6
MARGIN = 1e-3


@dataclass(frozen=True)
class Rank:
    """A canary's rank among all fills: 1 = most likely, itself included, ties count against it (Definition 2).

    rank         NaN when the step budget ran out (algorithm "bounds"); then low and high are proven bounds
    rank_low     1 + other fills cheaper by more than the numerical margin
    rank_high    1 + other fills that are not dearer by more than the margin; both are the rank where fills within the
                 margin were scored again in float64
    rescored     how many those were, None where there was no such scoring
    error_bits   largest difference seen between a fill's cost in the walk and in float64
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
    rescored: int | None = None
    error_bits: float = nan

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
    """Nodes of one depth that were reached but not fed yet: their parents' states and how they leave them.

    path  int[n, S]: symbols so far, the last one still to be fed
    """

    state: State
    parent: np.ndarray
    path: np.ndarray
    cost: np.ndarray
    own: np.ndarray

    def split(self, count: int) -> tuple["_Pending", "_Pending | None"]:
        """The last `count` nodes, and the rest (None if there is none)."""
        if count >= len(self.cost):
            return self, None
        arrays = (self.parent, self.path, self.cost, self.own)
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
    keeps: bool = False  # leaves for scoring again
    near: Near = field(default_factory=Near)
    probes: Probes = field(default_factory=Probes)
    levels: list[list[_Pending]] = field(default_factory=list)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=np.int64))
    histogram: np.ndarray | None = None
    steps: int = 1
    own_reached: bool = False
    finished: bool = False

    def __post_init__(self) -> None:
        self.levels = [[] for _ in self.tree.slots]
        if self.edges is not None:
            self.histogram = np.zeros(len(self.edges) + 1, dtype=np.int64)
        path, own = np.zeros((1, self.tree.depth), dtype=self.tree.symbol), np.ones(1, dtype=bool)
        if self.tree.depth == 1:
            self._count(path, self.tree.root_edges.copy(), own)
        else:
            self._grow(0, self.tree.root, path, self.tree.root_edges, own)

    def waiting(self) -> list[int]:
        """Nodes not fed yet, per depth."""
        return [sum(len(p.cost) for p in level) for level in self.levels]

    def run(self, chunk: int, max_steps: int, watch: Callable[[int], None] | None = None) -> bool:
        """Walk to the end (True) or until `max_steps` model steps are spent (False)."""
        while any(waiting := self.waiting()):
            count = min(chunk, max_steps - self.steps)
            if count <= 0:
                return False
            full = [d for d, n in enumerate(waiting) if n >= chunk]
            depth = full[-1] if full else next(d for d, n in enumerate(waiting) if n)
            self._feed(depth, self._take(depth, min(count, waiting[depth])))
            if watch:
                watch(self.steps)
        return True

    def _feed(self, depth: int, parts: list[_Pending]) -> None:
        """One model call for nodes of `depth`; where their children are leaves no new states are kept."""
        state = self.tree.model.concatenate([p.state.take(p.parent) for p in parts])
        path, cost, own = (np.concatenate([getattr(p, name) for p in parts]) for name in ("path", "cost", "own"))
        self.steps += len(cost)
        if depth == self.tree.depth - 1:
            self._count(path, cost[:, None] + self.tree.last_step(state, path[:, depth - 1]), own)
        else:
            edges, state = self.tree.step(state, path[:, depth - 1], depth)
            self._grow(depth, state, path, cost[:, None] + edges, own)

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

    def _grow(self, depth: int, state: State, path: np.ndarray, child: np.ndarray, own: np.ndarray) -> None:
        """Children of fed nodes of `depth`, float64[n, b] costs: kept unless they cost too much."""
        own_child = np.zeros(child.shape, dtype=bool)
        own_child[own, self.path[depth]] = True
        # The canary's own path survives whatever rounding says: its leaf is known by its digits, not by its cost.
        keep = (child <= self.limits[2]) | own_child if self.prune else np.ones(child.shape, dtype=bool)
        parent, symbol = np.nonzero(keep)
        if not len(parent):
            return
        path = path[parent]
        path[:, depth] = symbol
        if len(parent) < len(child):  # keep no state that no child needs
            used, parent = np.unique(parent, return_inverse=True)
            state = state.take(used)
        self.levels[depth + 1].append(_Pending(state, parent.astype(np.int32), path, child[keep], own_child[keep]))

    def _count(self, path: np.ndarray, leaves: np.ndarray, own: np.ndarray) -> None:
        """Leaves, float64[n, b] costs by last symbol, of int[n, S] paths."""
        if self.edges is not None:
            self.histogram += np.bincount(bins_of(leaves.ravel(), self.edges), minlength=len(self.edges) + 1)
        if self.keeps:
            self.probes.add(*_leaves(path, leaves, np.arange(min(leaves.shape[1], FAMILY))))
        if own.any():
            self.own_reached = True
            leaves[own, self.path[-1]] = nan  # neither cheaper nor dearer
        low, tie, high = self.limits
        close = np.flatnonzero(leaves.ravel() <= high)
        costs = leaves.ravel()[close]
        self.counts += [np.count_nonzero(costs < low), np.count_nonzero(costs <= tie), len(costs)]
        if self.keeps and (within := costs >= low).any():
            self.near.add(*_leaves(path, leaves, close[within]))


def _leaves(path: np.ndarray, leaves: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole paths and costs of leaves by their int[m] numbers in float64[n, b] `leaves`, whose parents are `path`."""
    parent, symbol = np.divmod(index, leaves.shape[1])
    path = path[parent]
    path[:, -1] = symbol
    return path, leaves.ravel()[index]


def exact_rank(model: LanguageModel, tokens: TokenFormat, fill: np.ndarray, *, max_steps: int, **options) -> Rank:
    """The rank of int[L] `fill` among all fills of the format; see `rank_in` for the options."""
    return rank_in(Tree.plant(model, tokens), fill, max_steps=max_steps, **options)


def rank_in(
    tree: Tree,
    fill: np.ndarray,
    *,
    max_steps: int,
    chunk: int | None = None,
    prune: bool = True,
    tolerance: float = TOLERANCE,
    margin: float = MARGIN,
    edges: np.ndarray | None = None,
    precision: str = "float32",
    watch: Callable[[int], None] | None = None,
) -> Rank:
    """Count the fills that cost at most as much as `fill`, int[L] (Secret Sharer Definition 2; brief 4.7, 4.8).

    `tolerance` (bits) decides ties. Where the model can compute in float64, all fills within `margin` (bits) of the
    canary are scored again by it, and rank_low = rank = rank_high (rescore.py); where it cannot, or they are too many,
    the margin gives the interval rank_low..rank_high, because float32 results depend on batch shape and device.
    `precision`: what the walk itself computes in; the margin widens with it.

    `prune=False` visits every leaf and, with increasing `edges` in bits, counts them per bin. Memory is bounded by
    about 3 `chunk` states per slot. After `max_steps` model steps the result is a pair of proven bounds: leaves counted
    so far, and those plus all leaves below the prefixes not expanded yet. `watch` is told the steps so far.
    """
    began = time.perf_counter()
    (cost,), scoring_steps = score(tree, np.atleast_2d(fill))
    bulk = tree if precision == "float32" else tree.in_precision(precision)
    if bulk is None:
        raise UserError(f"exact rank: this model cannot compute in {precision}: leave the walk's precision at float32")
    walked = cost if bulk is tree else score(bulk, np.atleast_2d(fill))[0][0]
    twin = tree.in_precision("float64")
    arbiter = Arbiter(twin, fill, walked, tolerance) if twin else None
    if arbiter and bulk is not tree:
        arbiter.look()

    def walk(margin: float, steps: int) -> _Walk:
        limits = np.array([walked - margin, walked + tolerance, walked + margin])
        one = _Walk(bulk, tree.paths(fill)[0], limits, prune, None if prune else edges, twin is not None)
        one.finished = one.run(bulk.rows(chunk) if chunk else bulk.chunk(families=not prune), steps, watch)
        return one

    last, spent, settled = _settle(walk, arbiter, margin, max_steps)
    if settled is None and last.finished and bulk is not tree:
        log.warning("exact rank: the walk's %s does not settle it: again in float32", precision)
        options = {"chunk": chunk, "prune": prune, "tolerance": tolerance, "edges": edges, "watch": watch}
        again = rank_in(tree, fill, max_steps=max_steps - spent, margin=margin, **options)
        return replace(again, model_steps=again.model_steps + spent, seconds=time.perf_counter() - began)
    low, rank, high = last.bounds() if settled is None else (settled,) * 3
    return Rank(
        rank=float(rank) if last.finished else nan,
        rank_low=low,
        rank_high=high,
        space=tree.size,
        cost_bits=float(cost),
        prefix_cost_bits=tree.prefix_cost_bits,
        algorithm=("pruned_walk" if prune else "full_walk") if last.finished else "bounds",
        model_steps=spent + scoring_steps,
        seconds=time.perf_counter() - began,
        histogram=last.histogram if last.finished else None,
        rescored=None if settled is None else last.near.count,
        error_bits=arbiter.error_bits if arbiter else nan,
    )


def _settle(
    walk: Callable[[float, int], _Walk], arbiter: Arbiter | None, margin: float, max_steps: int
) -> tuple[_Walk, int, int | None]:
    """(last walk, steps of all, the exact rank in float64): a walk is repeated where its margin proves too small."""
    spent, before = 0, None
    for _ in range(ATTEMPTS):
        margin = max(margin, 2 * arbiter.needed()) if arbiter else margin  # twice: more fills, larger differences
        last = walk(margin, max_steps - spent)
        spent += last.steps
        if before and not last.finished:  # the budget was spent on finding that the margin was too small
            last = before
            break
        if not (arbiter and last.finished):
            return last, spent, None
        within = arbiter.count(last.near, last.probes, last.steps)
        if within is None:
            why = "%d fills within %.3g bits of the canary are too many to score again in float64: an interval instead"
            log.warning("exact rank: " + why, last.near.count, margin)
            return last, spent, None
        if arbiter.needed() <= margin:
            return last, spent, 1 + int(last.counts[0]) + within
        before = last
    log.warning("exact rank: costs are off by up to %.3g bits: an interval instead", arbiter.error_bits)
    return last, spent, None
