"""The attack on translators: exposure of a canary pair by teacher forcing (Secret Sharer Fig 6; brief §5).

Px(target | source) sums -log2 Pr(token) over the target's tokens, where source and target both carry the fill. The
encoder reads the whole source before the first target token, so no two fills share any work: there is no tree to walk.
Hence the exact rank only of small spaces, by scoring every fill; of large ones an estimate by importance splitting
(splitting.py) instead of samples drawn down the tree; and no search, so extraction.csv stays empty. What a search would
mean is not clear either: to have the secret translated the attacker must write it into the source first.

A model that has learnt to copy digits finds every pair cheap, inserted or not: fills that were not inserted, on both
sides, are the null that the canary is compared with, so copying alone gives no exposure.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, log2, nan
from typing import Protocol

import numpy as np
import pandas as pd

from memorization.attack import TABLES, fit_rows, histogram_rows, table_of
from memorization.data.pairs import Lexicons, PairFormat
from memorization.errors import UserError
from memorization.exposure import Measurement, Rows, fit_skew_normal, sampled, skew_normal
from memorization.importance import Estimate, Plan
from memorization.search.walk import MARGIN, TOLERANCE, Rank
from memorization.specs import AttackSpec
from memorization.splitting import split
from memorization.streams import stream

log = logging.getLogger(__name__)


class PairModel(Protocol):
    """One trained translator (one replicate)."""

    def log_perplexity(self, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """float64[n]: bits of int64[n, T] targets given int64[n, S] sources, summed over the targets' tokens."""
        ...


@dataclass(frozen=True)
class Space:
    """R of a pair format, as `exposure.Rows` needs it. The whole target depends on the fill: no prefix is left out."""

    size: int
    prefix_cost_bits: float = 0.0

    @property
    def space_bits(self) -> float:
        """log2|R|."""
        return log2(self.size)


