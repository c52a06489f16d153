"""Searches to compare the shortest-path extraction with: greedy, beam, generative sampling, brute force (brief 4.9)."""

import time

import numpy as np

from memorization.backends.base import LanguageModel, State
from memorization.canaries import TokenFormat
from memorization.errors import UserError
from memorization.search.result import Best, SearchResult
from memorization.search.tree import Tree, path_states

__all__ = ["beam", "brute_force", "greedy", "sampling"]


def _result(algorithm: str, tree: Tree, best: Best, began: float, steps: int, batches: int, **known) -> SearchResult:
    """A baseline's result; unless told otherwise nothing is proven."""
    return SearchResult(
        algorithm=algorithm,
        fills=tree.fills(best.paths),
        costs_bits=best.costs,
        **{"provable": False, "lower_bound_bits": 0.0, "sequential_equivalent": -1, **known},
        pops=steps,
        model_steps=steps,
        batches=batches,
        seconds=time.perf_counter() - began,
    )


def greedy(model: LanguageModel, tokens: TokenFormat) -> SearchResult:
    """The most likely symbol, hole by hole: a beam of one."""
    return beam(model, tokens, width=1, algorithm="greedy")


def beam(model: LanguageModel, tokens: TokenFormat, *, width: int, k: int = 1, algorithm: str = "beam") -> SearchResult:
    """Keep the `width` cheapest prefixes of each length. Provable only if no prefix was ever dropped."""
    if width < 1:
        raise UserError(f"beam: width {width}: keep at least one prefix")
    began = time.perf_counter()
    tree = Tree.plant(model, tokens)
    best = Best(tree, max(k, 1))
    state, edges, cost = tree.root, tree.root_edges, np.zeros(1)
    paths = np.zeros((1, tree.depth), dtype=tree.symbol)
    steps = batches = 1
    dropped = False
    for depth in range(1, tree.depth):
        child = (cost[:, None] + edges).ravel()
        # A stable sort breaks ties by symbol, so that the outcome does not depend on the platform.
        order = np.argsort(child, kind="stable")[:width]
        dropped |= len(order) < len(child)
        parent, symbol = np.divmod(order, edges.shape[1])
        cost, paths = child[order], paths[parent]
        paths[:, depth - 1] = symbol
        edges, state = tree.step(state.take(parent), symbol, depth)
        steps += len(order)
        batches += 1
    best.offer(paths, cost[:, None] + edges)
    known = {"provable": True, "lower_bound_bits": best.worst} if not dropped else {}
    return _result(algorithm, tree, best, began, steps, batches, **known)


def sampling(
    model: LanguageModel,
    tokens: TokenFormat,
    *,
    samples: int,
    rng: np.random.Generator,
    k: int = 1,
    chunk: int = 2048,
) -> SearchResult:
    """Generate fills from the model, hole by hole, and keep the cheapest.

    Each symbol is drawn from the model's probabilities *renormalised over the hole's symbols*: free generation would
    almost never stay inside the format. Samples that begin alike share their steps (a multinomial split down the
    tree), which changes the cost but not the distribution.
    """
    began = time.perf_counter()
    tree = Tree.plant(model, tokens)
    chunk = tree.rows(chunk)
    best, steps, batches = Best(tree, k), 1, 1
    for begin in range(0, samples, chunk):
        used, calls = _sample_chunk(tree, best, rng, min(chunk, samples - begin))
        steps, batches = steps + used, batches + calls
    return _result("sampling", tree, best, began, steps, batches)


def _sample_chunk(tree: Tree, best: Best, rng: np.random.Generator, count: int) -> tuple[int, int]:
    """Send `count` samples down the tree; (model steps, model calls)."""
    state: State = tree.root
    edges, cost, steps = tree.root_edges, np.zeros(1), 0
    counts, paths = np.array([count]), np.zeros((1, tree.depth), dtype=tree.symbol)
    for depth in range(tree.depth):
        weights = np.exp2(edges.min(axis=1, keepdims=True) - edges)
        split = rng.multinomial(counts, weights / weights.sum(axis=1, keepdims=True))
        parent, symbol = np.nonzero(split)
        cost, counts, paths = (cost[:, None] + edges)[parent, symbol], split[parent, symbol], paths[parent]
        paths[:, depth] = symbol
        if depth < tree.depth - 1:
            edges, state = tree.step(state.take(parent), symbol, depth + 1)
            steps += len(symbol)
    best.add(paths, cost)
    return steps, tree.depth - 1


def brute_force(
    model: LanguageModel, tokens: TokenFormat, *, max_steps: int, k: int = 1, chunk: int = 2048
) -> SearchResult:
    """Score every fill in lexicographic order. For small spaces; stops unproven after `max_steps` model steps."""
    began = time.perf_counter()
    tree = Tree.plant(model, tokens)
    if tree.size >= 2**62:
        raise UserError(f"brute force: {tree.size} fills cannot be listed; use shortest_path")
    chunk = tree.rows(chunk)
    best, steps, batches, seen = Best(tree, k), 1, 1, 0
    widths = [len(s) for s in tree.slots]
    while seen < tree.size and steps < max_steps:
        index = np.arange(seen, min(seen + chunk, tree.size))
        paths = np.stack(np.unravel_index(index, widths), axis=1).astype(tree.symbol)
        cost, _, _, _, used = path_states(tree, paths)
        best.add(paths, cost)
        seen, steps, batches = seen + len(index), steps + used, batches + tree.depth - 1
    done = seen == tree.size
    known = {"provable": True, "lower_bound_bits": best.worst} if done else {"lower_bound_bits": 0.0}
    return _result("brute_force", tree, best, began, steps, batches, **known)
