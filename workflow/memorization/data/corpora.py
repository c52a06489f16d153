"""Text corpora with planted canaries (planting.py), cut into training windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memorization.canaries import CanaryFormat
from memorization.data import sanitising
from memorization.data.planting import plant_lines, plant_windows
from memorization.data.registry import DatasetSpec
from memorization.errors import UserError
from memorization.specs import RunSpec
from memorization.streams import stream
from memorization.vocabulary import Vocabulary


@dataclass(frozen=True)
class PlantedCanary:
    """One canary of one replicate's training text.

    fill       int64[holes], symbol numbers (canaries.py)
    text       the whole line without its newline
    positions  int64[insertions], ascending: offsets in `train` of the line's first character; int64[0] if left out
    included   False where the coin (canary.inclusion) left it out
    """

    fill: np.ndarray
    text: str
    positions: np.ndarray
    included: bool = True


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
    texts = read_texts(directory, dataset)
    sanitise = spec.corpus.sanitise
    vocabulary = Vocabulary.of([texts["train"], sanitising.MASK if sanitise == "mask_digits" else ""])
    cap = spec.corpus.evaluation_characters
    held_out = {}
    for role in ("validation", "test"):
        part = leading_lines(texts[role], cap)
        _long_enough(part, 1, spec, f"{role} text (corpus.evaluation_characters: {cap})")
        held_out[role] = _encode(part, vocabulary, f"{Path(directory) / getattr(dataset.roles, role)}")
    base = leading_lines(texts["train"], int(len(texts["train"]) * spec.corpus.fraction))
    if sanitise == "deduplicate":
        base = sanitising.deduplicate(base)
    _long_enough(base, spec.training.batch_size, spec, f"training text (corpus.fraction: {spec.corpus.fraction})")
    corpora = []
    for replicate in replicates:
        train, canaries = _planted(spec, base, vocabulary, replicate)
        ids = vocabulary.encode(train, "training text")
        corpora.append(TrainingCorpus(vocabulary, ids, **held_out, canary=canaries[0], canaries=canaries))
    return corpora


def build_corpus(spec: RunSpec, directory: Path, dataset: DatasetSpec, replicate: int) -> TrainingCorpus:
    """One replicate's data; see `build_corpora`. It does not depend on how many others there are."""
    return build_corpora(spec, directory, dataset, [replicate])[0]


def _planted(spec: RunSpec, base: str, vocabulary: Vocabulary, replicate: int) -> tuple[str, tuple[PlantedCanary, ...]]:
    """One replicate's training text and its canaries: fills, coins, places and fillers from streams of their own.

    Places and fillers are drawn for every copy, whatever the coins say: they do not tell which canaries are in.
    """
    canary_format = CanaryFormat.parse(spec.canary.format)
    canary_format.tokens(vocabulary)
    fills = _fills(spec, canary_format, replicate)
    lines, copies = [canary_format.render(fill) for fill in fills], spec.canary.insertions
    if spec.corpus.sanitise == "deduplicate":
        # As if done after planting, except that the copy that is kept lies whole in one window.
        copies = min(copies, 1)
    included = np.ones(len(fills), dtype=bool)
    if spec.canary.inclusion == "coin":
        included = stream(spec.seed, replicate, "inclusion").random(len(fills)) < 0.5
    repeated = [line for line in lines for _ in range(copies)]
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
    canaries = zip(fills, lines, own, included.tolist(), strict=True)
    return text, tuple(PlantedCanary(fill, line, np.sort(p), coin) for fill, line, p, coin in canaries)


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