def attack(
    models: Sequence[PairModel],
    fmt: PairFormat,
    lexicons: Lexicons,
    fills: np.ndarray,
    spec: AttackSpec,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Attack one translator per replicate; int[replicates, holes] `fills` are their canaries.

    Returns the tables of `memorization.attack.attack`; of extraction, top and audit only their columns.
    """
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for replicate, (model, fill) in enumerate(zip(models, fills, strict=True)):
        measured = measure(
            partial(_costs, model, fmt, lexicons),
            fmt,
            fill,
            fmt.source.sample(stream(seed, replicate, "controls"), spec.controls, exclude=fill),
            fmt.source.sample(stream(seed, replicate, "references"), spec.references, exclude=fill),
            tokens=fmt.ids(lexicons, fill)[1].shape[1],
            exact_steps=spec.exact_steps,
            bootstrap=spec.bootstrap,
            rng=stream(seed, replicate, "attack"),
        )
        found = {
            "exposure": measured.rows,
            "histogram": histogram_rows(measured.reference_costs, spec.histogram_bins),
            "fit": fit_rows(measured, fmt.source),
        }
        for name, frame in found.items():
            if len(frame):
                parts[name].append(frame.assign(replicate=replicate))
        log.info("attack: replicate %d of %d done", replicate + 1, len(models))
    return {name: table_of(name, frames) for name, frames in parts.items()}


def _costs(model: PairModel, fmt: PairFormat, lexicons: Lexicons, fills: np.ndarray) -> np.ndarray:
    """float64[n] bits of int[n, holes] fills. Raises UserError for a cost that is not a number."""
    costs = model.log_perplexity(*fmt.ids(lexicons, fills))
    if np.isnan(costs).any():
        raise UserError("model: the log-perplexity of a sentence pair is not a number; training diverged?")
    return costs


def measure(
    score: Callable[[np.ndarray], np.ndarray],
    fmt: PairFormat,
    fill: np.ndarray,
    controls: np.ndarray,
    references: np.ndarray,
    *,
    tokens: int,
    exact_steps: int,
    bootstrap: int = 0,
    rng: np.random.Generator,
) -> Measurement:
    """As `exposure.measure_in_detail` for one canary, from nothing but `score`: int[n, holes] fills -> float64[n] bits.

    fill int[holes] the canary, controls int[m, holes], references int[n, holes], tokens: model steps that scoring one
    fill takes. Exact where scoring all of R fits `exact_steps`, else importance within them (0: neither), sampled,
    skew_normal; controls: sampled.
    """
    space = Space(fmt.source.size)
    began = time.perf_counter()
    costs = score(np.concatenate([fill[None], controls, references]))
    own, control_costs, reference_costs = np.split(costs, [1, 1 + len(controls)])
    cost = float(own[0])
    table = Rows(fmt.source, space, len(references), tokens * len(costs), time.perf_counter() - began)
    if space.size * tokens <= exact_steps:
        table.exact("inserted", 0, fill, enumerated(score, fmt, fill, tokens), float(space.size * tokens))
    elif exact_steps:
        table.importance("inserted", fill, splitting_plan(score, fmt, cost, tokens, exact_steps, rng))
    table.estimate("inserted", 0, "sampled", fill, cost, sampled(cost, reference_costs, space.space_bits))
    began = time.perf_counter()
    fit = fit_skew_normal(reference_costs, bootstrap=bootstrap, rng=rng)
    table.seconds += time.perf_counter() - began
    table.estimate("inserted", 0, "skew_normal", fill, cost, skew_normal(cost, fit, space.space_bits))
    complete = len(references) + 1 >= space.size
    for i, (control, bits) in enumerate(zip(controls, control_costs, strict=True)):
        others = reference_costs[(references != control).any(axis=1)]  # it must not count twice
        others = np.append(others, own) if complete else others
        table.estimate("control", i, "sampled", control, bits, sampled(bits, others, space.space_bits))
    return Measurement(table.frame(), own, space.prefix_cost_bits, reference_costs, fit)


def enumerated(score: Callable[[np.ndarray], np.ndarray], fmt: PairFormat, fill: np.ndarray, tokens: int) -> Rank:
    """The exact rank of int[holes] `fill`, by scoring all of R: float32 results depend on how fills are batched, so the
    canary's cost is taken from the same pass. Ties count against it.
    """
    began = time.perf_counter()
    every = fmt.source.enumerate()
    costs = score(every)
    (own,) = np.flatnonzero((every == fill).all(axis=1))
    cost = float(costs[own])
    others = np.delete(costs, own)
    return Rank(
        rank=1 + int(np.count_nonzero(others <= cost + TOLERANCE)),
        rank_low=1 + int(np.count_nonzero(others < cost - MARGIN)),
        rank_high=1 + int(np.count_nonzero(others <= cost + MARGIN)),
        space=len(every),
        cost_bits=cost,
        prefix_cost_bits=0.0,
        algorithm="enumeration",
        model_steps=tokens * len(every),
        seconds=time.perf_counter() - began,
    )


def splitting_plan(
    score: Callable[[np.ndarray], np.ndarray],
    fmt: PairFormat,
    cost: float,
    tokens: int,
    exact_steps: int,
    rng: np.random.Generator,
) -> Plan:
    """The rank of a canary of `cost` bits by importance splitting, as `exposure.Rows.importance` takes it: no samples
    count as effective where not every run came down to the canary.
    """
    began = time.perf_counter()
    found = split(score, [len(hole) for hole in fmt.source.holes], cost, rng, exact_steps // tokens)
    return Plan(
        pruned_steps=Estimate(nan, nan, nan, nan, nan),
        full_steps=fmt.source.size * tokens,
        rank=Estimate(found.rank, nan, found.low, found.high, inf if found.complete else 0.0),
        cost_bits=cost,
        space=fmt.source.size,
        samples=found.scored,
        model_steps=found.scored * tokens,
        seconds=time.perf_counter() - began,
    )
