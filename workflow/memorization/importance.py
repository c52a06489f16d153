"""How large a walk would be, and what rank it would find, from a few thousand sampled prefixes.

Ours, beyond the paper. Uniform references cannot see a rank below |R| / n. But the prefixes that cost at most c (the
canary's cost) form a small tree, and its size can be sampled from inside, in the manner of Knuth's estimate of
backtracking (Math. Comp. 29, 1975): draw a fill symbol by symbol, only among symbols that keep the cost within c.
With the model's help: let q_a(prefix) be the probability of drawing a prefix when each symbol is chosen in proportion
to Pr(symbol | prefix)**a among the affordable ones. Samples come in equal shares from a = 0 (uniform), 1 (the
model), 2 and 3 (its favourites, without which small ranks are hardly ever hit), and are weighted by the balance
heuristic of multiple importance sampling (Veach and Guibas, SIGGRAPH 1995), q being the mean over a of q_a:

    number of prefixes of length d + 1 that cost <= c  =  E[ affordable symbols after prefix / q(prefix) ]

over samples of length d. It is unbiased, because costs only grow along a path, so every affordable prefix can be
drawn. Summed over lengths 0..S-1 it is the number of model steps of a pruned walk; for whole fills it is the rank.
One sample's value never exceeds A * 2**c per length for A exponents, nor A times the number of prefixes.

Intervals: the delta method on the log of the mean (Student's t with the effective number of samples), within two
limits that always hold: the distinct affordable prefixes that were seen are a lower bound, and the Clopper-Pearson
bound on the share of samples with a value times the largest possible value is an upper one. The latter takes over
where too few samples carry the estimate.
"""

import time
from dataclasses import dataclass
from math import exp, inf, log2

import numpy as np
from scipy import stats

from memorization.backends.base import LanguageModel, State
from memorization.canaries import TokenFormat
from memorization.search.tree import Tree, score
from memorization.search.walk import MARGIN, TOLERANCE

SAMPLES = 6000
"""Fills drawn; of holes with very many symbols (words) fewer, see `affordable_samples`."""

FEWEST_SAMPLES, EDGES = 512, 1 << 21
"""Of wide holes so many samples, or as many as have so many edges together."""

EXPONENTS = (0.0, 1.0, 2.0, 3.0)
ENOUGH = 5.0
"""Effective samples from which the delta method gives the upper limit."""


@dataclass(frozen=True)
class Estimate:
    """An estimate of a count (unbiased but for the limits of what is possible), its standard error, a 95 % interval."""

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
    model: LanguageModel, tokens: TokenFormat, fill: np.ndarray, rng: np.random.Generator, samples: int = SAMPLES
) -> Plan:
    """Estimate walk and rank of int[L] `fill` from about `samples` sampled fills; see the module's text."""
    return plan_in(Tree.plant(model, tokens), fill, rng, samples)


