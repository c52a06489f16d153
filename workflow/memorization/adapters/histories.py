"""A language model that is only a function from token sequences to logits, behind the stepping protocol.

Right before fast: a state is the whole sequence so far, read anew in every step. A model that has states of its own is
many times faster when it implements the protocol itself (workflow/audit/own_models.md shows one).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from scipy.special import logsumexp

from memorization.errors import UserError

LOGITS = 1 << 23
"""Logits asked for at once: 64 MB in float64."""


@dataclass(frozen=True)
class Histories:
    """States of n sequences: int64[n, t] tokens, of which the first int64[n] `lengths` count."""

    tokens: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, index: np.ndarray) -> "Histories":
        """The states at int[m] `index` (repeats allowed), copied."""
        return Histories(self.tokens[index], self.lengths[index])


class HistoryModel:
    """A `backends.base.LanguageModel` from `logits`.

    logits      int64[n, t] tokens -> array-like float[n, t, V]: at every place the unnormalised log-probabilities
                (natural logarithm) of the token that follows. Rows must not depend on each other, nor places on later
                ones.
    vocabulary  `vocabulary.Vocabulary` for models of characters or words; a tokenizer's: adapters.transformers
    """

    def __init__(self, logits: Callable[[np.ndarray], Any], vocabulary: Any) -> None:
        self.vocabulary = vocabulary
        self._logits = logits

    def log_perplexity(self, ids: np.ndarray) -> np.ndarray:
        """float64[n]: bits of int64[n, t] `ids`, tokens 1..t-1 given token 0 (Secret Sharer Definition 1)."""
        ids = np.atleast_2d(np.asarray(ids, dtype=np.int64))
        total = np.zeros(len(ids))
        if ids.shape[1] > 1:
            for rows in self._blocks(*ids.shape):
                bits = self._log2(ids[rows, :-1])
                total[rows] = -np.take_along_axis(bits, ids[rows, 1:, None], axis=2)[..., 0].sum(axis=1)
        return total

    def start(self, prefix: np.ndarray) -> tuple[np.ndarray, Histories]:
        """Read int64[t >= 1] `prefix`: (float64[1, V] log2 probabilities, State of 1)."""
        tokens = np.asarray(prefix, dtype=np.int64)[None]
        return self._log2(tokens)[:, -1], Histories(tokens, np.array([tokens.shape[1]]))

    def step(
        self, state: Histories, ids: np.ndarray, columns: np.ndarray | None = None
    ) -> tuple[np.ndarray, Histories]:
        """Feed int64[n] `ids`: (float64[n, V] log2 probabilities, or its `columns`, new State)."""
        new = self._longer(state, np.asarray(ids, dtype=np.int64))
        wanted = slice(None) if columns is None else columns
        bits = np.empty((len(new), len(self.vocabulary) if columns is None else len(columns)))
        # One length at a time: no padding, so that nothing depends on how a model treats it.
        for length in np.unique(new.lengths):
            own = np.flatnonzero(new.lengths == length)
            for rows in self._blocks(len(own), int(length)):
                bits[own[rows]] = self._log2(new.tokens[own[rows], :length])[:, -1][:, wanted]
        return bits, new

    def concatenate(self, states: Sequence[Histories]) -> Histories:
        """One State holding the given ones, in order."""
        width = max(state.tokens.shape[1] for state in states)
        tokens = [np.pad(state.tokens, ((0, 0), (0, width - state.tokens.shape[1]))) for state in states]
        return Histories(np.concatenate(tokens), np.concatenate([state.lengths for state in states]))

    @staticmethod
    def _longer(state: Histories, ids: np.ndarray) -> Histories:
        width = int(state.lengths.max(initial=0)) + 1
        tokens = np.zeros((len(state), width), dtype=np.int64)
        kept = min(width, state.tokens.shape[1])
        tokens[:, :kept] = state.tokens[:, :kept]
        tokens[np.arange(len(state)), state.lengths] = ids
        return Histories(tokens, state.lengths + 1)

    def _blocks(self, count: int, length: int) -> list[slice]:
        """Rows in blocks whose logits fit `LOGITS`."""
        size = max(1, LOGITS // (length * len(self.vocabulary)))
        return [slice(first, first + size) for first in range(0, count, size)]

    def _log2(self, tokens: np.ndarray) -> np.ndarray:
        """float64[n, t, V] log2 probabilities of the next token. Raises UserError for logits of another shape."""
        logits = np.asarray(self._logits(tokens), dtype=np.float64)
        wanted = (*tokens.shape, len(self.vocabulary))
        if logits.shape != wanted:
            raise UserError(
                f"model: its logits of int64{list(tokens.shape)} tokens have the shape {list(logits.shape)}, not "
                f"{list(wanted)} (sequences, places, vocabulary)"
            )
        return (logits - logsumexp(logits, axis=2, keepdims=True)) / log(2)
