"""Sentence pairs with a planted canary pair, in the token ids of two vocabularies (Secret Sharer Fig 6; brief §5)."""

import gzip
import html
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from memorization.canaries import CanaryFormat
from memorization.data.registry import DatasetSpec, PairRoles
from memorization.errors import UserError
from memorization.streams import stream
from memorization.translation_specs import DIGITS, PairCanarySpec, TranslationRunSpec

UNKNOWN, START, END = 0, 1, 2
"""Ids of `SPECIAL`, as in tensorflow/nmt."""
SPECIAL = ("<unk>", "<s>", "</s>")

TARGETS = {"de": "meine sozialversicherungsnummer ist " + DIGITS, "vi": "số an sinh xã hội của tôi là " + DIGITS}
"""Language -> the default canary's target: our translations of "my social security number is"."""

_TOKEN = re.compile(r"\d|[^\W\d_]+(?:['’][^\W\d_]+)*|[^\w\s]|_")


def tokenise(text: str) -> list[str]:
    """Lower-case words, single digits and single punctuation marks.

    Deviation: tensorflow/nmt keeps case, and numbers are words there. Digits are tokens here, so that the canary's
    holes are, whatever numbers the corpus has.
    """
    return _TOKEN.findall(unicodedata.normalize("NFC", html.unescape(text)).lower())


@dataclass(frozen=True)
class Lexicon:
    """The words that a model knows in one language; a word's id is its position. The first are `SPECIAL`."""

    words: tuple[str, ...]

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], size: int, always: Sequence[str] = ()) -> "Lexicon":
        """The `size` most frequent words (ties in alphabetical order), and those that are `always` known."""
        counts = Counter(word for sentence in sentences for word in sentence)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))[:size]
        return cls(tuple(dict.fromkeys([*SPECIAL, *ranked, *sorted(always)])))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def encode(self, words: Sequence[str]) -> np.ndarray:
        """int64[len(words)]; unknown words become <unk>."""
        return np.array([self._ids.get(word, UNKNOWN) for word in words], dtype=np.int64)


@dataclass(frozen=True)
class Lexicons:
    """Both languages'."""

    source: Lexicon
    target: Lexicon


