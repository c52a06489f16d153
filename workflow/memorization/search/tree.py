"""The tree of partial fills that every walk and search goes through (Secret Sharer §6; brief 4.7).

A canary's text after its fixed prefix is a row of *slots*. A hole is a slot with b symbols, a fixed character between
or after the holes a slot with one, so formats with and without interleaved text are the same tree. A node at depth d
has chosen the first d slots; an edge costs -log2 Pr(token | everything before it) >= 0 under the full softmax; a leaf
has chosen all S slots. Only nodes of depth 0..S-1 are ever fed to the model: a leaf's last edge is read off its
parent's softmax. Expanding one node is one model step; the root's is the call of `start`.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from math import log2, prod

import numpy as np

from memorization.backends.base import LanguageModel, State
from memorization.canaries import TokenFormat
from memorization.errors import UserError
from memorization.search.checked import CheckedModel

CHUNK = 2048
"""Nodes that a walk expands at once where the model does not say."""

CHILDREN = 4_000_000
"""Children that are looked at at once: a hole of words has very many."""


@dataclass(frozen=True)
class Tree:
    """One model's tree of one format.

    model             of a format with check digits the one that fills them in
    slots             per slot int64[b]: the token ids that may stand there
    holes             int64[L]: which slots are holes
    prefix_cost_bits  cost of the fixed text before the first hole, the same for every fill
    root              State of 1 after the prefix
    root_edges        float64[1, b_0]: bits of the first slot's symbols
    prefix            int64[t]: the fixed text before the first hole
    """

    model: LanguageModel
    slots: tuple[np.ndarray, ...]
    holes: np.ndarray
    prefix_cost_bits: float
    root: State
    root_edges: np.ndarray
    prefix: np.ndarray

    @classmethod
    def plant(cls, model: LanguageModel, tokens: TokenFormat) -> "Tree":
        """Read the prefix once. Raises UserError when the model gives no finite probability there, or when the format
        is longer than a path may be deep.
        """
        slots: list[np.ndarray] = []
        holes = []
        for hole, after in zip(tokens.holes, tokens.after, strict=True):
            holes.append(len(slots))
            slots += [np.asarray(hole), *(np.array([t]) for t in after)]
        if len(slots) > 127:
            raise UserError(f"canary format: {len(slots)} positions, searches take at most 127: shorten the format")
        if tokens.digits is not None:
            model = CheckedModel(model, tokens.digits)
        root, edges = _root(model, tokens.prefix, slots[0])
        prefix_cost = float(model.log_perplexity(tokens.prefix[None])[0]) if len(tokens.prefix) > 1 else 0.0
        return cls(model, tuple(slots), np.array(holes), prefix_cost, root, edges, tokens.prefix)

    def in_precision(self, name: str) -> "Tree | None":
        """The tree of the same weights computing in another floating-point type; None where a model cannot."""
        cast = getattr(self.model, "in_precision", None)
        if cast is None or (model := cast(name)) is None:
            return None
        root, edges = _root(model, self.prefix, self.slots[0])
        return replace(self, model=model, root=root, root_edges=edges)

    @property
    def depth(self) -> int:
        """S, the number of slots."""
        return len(self.slots)

    @cached_property
    def widest(self) -> int:
        """Symbols of the slot that has most."""
        return max(map(len, self.slots))

    @property
    def symbol(self) -> np.dtype:
        """What a path spends on a symbol: one byte, or more for words."""
        return np.min_scalar_type(self.widest - 1)

    def rows(self, most: int) -> int:
        """How many nodes to expand at once, at most `most`: fewer where each has very many children."""
        return max(1, min(most, CHILDREN // self.widest))

    @cached_property
    def leaves_below(self) -> list[int]:
        """leaves_below[d]: leaves under a node of depth d, d = 0..S. Python integers: 26**16 fits no int64."""
        return [prod(len(s) for s in self.slots[d:]) for d in range(self.depth + 1)]

    @property
    def size(self) -> int:
        """|R|."""
        return self.leaves_below[0]

    @property
    def space_bits(self) -> float:
        """log2|R|."""
        return log2(self.size)

    @property
    def full_steps(self) -> int:
        """Model steps of a walk without pruning: the nodes of depth 0..S-1 (111,111,111 for nine digits)."""
        return sum(self.size // below for below in self.leaves_below[:-1])

    def step(self, state: State, symbols: np.ndarray, depth: int) -> tuple[np.ndarray, State]:
        """Feed slot `depth - 1`'s int[n] symbols: (float64[n, b] bits of slot `depth`'s symbols, State of n)."""
        log2_probabilities, state = self.model.step(state, self.slots[depth - 1][symbols], columns=self.slots[depth])
        return np.negative(log2_probabilities, dtype=np.float64), state

    def last_step(self, state: State, symbols: np.ndarray) -> np.ndarray:
        """As `step` to the last slot, without new states: most of a walk, and a model may have a quicker way."""
        last = getattr(self.model, "last_step", None)
        if last is None:
            return self.step(state, symbols, self.depth - 1)[0]
        log2_probabilities = last(state, self.slots[-2][symbols], columns=self.slots[-1])
        return np.negative(log2_probabilities, dtype=np.float64)

    def chunk(self, families: bool) -> int:
        """How many nodes a walk should expand at once: what the model's device takes, else `CHUNK`.

        `families`: all children of a node or none, as a walk without pruning has them (a model may copy, not gather).
        """
        own = getattr(self.model, "states_at_once", None)
        rows = self.rows(own(self.widest, self.depth) if own else CHUNK)
        return max(rows - rows % self.widest, 1) if families else rows

    def paths(self, fills: np.ndarray) -> np.ndarray:
        """int[n, S] symbols per slot of int[n, L] fills, of type `symbol`; fixed slots hold 0."""
        fills = np.atleast_2d(fills)
        paths = np.zeros((len(fills), self.depth), dtype=self.symbol)
        paths[:, self.holes] = fills
        return paths

    def fills(self, paths: np.ndarray) -> np.ndarray:
        """int64[n, L] fills of int[n, S] paths."""
        return paths[:, self.holes].astype(np.int64)


def _root(model: LanguageModel, prefix: np.ndarray, slot: np.ndarray) -> tuple[State, np.ndarray]:
    """(State of 1 after the prefix, float64[1, b] bits of the first slot's symbols)."""
    log2_probabilities, root = model.start(prefix)
    if not np.isfinite(log2_probabilities).any():
        raise UserError("model: its probabilities after the canary's prefix are not finite; training diverged?")
    return root, -np.asarray(log2_probabilities, dtype=np.float64)[:, slot]


def bins_of(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """int[n]: how many of increasing `edges` are at most each value, as np.searchsorted's; not a number counts last.

    Where edges are evenly spaced the bin is computed and set right by the edges beside it: a search among thousands
    takes longer than the rest of a walk's bookkeeping.
    """
    step = (edges[-1] - edges[0]) / max(len(edges) - 1, 1)
    if step <= 0 or not np.allclose(np.diff(edges), step, rtol=1e-6, atol=0):
        return np.searchsorted(edges, values, side="right")
    bins = np.fmax(np.fmin((values - edges[0]) / step + 1, len(edges)), 0).astype(np.intp)
    bounds = np.concatenate([[-np.inf], edges, [np.inf]])
    bins -= values < bounds[bins]
    bins += values >= bounds[np.minimum(bins + 1, len(edges) + 1)]
    return np.minimum(bins, len(edges), out=bins)


def path_states(tree: Tree, paths: np.ndarray) -> tuple[np.ndarray, State, np.ndarray, np.ndarray, int]:
    """Read int[n, d] `paths`, d >= 0, in lexicographic order, feeding every distinct prefix once.

    Returns (cost float64[n], State of the m distinct prefixes of length d - 1, node int[n] into it, edges
    float64[m, b_{d-1}], model steps). The last symbol is read off, not fed. For d = 0 the State is the root's.
    """
    count = len(paths)
    cost, node = np.zeros(count), np.zeros(count, dtype=np.int64)
    state, edges, steps = tree.root, tree.root_edges, 0
    fresh = np.zeros(count, dtype=bool)
    fresh[:1] = True
    for depth in range(paths.shape[1]):
        if depth:
            leads = np.flatnonzero(fresh)
            edges, state = tree.step(state.take(node[leads]), paths[leads, depth - 1], depth)
            node = np.cumsum(fresh) - 1
            steps += len(leads)
        cost += edges[node, paths[:, depth]]
        fresh[1:] |= paths[1:, depth] != paths[:-1, depth]
    return cost, state, node, edges, steps


def score(tree: Tree, fills: np.ndarray, chunk: int = 2048) -> tuple[np.ndarray, int]:
    """(float64[n] costs in bits of int[n, L] fills, model steps), at most `chunk` states at a time.

    Fills are sorted, so that those which begin alike share the steps of their common prefix: 65,536 random nine-digit
    fills take about half the steps of eight each. Raises UserError for a cost that is not a number: it would compare
    as neither cheaper nor dearer, and a diverged model would seem to rank its canary first.
    """
    paths, chunk = tree.paths(fills), tree.rows(chunk)
    order = np.lexsort(paths.T[::-1])
    costs, steps = np.empty(len(paths)), 0
    for begin in range(0, len(order), chunk):
        rows = order[begin : begin + chunk]
        costs[rows], _, _, _, used = path_states(tree, paths[rows])
        steps += used
    if np.isnan(costs).any():
        raise UserError("model: the log-perplexity of a fill is not a number; training diverged?")
    return costs, steps


def fill_costs(
    model: LanguageModel, tokens: TokenFormat, fills: np.ndarray, chunk: int = 2048
) -> tuple[float, np.ndarray]:
    """(prefix_cost_bits, float64[n] bits of holes and everything after the first hole) of int[n, L] fills.

    Secret Sharer Definition 1, split at the first hole: their sum is `model.log_perplexity` of the whole lines.
    """
    tree = Tree.plant(model, tokens)
    return tree.prefix_cost_bits, score(tree, fills, chunk)[0]
