"""How large a walk would be, and what rank it would find, from a few thousand sampled prefixes.

Ours, beyond the paper. Uniform references cannot see a rank below |R| / n; but the fills that are cheaper than a canary
are the ones the model itself prefers, so fills are drawn from the model. Let q_a(prefix) be the probability of
drawing a prefix symbol by symbol from Pr(symbol | prefix)**a, renormalised over the hole's symbols. Samples come in
equal shares from a = 0 (uniform), 1/2 and 1, and each is weighted by the balance heuristic of multiple importance
sampling (Veach and Guibas, SIGGRAPH 1995):

    number of prefixes of length d with cost <= c  =  E[ 1(cost <= c) / q(prefix) ],  q = mean over a of q_a

which is unbiased because q covers every prefix. Summed over d = 0..S-1 it is the number of model steps of a pruned
walk; at d = S it is the number of fills that rank at or before the canary. No weight exceeds A * 2**c for A exponents,
since q_1(prefix) >= 2**-cost; the uniform share bounds it by A * |R| as well. Samples whose cost exceeds c are dropped
at once, as in the walk.

Intervals: the delta method on log2 of the mean, within two limits that always hold: the distinct cheap prefixes that
were seen are a lower bound, and the Clopper-Pearson bound on the share of hits times the largest possible weight is an
upper one, which takes over where few hits make the variance estimate worthless.
"""

import time
from dataclasses import dataclass
from math import exp, inf, log2

import numpy as np
from scipy import stats

from memorization.backends.base import LanguageModel
from memorization.canaries import TokenFormat
from memorization.search.tree import Tree, score
from memorization.search.walk import MARGIN, TOLERANCE

EXPONENTS = (0.0, 0.5, 1.0)
ENOUGH = 30.0
"""Effective hits from which the delta method alone gives the upper limit."""


@dataclass(frozen=True)
class Estimate:
    """An unbiased estimate of a count, its standard error, and a 95 % interval."""

    value: float
    standard_error: float
    low: float
    high: float
    effective_samples: float


@dataclass(frozen=True)
class Plan:
    """What an exact rank would cost, and what it would find.

    pruned_steps   model steps of a branch-and-bound walk, full_steps those of a walk without pruning
    rank           of the fill among all fills, itself included
    """

    pruned_steps: Estimate
    full_steps: int
    rank: Estimate
    cost_bits: float
    space: int
    samples: int
    model_steps: int
    seconds: float

    @property
    def exposure_bits(self) -> tuple[float, float, float]:
        """log2|R| - log2 of (rank, high, low): the estimate and its 95 % interval."""
        return tuple(log2(self.space) - log2(r) for r in (self.rank.value, self.rank.high, self.rank.low))


def plan(
    model: LanguageModel, tokens: TokenFormat, fill: np.ndarray, rng: np.random.Generator, samples: int = 3000
) -> Plan:
    """Estimate walk and rank of int[L] `fill` from about `samples` sampled fills; see the module's text."""
    return plan_in(Tree.plant(model, tokens), fill, rng, samples)


