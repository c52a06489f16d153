"""Text corpora with planted canaries (planting.py), cut into training windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memorization.canaries import CanaryFormat, resolve_each
from memorization.data import mail, sanitising
from memorization.data.planting import Text, plant_lines, plant_windows
from memorization.data.registry import DatasetSpec
from memorization.errors import UserError
from memorization.specs import RunSpec
from memorization.streams import stream
from memorization.vocabulary import UNKNOWN_ID, Vocabulary


@dataclass(frozen=True)
class PlantedCanary:
    """One canary of one replicate's training text.

    fill       int64[holes], symbol numbers (canaries.py)
    text       the whole line without its newline
    positions  int64[insertions], ascending: offsets in `train` of the line's first token; int64[0] if left out
    included   False where the coin (canary.inclusion) left it out
    format     its own format: canary.format with a letter for each {x}
    """

    fill: np.ndarray
    text: str
    positions: np.ndarray
    included: bool = True
    format: str = ""


@dataclass(frozen=True)
class TrainingCorpus:
    """One replicate's data: int64 token ids. `train` holds the canaries; validation and test never do.

    `canary` is the first of all `canaries`, which need only be given where there are more.
    """

    vocabulary: Vocabulary
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    canary: PlantedCanary
    canaries: tuple[PlantedCanary, ...] = ()

    def __post_init__(self) -> None:
        if not self.canaries:
            object.__setattr__(self, "canaries", (self.canary,))


def training_data(corpora: Sequence[TrainingCorpus]) -> list[np.ndarray]:
    """Everything that decides what a training sees, as arrays: for telling one set of data from another."""
    vocabulary = corpora[0].vocabulary
    separator = "" if vocabulary.unit == "character" else " "
    symbols = np.frombuffer(separator.join(vocabulary.symbols).encode("utf-32-le"), dtype=np.uint32)
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


def read_texts(directory: Path, dataset: DatasetSpec, number: int | None = None) -> dict[str, str]:
    """Role -> whole text of the files that `fetch` placed in `directory`: train, validation and test. Of mail: the text
    of one owner, `number` (corpus.mailbox).

    Raises UserError for a file that is missing or not UTF-8, for mail without a number and a number without mail.
    """
    if (number is None) == (dataset.kind == "mail"):
        need = "say whose: corpus.mailbox: 1, 2, ..." if number is None else "leave corpus.mailbox out, it is for mail"
        raise UserError(f"corpus: {dataset.title} is {dataset.kind}; {need}")
    if number is not None:
        return mail.mailbox(Path(directory) / dataset.roles.mail_archive, number)
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


def split_lines(text: str) -> list[str]:
    """The lines of `text` without their newlines. Only a newline ends a line, as for the model."""
    lines = text.split("\n")
    return lines if lines[-1] else lines[:-1]


def build_corpora(
    spec: RunSpec, directory: Path, dataset: DatasetSpec, replicates: Sequence[int]
) -> list[TrainingCorpus]:
    """The data of some replicates: the same texts, each with its own canaries at its own places.

    The vocabulary is that of the whole training file, whatever `spec.corpus.fraction` keeps of it.
    Raises UserError: text too short, characters outside the vocabulary, canary that fits no window.
    """
    texts = read_texts(directory, dataset, spec.corpus.mailbox)
    vocabulary = _vocabulary(spec, texts["train"])
    cap, fraction = spec.corpus.evaluation_characters, spec.corpus.fraction
    held_out = {}
    for role in ("validation", "test"):
        part = leading_lines(texts[role], cap)
        held_out[role] = _encode(part, vocabulary, f"{Path(directory) / getattr(dataset.roles, role, role)}")
        _long_enough(held_out[role], 1, spec, f"{role} text (corpus.evaluation_characters: {cap})")
    base: Text = leading_lines(texts["train"], int(len(texts["train"]) * fraction))
    if spec.corpus.sanitise == "deduplicate":
        base = sanitising.deduplicate(base)
    if vocabulary.unit == "word":
        base = vocabulary.encode(base)
    _long_enough(base, spec.training.batch_size, spec, f"training text (corpus.fraction: {fraction})")
    corpora = []
    for replicate in replicates:
        train, canaries = _planted(spec, base, vocabulary, replicate)
        ids = vocabulary.encode(train, "training text") if isinstance(train, str) else train
        corpora.append(TrainingCorpus(vocabulary, ids, **held_out, canary=canaries[0], canaries=canaries))
    return corpora


def build_corpus(spec: RunSpec, directory: Path, dataset: DatasetSpec, replicate: int) -> TrainingCorpus:
    """One replicate's data; see `build_corpora`. It does not depend on how many others there are."""
    return build_corpora(spec, directory, dataset, [replicate])[0]


