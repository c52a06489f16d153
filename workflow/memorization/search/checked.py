"""A language model that fills in check digits itself, so that every walk and search only sees valid fills.

Token `CHECK` stands for "the check digit of the digits so far", whichever that is: it is one token to a search, as
fixed text is, and costs what the model charges for the digit that it stands for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memorization import luhn
from memorization.backends.base import LanguageModel, State
from memorization.canaries import CHECK


@dataclass(frozen=True)
class CheckedState:
    """The model's states, and uint8[n] those of Luhn's machine."""

    inner: State
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, index: np.ndarray) -> "CheckedState":
        """The states at int[m] `index`, copied."""
        return CheckedState(self.inner.take(index), self.codes[index])


class CheckedModel:
    """A `LanguageModel` whose tokens and columns may be `CHECK`; int64[10] `digits` are the token ids of 0 to 9."""

    def __init__(self, model: LanguageModel, digits: np.ndarray) -> None:
        self._model, self._digits, self.vocabulary = model, digits, model.vocabulary
        self._value = np.full(len(model.vocabulary), luhn.NO_DIGIT)
        self._value[digits] = np.arange(10)

    def log_perplexity(self, ids: np.ndarray) -> np.ndarray:
        """As the model's: without `CHECK`."""
        return self._model.log_perplexity(ids)

    def start(self, prefix: np.ndarray) -> tuple[np.ndarray, CheckedState]:
        """See `backends.base.LanguageModel.start`: without `CHECK`."""
        log2, inner = self._model.start(prefix)
        code = 0
        for token in prefix:
            code = luhn.MOVE[code, self._value[token]]
        return log2, CheckedState(inner, np.array([code], dtype=np.uint8))

    def step(
        self, state: CheckedState, ids: np.ndarray, columns: np.ndarray | None = None
    ) -> tuple[np.ndarray, CheckedState]:
        """See `backends.base.LanguageModel.step`."""
        tokens, codes = self._read(state, ids)
        if columns is None or not (columns == CHECK).any():
            log2, inner = self._model.step(state.inner, tokens, columns)
            return log2, CheckedState(inner, codes)
        plain = columns != CHECK
        real = columns[plain]
        log2, inner = self._model.step(state.inner, tokens, np.concatenate([real, self._digits]))
        chosen = np.empty((len(tokens), len(columns)))
        chosen[:, plain] = log2[:, : len(real)]
        chosen[:, ~plain] = log2[np.arange(len(tokens)), len(real) + luhn.CHECK[codes]][:, None]
        return chosen, CheckedState(inner, codes)

    def in_precision(self, name: str) -> "CheckedModel | None":
        """See `search.tree.Tree.in_precision`."""
        cast = getattr(self._model, "in_precision", None)
        model = cast(name) if cast else None
        return None if model is None else CheckedModel(model, self._digits)

    def _read(self, state: CheckedState, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Real tokens of int64[n] `ids`, and the machine's states after them."""
        tokens = np.where(ids == CHECK, self._digits[luhn.CHECK[state.codes]], ids)
        return tokens, luhn.MOVE[state.codes, self._value[tokens]]

    def concatenate(self, states: Sequence[CheckedState]) -> CheckedState:
        """One State holding the given ones, in order."""
        inner = self._model.concatenate([s.inner for s in states])
        return CheckedState(inner, np.concatenate([s.codes for s in states]))
