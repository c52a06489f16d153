"""Extraction as a shortest-path search: best-first over partial fills, many at a time, with a proof (brief 4.9).

Secret Sharer §6 runs Dijkstra's algorithm with a priority queue; popping many nodes at once is far faster but loses
the guarantee that the first leaf is the lightest. Here the search goes on until no queued prefix is cheaper than the
k-th best leaf, which gives the same answer for every batch size.
"""

import time
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np

from memorization.backends.base import LanguageModel, State
from memorization.canaries import TokenFormat
from memorization.errors import UserError
from memorization.search.result import Best, SearchResult
from memorization.search.tree import Tree, path_states

CACHED_STATES = 131_072
"""Recurrent states kept beside the queue (a 2 x 200 LSTM's take 3.2 KB each); older ones are recomputed."""

MANY = 256
"""Symbols of a hole beyond which the queue keeps only what can still be popped within the budget."""


@dataclass
class Nodes:
    """n prefixes: float64[n] costs, int8[n] depths, int64[n] parents' serial numbers, int[n, S] paths."""

    cost: np.ndarray
    depth: np.ndarray
    parent: np.ndarray
    path: np.ndarray

    def take(self, index: np.ndarray | slice) -> "Nodes":
        """The chosen nodes."""
        return Nodes(self.cost[index], self.depth[index], self.parent[index], self.path[index])

    @staticmethod
    def join(parts: list["Nodes"]) -> "Nodes":
        """All of them, in order."""
        if len(parts) == 1:
            return parts[0]
        fields = ("cost", "depth", "parent", "path")
        return Nodes(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))


