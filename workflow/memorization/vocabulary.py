"""Character vocabularies: the map between text and the token ids that every model sees."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from memorization.errors import UserError


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of symbols; a symbol's id is its position."""

    symbols: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Vocabulary":
        """The sorted distinct characters of `texts`."""
        return cls(tuple(sorted(set().union(*texts))))

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def encode(self, text: str, what: str = "text") -> np.ndarray:
        """int64[len(text)]. Raises UserError naming the characters that are not in the vocabulary."""
        missing = sorted(set(text) - self._ids.keys())
        if missing:
            shown = "".join(self.symbols).replace("\n", "\\n")
            raise UserError(
                f"{what}: {text[:60]!r} has characters outside the vocabulary: {missing}; "
                f"allowed are {shown!r} (Penn Treebank has no capitals but N: write canaries in lower case)"
            )
        return np.fromiter((self._ids[c] for c in text), dtype=np.int64, count=len(text))

    def decode(self, ids: np.ndarray) -> str:
        """The text of int[t] `ids`."""
        return "".join(self.symbols[i] for i in ids)
