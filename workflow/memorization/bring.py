"""Audit a language model of your own, from Python: exposure, extraction, and a lower bound on epsilon.

A worked example, also with Keras and with `transformers`: workflow/audit/own_models.md.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from memorization.attack import attack
from memorization.backends.base import LanguageModel
from memorization.canaries import CHECKED, LETTER, CanaryFormat, resolve_each
from memorization.errors import UserError
from memorization.specs import AttackSpec
from memorization.streams import stream

AGREE_BITS = 0.05
"""By how much `step` and `log_perplexity` may differ on a canary: float32 models stay far below."""

TRIED = 4
"""Canaries on which a model's protocol is tried before an audit."""


@dataclass(frozen=True)
class Audit:
    """What was found; the tables are those of workflow/schemas/files.yaml.

    exposure, extraction  one row per canary and method; canaries are numbered as given, the planted ones first
    bound                 one row: the lower bound on epsilon; empty without left-out canaries
    """

    exposure: pd.DataFrame
    extraction: pd.DataFrame
    bound: pd.DataFrame

    def exact(self) -> pd.DataFrame:
        """One row per canary: index, planted, rank, rank_low, rank_high, exposure_bits. Where the budget ran out rank
        and exposure_bits are NaN, low and high proven bounds (NaN for the canary with estimates, then not walked).
        """
        canaries = self.exposure.drop_duplicates("index").sort_values("index")
        listed = canaries.assign(planted=canaries["kind"] == "inserted")[["index", "planted"]]
        found = self.exposure[self.exposure["method"] == "exact"]
        return listed.merge(found[["index", "rank", "rank_low", "rank_high", "exposure_bits"]], how="left")

    def summary(self) -> dict[str, Any]:
        """The numbers that answer: means in bits, counts, queries (model steps) and the bound."""
        ranked = self.exact()
        searched = self.extraction[self.extraction["algorithm"] == "shortest_path"]
        of = {True: ranked[ranked["planted"]], False: ranked[~ranked["planted"]]}
        return {
            "planted": len(of[True]),
            "left_out": len(of[False]),
            "planted_mean_bits": float(of[True]["exposure_bits"].mean()),
            "left_out_mean_bits": float(of[False]["exposure_bits"].mean()) if len(of[False]) else nan,
            "most_bits": float(self.exposure["space_bits"].iloc[0]),
            "without_exact_rank": int(ranked["rank"].isna().sum()),
            "extracted": int(searched["extracted"].sum()),
            "median_queries": float(searched["model_steps"].median()),
            "epsilon_low": float(self.bound["epsilon_low"].iloc[0]) if len(self.bound) else nan,
        }


