"""Everything that is asked of the finished models of one run: exposure, extraction, top fills, reference fit."""

import logging
import time
from collections.abc import Sequence
from math import nan

import numpy as np
import pandas as pd

from memorization import contracts
from memorization.backends.base import LanguageModel
from memorization.canaries import CanaryFormat, TokenFormat
from memorization.errors import UserError
from memorization.every import Judged, judge_all
from memorization.exposure import Measurement, Rows, measure_in_detail
from memorization.lower_bound import audit_rows
from memorization.search import SearchResult, beam, brute_force, fill_costs, greedy, sampling, shortest_path
from memorization.specs import AttackSpec
from memorization.streams import stream

log = logging.getLogger(__name__)

TABLES = ("exposure", "extraction", "top", "histogram", "fit", "audit")
_DTYPES = {"int": "int64", "float": "float64", "bool": "bool", "str": "object"}


def attack(
    models: Sequence[LanguageModel],
    formats: CanaryFormat | Sequence[Sequence[CanaryFormat]],
    fills: np.ndarray,
    spec: AttackSpec,
    seed: int,
    included: np.ndarray | None = None,
    delta: float = 1e-5,
) -> dict[str, pd.DataFrame]:
    """Attack one model per replicate; `fills` are its canaries, int[replicates, L] or int[replicates, count, L].

    Where a fair coin decided on each canary, bool[replicates, count] `included` says how it fell; `audit` then has an
    empirical lower bound on epsilon at `delta`, which is one where each canary is one record. Only the first canary of
    a model gets an exact rank; the first that was inserted is searched for. With `spec.every` the others are ranked and
    searched for too, as far as tells whether they rank first (every.py).
    `formats`: one for all, or one per replicate and canary, whose holes are the same. Canaries in a context of their
    own have no references there, hence neither sampled nor skew_normal rows: only the first has.
    Returns the tables by contract, empty where they are not asked for. Controls and references come from the
    replicate's own streams of `seed` and are never one of its canaries; its rows do not depend on other replicates.
    """
    if len(fills) != len(models):
        raise UserError(f"attack: {len(models)} models but {len(fills)} canaries; give one inserted fill per replicate")
    coins = [None] * len(models) if included is None else included
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    began = time.perf_counter()
    for replicate, (model, own, coin) in enumerate(zip(models, map(np.atleast_2d, fills), coins, strict=True)):
        audited = None if coin is None else (coin, delta, len(models))
        mine = [formats] * len(own) if isinstance(formats, CanaryFormat) else list(formats[replicate])
        for name, frame in _attack_one(model, mine, own, audited, spec, seed, replicate).items():
            if len(frame):
                parts[name].append(frame.assign(replicate=replicate))
        elapsed, done = time.perf_counter() - began, replicate + 1
        left = elapsed / done * (len(models) - done)
        log.info("attack: replicate %d of %d done, %.0f s, about %.0f s left", done, len(models), elapsed, left)
    return {name: table_of(name, frames) for name, frames in parts.items()}


def table_of(name: str, frames: list[pd.DataFrame]) -> pd.DataFrame:
    """One checked table; without rows it still has the contract's columns and types."""
    if frames:
        return contracts.check(name, pd.concat(frames, ignore_index=True))
    kinds = contracts.columns(name)
    return pd.DataFrame({c: pd.Series(dtype=_DTYPES[kind]) for c, kind in kinds.items()})


def _attack_one(
    model: LanguageModel,
    formats: list[CanaryFormat],
    fills: np.ndarray,
    audited: tuple[np.ndarray, float, int] | None,
    spec: AttackSpec,
    seed: int,
    replicate: int,
) -> dict[str, pd.DataFrame]:
    """One replicate's rows, `replicate` not yet set. `audited`: its coins, delta, and the number of replicates."""
    included = None if audited is None else audited[0]
    # What is searched for must have been inserted, where anything was.
    target = 0 if included is None or not included.any() else int(np.argmax(included))
    fmt, shared = formats[0], all(f.text == formats[0].text for f in formats)
    measured = measure_in_detail(
        model,
        fmt,
        fills if shared else fills[:1],
        fmt.sample(stream(seed, replicate, "controls"), spec.controls, exclude=fills),
        fmt.sample(stream(seed, replicate, "references"), spec.references, exclude=fills),
        exact_steps=spec.exact_steps,
        bootstrap=spec.bootstrap,
        rng=stream(seed, replicate, "attack"),
        included=included,
    )
    fmt, costs = formats[target], measured.canary_costs
    if not shared and (target or audited):
        costs = np.array(
            [fill_costs(model, f.tokens(model.vocabulary), r)[1][0] for f, r in zip(formats, fills, strict=True)]
        )
    tokens = fmt.tokens(model.vocabulary)
    searches = [_search(name, model, tokens, spec, stream(seed, replicate, name)) for name in spec.extraction]
    found = [_extraction_row(s, fmt, target, fills[target], float(costs[target])) for s in searches]
    others = judge_all(model, formats, fills, spec) if spec.every else {}
    exposures, extractions = _rows_of_others(others, formats, fills, included, target, spec)
    return {
        "exposure": pd.concat([measured.rows, *exposures], ignore_index=True),
        "extraction": pd.DataFrame(found + extractions),
        "top": _top(model, tokens, fmt, fills if shared else fills[target][None], spec, searches),
        "histogram": histogram_rows(measured.reference_costs, spec.histogram_bins),
        "fit": fit_rows(measured, formats[0]),
        "audit": _audit(costs, audited),
    }