def plan_in(tree: Tree, fill: np.ndarray, rng: np.random.Generator, samples: int = 3000) -> Plan:
    """As `plan`, on a planted tree."""
    began = time.perf_counter()
    (cost,), scoring_steps = score(tree, np.atleast_2d(fill))
    shares = np.repeat(np.arange(len(EXPONENTS)), -(-samples // len(EXPONENTS)))
    drawn = _descend(tree, tree.paths(fill)[0], float(cost), shares, rng)
    cap = 2.0 ** (cost + MARGIN) if cost < 1000 else inf  # what 1 / q_1 can reach at one length
    steps_cap = len(EXPONENTS) * min(cap * (tree.depth - 1), tree.full_steps)
    steps = _estimate(drawn.prefixes, shares, drawn.distinct_prefixes, steps_cap)
    rank = _estimate(drawn.leaves, shares, drawn.distinct_leaves, len(EXPONENTS) * min(cap, tree.size))
    return Plan(
        pruned_steps=_clip(steps, 1, tree.full_steps),
        full_steps=tree.full_steps,
        rank=_clip(rank, 1, tree.size),
        cost_bits=float(cost),
        space=tree.size,
        samples=len(shares),
        model_steps=drawn.steps + scoring_steps + 1,
        seconds=time.perf_counter() - began,
    )


@dataclass
class _Drawn:
    """Per sample, the sums of weights over its cheap prefixes of length 1..S-1, and its weight as a cheap leaf."""

    prefixes: np.ndarray
    leaves: np.ndarray
    distinct_prefixes: int = 0
    distinct_leaves: int = 0
    steps: int = 0


def _descend(
    tree: Tree, own: np.ndarray, threshold: float, shares: np.ndarray, rng: np.random.Generator
) -> _Drawn:
    """Draw all samples down the tree together; equal prefixes share their model step."""
    drawn = _Drawn(np.zeros(len(shares)), np.zeros(len(shares)))
    exponents = np.array(EXPONENTS)
    alive = np.arange(len(shares))  # samples that are still cheap enough
    node = np.zeros(len(shares), dtype=np.int64)
    state, edges, cost, is_own = tree.root, tree.root_edges, np.zeros(1), np.ones(1, dtype=bool)
    log_q = np.zeros((1, len(exponents)))  # ln q_a of each node
    for depth in range(tree.depth):
        logits = -edges[:, None, :] * np.log(2) * exponents[:, None]
        logits = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
        chosen = _draw(np.exp(logits)[node, shares[alive]], rng)
        keys, node = np.unique(node * edges.shape[1] + chosen, return_inverse=True)
        parent, symbol = np.divmod(keys, edges.shape[1])
        cost = cost[parent] + edges[parent, symbol]
        log_q = log_q[parent] + logits[parent, :, symbol]
        is_own = is_own[parent] & (symbol == own[depth])
        last = depth == tree.depth - 1
        cheap = cost <= threshold + (TOLERANCE if last else MARGIN)
        weight = np.exp(np.log(len(exponents)) - np.logaddexp.reduce(log_q, axis=1))
        if last:  # the canary's own leaf is counted for certain, so it is no hit
            cheap &= ~is_own
            drawn.leaves[alive] = np.where(cheap, weight, 0.0)[node]
            drawn.distinct_leaves = int(cheap.sum())
            break
        drawn.prefixes[alive] += np.where(cheap, weight, 0.0)[node]
        drawn.distinct_prefixes += int(cheap.sum())
        kept = np.flatnonzero(cheap)
        if not len(kept):
            break
        alive, node = alive[cheap[node]], (np.cumsum(cheap) - 1)[node[cheap[node]]]
        cost, log_q, is_own = cost[kept], log_q[kept], is_own[kept]
        edges, state = tree.step(state.take(parent[kept]), symbol[kept], depth + 1)
        drawn.steps += len(kept)
    return drawn


def _draw(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int[n]: one symbol per row of float64[n, b], by inversion."""
    cumulative = np.cumsum(probabilities, axis=1)
    points = rng.random((len(probabilities), 1)) * cumulative[:, -1:]
    return np.minimum((cumulative < points).sum(axis=1), probabilities.shape[1] - 1)


def _estimate(values: np.ndarray, shares: np.ndarray, distinct: int, cap: float) -> Estimate:
    """1 + the stratified mean of float64[n] `values`, with a 95 % interval.

    The one is what counts for certain: the empty prefix of a walk, the canary itself in its rank.

    distinct  different items seen, which is a lower bound
    cap       the largest value one sample can take
    """
    strata = [values[shares == s] for s in np.unique(shares)]
    total = float(np.mean([v.mean() for v in strata]))
    error = (
        float(np.sqrt(sum(v.var(ddof=1) / len(v) for v in strata)) / len(strata))
        if len(strata[0]) > 1
        else inf
    )
    effective = float(values.sum() ** 2 / np.square(values).sum()) if total else 0.0
    hits, n = np.count_nonzero(values), len(values)
    highest = cap * float(stats.beta.ppf(0.975, hits + 1, n - hits)) if hits < n else cap
    low, high = float(distinct), highest
    if total and np.isfinite(error):
        # Half-width in ln: asymmetric, as the error of a heavy-tailed mean is.
        half = 1.96 * error / total
        low = max(low, total * exp(-half))
        if effective >= ENOUGH:
            high = max(min(high, total * exp(min(half, 700))), low)
    return Estimate(1 + total, error, 1 + low, 1 + max(high, total), effective)


def _clip(estimate: Estimate, least: float, most: float) -> Estimate:
    """Within what is possible: sampling error must not give a rank above |R|."""
    value, low, high = (
        float(min(max(v, least), most)) for v in (estimate.value, estimate.low, estimate.high)
    )
    return Estimate(value, estimate.standard_error, low, high, estimate.effective_samples)