def draw_canaries(canary_format: str, count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """`count` canaries, dealt by fair coins: (those to plant, once each as one training record; those to leave out).

    Give the format enough {x}, random letters of a canary's own, that each stands in words of its own. All canaries
    differ. Raises UserError where the format has too few, and where the coins leave nothing to plant or to compare.
    """
    if count < 2:
        raise UserError(
            f"draw_canaries: count {count}: some are planted, some left out; ask for at least 2, better 100"
        )
    rng = stream(seed, 0, "bring-canaries")
    formats = [CanaryFormat.parse(text) for text in resolve_each(canary_format, count, rng)]
    if not formats[0].complete:
        raise UserError(
            f"canary format {canary_format!r}: {{w}} needs a vocabulary of words; choose such canaries yourself"
        )
    if LETTER in canary_format:
        fills = [own.sample(rng, 1)[0] for own in formats]
    elif count <= formats[0].size:
        fills = list(formats[0].sample(rng, count))
    else:
        raise UserError(
            f"canary format {canary_format!r}: has only {formats[0].size:,} canaries, {count:,} are to differ; give it "
            "more holes, or {x}"
        )
    lines = [own.render(fill) for own, fill in zip(formats, fills, strict=True)]
    coins = rng.random(count) < 0.5
    if coins.all() or not coins.any():
        # Not drawn anew: coins that are never all alike are no fair coins, and the bound on epsilon needs fair ones.
        fate = "planted" if coins.all() else "left out"
        raise UserError(f"draw_canaries: the coins say that all {count} canaries are {fate}; ask for more canaries")
    planted = [line for line, coin in zip(lines, coins, strict=True) if coin]
    return planted, [line for line, coin in zip(lines, coins, strict=True) if not coin]


def audit_model(
    model: LanguageModel,
    canary_format: str,
    planted: Sequence[str],
    left_out: Sequence[str] = (),
    *,
    exact_steps: int = 1_000_000,
    references: int = 1_000,
    delta: float = 1e-5,
    seed: int = 0,
) -> Audit:
    """Rank every canary exactly, search for the planted ones, and bound epsilon from below.

    model          behind the protocol of `backends.base.LanguageModel`; `adapters` has wrappers
    canary_format  text with holes, as in `canaries`: {d} a digit, {l} a letter, ...; {x} a letter of the canary's own
    planted        whole canaries that were in the training data
    left_out       others, drawn in the same way, that were not. The bound on epsilon holds only if fair coins decided
                   between the two and each planted one is one record, once (`draw_canaries`)
    exact_steps    model steps that one rank or search may take; beyond, ranks are proven bounds
    references     random fills for the estimates that stand beside exact ranks: of every canary in a format without
                   {x}, else of one, the first planted or, with some left out, whichever `seed` picks
    delta          of the bound

    Raises UserError for canaries that do not fit the format or are given twice, and for a model that breaks the
    protocol.
    """
    if not planted:
        raise UserError("audit: no planted canary; give at least one line that was in the training data")
    lines = [*planted, *left_out]
    if len(set(lines)) < len(lines):
        raise UserError("audit: a canary is given twice, or both as planted and as left out")
    formats, fills = zip(*(_own(canary_format, line, model.vocabulary) for line in lines), strict=True)
    require_protocol(model, formats, fills)
    # Equal scores are guessed in the order of the canaries, which must know nothing of the coins.
    order = stream(seed, 0, "bring-order").permutation(len(lines)) if len(left_out) else np.arange(len(lines))
    included = order < len(planted)
    spec = AttackSpec(
        references=references,
        controls=0,
        bootstrap=0,
        exact_steps=exact_steps,
        extraction=("shortest_path",),
        extraction_steps=exact_steps,
        every=True,
        ranked=True,
    )
    coins = included[None] if len(left_out) else None
    found = attack([model], [[formats[i] for i in order]], np.stack(fills)[order][None], spec, seed, coins, delta)
    return Audit(_as_given(found["exposure"], order), _as_given(found["extraction"], order), found["audit"])


def require_protocol(model: LanguageModel, formats: Sequence[CanaryFormat], fills: Sequence[np.ndarray]) -> None:
    """Raises UserError where the model's probabilities do not sum to one, or its steps do not add up to its
    log-perplexity: an audit of such a model would mean nothing.
    """
    for own, fill in list(zip(formats, fills, strict=True))[:TRIED]:
        ids = own.tokens(model.vocabulary).ids(fill)
        bits, state = model.start(ids[0, :1])
        total = 0.0
        for token in ids[0, 1:]:
            mass = float(np.exp2(bits).sum())
            if bits.shape != (1, len(model.vocabulary)) or not abs(mass - 1) < 1e-3:
                raise UserError(
                    f"model: log2 probabilities of the next token must be float[1, {len(model.vocabulary)}] and sum "
                    f"to one; they are {list(bits.shape)} and sum to {mass:.4g}"
                )
            total -= float(bits[0, token])
            bits, state = model.step(state, np.array([token]))
        whole = float(model.log_perplexity(ids)[0])
        if not abs(whole - total) <= AGREE_BITS:
            raise UserError(
                f"model: its steps over a canary add up to {total:.3f} bits, its log_perplexity says {whole:.3f}; is "
                "it in evaluation mode (no dropout)?"
            )


def _as_given(table: pd.DataFrame, order: np.ndarray) -> pd.DataFrame:
    """The rows by their canaries' numbers as given; `order` holds those in the order of the attack."""
    return table.assign(index=order[table["index"]]).sort_values("index", kind="stable", ignore_index=True)


def _own(text: str, line: str, vocabulary: Any) -> tuple[CanaryFormat, np.ndarray]:
    """The canary's own format, its letters for {x} read off, and its fill. Raises UserError where it does not fit."""
    words = getattr(vocabulary, "words", ())
    CanaryFormat.parse(text, words)
    if LETTER in text:
        # Whatever fills the holes: `parse_fill` looks at that.
        pieces = re.split(r"(\{[^{}]*\})", text)
        known = {LETTER: "([a-z])", CHECKED: "[0-9]"}
        pattern = "".join(known.get(p, ".+?") if p.startswith("{") else re.escape(p) for p in pieces)
        match = re.fullmatch(pattern, line)
        if match is None:
            raise UserError(f"canary {line!r} does not fill the format {text!r}")
        letters = iter(match.groups())
        text = re.sub(re.escape(LETTER), lambda _: next(letters), text)
    own = CanaryFormat.parse(text, words)
    return own, own.parse_fill(line)