def _vocabulary(spec: RunSpec, text: str) -> Vocabulary:
    """Of the whole training text: its characters and corpus.symbols, or its most frequent words and corpus.words."""
    if spec.corpus.unit == "word":
        return Vocabulary.of_words(text, spec.corpus.vocabulary, spec.corpus.words)
    return Vocabulary.of([text, spec.corpus.symbols, sanitising.MASK if spec.corpus.sanitise == "mask_digits" else ""])


def _planted(
    spec: RunSpec, base: Text, vocabulary: Vocabulary, replicate: int
) -> tuple[Text, tuple[PlantedCanary, ...]]:
    """One replicate's training text and its canaries: contexts, fills, coins, places and fillers from streams of their
    own.

    Places and fillers are drawn for every copy, whatever the coins say: they do not tell which canaries are in.
    """
    contexts = resolve_each(spec.canary.format, spec.canary.count, stream(spec.seed, replicate, "context"))
    formats = [CanaryFormat.parse(text, vocabulary.words) for text in contexts]
    _can_be_read(formats[0], vocabulary)
    fills = _fills(spec, formats[0], replicate)
    lines = [own.render(fill) for own, fill in zip(formats, fills, strict=True)]
    copies = spec.canary.insertions
    if spec.corpus.sanitise == "deduplicate":
        # As if done after planting, except that the copy that is kept lies whole in one window.
        copies = min(copies, 1)
    included = np.ones(len(fills), dtype=bool)
    if spec.canary.inclusion == "coin":
        included = stream(spec.seed, replicate, "inclusion").random(len(fills)) < 0.5
    inserted: list[Text] = [line if isinstance(base, str) else vocabulary.encode(line) for line in lines]
    repeated = [line for line in inserted for _ in range(copies)]
    keep, rng = np.repeat(included, copies), stream(spec.seed, replicate, "position")
    window = spec.training.sequence_length
    if spec.canary.position == "window":
        text, places = plant_windows(base, repeated, keep, rng, stream(spec.seed, replicate, "filler"), window)
    else:
        text, places = plant_lines(base, repeated, keep, spec.canary.position, rng, window)
    own = np.split(places, np.cumsum(included * copies)[:-1])
    if spec.corpus.sanitise == "mask_digits":
        text = sanitising.mask_digits(text)
        own = [at[[text.startswith(line, p) for p in at.tolist()]] for at, line in zip(own, lines, strict=True)]
    canaries = zip(fills, lines, own, included.tolist(), contexts, strict=True)
    return text, tuple(PlantedCanary(fill, line, np.sort(at), *rest) for fill, line, at, *rest in canaries)


def _can_be_read(canary_format: CanaryFormat, vocabulary: Vocabulary) -> None:
    """Raises UserError for a format that is not made of the vocabulary's symbols."""
    tokens = canary_format.tokens(vocabulary)
    parts = (tokens.prefix, *tokens.holes, *tokens.after)
    if vocabulary.unit == "word" and any((part == UNKNOWN_ID).any() for part in parts):
        raise UserError(
            f"canary format {canary_format.text!r}: has words outside the vocabulary of {len(vocabulary):,}, which "
            "would be read as <unk>; take frequent ones, raise corpus.vocabulary, or name them in corpus.words"
        )


def _fills(spec: RunSpec, canary_format: CanaryFormat, replicate: int) -> np.ndarray:
    """int64[canary.count, holes], distinct; the first is the same for every count."""
    if spec.canary.fill is None:
        first = canary_format.sample(stream(spec.seed, replicate, "canary"), 1)[0]
    else:
        first = canary_format.parse_fill(spec.canary.fill)
    wanted = spec.canary.count
    if wanted > canary_format.size:
        raise UserError(
            f"canary.count {wanted}: the format {spec.canary.format!r} has only {canary_format.size} fills; "
            "ask for fewer canaries or give it more holes"
        )
    if wanted == 1:
        return first[None]
    others = canary_format.sample(stream(spec.seed, replicate, "canaries"), wanted - 1, exclude=first)
    return np.concatenate([first[None], others])


def _encode(text: str, vocabulary: Vocabulary, what: str) -> np.ndarray:
    """int64[tokens] of held-out text. Raises UserError for characters that the training file lacks."""
    missing = sorted(set(text) - set(vocabulary.symbols)) if vocabulary.unit == "character" else []
    if missing:
        raise UserError(
            f"{what}: has characters that the training file lacks: {missing}; both must come from the same preparation"
        )
    return vocabulary.encode(text, what)


def _long_enough(text: Text, count: int, spec: RunSpec, what: str) -> None:
    """Raises UserError where `text` gives fewer than `count` windows."""
    length, unit = spec.training.sequence_length, spec.corpus.unit
    have = max(len(text) - 1, 0) // length
    if have < count:
        raise UserError(
            f"{what}: {len(text)} {unit}s are {have} windows of training.sequence_length {length}, but "
            f"{count} are needed{' for one batch' if count > 1 else ''}; use more text, or smaller windows "
            "or batches"
        )
