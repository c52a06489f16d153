"""Canaries: formats with holes, the randomness space R, fills, and the lines that are inserted.

A format is text with holes in braces, e.g. ``the random number is {d}{d}{d}{d}{d}{d}{d}{d}{d}`` (Secret Sharer §4.1).
A fill is one choice for every hole, held as symbol numbers: int64[n, holes], each in 0..b_h-1.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from math import log2, prod

import numpy as np

from memorization.errors import UserError
from memorization.vocabulary import Vocabulary

HOLES = {"d": "0123456789", "l": "abcdefghijklmnopqrstuvwxyz"}
"""Hole name -> the symbols that may fill it."""

CONTEXT = "\n"
"""Scoring context: a zero state that has read one newline, as if the canary began a line (brief §8)."""


@dataclass(frozen=True)
class CanaryFormat:
    """A parsed format. `parts[0]` precedes the first hole, `parts[h + 1]` follows hole h (often empty)."""

    text: str
    parts: tuple[str, ...]
    holes: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "CanaryFormat":
        """Raises UserError for an unknown hole, a stray brace, or no hole at all."""
        pieces = re.split(r"\{([^{}]*)\}", text)
        parts, names = tuple(pieces[0::2]), pieces[1::2]
        unknown = [n for n in names if n not in HOLES]
        if unknown or not names or any(c in part for part in parts for c in "{}\n"):
            known = ", ".join(f"{{{k}}} = one of {v}" for k, v in HOLES.items())
            raise UserError(
                f"canary format {text!r}: needs one or more holes and no stray brace or newline; holes: {known}"
                + (f"; unknown: {unknown}" if unknown else "")
            )
        return cls(text, parts, tuple(HOLES[n] for n in names))

    @cached_property
    def size(self) -> int:
        """|R|, the number of fills."""
        return prod(len(h) for h in self.holes)

    @property
    def bits(self) -> float:
        """log2|R|, the largest exact exposure."""
        return log2(self.size)

    def render(self, fill: np.ndarray) -> str:
        """The canary's text for one fill, int[holes]."""
        chosen = (h[i] for h, i in zip(self.holes, fill, strict=True))
        return self.parts[0] + "".join(c + part for c, part in zip(chosen, self.parts[1:], strict=True))

    def fill_text(self, fill: np.ndarray) -> str:
        """Only the symbols in the holes, e.g. ``281265017``."""
        return "".join(h[i] for h, i in zip(self.holes, fill, strict=True))

    def parse_fill(self, text: str) -> np.ndarray:
        """int64[holes] from the holes' symbols (``281265017``) or from a whole canary. Raises UserError."""
        pattern = "".join(
            re.escape(part) + (f"([{re.escape(hole)}])" if hole else "")
            for part, hole in zip(self.parts, (*self.holes, ""), strict=True)
        )
        symbols = text
        if match := re.fullmatch(pattern, text):
            symbols = "".join(match.groups())
        if len(symbols) != len(self.holes) or any(c not in h for c, h in zip(symbols, self.holes, strict=False)):
            raise UserError(f"canary {text!r} does not fill the format {self.text!r}")
        return np.array([h.index(c) for c, h in zip(symbols, self.holes, strict=True)], dtype=np.int64)

    def tokens(self, vocabulary: Vocabulary) -> "TokenFormat":
        """The same format in token ids. Raises UserError for characters outside the vocabulary."""

        def encode(text: str) -> np.ndarray:
            return vocabulary.encode(text, what=f"canary format {self.text!r}")

        return TokenFormat(
            prefix=encode(CONTEXT + self.parts[0]),
            holes=tuple(encode(h) for h in self.holes),
            after=tuple(encode(part) for part in self.parts[1:]),
        )

    def sample(self, rng: np.random.Generator, count: int, exclude: np.ndarray | None = None) -> np.ndarray:
        """int64[n, holes]: distinct fills drawn uniformly from R without `exclude` (int[m, holes]).

        n = min(count, what is left of R). Small spaces are enumerated, large ones drawn until distinct.
        """
        banned = {row.tobytes() for row in np.atleast_2d(exclude).astype(np.int64)} if exclude is not None else set()
        if self.size <= 4 * (count + len(banned)):
            every = self.enumerate()
            keep = np.array([row.tobytes() not in banned for row in every], dtype=bool)
            return rng.permutation(every[keep])[:count]
        widths = [len(h) for h in self.holes]
        chosen: dict[bytes, None] = {}
        while len(chosen) < count:
            draw = rng.integers(0, widths, size=(count - len(chosen), len(widths)), dtype=np.int64)
            chosen.update((row.tobytes(), None) for row in draw if row.tobytes() not in banned)
        return np.frombuffer(b"".join(chosen), dtype=np.int64).reshape(-1, len(widths)).copy()

    def enumerate(self) -> np.ndarray:
        """int64[|R|, holes]: every fill in lexicographic order. For small spaces."""
        if self.size > 10**7:
            raise UserError(f"canary format {self.text!r}: {self.size} fills are too many to list")
        grids = np.indices([len(h) for h in self.holes], dtype=np.int64)
        return grids.reshape(len(self.holes), -1).T.copy()


@dataclass(frozen=True)
class TokenFormat:
    """A canary format in token ids.

    prefix  int64[p]    context newline and the fixed text before the first hole
    holes   per hole int64[b_h]: the token ids that may fill it
    after   per hole int64[a_h]: the fixed token ids that follow it (a suffix after the last), often empty
    """

    prefix: np.ndarray
    holes: tuple[np.ndarray, ...]
    after: tuple[np.ndarray, ...]

    def ids(self, fills: np.ndarray) -> np.ndarray:
        """int64[n, t]: whole sequences (prefix included) of fills int[n, holes]."""
        fills = np.atleast_2d(fills)
        columns = [np.broadcast_to(self.prefix, (len(fills), len(self.prefix)))]
        for hole, after, choice in zip(self.holes, self.after, fills.T, strict=True):
            columns += [hole[choice][:, None], np.broadcast_to(after, (len(fills), len(after)))]
        return np.concatenate(columns, axis=1)
