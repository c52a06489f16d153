"""Exposure of canaries, several ways: exact, by importance sampling, by uniform sampling, by a skew-normal fit.

exposure = log2|R| - log2(rank) (Secret Sharer Definition 3; brief 4.3). A canary that was not inserted has exposure
Exponential with mean 1/ln 2 = 1.44 bits.
"""

import logging
import time
from dataclasses import dataclass
from math import log2, nan

import numpy as np
import pandas as pd

from memorization import contracts
from memorization.backends.base import LanguageModel
from memorization.canaries import CanaryFormat
from memorization.importance import ENOUGH, Plan, plan_in
from memorization.sampled import Exposure, sampled, sampled_each
from memorization.search.tree import Tree, score
from memorization.search.walk import Rank, rank_in
from memorization.skew_normal import SkewNormalFit, fit_skew_normal, tail_bits, tail_interval

__all__ = [
    "Exposure",
    "Measurement",
    "SkewNormalFit",
    "decide",
    "fit_skew_normal",
    "measure",
    "measure_in_detail",
    "sampled",
    "sampled_each",
    "skew_normal",
]

log = logging.getLogger(__name__)

SAFETY = 1.5
"""A planned pruned walk is tried when this many times its estimate fits the budget."""

LARGEST = 2**63 - 1
"""What stands for a larger |R| in a column of integers."""


def skew_normal(cost: float, fit: SkewNormalFit, space_bits: float) -> Exposure:
    """-log2 of the fitted probability of costing at most `cost` bits (Secret Sharer §4.3), with a bootstrap interval.

    It may exceed log2|R|; `extrapolated` is set there and beyond log2 of the number of references.
    """
    return _skew_normals(np.array([cost]), fit, space_bits)[0]


def _skew_normals(costs: np.ndarray, fit: SkewNormalFit, space_bits: float) -> list[Exposure]:
    """As `skew_normal`, of float64[n] costs."""
    limit = min(space_bits, log2(fit.references))
    bits, (low, high) = tail_bits(costs, fit), tail_interval(costs, fit)
    return [Exposure(*e, e[0] > limit) for e in np.stack([bits, low, high], axis=1).tolist()]


def decide(plan: Plan, exact_steps: int) -> str:
    """Whether to "walk" or to "sample": is an exact rank expected to fit into `exact_steps` model steps? Logged.

    A pruned walk never takes more steps than a full one, so a space that can be walked in full is always walked pruned.
    """
    expected = min(SAFETY * plan.pruned_steps.value, plan.full_steps)
    decision = "walk" if expected <= exact_steps else "sample"
    low, high = plan.pruned_steps.low, plan.pruned_steps.high
    log.info(
        "exact rank: about %.3g model steps (95 %%: %.3g to %.3g), full walk %.3g, budget %.3g: %s",
        *(plan.pruned_steps.value, low, high, plan.full_steps, exact_steps),
        "pruned walk" if decision == "walk" else "too many, importance sampling instead",
    )
    return decision


@dataclass(frozen=True)
class Measurement:
    """The rows of exposure.csv without `replicate`, and what they were computed from.

    canary_costs  float64[m], bits of each canary, as cost_bits of its rows
    """

    rows: pd.DataFrame
    canary_costs: np.ndarray
    prefix_cost_bits: float
    reference_costs: np.ndarray
    fit: SkewNormalFit


def measure(
    model: LanguageModel,
    fmt: CanaryFormat,
    fill: np.ndarray,
    controls: np.ndarray,
    references: np.ndarray,
    *,
    exact_steps: int,
    bootstrap: int = 0,
    rng: np.random.Generator,
    skew_normal_controls: bool = False,
) -> pd.DataFrame:
    """exposure.csv's columns without `replicate`, one row per canary and method.

    fill int[L] the inserted canary; controls int[m, L] and references int[n, L] other fills. Inserted: exact (where the
    plan fits `exact_steps`), importance, sampled, skew_normal; controls: sampled, on request skew_normal too.
    exact_steps=0 gives neither exact nor importance rows. All fills are scored in one pass; rows that rest on it carry
    the whole pass's model_steps and seconds.
    """
    return measure_in_detail(
        model,
        fmt,
        fill,
        controls,
        references,
        exact_steps=exact_steps,
        bootstrap=bootstrap,
        rng=rng,
        skew_normal_controls=skew_normal_controls,
    ).rows


