"""Text corpora with planted canaries, cut into training windows.

A canary is a line of its own: newline, the canary's text, newline - the context in which it is scored
(canaries.CONTEXT) is then the context in which it was trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from memorization.canaries import CanaryFormat
from memorization.data.registry import DatasetSpec
from memorization.errors import UserError
from memorization.specs import RunSpec
from memorization.streams import stream
from memorization.vocabulary import Vocabulary


@dataclass(frozen=True)
class PlantedCanary:
    """What was inserted into one replicate's training text.

    fill       int64[holes], symbol numbers (canaries.py)
    text       the whole line without its newline
    positions  int64[insertions]: offsets in `train` of the line's first character
    """

    fill: np.ndarray
    text: str
    positions: np.ndarray


@dataclass(frozen=True)
class TrainingCorpus:
    """One replicate's data: int64 token ids. `train` holds the canary; validation and test never do."""

    vocabulary: Vocabulary
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    canary: PlantedCanary


def training_data(corpora: Sequence[TrainingCorpus]) -> list[np.ndarray]:
    """Everything that decides what a training sees, as arrays: for telling one set of data from another."""
    symbols = np.frombuffer("".join(corpora[0].vocabulary.symbols).encode("utf-32-le"), dtype=np.uint32)
    return [symbols, *(ids for c in corpora for ids in (c.train, c.validation, c.test))]


