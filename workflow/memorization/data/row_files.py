"""Files of examples with a class each, as rows of numbers: tables, Adult's census records, bags of words, news stories
(Learn to Forget, section 5). What a layout is called is what `layout` says in config/datasets.yaml.

No row is dropped that can be read, and none depends on which rows are trained on but through the scale of Adult's
numbers and the choice of Reuters' words, which look at all rows, never at classes.
"""

import io
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from memorization.data.archives import members
from memorization.data.registry import DatasetSpec
from memorization.errors import UserError

Rows = tuple[np.ndarray, np.ndarray]
"""x float32[N, d] in the network's units, and one class per row, of any type."""
LENGTH = 8.0
"""Euclidean length of a bag of words: about that of MNIST's images (9) and Location's rows (7), so that one learning
rate serves all."""

NUMBERS = [0, 2, 4, 10, 11, 12]
"""Columns of a census record: age, weight, years of education, capital gain and loss, hours per week. The others are
categories."""
INCOME = 14
"""The last column, its class."""

FEWEST_STORIES = 100
"""Of a topic that is kept as a class."""
WORDS = 1000
"""Of the stories' vocabulary."""
COMMON = 1 / 3
"""Share of stories from which on a word tells nothing of the topic: stop words, without a list of them."""


def read_rows(directory: Path, dataset: DatasetSpec, is_standin: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """x float32[N, d], y int64[N] and the number of classes, of the files that `fetch` placed in `directory`.

    A stand-in is a table, whatever the real data are. Classes are numbered in the order of their names. Raises
    UserError for files that are missing, damaged or not laid out as the registry says.
    """
    roles = dataset.roles
    names = [roles.rows] if is_standin or roles.more_rows is None else [roles.rows, roles.more_rows]
    paths = [Path(directory) / name for name in names]
    layout = "table" if is_standin else dataset.layout
    try:
        x, labels = READERS[layout](paths)
    except (ValueError, KeyError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{paths[0]}: not laid out as {layout} ({reason}); delete it and fetch it again") from None
    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2 or not np.isfinite(x).all():
        raise UserError(f"{paths[0]}: {len(x)} rows of {len(classes)} classes, or no numbers; fetch it again")
    return np.ascontiguousarray(x, dtype=np.float32), y.astype(np.int64), len(classes)


def _table(paths: list[Path]) -> Rows:
    """Comma-separated numbers after the class, plain or the only file of an archive; no header."""
    frame = pd.concat([pd.read_csv(io.BytesIO(_only(path)), header=None) for path in paths])
    return frame.iloc[:, 1:].to_numpy(dtype=np.float32), frame[0].to_numpy()


def _census(paths: list[Path]) -> Rows:
    """Adult: numbers as standardised logarithms, because gains span five orders of magnitude; each category, "?" too,
    a feature of its own (108 in all, as FedEraser's).
    """
    options = {"header": None, "names": range(INCOME + 1), "skipinitialspace": True, "comment": "|"}
    frame = pd.concat([pd.read_csv(io.BytesIO(_plain(path)), **options) for path in paths], ignore_index=True)
    incomplete = int(frame.isna().any(axis=1).sum())
    if incomplete:
        raise ValueError(f"{incomplete} records without all {INCOME + 1} columns")
    numbers = np.log1p(frame[NUMBERS].to_numpy(dtype=np.float64))
    numbers = (numbers - numbers.mean(axis=0)) / np.maximum(numbers.std(axis=0), 1e-6)
    categories = frame.drop(columns=[*NUMBERS, INCOME])
    known = pd.get_dummies(categories, columns=list(categories)).to_numpy(dtype=np.float32)
    # The test file's classes end with a full stop.
    return np.hstack([numbers.astype(np.float32), known]), frame[INCOME].str.rstrip(".").to_numpy()


def _counts(paths: list[Path]) -> Rows:
    """An archive of *.feat files, one text a line: its class, then word:count; words are numbered from 1."""
    lines = []
    for name, content in members(paths[0]):
        if name.endswith(".feat"):
            lines += content.decode().splitlines()
    if not lines:
        raise ValueError("no *.feat file in it")
    words = np.array([line.count(":") for line in lines])
    numbers = np.array(" ".join(lines).replace(":", " ").split(), dtype=np.int64)
    heads = np.concatenate([[0], np.cumsum(1 + 2 * words)[:-1]])
    pairs = np.delete(numbers, heads).reshape(-1, 2)
    x = np.zeros((len(lines), pairs[:, 0].max()), dtype=np.float32)
    x[np.repeat(np.arange(len(lines)), words), pairs[:, 0] - 1] = pairs[:, 1]
    return _weighted(x), numbers[heads]


def _stories(paths: list[Path]) -> Rows:
    """Reuters-21578: stories with exactly one topic, of topics with enough of them; words of title and text."""
    found = []
    for name, content in members(paths[0]):
        if name.endswith(".sgm"):
            found += _single_topic(content.decode("latin-1"))
    often = Counter(topic for topic, _ in found)
    found = [(topic, words) for topic, words in found if often[topic] >= FEWEST_STORIES]
    if not found:
        raise ValueError(f"no topic with {FEWEST_STORIES} stories in *.sgm files")
    stories = Counter(word for _, words in found for word in words)
    fitting = [word for word, count in stories.items() if count <= COMMON * len(found)]
    vocabulary = sorted(fitting, key=lambda word: (-stories[word], word))[:WORDS]
    column = {word: number for number, word in enumerate(vocabulary)}
    x = np.zeros((len(found), len(vocabulary)), dtype=np.float32)
    for row, (_, words) in zip(x, found, strict=True):
        for word, count in words.items():
            if word in column:
                row[column[word]] = count
    return _weighted(x), np.array([topic for topic, _ in found])


def _single_topic(text: str) -> list[tuple[str, Counter]]:
    """Topic and counted words (letters only, lower case, two or more) of each story with one topic."""
    found = []
    for story in re.findall(r"<REUTERS [^>]*TOPICS=\"YES\"[^>]*>(.*?)</REUTERS>", text, re.DOTALL):
        topics = re.findall(r"<D>(.*?)</D>", story.partition("<TOPICS>")[2].partition("</TOPICS>")[0])
        if len(topics) == 1:
            parts = re.findall(r"<(?:TITLE|BODY)>(.*?)</(?:TITLE|BODY)>", story, re.DOTALL)
            found.append((topics[0], Counter(re.findall(r"[a-z]{2,}", " ".join(parts).lower()))))
    return found


def _weighted(counts: np.ndarray) -> np.ndarray:
    """float32[N, words]: logarithms of 1 + `counts`, each row at `LENGTH`; an empty text stays zero."""
    logs = np.log1p(counts)
    length = np.linalg.norm(logs, axis=1, keepdims=True)
    return logs * np.divide(LENGTH, length, out=np.zeros_like(length), where=length > 0)


READERS: dict[str, Callable[[list[Path]], Rows]] = {
    "table": _table,
    "census": _census,
    "counts": _counts,
    "stories": _stories,
}
"""`layout` -> its reader."""


def _plain(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fetch it first") from None


def _only(path: Path) -> bytes:
    """The content of a plain file, or of the only file in an archive (.tgz, .zip, .tar.*)."""
    content = _plain(path)
    if path.suffix not in (".tgz", ".zip", ".gz", ".xz") or content[:1] in b"-0123456789":
        return content  # a stand-in is plain text, whatever its name
    inside = [content for name, content in members(path) if not name.rpartition("/")[2].startswith(".")]
    if len(inside) != 1:
        raise ValueError(f"{len(inside)} files in it, not one")
    return inside[0]