class Queue:
    """A priority queue of arrays: a sorted run to pop from, a fresh part beside it, and a far part that only grows.

    Nodes of run and fresh are cheaper than `_bound`, far ones are not. When run and fresh are used up, far's cheapest
    1/64 becomes the next run, so that a pop costs its own size and not the queue's. With `cap`, the number of pops that
    can still come, nodes beyond the `cap` cheapest are dropped by and by; `minimum` remembers them.
    """

    def __init__(self, smallest: int, cap: int | None = None) -> None:
        self._smallest, self._bound, self._cap, self._dropped = smallest, -inf, cap, inf
        self._run: Nodes | None = None
        self._fresh: list[Nodes] = []
        self._far: list[Nodes] = []

    def push(self, nodes: Nodes) -> None:
        """Add nodes in any order."""
        nodes = self._trim(nodes)
        near = nodes.cost < self._bound
        for rows, part in ((near, self._fresh), (~near, self._far)):
            if rows.any():
                part.append(nodes.take(rows))
        if self._cap and sum(len(p.cost) for p in self._far) > 4 * self._cap:
            self._far = [self._trim(Nodes.join(self._far))]

    def pop(self, count: int, worst: float) -> Nodes | None:
        """The `count` cheapest nodes, without those that cost more than `worst`, which never grows; None if none do."""
        while self._near() < count and self._far:
            self._refill(worst)
        head = [] if self._run is None else [self._run.take(slice(0, count))]
        if not head and not self._fresh:
            return None
        nodes = Nodes.join(head + self._fresh)
        if len(nodes.cost) > count:
            order = np.argpartition(nodes.cost, count - 1)
            # What was not chosen goes back: it is as small as the fresh part, the run is only cut.
            self._fresh, nodes = [nodes.take(order[count:])], nodes.take(order[:count])
        else:
            self._fresh = []
        rest = None if self._run is None else self._run.take(slice(count, None))
        self._run = rest if rest is not None and len(rest.cost) else None
        if self._fresh and len(self._fresh[0].cost) > self._smallest:
            self._sort([*self._fresh, *([self._run] if self._run else [])])
        cheap = nodes.cost <= worst
        return nodes.take(cheap) if cheap.any() else None

    def minimum(self) -> float:
        """The cheapest cost that was queued and not popped, dropped nodes included; infinite if there is none."""
        near = [*([self._run] if self._run else []), *self._fresh]
        return min([self._dropped, *(float(part.cost.min()) for part in near or self._far)])

    def _near(self) -> int:
        return sum(len(p.cost) for p in self._fresh) + (len(self._run.cost) if self._run else 0)

    def _trim(self, nodes: Nodes) -> Nodes:
        """Without those that can never be popped."""
        if self._cap is None or len(nodes.cost) <= self._cap:
            return nodes
        order = np.argpartition(nodes.cost, self._cap)
        self._dropped = min(self._dropped, float(nodes.cost[order[self._cap]]))
        return nodes.take(order[: self._cap])

    def _sort(self, parts: list[Nodes]) -> None:
        near = self._trim(Nodes.join(parts))
        self._run, self._fresh = near.take(np.argsort(near.cost, kind="stable")), []

    def _refill(self, worst: float) -> None:
        """Move far's cheapest nodes, at least `_smallest`, over to the run."""
        far = Nodes.join(self._far)
        far = far.take(far.cost <= worst)
        size = max(self._smallest, len(far.cost) // 64)
        self._bound = inf
        if len(far.cost) > size:  # the next cost above, so that a plateau of ties moves over whole
            self._bound = float(np.nextafter(np.partition(far.cost, size)[size], inf))
        near = far.cost < self._bound
        self._far = [far.take(~near)] if not near.all() else []
        parts = [*self._fresh, *([self._run] if self._run else []), far.take(near)]
        if any(len(p.cost) for p in parts):
            self._sort(parts)


class StateCache:
    """The states of expanded prefixes by serial number, oldest dropped first.

    Batches are merged by and by into larger blocks, because one gather from few blocks is faster than from hundreds.
    """

    MERGE = 32

    def __init__(self, tree: Tree, cap: int) -> None:
        self._tree, self._cap, self._next, self._held = tree, cap, 0, 0
        self._blocks: deque[tuple[int, State]] = deque()
        self._young = 0

    def add(self, state: State) -> int:
        """Keep the states; returns the serial number of the first."""
        first = self._next
        self._blocks.append((first, state))
        self._next += len(state)
        self._held += len(state)
        self._young += 1
        if self._young == self.MERGE:
            young = [self._blocks.pop() for _ in range(self.MERGE)][::-1]
            self._blocks.append((young[0][0], self._tree.model.concatenate([s for _, s in young])))
            self._young = 0
        while self._held > self._cap and len(self._blocks) > 1:
            self._held -= len(self._blocks.popleft()[1])
            self._young = min(self._young, len(self._blocks))
        return first

    def parents(self, nodes: Nodes) -> tuple[State, np.ndarray, int]:
        """(states of the nodes' parents in some order, int[n] which node each belongs to, steps recomputed)."""
        firsts = np.array([first for first, _ in self._blocks], dtype=np.int64)
        block = np.searchsorted(firsts, nodes.parent, side="right") - 1
        states, owners, steps = [], [], 0
        for b in np.unique(block[block >= 0]):
            rows = np.flatnonzero(block == b)
            states.append(self._blocks[b][1].take(nodes.parent[rows] - firsts[b]))
            owners.append(rows)
        for depth in np.unique(nodes.depth[block < 0]):
            rows = np.flatnonzero((block < 0) & (nodes.depth == depth))
            rows = rows[np.lexsort(nodes.path[rows, :depth].T[::-1])]
            _, state, node, _, used = path_states(self._tree, nodes.path[rows, :depth])
            states.append(state.take(node))
            owners.append(rows)
            steps += used
        return self._tree.model.concatenate(states), np.concatenate(owners), steps


class _Search:
    """One run of the search; `run` drives it."""

    def __init__(self, tree: Tree, k: int, batch: int, cached_states: int, max_steps: int) -> None:
        self.tree, self.batch, self.max_steps = tree, tree.rows(batch), max_steps
        # Children by the thousand, of a hole of words: without a cap the queue would outgrow any memory.
        cap = max_steps if tree.widest > MANY else None
        self.queue, self.best = Queue(32 * self.batch, cap), Best(tree, k)
        self.cache = StateCache(tree, cached_states)
        self.columns = np.unique(np.concatenate(tree.slots))
        self.where = [np.searchsorted(self.columns, slot) for slot in tree.slots]
        root = Nodes(np.zeros(1), np.zeros(1, np.int8), np.zeros(1, np.int64), np.zeros((1, tree.depth), tree.symbol))
        self.popped = [root.cost]
        self.steps = self.batches = self.pops = 1
        self.first_leaf_batch: int | None = None
        self._push([self._children(root, 0, tree.root_edges, np.zeros(1, np.int64))], tree.root)

    def _children(self, nodes: Nodes, depth: int, edges: np.ndarray, rows: np.ndarray) -> Nodes | None:
        """Offer the leaves among the children, or return those worth queueing, with int[n] `rows` as parents."""
        child = nodes.cost[:, None] + edges
        if depth == self.tree.depth - 1:
            self.best.offer(nodes.path, child)
            if self.first_leaf_batch is None:
                self.first_leaf_batch = self.batches
            return None
        parent, symbol = np.nonzero((child <= self.best.worst) & np.isfinite(child))
        path = nodes.path[parent]
        path[:, depth] = symbol
        return Nodes(child[parent, symbol], np.full(len(parent), depth + 1, np.int8), rows[parent], path)

    def _push(self, parts: list[Nodes | None], state: State) -> None:
        """Queue children and keep the states they need: none for the deepest prefixes, which are most of them."""
        parts = [p for p in parts if p is not None and len(p.cost)]
        if not parts:
            return
        nodes = Nodes.join(parts)
        used, inverse = np.unique(nodes.parent, return_inverse=True)
        first = self.cache.add(state.take(used))
        self.queue.push(Nodes(nodes.cost, nodes.depth, first + inverse, nodes.path))

    def expand(self, nodes: Nodes) -> None:
        """One model call for nodes of mixed depth."""
        state, owner, recomputed = self.cache.parents(nodes)
        nodes = nodes.take(owner)
        ids = np.empty(len(owner), dtype=np.int64)
        depths = np.unique(nodes.depth)[::-1]  # leaves' parents first: they tighten the filter for the others
        for depth in depths:
            rows = nodes.depth == depth
            ids[rows] = self.tree.slots[depth - 1][nodes.path[rows, depth - 1]]
        log2_probabilities, state = self.tree.model.step(state, ids, columns=self.columns)
        edges = np.negative(log2_probabilities, dtype=np.float64)
        self.batches += 1
        self.pops += len(ids)
        self.steps += len(ids) + recomputed
        self.popped.append(nodes.cost)
        parts = []
        for depth in depths:
            rows = np.flatnonzero(nodes.depth == depth)
            parts.append(self._children(nodes.take(rows), int(depth), edges[rows][:, self.where[depth]], rows))
        self._push(parts, state)

    def result(self, seconds: float) -> SearchResult:
        """What is known now: proven if nothing queued can cost as little as the k-th best leaf."""
        best, queued = self.best, self.queue.minimum()
        provable = queued > best.worst or queued == inf
        certain = min(best.costs[0] if len(best.costs) else inf, queued)
        return SearchResult(
            algorithm="shortest_path",
            fills=self.tree.fills(best.paths),
            costs_bits=best.costs,
            provable=provable,
            lower_bound_bits=best.worst if provable else min(queued, best.worst),
            pops=self.pops,
            model_steps=self.steps,
            batches=self.batches,
            sequential_equivalent=int(sum(np.count_nonzero(costs < certain) for costs in self.popped)),
            seconds=seconds,
        )

    def run(self, stop: str) -> None:
        """Expand the cheapest prefixes until the stopping rule or the budget ends it."""
        while self.steps < self.max_steps:
            if stop == "paper" and self.first_leaf_batch and self.batches >= 2 * self.first_leaf_batch:
                return
            nodes = self.queue.pop(min(self.batch, self.max_steps - self.steps), self.best.worst)
            if nodes is None:
                return
            self.expand(nodes)


def shortest_path(
    model: LanguageModel,
    tokens: TokenFormat,
    *,
    k: int = 1,
    batch: int = 512,
    max_steps: int,
    stop: Literal["provable", "paper"] = "provable",
    cached_states: int = CACHED_STATES,
) -> SearchResult:
    """The k most likely fills (Secret Sharer §6; brief 4.9).

    batch       prefixes expanded per model call; the result does not depend on it
    max_steps   model steps after which it gives up; the result then carries a lower bound on unseen fills
    stop        "provable": until no queued prefix costs at most as much as the k-th best leaf (ties at the k-th
                place are all seen, the lexicographically first are kept); "paper": twice as many batches as it took
                to the first leaf, which may miss the best one
    """
    if k < 1 or batch < 1 or stop not in ("provable", "paper"):
        raise UserError(
            f"shortest_path: k={k}, batch={batch}, stop={stop!r}: k and batch from 1, stop provable or paper"
        )
    began = time.perf_counter()
    # Deviation: the paper pops leaves from the queue; here a leaf is offered when its parent is expanded, which
    # saves a model-free pop and makes "the first leaf" come at most one batch earlier.
    search = _Search(Tree.plant(model, tokens), k, batch, cached_states, max_steps)
    search.run(stop)
    return search.result(time.perf_counter() - began)