def measure_in_detail(
    model: LanguageModel,
    fmt: CanaryFormat,
    fills: np.ndarray,
    controls: np.ndarray,
    references: np.ndarray,
    *,
    exact_steps: int,
    bootstrap: int = 0,
    rng: np.random.Generator,
    skew_normal_controls: bool = False,
    included: np.ndarray | None = None,
) -> Measurement:
    """As `measure`, for one or more canaries, with the costs and the fit.

    fills int[L] or int[m, L]: the first gets every method, the others sampled and skew_normal, against the same
    references, which hold none of them. With bool[m] `included` those that were left out are of kind "excluded".
    """
    tree = Tree.plant(model, fmt.tokens(model.vocabulary))
    fills, controls = (np.asarray(f, dtype=np.int64).reshape(-1, len(fmt.holes)) for f in (fills, controls))
    kinds = ["excluded" if included is not None and not included[i] else "inserted" for i in range(len(fills))]
    began = time.perf_counter()
    costs, steps = score(tree, np.concatenate([fills, controls, references]))
    own, control_costs, reference_costs = np.split(costs, [len(fills), len(fills) + len(controls)])
    table = Rows(fmt, tree, len(references), steps + 1, time.perf_counter() - began)
    # A canary's rank counts the other canaries only where the references are all fills but the canaries.
    complete = len(references) + len(fills) >= tree.size
    planned = np.full(len(fills), nan)
    if exact_steps:
        planned[0] = _exact_rows(table, tree, fills[0], kinds[0], exact_steps, rng)
    for i, (kind, fill, cost, found) in enumerate(
        zip(kinds, fills, own, _own_sampled(own, reference_costs, complete, tree.space_bits), strict=True)
    ):
        table.estimate(kind, i, "sampled", fill, cost, found, planned[i])
    began = time.perf_counter()
    fit = fit_skew_normal(reference_costs, bootstrap=bootstrap, rng=rng)
    table.seconds += time.perf_counter() - began
    fitted = _skew_normals(own, fit, tree.space_bits)
    for i, (kind, fill, cost) in enumerate(zip(kinds, fills, own, strict=True)):
        table.estimate(kind, i, "skew_normal", fill, cost, fitted[i], planned[i])
    for i, (control, cost) in enumerate(zip(controls, control_costs, strict=True)):
        # A control may be among the references; it must not count twice.
        others = reference_costs[(references != control).any(axis=1)]
        others = np.append(others, own) if complete else others
        table.estimate("control", i, "sampled", control, cost, sampled(cost, others, tree.space_bits))
        if skew_normal_controls:
            table.estimate("control", i, "skew_normal", control, cost, skew_normal(cost, fit, tree.space_bits))
    return Measurement(table.frame(), own, tree.prefix_cost_bits, reference_costs, fit)


def _own_sampled(own: np.ndarray, references: np.ndarray, complete: bool, space_bits: float) -> list[Exposure]:
    """Of each canary's cost among the references, and among the other canaries where both are all there is."""
    if not complete:
        return sampled_each(own, references, space_bits)
    return [sampled(cost, np.append(references, np.delete(own, i)), space_bits) for i, cost in enumerate(own)]


def _exact_rows(
    table: "Rows", tree: Tree, fill: np.ndarray, kind: str, exact_steps: int, rng: np.random.Generator
) -> float:
    """Plan, then walk where the budget allows it; returns the planned number of steps."""
    plan = plan_in(tree, fill, rng)
    if decide(plan, exact_steps) == "walk":
        table.exact(kind, 0, fill, rank_in(tree, fill, max_steps=exact_steps), plan.pruned_steps.value)
    table.importance(kind, fill, plan)
    return plan.pruned_steps.value


class Rows:
    """Collects rows of exposure.csv; `seconds` is what the rows that rest on the shared scoring pass carry."""

    def __init__(self, fmt: CanaryFormat, tree: Tree, references: int, steps: int, seconds: float) -> None:
        self._fmt, self._tree, self._references, self._steps = fmt, tree, references, steps
        self.seconds = seconds
        self._rows: list[dict] = []

    def _add(self, kind: str, fill: np.ndarray, **row) -> None:
        self._rows.append(
            {
                "kind": kind,
                "index": 0,
                "algorithm": "",
                "fill": self._fmt.fill_text(fill),
                "prefix_cost_bits": self._tree.prefix_cost_bits,
                "space_bits": self._tree.space_bits,
                **row,
            }
        )

    def estimate(
        self,
        kind: str,
        index: int,
        method: str,
        fill: np.ndarray,
        cost: float,
        e: Exposure,
        planned: float = nan,
    ) -> None:
        size = float(self._tree.size)
        self._add(
            kind,
            fill,
            **{"index": index, "method": method, "cost_bits": float(cost)},
            **{"rank": e.share * size, "rank_low": e.share_low * size, "rank_high": e.share_high * size},
            **{"exposure_bits": e.bits, "exposure_low_bits": e.low_bits, "exposure_high_bits": e.high_bits},
            **{
                "extrapolated": bool(e.extrapolated),
                "references": self._references,
                "planned_steps": planned,
            },
            **{"model_steps": self._steps, "seconds": self.seconds},
        )

    def exact(self, kind: str, index: int, fill: np.ndarray, rank: Rank, planned: float = nan) -> None:
        low, high = rank.exposure_interval_bits
        self._add(
            kind,
            fill,
            **{"index": index, "method": "exact", "algorithm": rank.algorithm, "cost_bits": rank.cost_bits},
            **{"rank": rank.rank, "rank_low": float(rank.rank_low), "rank_high": float(rank.rank_high)},
            **{"exposure_bits": rank.exposure_bits, "exposure_low_bits": low, "exposure_high_bits": high},
            **{"extrapolated": False, "references": min(rank.space, LARGEST), "planned_steps": planned},
            **{"model_steps": rank.model_steps, "seconds": rank.seconds},
        )

    def importance(self, kind: str, fill: np.ndarray, plan: Plan) -> None:
        """`extrapolated`: too few likelier fills were drawn for the estimate; without any, rank 1 is only its least."""
        bits, low, high = plan.exposure_bits
        self._add(
            kind,
            fill,
            **{"method": "importance", "cost_bits": plan.cost_bits, "rank": plan.rank.value},
            **{"rank_low": plan.rank.low, "rank_high": plan.rank.high},
            **{"exposure_bits": bits, "exposure_low_bits": low, "exposure_high_bits": high},
            **{"extrapolated": plan.rank.effective_samples < ENOUGH, "references": plan.samples},
            **{"planned_steps": plan.pruned_steps.value, "model_steps": plan.model_steps, "seconds": plan.seconds},
        )

    def frame(self) -> pd.DataFrame:
        """Checked against the contract, with `replicate` left for the caller to add."""
        return contracts.check("exposure", pd.DataFrame(self._rows).assign(replicate=0)).drop(columns="replicate")
