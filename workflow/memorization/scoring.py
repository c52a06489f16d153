"""Losses of single examples under every finished model: here, of lines of the corpus.

A line is scored alone: a zero state reads one newline (canaries.CONTEXT), then the line's characters (or words), which
are the ones that count; the newline at its end is not scored. The training's windows saw it in other contexts, so the
mean of these losses is not quite the training loss.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from math import log

import numpy as np
import pandas as pd

from memorization import contracts
from memorization.backends.base import LanguageModel
from memorization.canaries import CONTEXT
from memorization.data.corpora import leading_lines, split_lines
from memorization.specs import ScoreSpec
from memorization.vocabulary import Vocabulary

ROWS = 2048
"""Lines per model call. They are taken in order of length, so that few wait for a longer one."""
IDLE = 0.1
"""Share of a call's lines that may have ended before the ended ones are taken out."""

logger = logging.getLogger(__name__)


def score_lines(
    models: Sequence[LanguageModel],
    vocabulary: Vocabulary,
    texts: Mapping[str, str],
    spec: ScoreSpec,
    fraction: float,
) -> pd.DataFrame:
    """Losses of leading lines of the whole texts "train" and "test", one row per model and line (contract `scores`).

    `fraction` is corpus.fraction: its lines are marked `trained`. Lines without characters, or words, have no row.
    Raises UserError for characters outside the vocabulary.
    """
    trained = len(split_lines(leading_lines(texts["train"], int(len(texts["train"]) * fraction))))
    parts, ids = [], []
    for split, count in (("train", spec.train_examples), ("test", spec.test_examples)):
        lines = split_lines(texts[split])[:count]
        numbers = np.arange(1, len(lines) + 1)
        encoded = [vocabulary.encode(line, f"{split} text, line {n}") for n, line in enumerate(lines, 1)]
        size = np.array([len(line) for line in encoded], dtype=np.int64)
        own = pd.DataFrame({"split": split, "index": numbers, "size": size})
        own["trained"] = (split == "train") & (own["index"] <= trained)
        parts.append(own[own["size"] > 0])
        ids += [line for line in encoded if len(line)]
    table = pd.concat(parts, ignore_index=True).assign(label="", correct=np.nan)
    start = vocabulary.encode(CONTEXT)
    began, scored = time.perf_counter(), []
    for replicate, model in enumerate(models):
        losses = line_bits(model, start, ids) * log(2) / table["size"]
        scored.append(table.assign(replicate=replicate, loss_nats=losses))
        logger.info("scores: replicate %d of %d done, %.0f s", replicate + 1, len(models), time.perf_counter() - began)
    return contracts.check("scores", pd.concat(scored, ignore_index=True))


def line_bits(model: LanguageModel, context: np.ndarray, lines: Sequence[np.ndarray]) -> np.ndarray:
    """float64[n]: bits of n lines, int64[t_i >= 1] each, after int64[c >= 1] `context`, summed over the line.

    What `model.log_perplexity` gives line by line, but lines of all lengths go through the model together.
    """
    sizes = np.array([len(line) for line in lines], dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    bits = np.zeros(len(lines))
    for rows in _chunks(order):
        bits[rows] = _chunk_bits(model, context, [lines[i] for i in rows], sizes[rows])
    return bits


def _chunks(order: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(order), ROWS):
        yield order[first : first + ROWS]


def _chunk_bits(
    model: LanguageModel, context: np.ndarray, lines: Sequence[np.ndarray], sizes: np.ndarray
) -> np.ndarray:
    """float64[n]: bits of n lines, longest first; ended ones go on, uncounted, until they are taken out."""
    tokens = np.zeros((len(lines), sizes[0]), dtype=np.int64)
    for row, line in zip(tokens, lines, strict=True):
        row[: len(line)] = line
    bits = np.zeros(len(lines))
    log2, state = model.start(context)
    state, held = state.take(np.zeros(len(lines), dtype=np.int64)), len(lines)
    log2 = np.repeat(log2, held, axis=0)
    for t in range(sizes[0]):
        alive = int(np.searchsorted(-sizes, -t, side="left"))
        bits[:alive] -= log2[np.arange(alive), tokens[:alive, t]]
        going = int(np.searchsorted(-sizes, -(t + 1), side="left"))
        if going < (1 - IDLE) * held:
            state, held = state.take(np.arange(going)), going
        if going:
            log2, state = model.step(state, tokens[:held, t])
    return bits