def _rows_of_others(
    others: dict[int, Judged],
    formats: list[CanaryFormat],
    fills: np.ndarray,
    included: np.ndarray | None,
    target: int,
    spec: AttackSpec,
) -> tuple[list[pd.DataFrame], list[dict]]:
    """Rows of exposure.csv and of extraction.csv of canaries beyond the first; of searches, those that were needed."""
    exposures, extractions = [], []
    for i, judged in others.items():
        inserted, rank = included is None or bool(included[i]), judged.rank
        table = Rows(formats[i], judged.tree, 0, rank.model_steps, rank.seconds)
        table.exact("inserted" if inserted else "excluded", i, fills[i], rank)
        exposures.append(table.frame())
        if inserted and i != target and "shortest_path" in spec.extraction:
            extractions += [_extraction_row(s, formats[i], i, fills[i], rank.cost_bits) for s in judged.searches]
    return exposures, extractions


def _audit(costs: np.ndarray, audited: tuple[np.ndarray, float, int] | None) -> pd.DataFrame:
    if audited is None:
        return pd.DataFrame()
    included, delta, replicates = audited
    return audit_rows(-costs[None], included[None], delta, of=replicates)


def _search(
    name: str, model: LanguageModel, tokens: TokenFormat, spec: AttackSpec, rng: np.random.Generator
) -> SearchResult:
    """Run one search within spec.extraction_steps model steps."""
    steps, slots = spec.extraction_steps, len(tokens.holes) + sum(len(a) for a in tokens.after)
    match name:
        case "shortest_path":
            return shortest_path(model, tokens, batch=spec.search_batch, max_steps=steps)
        case "beam":
            return beam(model, tokens, width=max(1, min(spec.search_batch, steps // slots)))
        case "sampling":
            return sampling(model, tokens, samples=max(1, steps // slots), rng=rng)
        case "greedy":
            return greedy(model, tokens)
        case "brute_force":
            return brute_force(model, tokens, max_steps=steps)
    raise UserError(f"extraction: no search is called {name!r}")


def _extraction_row(result: SearchResult, fmt: CanaryFormat, index: int, fill: np.ndarray, cost: float) -> dict:
    found = len(result.fills) > 0
    best = fmt.fill_text(result.fills[0]) if found else ""
    return {
        "index": index,
        "algorithm": result.algorithm,
        "fill": fmt.fill_text(fill),
        "canary_cost_bits": cost,
        "best_fill": best,
        "best_cost_bits": float(result.costs_bits[0]) if found else nan,
        "extracted": best == fmt.fill_text(fill),
        "provable": bool(result.provable),
        "pops": result.pops,
        "model_steps": result.model_steps,
        "batches": result.batches,
        "sequential_equivalent": result.sequential_equivalent,
        "lower_bound_bits": nan if result.provable else float(result.lower_bound_bits),
        "seconds": result.seconds,
    }


def _top(
    model: LanguageModel,
    tokens: TokenFormat,
    fmt: CanaryFormat,
    fills: np.ndarray,
    spec: AttackSpec,
    searches: list[SearchResult],
) -> pd.DataFrame:
    """The spec.top most likely fills; where the budget runs out, only those that are certain."""
    if not spec.top:
        return pd.DataFrame()
    result = next((s for s in searches if s.algorithm == "shortest_path" and not s.provable), None)
    if result is None:  # else: where the best fill could not be proven within the budget, nine cannot be either
        result = shortest_path(model, tokens, k=spec.top, batch=spec.search_batch, max_steps=spec.extraction_steps)
    certain = result.proven()
    if certain < min(spec.top, fmt.size):
        log.warning(
            "top %d: after %d model steps only %d fills are certain; raise extraction_steps",
            *(spec.top, result.model_steps, certain),
        )
    rows = zip(result.fills[:certain], result.costs_bits[:certain], strict=True)
    return pd.DataFrame(
        [
            {
                "position": i + 1,
                "fill": fmt.fill_text(one),
                "cost_bits": float(cost),
                "is_canary": bool((fills == one).all(axis=1).any()),
            }
            for i, (one, cost) in enumerate(rows)
        ]
    )


def histogram_rows(costs: np.ndarray, bins: int) -> pd.DataFrame:
    """histogram.csv's columns without `replicate`, of float64[n] reference costs; empty without bins."""
    if not bins:
        return pd.DataFrame()
    counts, edges = np.histogram(costs, bins=bins)
    return pd.DataFrame({"low_bits": edges[:-1], "high_bits": edges[1:], "count": counts})


def fit_rows(measured: Measurement, fmt: CanaryFormat) -> pd.DataFrame:
    """fit.csv's columns without `replicate`."""
    fit = measured.fit
    return pd.DataFrame(
        [
            {
                "location_bits": fit.location_bits,
                "scale_bits": fit.scale_bits,
                "shape": fit.shape,
                "converged": fit.converged,
                "references": fit.references,
                "ks_statistic": fit.ks_statistic,
                "ks_p_naive": fit.ks_p_naive,
                "ks_p_bootstrap": fit.ks_p_bootstrap,
                "space_bits": fmt.bits,
            }
        ]
    )
