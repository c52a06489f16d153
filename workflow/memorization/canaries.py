"""Canaries: formats with holes, the randomness space R, fills, and the lines that are inserted.

A format is text with holes in braces, e.g. ``the random number is {d}{d}{d}{d}{d}{d}{d}{d}{d}`` (Secret Sharer §4.1).
A fill is one choice for every hole, held as symbol numbers: int64[n, holes], each in 0..b_h-1. ``{k}`` is no hole: it
stands for the check digit that the fill implies, so that R holds valid numbers only. ``{x}`` is no hole either: it is
context, a letter that `resolve` draws once for each canary.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log2, prod

import numpy as np

from memorization import luhn
from memorization.errors import UserError
from memorization.vocabulary import Vocabulary

LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
HOLES: dict[str, Sequence[str]] = {"d": "0123456789", "l": LETTERS, "p": LETTERS + "0123456789", "n": NUMBERS}
"""Hole name -> the symbols that may fill it. {w} is one of the words that `parse` is given."""

WORD, NUMBER, CHECKED, LETTER = "w", "n", "{k}", "{x}"
CHECK = -1
"""The token id that stands for a check digit, in `TokenFormat` and in searches."""

CONTEXT = "\n"
"""Scoring context: a zero state that has read one newline, as if the canary began a line (brief §8)."""

_KNOWN = ", ".join([*(f"{{{k}}} = one of {v}" for k, v in HOLES.items() if isinstance(v, str)), "{w} = a word"])
_KNOWN += ", {n} = zero to nine"


def resolve(text: str, rng: np.random.Generator) -> str:
    """The format `text` with a random letter a-z for every {x}."""
    return re.sub(re.escape(LETTER), lambda _: LETTERS[rng.integers(len(LETTERS))], text)


def require_contexts(text: str, count: int) -> None:
    """Raises UserError where the {x} of `text`, if it has any, cannot tell `count` canaries apart."""
    contexts = len(LETTERS) ** text.count(LETTER)
    if LETTER in text and count > contexts:
        raise UserError(f"canary.count {count}: the format {text!r} has only {contexts} contexts; give it more {{x}}")


def resolve_each(text: str, count: int, rng: np.random.Generator) -> list[str]:
    """`count` canaries' own formats: `text` itself without {x}, else distinct contexts; the first do not depend on
    `count`. Raises UserError where {x} cannot tell so many apart.
    """
    if LETTER not in text:
        return [text] * count
    require_contexts(text, count)
    found: dict[str, None] = {}
    while len(found) < count:
        found[resolve(text, rng)] = None
    return list(found)


@dataclass(frozen=True)
class CanaryFormat:
    """A parsed format. `parts[0]` precedes the first hole, `parts[h + 1]` follows hole h (often empty); parts may
    hold {k} and, before `resolve`, {x}. Per hole `holes` has the symbols that may fill it.
    """

    text: str
    parts: tuple[str, ...]
    holes: tuple[Sequence[str], ...]

    @classmethod
    def parse(cls, text: str, words: Sequence[str] = ()) -> "CanaryFormat":
        """`words` may fill {w}; without them the format is not `complete`.

        Raises UserError for an unknown hole, a stray brace, no hole at all, or a {k} without digits to check.
        """
        pieces = re.split(r"\{([^{}]*)\}", text)
        symbols = {**HOLES, WORD: tuple(words)}
        parts, holes, unknown = [pieces[0]], [], []
        for name, after in zip(pieces[1::2], pieces[2::2], strict=True):
            if f"{{{name}}}" in (CHECKED, LETTER):
                parts[-1] += f"{{{name}}}{after}"
            else:
                unknown += [] if name in symbols else [name]
                holes.append(symbols.get(name, ""))
                parts.append(after)
        if unknown or not holes or any(c in piece for piece in pieces[0::2] for c in "{}\n"):
            raise UserError(
                f"canary format {text!r}: needs one or more holes and no stray brace or newline; holes: {_KNOWN}; "
                "no holes: {k} = check digit, {x} = letter of context" + (f"; unknown: {unknown}" if unknown else "")
            )
        if CHECKED in text and (CHECKED in parts[0] or {WORD, NUMBER} & set(pieces[1::2])):
            raise UserError(f"canary format {text!r}: {{k}} checks the digits of holes before it, and no words")
        return cls(text, tuple(parts), tuple(holes))

    @property
    def complete(self) -> bool:
        """Whether the symbols of every hole are known: {w} needs a vocabulary."""
        return all(map(len, self.holes))

    @property
    def wordy(self) -> bool:
        """Whether a hole takes words, which a fill's text separates by spaces."""
        return any(not isinstance(hole, str) for hole in self.holes)

    @cached_property
    def size(self) -> int:
        """|R|, the number of fills."""
        return prod(len(h) for h in self.holes)

    @property
    def bits(self) -> float:
        """log2|R|, the largest exact exposure."""
        return log2(self.size)

    def render(self, fill: np.ndarray) -> str:
        """The canary's text for one fill, int[holes], check digits included."""
        text = self.parts[0]
        for hole, i, part in zip(self.holes, fill, self.parts[1:], strict=True):
            before, *others = part.split(CHECKED)
            text += hole[i] + before
            for other in others:
                text += luhn.check_digit(text) + other
        return text

    def fill_text(self, fill: np.ndarray) -> str:
        """Only the symbols in the holes, e.g. ``281265017``; words with a space between them."""
        return (" " if self.wordy else "").join(h[i] for h, i in zip(self.holes, fill, strict=True))

    def parse_fill(self, text: str) -> np.ndarray:
        """int64[holes] from the holes' symbols (``281265017``) or from a whole canary. Raises UserError."""
        wrong = UserError(f"canary {text!r} does not fill the format {self.text!r}")
        match = re.fullmatch(self.pattern, text)
        symbols = match.groups() if match else text.split(" ") if self.wordy else text
        if len(symbols) != len(self.holes) or any(s not in h for s, h in zip(symbols, self.holes, strict=False)):
            raise wrong
        fill = np.array([h.index(s) for s, h in zip(symbols, self.holes, strict=True)], dtype=np.int64)
        if match and CHECKED in self.text and LETTER not in self.text and self.render(fill) != text:
            raise wrong
        return fill

    @property
    def pattern(self) -> str:
        """A regular expression of every canary of the format, with a group for each hole."""
        pattern = self._pattern(self.parts[0])
        for hole, part in zip(self.holes, self.parts[1:], strict=True):
            pattern += (f"([{re.escape(hole)}])" if isinstance(hole, str) else r"(\S+)") + self._pattern(part)
        return pattern

    @staticmethod
    def _pattern(part: str) -> str:
        """A regular expression of fixed text; what {k} and {x} stand for is not known yet."""
        return re.escape(part).replace(re.escape(CHECKED), "[0-9]").replace(re.escape(LETTER), "[a-z]")

    def tokens(self, vocabulary: Vocabulary) -> "TokenFormat":
        """The same format in token ids. Raises UserError for text outside the vocabulary, holes that are not whole
        tokens, and contexts that are not resolved.
        """
        what = f"canary format {self.text!r}"
        if LETTER in self.text or not self.complete:
            raise UserError(f"{what}: {{x}} must be resolved and the words of {{w}} known before it is scored")
        if hasattr(vocabulary, "token_format"):  # a tokenizer, whose tokens are no symbols (adapters.transformers)
            return vocabulary.token_format(self)
        separator = " " if getattr(vocabulary, "unit", "character") == "word" else ""

        def fixed(part: str) -> np.ndarray:
            pieces = [vocabulary.encode(piece, what=what) for piece in part.split(CHECKED)]
            check = np.array([CHECK], dtype=np.int64)
            return np.concatenate([pieces[0], *(ids for piece in pieces[1:] for ids in (check, piece))])

        found = TokenFormat(
            prefix=vocabulary.encode(CONTEXT + self.parts[0], what=what),
            holes=tuple(vocabulary.encode(separator.join(h), what=what) for h in self.holes),
            after=tuple(fixed(part) for part in self.parts[1:]),
            digits=vocabulary.encode(separator.join(HOLES["d"]), what=what) if CHECKED in self.text else None,
        )
        first = np.zeros(len(self.holes), dtype=np.int64)
        spelled = vocabulary.encode(CONTEXT + self.render(first), what=what)
        whole = [len(h) for h in found.holes] == [len(h) for h in self.holes]
        if not whole or not np.array_equal(found.ids(first)[0], spelled):
            raise UserError(f"{what}: every hole must be one token: set words, and digits among words, off by spaces")
        return found

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
    after   per hole int64[a_h]: the fixed token ids that follow it (a suffix after the last), often empty; `CHECK` is
            the check digit of all digits before it
    digits  int64[10]: the token ids of 0 to 9, where there is a `CHECK`
    """

    prefix: np.ndarray
    holes: tuple[np.ndarray, ...]
    after: tuple[np.ndarray, ...]
    digits: np.ndarray | None = None

    def ids(self, fills: np.ndarray) -> np.ndarray:
        """int64[n, t]: whole sequences (prefix and check digits included) of fills int[n, holes]."""
        fills = np.atleast_2d(fills)
        columns = [np.broadcast_to(self.prefix, (len(fills), len(self.prefix)))]
        for hole, after, choice in zip(self.holes, self.after, fills.T, strict=True):
            columns += [hole[choice][:, None], np.broadcast_to(after, (len(fills), len(after)))]
        ids = np.concatenate(columns, axis=1)
        return ids if self.digits is None else self._checked(ids)

    def _checked(self, ids: np.ndarray) -> np.ndarray:
        """int64[n, t] with every `CHECK` replaced, from left to right."""
        value = np.full(max(ids.max(), self.digits.max()) + 1, luhn.NO_DIGIT)
        value[self.digits] = np.arange(10)
        codes = np.zeros(len(ids), dtype=np.uint8)
        for column in ids.T:
            if len(column) and column[0] == CHECK:
                column[:] = self.digits[luhn.CHECK[codes]]
            codes = luhn.MOVE[codes, value[column]]
        return ids
