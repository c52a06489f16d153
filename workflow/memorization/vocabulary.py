"""Vocabularies of characters and of words: the map between text and the token ids that every model sees."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from memorization.errors import UserError

LINE_END, UNKNOWN = "\n", "<unk>"
"""The first two symbols of every vocabulary of words: the end of a line, and all words that it does not know."""

LINE_END_ID, UNKNOWN_ID = 0, 1


@dataclass(frozen=True)
class Vocabulary:
    """An ordered set of symbols; a symbol's id is its position.

    unit  what a symbol is. word: text is split at white space, and the end of a line is a token of its own.
    """

    symbols: tuple[str, ...]
    unit: Literal["character", "word"] = "character"

    @classmethod
    def of(cls, texts: Iterable[str]) -> "Vocabulary":
        """The sorted distinct characters of `texts`."""
        return cls(tuple(sorted(set().union(*texts))))

    @classmethod
    def of_words(cls, text: str, most: int | None = None, others: Iterable[str] = ()) -> "Vocabulary":
        """The `most` frequent words of `text` (all without it) and `others`, beside the line's end and <unk>.

        Ordered by frequency, equal ones alphabetically, so that the choice is the same everywhere.
        """
        counts: Counter[str] = Counter()
        for line in _lines(text):
            counts.update(line.split())
        counts.pop(UNKNOWN, None)
        ordered = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(dict.fromkeys((LINE_END, UNKNOWN, *ordered[:most], *others))), "word")

    def __len__(self) -> int:
        return len(self.symbols)

    @property
    def words(self) -> tuple[str, ...]:
        """What may fill a canary's {w}: every word, not the line's end, not <unk>; () of characters."""
        return self.symbols[2:] if self.unit == "word" else ()

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def encode(self, text: str, what: str = "text") -> np.ndarray:
        """int64[tokens]. A word outside the vocabulary becomes <unk>; such a character is a UserError that names it."""
        if self.unit == "word":
            return np.fromiter(self._word_ids(text), dtype=np.int64)
        missing = sorted(set(text) - self._ids.keys())
        if missing:
            shown = "".join(self.symbols).replace("\n", "\\n")
            raise UserError(
                f"{what}: {text[:60]!r} has characters outside the vocabulary: {missing}; "
                f"allowed are {shown!r} (Penn Treebank has no capitals but N: write canaries in lower case)"
            )
        return np.fromiter((self._ids[c] for c in text), dtype=np.int64, count=len(text))

    def _word_ids(self, text: str) -> Iterator[int]:
        known, first = self._ids, True
        for line in _lines(text):
            if not first:
                yield LINE_END_ID
            first = False
            for word in line.split():
                yield known.get(word, UNKNOWN_ID)

    def decode(self, ids: np.ndarray) -> str:
        """The text of int[t] `ids`; words with a space between them, but none beside the end of a line."""
        if self.unit == "character":
            return "".join(self.symbols[i] for i in ids)
        pieces = []
        for i in ids:
            spaced = pieces and i != LINE_END_ID and pieces[-1] != LINE_END
            pieces += [" "] * bool(spaced) + [self.symbols[i]]
        return "".join(pieces)


def _lines(text: str) -> Iterator[str]:
    """The lines of `text`, one at a time: a list of all would take as much memory as the text again."""
    begin = 0
    while (end := text.find(LINE_END, begin)) >= 0:
        yield text[begin:end]
        begin = end + 1
    yield text[begin:]