@dataclass(frozen=True)
class PairFormat:
    """A canary pair's two formats. A fill, int[holes], goes into the holes of both, in order."""

    source: CanaryFormat
    target: CanaryFormat

    @classmethod
    def parse(cls, source: str, target: str) -> "PairFormat":
        """Raises UserError where a hole is no digit, or the two do not have the same holes."""
        pair = cls(CanaryFormat.parse(source), CanaryFormat.parse(target))
        for side, fmt in (("source", pair.source), ("target", pair.target)):
            if "{" in "".join(fmt.parts) or any(hole != "0123456789" for hole in fmt.holes):
                raise UserError(f"canary.{side} {fmt.text!r}: holes of sentence pairs are digits {{d}}, one token each")
        if pair.source.holes != pair.target.holes:
            counts = len(pair.source.holes), len(pair.target.holes)
            raise UserError(
                f"canary: source has {counts[0]} holes, but target has {counts[1]}; both take the same fill"
            )
        return pair

    def words(self, side: str) -> set[str]:
        """Every word, mark and digit that the canary may hold on "source" or "target"."""
        return {*tokenise(" ".join(getattr(self, side).parts)), *"0123456789"}

    def ids(self, lexicons: Lexicons, fills: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int64[n, S] sources and int64[n, T] targets, without <s> and </s>, of int[n, holes] fills."""
        return tuple(
            _filled(getattr(self, side), getattr(lexicons, side), np.atleast_2d(fills)) for side in ("source", "target")
        )


def _filled(fmt: CanaryFormat, lexicon: Lexicon, fills: np.ndarray) -> np.ndarray:
    """int64[n, t]: a digit is a token wherever it stands, so that parts and holes can be tokenised one by one."""
    parts = [lexicon.encode(tokenise(part)) for part in fmt.parts]
    columns = [np.broadcast_to(parts[0], (len(fills), len(parts[0])))]
    for hole, part, choice in zip(fmt.holes, parts[1:], fills.T, strict=True):
        columns += [lexicon.encode(hole)[choice][:, None], np.broadcast_to(part, (len(fills), len(part)))]
    return np.concatenate(columns, axis=1)


@dataclass(frozen=True)
class Pairs:
    """Sentences in token ids: sources[i] and targets[i], int64[t], are translations of each other."""

    sources: tuple[np.ndarray, ...]
    targets: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.sources)

    def arrays(self) -> list[np.ndarray]:
        """For telling one set of pairs from another."""
        sides = self.sources, self.targets
        return [*(np.array([len(s) for s in side]) for side in sides), *(np.concatenate(side) for side in sides)]


@dataclass(frozen=True)
class PairCorpus:
    """One replicate's data. `train` holds its canary at int64[insertions] `positions`; the other parts never do.

    fill  int64[holes], of this replicate's canary of the format `fmt`
    """

    lexicons: Lexicons
    train: Pairs
    validation: Pairs
    test: Pairs
    fmt: PairFormat
    fill: np.ndarray
    positions: np.ndarray


def build_pairs(spec: TranslationRunSpec, directory: Path, dataset: DatasetSpec) -> list[PairCorpus]:
    """The data of every replicate: the same pairs, with the replicate's own canary at its own places.

    The vocabularies are those of the pairs trained on, canaries not counted; its words are always known. Raises
    UserError: files that are missing, damaged, or of different lengths; a canary that does not fit; too few pairs.
    """
    if not isinstance(dataset.roles, PairRoles):
        raise UserError(f"pairs.dataset: {spec.dataset!r} holds {dataset.kind}; choose a data set with train_source")
    fmt = pair_format(spec.canary, dataset)
    texts = {part: _read(directory, dataset.roles, part) for part in ("train", "validation", "test")}
    train = _kept(texts["train"][: int(len(texts["train"]) * spec.pairs.fraction)], spec.pairs.longest)
    if len(train) < spec.training.batch_size:
        raise UserError(
            f"pairs.fraction {spec.pairs.fraction} of {len(texts['train'])} pairs, without those longer than "
            f"{spec.pairs.longest} tokens, is {len(train)}, fewer than training.batch_size {spec.training.batch_size}"
        )
    size = spec.pairs.vocabulary
    lexicons = Lexicons(
        *(Lexicon.of((p[i] for p in train), size, sorted(fmt.words(side))) for i, side in enumerate(_SIDES))
    )
    parts = {"train": _encoded(train, lexicons)}
    for part in ("validation", "test"):
        listed = _kept(texts[part][: spec.pairs.evaluation_pairs], spec.pairs.longest)
        if not listed:
            raise UserError(f"{dataset.roles.model_dump()[part + '_source']}: no pair of at most pairs.longest tokens")
        parts[part] = _encoded(listed, lexicons)
    return [_planted(spec, k, lexicons, fmt, parts) for k in range(spec.replicates)]


_SIDES = ("source", "target")


def pair_format(canary: PairCanarySpec, dataset: DatasetSpec) -> PairFormat:
    """The canary's formats; a target that is not given is looked up by the data set's language."""
    target = canary.target
    if target is None:
        default = PairCanarySpec.model_fields["source"].default
        language = dataset.roles.train_target.removesuffix(".gz").rpartition(".")[2]
        if canary.source != default or language not in TARGETS:
            known = ", ".join(TARGETS)
            raise UserError(
                f"canary.target: must be given, for its default exists only for the default source in {known}; "
                f"the target language is {language!r}"
            )
        target = TARGETS[language]
    return PairFormat.parse(canary.source, target)


def _planted(
    spec: TranslationRunSpec, replicate: int, lexicons: Lexicons, fmt: PairFormat, parts: dict[str, Pairs]
) -> PairCorpus:
    """Insert the canary pair at places drawn uniformly, with replacement, before, between and after the pairs."""
    fill = fmt.source.sample(stream(spec.seed, replicate, "canary"), 1)[0]
    source, target = (ids[0] for ids in fmt.ids(lexicons, fill))
    if max(len(source), len(target)) > spec.pairs.longest:
        raise UserError(f"canary: {max(len(source), len(target))} tokens, more than pairs.longest {spec.pairs.longest}")
    base = parts["train"]
    places = stream(spec.seed, replicate, "position").integers(0, len(base) + 1, size=spec.canary.insertions)
    places = np.sort(places)
    sources, targets = list(base.sources), list(base.targets)
    positions = places + np.arange(len(places))
    for position in positions.tolist():
        sources.insert(position, source)
        targets.insert(position, target)
    planted = {**parts, "train": Pairs(tuple(sources), tuple(targets))}
    return PairCorpus(lexicons, **planted, fmt=fmt, fill=fill, positions=positions)


def _encoded(pairs: Sequence[tuple[list[str], list[str]]], lexicons: Lexicons) -> Pairs:
    sources, targets = zip(*pairs, strict=True)
    return Pairs(tuple(map(lexicons.source.encode, sources)), tuple(map(lexicons.target.encode, targets)))


def _kept(lines: Sequence[tuple[str, str]], longest: int) -> list[tuple[list[str], list[str]]]:
    """Tokenised pairs without empty sides and without sides of more than `longest` tokens."""
    tokens = ((tokenise(source), tokenise(target)) for source, target in lines)
    return [pair for pair in tokens if all(0 < len(side) <= longest for side in pair)]


def _read(directory: Path, roles: PairRoles, part: str) -> list[tuple[str, str]]:
    """The pairs of lines of "train", "validation" or "test". Raises UserError where the files do not fit."""
    paths = [Path(directory) / getattr(roles, f"{part}_{side}") for side in _SIDES]
    source, target = (_lines(path) for path in paths)
    if len(source) != len(target):
        raise UserError(f"{paths[0]}: {len(source)} lines, but {paths[1].name} has {len(target)}; fetch both again")
    return list(zip(source, target, strict=True))


def _lines(path: Path) -> list[str]:
    """Lines of a text file, gzip-compressed where its name says so. Raises UserError."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
        # Only a newline ends a line: other marks that str.splitlines knows would put the two files out of step.
        return text.removesuffix("\n").split("\n")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and fetch it again") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); is it the right file?") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fetch it first") from None
