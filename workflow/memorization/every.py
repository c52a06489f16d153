"""Every canary of a model, each in its own context: is it the most likely fill there, and does a search return it?

For Table 7 of The Secret Sharer, the share of inserted phrases that can be extracted. Whether a canary ranks first is
all that is asked, so a canary costs little: a beam search shows most of those that do not a likelier fill.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from memorization.backends.base import LanguageModel
from memorization.canaries import CanaryFormat
from memorization.search import SearchResult, beam, shortest_path
from memorization.search.tree import Tree, score
from memorization.search.walk import MARGIN, Rank, rank_in
from memorization.specs import AttackSpec

BEAM = 64
"""Prefixes that the beam keeps."""


@dataclass(frozen=True)
class Judged:
    """One canary: what is known of its rank, and the searches for it: the beam first, if one was run."""

    tree: Tree
    rank: Rank
    searches: tuple[SearchResult, ...]


def judge(model: LanguageModel, fmt: CanaryFormat, fill: np.ndarray, spec: AttackSpec) -> Judged:
    """Is int[L] `fill` the most likely one of its format? At once "no", with bounds for a rank, where a beam search
    finds a likelier fill; else, and always with `spec.ranked`, the exact rank within spec.exact_steps and the search
    within spec.extraction_steps.
    """
    tokens = fmt.tokens(model.vocabulary)
    tree = Tree.plant(model, tokens)
    (cost,), steps = score(tree, np.atleast_2d(fill))
    tried = None if spec.ranked else beam(model, tokens, width=BEAM)
    if tried and len(tried.costs_bits) > 0 and tried.costs_bits[0] < cost - MARGIN:
        rank = Rank(
            rank=nan,
            rank_low=2,
            rank_high=tree.size,
            space=tree.size,
            cost_bits=float(cost),
            prefix_cost_bits=tree.prefix_cost_bits,
            algorithm="bounds",
            model_steps=tried.model_steps + steps,
            seconds=tried.seconds,
        )
        return Judged(tree, rank, (tried,))
    rank = rank_in(tree, fill, max_steps=spec.exact_steps)
    found = shortest_path(model, tokens, batch=spec.search_batch, max_steps=spec.extraction_steps)
    return Judged(tree, rank, (tried, found) if tried else (found,))


def judge_all(
    model: LanguageModel, formats: Sequence[CanaryFormat], fills: np.ndarray, spec: AttackSpec
) -> dict[int, Judged]:
    """All canaries but the first, by number; int[count, L] `fills`."""
    return {i: judge(model, formats[i], fills[i], spec) for i in range(1, len(fills))}
