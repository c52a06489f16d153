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

CACHED_STATES = 65_536
"""Recurrent states kept beside the queue (a 2 x 200 LSTM's take 3.2 KB each); older ones are recomputed."""


@dataclass
class Nodes:
    """n prefixes: float64[n] costs, int8[n] depths, int64[n] parents' serial numbers, uint8[n, S] paths."""

    cost: np.ndarray
    depth: np.ndarray
    parent: np.ndarray
    path: np.ndarray

    def take(self, index: np.ndarray) -> "Nodes":
        return Nodes(self.cost[index], self.depth[index], self.parent[index], self.path[index])

    @staticmethod
    def join(parts: list["Nodes"]) -> "Nodes":
        fields = ("cost", "depth", "parent", "path")
        return Nodes(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))


class Queue:
    """A priority queue of arrays: a small near part to pop from, and a far part that is only appended to.

    Every near node is cheaper than `_bound`, every far one is not; when near runs dry, far's cheapest 1/64 moves over.
    """

    def __init__(self, smallest: int) -> None:
        self._smallest, self._bound = smallest, -inf
        self._near: list[Nodes] = []
        self._far: list[Nodes] = []

    def push(self, nodes: Nodes) -> None:
        near = nodes.cost < self._bound
        for rows, part in ((near, self._near), (~near, self._far)):
            if rows.any():
                part.append(nodes.take(rows))

    def pop(self, count: int, worst: float) -> Nodes | None:
        """The `count` cheapest nodes that cost at most `worst`, which never grows; None if there are none."""
        if not self._near and not self._refill(worst):
            return None
        near = Nodes.join(self._near)
        if len(near.cost) < count and self._far:  # what is left near is cheaper than anything far: top it up
            self._refill(worst)
            near = Nodes.join(self._near)
        if len(near.cost) > count:
            order = np.argpartition(near.cost, count - 1)
            self._near = [near.take(order[count:])]
            near = near.take(order[:count])
        else:
            self._near = []
        return near.take(np.flatnonzero(near.cost <= worst)) if (near.cost <= worst).any() else None

    def _refill(self, worst: float) -> bool:
        if not self._far:
            return False
        far = Nodes.join(self._far)
        far = far.take(np.flatnonzero(far.cost <= worst))
        size = max(self._smallest, len(far.cost) // 64)
        if len(far.cost) <= size:
            self._bound, self._far = inf, []
            self._near += [far] if len(far.cost) else []
            return bool(len(far.cost))
        self._bound = float(np.partition(far.cost, size)[size])
        if far.cost.min() == self._bound:  # a plateau of ties: move it over whole
            self._bound = float(np.nextafter(self._bound, inf))
        near = far.cost < self._bound
        self._near.append(far.take(near))
        self._far = [far.take(~near)] if not near.all() else []
        return True

    def minimum(self) -> float:
        """The cheapest queued cost, infinite if the queue is empty."""
        return min((float(part.cost.min()) for part in self._near or self._far), default=inf)


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

    def __init__(self, tree: Tree, k: int, batch: int, cached_states: int) -> None:
        self.tree, self.batch = tree, batch
        self.queue, self.best = Queue(32 * batch), Best(tree, k)
        self.cache = StateCache(tree, cached_states)
        self.columns = np.unique(np.concatenate(tree.slots))
        self.where = [np.searchsorted(self.columns, slot) for slot in tree.slots]
        root = Nodes(
            np.zeros(1), np.zeros(1, np.int8), np.zeros(1, np.int64), np.zeros((1, tree.depth), np.uint8)
        )
        self.popped = [root.cost]
        self.steps = self.batches = self.pops = 1
        self.first_leaf_batch: int | None = None
        self.cache.add(tree.root)
        self._children(root, 0, tree.root_edges, np.zeros(1, np.int64))

    def _children(self, nodes: Nodes, depth: int, edges: np.ndarray, serials: np.ndarray) -> None:
        child = nodes.cost[:, None] + edges
        if depth == self.tree.depth - 1:
            self.best.offer(nodes.path, child)
            if self.first_leaf_batch is None:
                self.first_leaf_batch = self.batches
            return
        parent, symbol = np.nonzero((child <= self.best.worst) & np.isfinite(child))
        path = nodes.path[parent]
        path[:, depth] = symbol
        depths = np.full(len(parent), depth + 1, dtype=np.int8)
        self.queue.push(Nodes(child[parent, symbol], depths, serials[parent], path))

    def expand(self, nodes: Nodes) -> None:
        """One model call for nodes of mixed depth."""
        state, owner, recomputed = self.cache.parents(nodes)
        nodes = nodes.take(owner)
        ids = np.empty(len(owner), dtype=np.int64)
        for depth in np.unique(nodes.depth):
            rows = nodes.depth == depth
            ids[rows] = self.tree.slots[depth - 1][nodes.path[rows, depth - 1]]
        log2_probabilities, state = self.tree.model.step(state, ids, columns=self.columns)
        edges = np.negative(log2_probabilities, dtype=np.float64)
        self.batches += 1
        self.pops += len(ids)
        self.steps += len(ids) + recomputed
        self.popped.append(nodes.cost)
        serials = self.cache.add(state) + np.arange(len(ids))
        for depth in np.unique(nodes.depth)[::-1]:  # leaves first: they tighten the filter for the others
            rows = np.flatnonzero(nodes.depth == depth)
            self._children(nodes.take(rows), int(depth), edges[rows][:, self.where[depth]], serials[rows])

    def run(self, max_steps: int, stop: str) -> None:
        while self.steps < max_steps:
            if stop == "paper" and self.first_leaf_batch and self.batches >= 2 * self.first_leaf_batch:
                return
            nodes = self.queue.pop(min(self.batch, max_steps - self.steps), self.best.worst)
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
    max_steps   model steps after which the search gives up; the result then carries a lower bound on unseen fills
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
    search = _Search(Tree.plant(model, tokens), k, batch, cached_states)
    search.run(max_steps, stop)
    best, queued = search.best, search.queue.minimum()
    provable = queued > best.worst or queued == inf
    bound = min(queued, best.worst)
    cheapest = best.costs[0] if len(best.costs) else inf
    return SearchResult(
        algorithm="shortest_path",
        fills=search.tree.fills(best.paths),
        costs_bits=best.costs,
        provable=provable,
        lower_bound_bits=best.worst if provable else bound,
        pops=search.pops,
        model_steps=search.steps,
        batches=search.batches,
        sequential_equivalent=int(sum(np.count_nonzero(c < min(cheapest, queued)) for c in search.popped)),
        seconds=time.perf_counter() - began,
    )
