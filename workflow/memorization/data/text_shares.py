"""Who holds which part of a text: the users of a federation of language models. Pure NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from memorization.canaries import CanaryFormat
from memorization.data.corpora import canary_windows, leading_lines, read_texts, split_lines, windows
from memorization.data.planting import plant_lines
from memorization.data.registry import DatasetSpec
from memorization.errors import UserError
from memorization.federated_text_specs import FederatedTextRunSpec
from memorization.streams import stream
from memorization.vocabulary import Vocabulary

Windows = tuple[np.ndarray, np.ndarray]
"""Inputs and targets, int64[n, sequence_length] each, the targets one character ahead."""


@dataclass(frozen=True)
class TextShares:
    """One replicate's data. All parts are disjoint; only user 0's text holds the canary.

    fill         int64[holes]: the canary's
    line         its text without the newline
    copies       int64[insertions]: user 0's window of each copy
    places       int64[insertions, len(line)]: where in that window the targets are the line's characters
    """

    vocabulary: Vocabulary
    users: tuple[Windows, ...]
    third_party: Windows
    test: Windows
    fill: np.ndarray
    line: str
    copies: np.ndarray
    places: np.ndarray

    @property
    def holding(self) -> np.ndarray:
        """bool[n0]: whether each window of user 0 holds a copy or a part of one."""
        return np.isin(np.arange(len(self.users[0][0])), self.copies)

    @property
    def fill_text(self) -> str:
        """The canary's number."""
        return self.line[len(self.line) - len(self.fill) :]

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "windows_per_user": [len(inputs) for inputs, _ in self.users],
            "windows_with_canary": int(self.holding.sum()),
            "test_windows": len(self.test[0]),
            "third_party_windows": len(self.third_party[0]),
        }


def build_text_shares(
    spec: FederatedTextRunSpec, directory: Path, dataset: DatasetSpec, replicates: Sequence[int]
) -> list[TextShares]:
    """The data of some replicates: the same parts of the text, but each draws whose is user 0's, its canary and its
    places. Raises UserError: too little text, characters outside the vocabulary, a canary that fits no window.
    """
    texts = read_texts(directory, dataset)
    vocabulary = Vocabulary.of([texts["train"]])
    lines = split_lines(leading_lines(texts["train"], spec.data.characters))
    if len(lines) < spec.data.users:
        raise UserError(f"data.users {spec.data.users}: {len(lines)} lines of text to share out; raise data.characters")
    cuts = np.linspace(0, len(lines), spec.data.users + 1).astype(int)
    parts = ["".join(f"{line}\n" for line in lines[a:b]) for a, b in pairwise(cuts)]
    held_out = [
        _cut(spec, leading_lines(texts[role], most), vocabulary, f"{role} text (data.{key}: {most})")
        for role, key, most in (
            ("validation", "third_party_characters", spec.data.third_party_characters),
            ("test", "evaluation_characters", spec.data.evaluation_characters),
        )
    ]
    return [_shares(spec, k, parts, vocabulary, *held_out) for k in replicates]


def _shares(
    spec: FederatedTextRunSpec, replicate: int, parts: Sequence[str], vocabulary: Vocabulary, *held_out: Windows
) -> TextShares:
    """One replicate's."""
    order = stream(spec.seed, replicate, "parts").permutation(len(parts))
    parsed = CanaryFormat.parse(spec.canary.format)
    fill = parsed.sample(stream(spec.seed, replicate, f"{spec.stage}canary"), 1)[0]
    line, copies = parsed.render(fill), spec.canary.insertions
    length = spec.training.sequence_length
    rng = stream(spec.seed, replicate, f"{spec.stage}position")
    keep = np.ones(copies, dtype=bool)
    mine = parts[order[0]]
    try:
        own, positions = plant_lines(mine, [line] * copies, keep, "uniform", rng, length)
    except UserError:
        raise UserError(
            f"user 0's text (data.users: {len(parts)}): {len(mine)} characters have no place for {copies} copies of "
            "the canary; raise data.characters, or lower data.users or canary.insertions"
        ) from None
    texts = [own, *(parts[number] for number in order[1:])]
    users = tuple(
        _cut(spec, text, vocabulary, f"user {number}'s text (data.users: {len(parts)})")
        for number, text in enumerate(texts)
    )
    positions = np.sort(positions)
    return TextShares(
        vocabulary,
        users,
        *held_out,
        fill=fill,
        line=line,
        copies=canary_windows(positions, length),
        # The newline before the line is an input at the place where the line's first character is the target.
        places=((positions - 1) % length)[:, None] + np.arange(len(line)),
    )


def _cut(spec: FederatedTextRunSpec, text: str, vocabulary: Vocabulary, what: str) -> Windows:
    """The text's windows. Raises UserError where it has none, or characters outside the vocabulary."""
    found = windows(vocabulary.encode(text, what), spec.training.sequence_length)
    if not len(found[0]):
        raise UserError(
            f"{what}: {len(text)} characters are no window of training.sequence_length "
            f"{spec.training.sequence_length}; use more text or smaller windows"
        )
    return found


def text_data(shares: Sequence[TextShares]) -> list[np.ndarray]:
    """Everything that decides what a training sees, as arrays: for telling one set of data from another."""
    symbols = np.frombuffer("".join(shares[0].vocabulary.symbols).encode("utf-32-le"), dtype=np.uint32)
    parts = [array for own in shares for part in (*own.users, own.third_party, own.test) for array in part]
    return [symbols, *parts, *(own.fill for own in shares)]
