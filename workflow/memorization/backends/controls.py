"""NumPy control models: known distributions behind the `LanguageModel` protocol, for null bands and as test doubles.

Every model here is a finite-state machine: a sequence's state is one integer, and a table maps it to the next token's
log2 probabilities. Costs are therefore exact in float64 and independent of how sequences are batched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from memorization.vocabulary import Vocabulary


@dataclass(frozen=True)
class CodeState:
    """States of n sequences: int64[n] machine states."""

    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, index: np.ndarray) -> "CodeState":
        """The states at int[m] `index`, copied."""
        return CodeState(self.codes[index])


class MachineModel:
    """A `LanguageModel` from an initial code, a transition and a table.

    move    (int64[n] codes, int64[n] tokens) -> int64[n] codes
    table   float64[rows, V] log2 probabilities; row = `row_of`(codes)
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        table: np.ndarray,
        move: Callable[[np.ndarray, np.ndarray], np.ndarray],
        row_of: Callable[[np.ndarray], np.ndarray] = lambda codes: codes,
    ) -> None:
        self.vocabulary = vocabulary
        self._table, self._move, self._row_of = table, move, row_of

    def step(
        self, state: CodeState, ids: np.ndarray, columns: np.ndarray | None = None
    ) -> tuple[np.ndarray, CodeState]:
        """See `backends.base.LanguageModel.step`."""
        codes = self._move(state.codes, np.asarray(ids))
        rows = self._row_of(codes)
        log2 = self._table[rows] if columns is None else self._table[rows[:, None], columns]
        return log2, CodeState(codes)

    def start(self, prefix: np.ndarray) -> tuple[np.ndarray, CodeState]:
        """See `backends.base.LanguageModel.start`; the zero state is code 0."""
        state = CodeState(np.zeros(1, dtype=np.int64))
        for token in prefix:
            log2, state = self.step(state, np.array([token]))
        return log2, state

    def concatenate(self, states: Sequence[CodeState]) -> CodeState:
        """One State holding the given ones, in order."""
        return CodeState(np.concatenate([s.codes for s in states]))

    def log_perplexity(self, ids: np.ndarray) -> np.ndarray:
        """float64[n]: bits of int64[n, t] `ids` given token 0 (Secret Sharer Definition 1)."""
        state, cost = CodeState(np.zeros(len(ids), dtype=np.int64)), np.zeros(len(ids))
        for now, following in zip(ids.T[:-1], ids.T[1:], strict=True):
            log2, state = self.step(state, now)
            cost -= log2[np.arange(len(ids)), following]
        return cost


def table_model(vocabulary: Vocabulary, probabilities: np.ndarray) -> MachineModel:
    """A first-order chain: float64[V, V] `probabilities`, row = the token just read. All entries positive."""
    return MachineModel(vocabulary, np.log2(probabilities), lambda codes, ids: ids)


class UniformModel(MachineModel):
    """Every token has probability 1/V: all fills tie, so every exposure is 0."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        size = len(vocabulary)
        super().__init__(vocabulary, np.full((1, size), -np.log2(size)), lambda codes, ids: np.zeros_like(codes))


class OracleModel(MachineModel):
    """Has memorised one text: after any prefix of it, the next character has `probability`, the others share the rest.

    A sequence that leaves the text gets uniform probabilities from there on. The leading token of a sequence (the
    context newline) is not part of `text`.
    """

    def __init__(self, vocabulary: Vocabulary, text: str, probability: float = 0.9) -> None:
        ids, size = vocabulary.encode(text), len(vocabulary)
        lost = len(ids)
        table = np.full((lost + 1, size), (1 - probability) / (size - 1))
        table[np.arange(lost), ids] = probability
        table[lost] = 1 / size

        def move(codes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
            # Code 0 has read nothing yet, code k + 1 has followed k characters, `lost + 1` has left the text.
            follows = (codes >= 1) & (codes <= lost) & (np.append(ids, -1)[np.clip(codes - 1, 0, lost)] == tokens)
            return np.where(codes == 0, 1, np.where(follows, codes + 1, lost + 1))

        super().__init__(vocabulary, np.log2(table), move, lambda codes: np.minimum(np.maximum(codes - 1, 0), lost))


class MarkovModel(MachineModel):
    """Random conditional distributions that depend on the last `order` tokens, drawn Dirichlet(concentration).

    With `ties` every log2 probability is rounded down to a whole number of bits, so that many fills cost exactly the
    same; rows then sum to at most one (the rest belongs to no token). Large contexts are hashed onto 4,096 rows.
    """

    ROWS = 4096

    def __init__(
        self,
        vocabulary: Vocabulary,
        seed: int,
        order: int = 2,
        concentration: float = 0.5,
        ties: bool = False,
    ) -> None:
        size = len(vocabulary)
        contexts = size**order
        rng = np.random.default_rng(seed)
        draws = rng.standard_gamma(concentration, size=(min(contexts, self.ROWS), size)) + 1e-6
        log2 = np.log2(draws / draws.sum(axis=1, keepdims=True))
        super().__init__(
            vocabulary,
            np.floor(log2) if ties else log2,
            lambda codes, ids: (codes * size + ids) % contexts,
            lambda codes: (codes * 2654435761 % 2**31) % self.ROWS if contexts > self.ROWS else codes,
        )