def windows(ids: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, int64[n, length] each: targets one token ahead, no overlap, the tail dropped."""
    count = (len(ids) - 1) // length
    inputs = ids[: count * length].reshape(count, length)
    targets = ids[1 : count * length + 1].reshape(count, length)
    return inputs, targets


def canary_windows(positions: np.ndarray, length: int) -> np.ndarray:
    """int64[n]: the window (as cut by `windows`) of each insertion in `PlantedCanary.positions`."""
    return (np.asarray(positions, dtype=np.int64) - 1) // length


def read_texts(directory: Path, dataset: DatasetSpec) -> dict[str, str]:
    """Role -> whole text of the files that `fetch` placed in `directory`: train, validation and test.

    Raises UserError for a file that is missing or not UTF-8.
    """
    texts = {}
    for role, name in dataset.roles.model_dump().items():
        path = Path(directory) / name
        try:
            # newline="": offsets count the file's own characters.
            with path.open(encoding="utf-8", newline="") as file:
                texts[role] = file.read()
        except OSError as error:
            raise UserError(f"{path}: the {role} text cannot be read ({error.strerror}); fetch it first") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text ({error}); is it the right file?") from None
    return texts


def leading_lines(text: str, characters: int) -> str:
    """The longest leading part of `text` of at most `characters` that ends with a line."""
    return text if len(text) <= characters else text[: text.rfind("\n", 0, characters) + 1]


def plant(
    text: str,
    line: str,
    insertions: int,
    position: Literal["uniform", "start"],
    rng: np.random.Generator,
    window: int,
) -> tuple[str, np.ndarray]:
    """Insert `line` as lines of its own; each lies whole, from newline to newline, in one training window.

    `position` "uniform" draws line starts of `text` uniformly, distinct while there are enough; "start" takes
    the first lines. Returns the new text and int64[insertions], ascending: offsets in it of the lines' first
    characters.
    Raises UserError where the line is longer than a window or finds no place.
    """
    if insertions == 0:
        return text, np.zeros(0, dtype=np.int64)
    if len(line) + 1 > window:
        raise UserError(
            f"canary {line!r}: {len(line)} characters and a newline do not fit a training window of "
            f"{window}; raise training.sequence_length or shorten canary.format"
        )
    if position == "start":
        # The first line has no newline before it, and the canary is scored after one.
        text = "\n" + text
    starts = np.flatnonzero(np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32) == ord("\n")) + 1
    if position == "start":
        drawn = np.zeros(insertions, dtype=np.int64)
    elif len(starts):
        drawn = rng.choice(len(starts), size=insertions, replace=insertions > len(starts))
    else:
        raise UserError("the training text has no line end, so no place for a canary")
    chosen = starts[_fit(starts, drawn, len(line) + 1, window, len(text))]
    edges = [0, *chosen.tolist(), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    return (line + "\n").join(pieces), chosen + np.arange(insertions) * (len(line) + 1)


def _fit(starts: np.ndarray, drawn: np.ndarray, size: int, window: int, length: int) -> np.ndarray:
    """int64[insertions], ascending: the line starts (indices into `starts`) used for the `drawn` ones.

    starts  int64[m], offsets of line starts in the text of `length` characters, before any insertion
    size    characters inserted each time, the newline included
    """
    # The last window ends here; what follows it is never trained on.
    end = (length + len(drawn) * size - 1) // window * window
    wanted = np.sort(drawn)
    for _ in range(len(drawn) + 1):
        used: list[int] = []
        for index in wanted:
            # Deviation: not exactly uniform. A place where a window boundary would cut the line (another
            # experiment, brief §7 trap 5), or in the untrained tail, is given up for the next line start that
            # fits, from the first line again after the last.
            i = max(int(index), used[-1] if used else 0)
            while i < len(starts) and not _inside(starts[i] + len(used) * size, size, window, end):
                i += 1
            if i == len(starts):
                break
            used.append(i)
        else:
            return np.array(used, dtype=np.int64)
        if wanted[len(used)] == 0:
            break
        wanted = np.sort(np.where(np.arange(len(wanted)) == len(used), 0, wanted))
    raise UserError(
        f"no place for {len(drawn)} canary lines of {size} characters in {length} characters of training "
        f"text with windows of {window}; raise corpus.fraction or training.sequence_length"
    )


def _inside(position: int, size: int, window: int, end: int) -> bool:
    """Whether one window, before `end`, holds newline, line, newline (first input to last target)."""
    return (position - 1) % window + size <= window and position - 1 + size <= end


def build_corpora(
    spec: RunSpec, directory: Path, dataset: DatasetSpec, replicates: Sequence[int]
) -> list[TrainingCorpus]:
    """The data of some replicates: the same texts, each with its own canary at its own places.

    The vocabulary is that of the whole training file, whatever `spec.corpus.fraction` keeps of it.
    Raises UserError: text too short, characters outside the vocabulary, canary that fits no window.
    """
    texts = read_texts(directory, dataset)
    vocabulary = Vocabulary.of([texts["train"]])
    cap = spec.corpus.evaluation_characters
    held_out = {}
    for role in ("validation", "test"):
        part = leading_lines(texts[role], cap)
        _long_enough(part, 1, spec, f"{role} text (corpus.evaluation_characters: {cap})")
        held_out[role] = _encode(part, vocabulary, f"{Path(directory) / getattr(dataset.roles, role)}")
    base = leading_lines(texts["train"], int(len(texts["train"]) * spec.corpus.fraction))
    _long_enough(base, spec.training.batch_size, spec, f"training text (corpus.fraction: {spec.corpus.fraction})")
    corpora = []
    for replicate in replicates:
        train, canary = _planted(spec, base, vocabulary, replicate)
        corpora.append(TrainingCorpus(vocabulary, vocabulary.encode(train, "training text"), **held_out, canary=canary))
    return corpora


def build_corpus(spec: RunSpec, directory: Path, dataset: DatasetSpec, replicate: int) -> TrainingCorpus:
    """One replicate's data; see `build_corpora`. It does not depend on how many others there are."""
    return build_corpora(spec, directory, dataset, [replicate])[0]


def _planted(spec: RunSpec, base: str, vocabulary: Vocabulary, replicate: int) -> tuple[str, PlantedCanary]:
    """One replicate's training text and what was inserted: fill and places from streams of their own."""
    canary_format = CanaryFormat.parse(spec.canary.format)
    canary_format.tokens(vocabulary)
    if spec.canary.fill is None:
        fill = canary_format.sample(stream(spec.seed, replicate, "canary"), 1)[0]
    else:
        fill = canary_format.parse_fill(spec.canary.fill)
    line = canary_format.render(fill)
    rng = stream(spec.seed, replicate, "position")
    window = spec.training.sequence_length
    text, positions = plant(base, line, spec.canary.insertions, spec.canary.position, rng, window)
    return text, PlantedCanary(fill, line, positions)


def _encode(text: str, vocabulary: Vocabulary, what: str) -> np.ndarray:
    """int64[len(text)] of held-out text. Raises UserError for characters that the training file lacks."""
    missing = sorted(set(text) - set(vocabulary.symbols))
    if missing:
        raise UserError(
            f"{what}: has characters that the training file lacks: {missing}; both must come from the same preparation"
        )
    return vocabulary.encode(text, what)


def _long_enough(text: str, count: int, spec: RunSpec, what: str) -> None:
    """Raises UserError where `text` gives fewer than `count` windows."""
    length = spec.training.sequence_length
    have = max(len(text) - 1, 0) // length
    if have < count:
        raise UserError(
            f"{what}: {len(text)} characters are {have} windows of training.sequence_length {length}, but "
            f"{count} are needed{' for one batch' if count > 1 else ''}; use more text, or smaller windows "
            "or batches"
        )