def affordable_samples(widest: int) -> int:
    """How many fills to draw where a hole has `widest` symbols: every step of a sample looks at all of them."""
    return min(SAMPLES, max(FEWEST_SAMPLES, EDGES // widest))


def plan_in(tree: Tree, fill: np.ndarray, rng: np.random.Generator, samples: int | None = None) -> Plan:
    """As `plan`, on a planted tree; `affordable_samples` unless told otherwise."""
    samples = affordable_samples(tree.widest) if samples is None else samples
    began = time.perf_counter()
    (cost,), scoring_steps = score(tree, np.atleast_2d(fill))
    shares = np.repeat(np.arange(len(EXPONENTS)), -(-samples // len(EXPONENTS)))
    # In blocks where symbols are many (words), or the weights of all of them would not fit into memory.
    block = max(1, tree.rows(len(EXPONENTS) * len(shares)) // len(EXPONENTS))
    path = tree.paths(fill)[0]
    drawn = _join([_descend(tree, path, float(cost), shares[b : b + block], rng) for b in range(0, len(shares), block)])
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
    """Per sample: estimates of the affordable prefixes of lengths 1..S-1 and of the other fills that rank before."""

    prefixes: np.ndarray
    leaves: np.ndarray
    distinct_prefixes: int = 0
    distinct_leaves: int = 0
    steps: int = 0


def _join(blocks: list[_Drawn]) -> _Drawn:
    """Blocks of samples together; what two of them saw may be the same, so only the most that one saw is certain."""
    return _Drawn(
        np.concatenate([b.prefixes for b in blocks]),
        np.concatenate([b.leaves for b in blocks]),
        max(b.distinct_prefixes for b in blocks),
        max(b.distinct_leaves for b in blocks),
        sum(b.steps for b in blocks),
    )


@dataclass
class _Nodes:
    """m distinct prefixes of one length: edges float64[m, b], ln q_a float64[m, A], own: on the canary's path."""

    state: State
    edges: np.ndarray
    cost: np.ndarray
    log_q: np.ndarray
    own: np.ndarray

    def affordable(self, limit: float, own_symbol: int | None) -> np.ndarray:
        """bool[m, b]: symbols that keep the cost within `limit`, without the canary's last one if it is given."""
        cheap = self.cost[:, None] + self.edges <= limit
        if own_symbol is not None:  # the canary's own leaf counts for certain: it is not sampled
            cheap[self.own, own_symbol] = False
        return cheap

    def weights(self) -> np.ndarray:
        """float64[m]: 1 / q."""
        return np.exp(np.log(self.log_q.shape[1]) - np.logaddexp.reduce(self.log_q, axis=1))


def _descend(tree: Tree, own: np.ndarray, threshold: float, shares: np.ndarray, rng: np.random.Generator) -> _Drawn:
    """Draw all samples down the tree together; equal prefixes share their model step."""
    drawn = _Drawn(np.zeros(len(shares)), np.zeros(len(shares)))
    alive, node = np.arange(len(shares)), np.zeros(len(shares), dtype=np.int64)
    log_q, one = np.zeros((1, len(EXPONENTS))), np.ones(1, dtype=bool)
    nodes = _Nodes(tree.root, tree.root_edges, np.zeros(1), log_q, one)
    for depth in range(tree.depth - 1):
        cheap = nodes.affordable(threshold + MARGIN, None)
        drawn.prefixes[alive] += (cheap.sum(axis=1) * nodes.weights())[node]
        drawn.distinct_prefixes += int(cheap.sum())
        on = cheap.any(axis=1)[node]
        alive, node = alive[on], node[on]
        if not len(alive):
            return drawn
        nodes, node = _extend(tree, nodes, cheap, node, shares[alive], depth, own[depth], rng)
        drawn.steps += len(nodes.cost)
    cheap = nodes.affordable(threshold + TOLERANCE, own[-1])
    drawn.leaves[alive] = (cheap.sum(axis=1) * nodes.weights())[node]
    drawn.distinct_leaves = int(cheap.sum())
    return drawn


def _extend(
    tree: Tree,
    nodes: _Nodes,
    cheap: np.ndarray,
    node: np.ndarray,
    shares: np.ndarray,
    depth: int,
    own_symbol: int,
    rng: np.random.Generator,
) -> tuple[_Nodes, np.ndarray]:
    """Draw one symbol per sample: the distinct longer prefixes, and int[n] which one each sample is at."""
    logits = -nodes.edges[:, None, :] * np.log(2) * np.array(EXPONENTS)[:, None]
    logits = np.where(cheap[:, None, :], logits, -inf)
    with np.errstate(invalid="ignore"):  # -inf minus -inf where nothing is affordable: no sample is there
        logits = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    symbols = _draw(np.exp(logits[node, shares]), rng)
    keys, node = np.unique(node * nodes.edges.shape[1] + symbols, return_inverse=True)
    parent, symbol = np.divmod(keys, nodes.edges.shape[1])
    edges, state = tree.step(nodes.state.take(parent), symbol, depth + 1)
    longer = _Nodes(
        state,
        edges,
        nodes.cost[parent] + nodes.edges[parent, symbol],
        nodes.log_q[parent] + logits[parent, :, symbol],
        nodes.own[parent] & (symbol == own_symbol),
    )
    return longer, node


def _draw(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int[n]: one symbol per row of float64[n, b] by inversion, never one of probability zero."""
    cumulative = np.cumsum(probabilities, axis=1)
    total = cumulative[:, -1:]
    points = np.minimum(rng.random((len(probabilities), 1)) * total, np.nextafter(total, 0))
    return (cumulative <= points).sum(axis=1)


def _estimate(values: np.ndarray, shares: np.ndarray, distinct: int, cap: float) -> Estimate:
    """1 + the stratified mean of float64[n] `values`, with a 95 % interval.

    The one is what counts for certain: the empty prefix of a walk, the canary itself in its rank.

    distinct  different items seen, which is a lower bound
    cap       the largest value one sample can take
    """
    strata = [values[shares == s] for s in np.unique(shares)]
    total = float(np.mean([v.mean() for v in strata]))
    error = float(np.sqrt(sum(v.var(ddof=1) / len(v) for v in strata)) / len(strata)) if len(strata[0]) > 1 else inf
    effective = float(values.sum() ** 2 / np.square(values).sum()) if total else 0.0
    hits, n = np.count_nonzero(values), len(values)
    highest = cap * float(stats.beta.ppf(0.975, hits + 1, n - hits)) if hits < n else cap
    low, high = float(distinct), highest
    if total and np.isfinite(error):
        # Half-width in ln: asymmetric, as the error of a heavy-tailed mean is; Student's t for the few that carry it.
        half = float(stats.t.ppf(0.975, max(effective - 1, 1.0))) * error / total
        low = max(low, total * exp(-half))
        if effective >= ENOUGH:
            high = max(min(high, total * exp(min(half, 700))), low)
    return Estimate(1 + total, error, 1 + low, 1 + max(high, total), effective)


def _clip(estimate: Estimate, least: float, most: float) -> Estimate:
    """Within what is possible: sampling error must not give a rank above |R|, nor below the number of fills seen."""
    low, high = (float(min(max(v, least), most)) for v in (estimate.low, estimate.high))
    value = float(min(max(estimate.value, low), most))
    return Estimate(value, estimate.standard_error, low, high, estimate.effective_samples)
