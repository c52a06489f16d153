"""The toy tree of Secret Sharer Fig. 9, searched for real: greedy misses what the shortest-path search finds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from memorization.canaries import TokenFormat
from memorization.search import greedy, shortest_path
from memorization.vocabulary import Vocabulary

EDGES = {"": {"a": 0.4, "b": 0.6}, "a": {"a": 0.1, "b": 0.9}, "b": {"a": 0.5, "b": 0.5}}
"""Prefix -> symbol -> probability (USENIX form of the figure)."""

_FORMAT = TokenFormat(prefix=np.array([2]), holes=(np.array([0, 1]),) * 2, after=(np.array([], dtype=np.int64),) * 2)


@dataclass(frozen=True)
class _Prefixes:
    """States of the toy model: the text read so far."""

    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, index: np.ndarray) -> "_Prefixes":
        return _Prefixes(tuple(self.texts[i] for i in index))


class ToyModel:
    """A language model over {a, b} (and the newline that starts it) with the figure's probabilities."""

    vocabulary = Vocabulary(("a", "b", "\n"))

    def _predict(self, texts: Sequence[str], columns: np.ndarray | None) -> np.ndarray:
        edges = [EDGES.get(text, {"a": 0.5, "b": 0.5}) for text in texts]
        with np.errstate(divide="ignore"):
            logs = np.log2([[edge["a"], edge["b"], 0.0] for edge in edges])
        return logs if columns is None else logs[:, columns]

    def start(self, prefix: np.ndarray) -> tuple[np.ndarray, _Prefixes]:
        texts = (self.vocabulary.decode(prefix[1:]),)
        return self._predict(texts, None), _Prefixes(texts)

    def step(
        self, state: _Prefixes, ids: np.ndarray, columns: np.ndarray | None = None
    ) -> tuple[np.ndarray, _Prefixes]:
        texts = tuple(t + self.vocabulary.symbols[i] for t, i in zip(state.texts, ids, strict=True))
        return self._predict(texts, columns), _Prefixes(texts)

    def concatenate(self, states: Sequence[_Prefixes]) -> _Prefixes:
        return _Prefixes(tuple(t for s in states for t in s.texts))

    def log_perplexity(self, ids: np.ndarray) -> np.ndarray:
        costs = np.zeros(len(ids))
        for row, sequence in enumerate(ids):
            logs, state = self.start(sequence[:1])
            for token in sequence[1:]:
                costs[row] -= logs[0, token]
                logs, state = self.step(state, np.array([token]))
        return costs


def rows() -> pd.DataFrame:
    """One row per node: its edge and path probability, log-perplexity in bits, and which search goes through it."""
    model = ToyModel()
    names = np.array(model.vocabulary.symbols)
    best = "".join(names[shortest_path(model, _FORMAT, max_steps=100).fills[0]])
    first = "".join(names[greedy(model, _FORMAT).fills[0]])
    listed = []
    for node in ("", "a", "b", "aa", "ab", "ba", "bb"):
        ids = np.array([[2, *(model.vocabulary.encode(node))]])
        cost = float(model.log_perplexity(ids)[0]) if node else 0.0
        listed.append(
            {
                "series": "node",
                "node": node or "root",
                "parent": (node[:-1] or "root") if node else "",
                "symbol": node[-1:],
                "probability": EDGES[node[:-1]][node[-1]] if node else 1.0,
                "path_probability": 2.0**-cost,
                "log_perplexity_bits": cost,
                "is_leaf": len(node) == 2,
                "on_best_path": best.startswith(node),
                "on_greedy_path": first.startswith(node),
            }
        )
    return pd.DataFrame(listed)
