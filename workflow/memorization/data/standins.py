"""Embedded replacements for data that cannot be had: never mixed with real data, always labelled as such."""

import gzip
import io
import pickle
import platform
import re
import tarfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from memorization.data import standin_pairs
from memorization.data.registry import ImageRoles, Roles

LONGEST_LINE = 500
"""Characters; the Penn Treebank's longest line has 520."""


def text_lines() -> list[str]:
    """Distinct sentences of the standard library's language reference (pydoc_data.topics), in a fixed order.

    They look like the Penn Treebank as far as honest: lower case, only its characters (letters, digits and
    ``#$&'*-./<>\\``), a space at both ends of a line, no blank lines. Unlike there, numbers stay numbers, so
    that digits are in the vocabulary, and words are not tokenised.
    """
    from pydoc_data.topics import topics

    # Topics quote each other at length; a sentence that is in two splits would leak: only the first is kept.
    distinct: dict[str, None] = {}
    for key in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[key].lower()):
            for sentence in re.split(r"(?<=[.!?:;])\s+", paragraph.replace("’", "'")):
                # Three or more equal marks in a row are rulers under headings.
                words = re.sub(r"[^a-z0-9#$&'*\-./<>\\]|([*\-./<>])\1{2,}", " ", sentence)
                words = " ".join(words.split()).strip(" .")
                # A scrap of a table or of a grammar is no sentence.
                if len(re.findall(r"[a-z]+", words)) > 1:
                    distinct.update(dict.fromkeys(textwrap.wrap(words, LONGEST_LINE - 2)))
    return [f" {line} " for line in distinct]


def text() -> dict[str, str]:
    """Role -> text: of every 20 lines the 19th is validation, the 20th test, the rest train (90/5/5)."""
    parts: dict[str, list[str]] = {role: [] for role in Roles.model_fields}
    for number, line in enumerate(text_lines()):
        parts[{18: "validation", 19: "test"}.get(number % 20, "train")].append(line)
    return {role: "".join(f"{line}\n" for line in lines) for role, lines in parts.items()}


OWNERS = 8
"""Invented owners of the stand-in's mailboxes; the n-th sends n + 8 of every hundred mails."""
MAIL_LINES = 3
"""Lines of one mail."""


def mail() -> dict[str, bytes]:
    """Role of `MailRoles` -> tar archive in the CMU release's layout: `text_lines` as mail of invented owners."""
    lines = [line.strip() for line in text_lines()]
    owners = [f"owner-{n}" for n in range(1, OWNERS + 1) for _ in range(n + 8)]
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as box:
        for number, start in enumerate(range(0, len(lines), MAIL_LINES)):
            owner = owners[number % len(owners)]
            head = f"From: {owner}@invalid\nTo: owner-0@invalid\nSubject: {number}\n\n"
            content = "\n".join([f"{head}mail {number}", *lines[start : start + MAIL_LINES], ""]).encode()
            info = tarfile.TarInfo(f"maildir/{owner}/sent/{number}.")
            info.size = len(content)
            box.addfile(info, io.BytesIO(content))
    return {"mail_archive": gzip.compress(written.getvalue(), mtime=0)}


def digits() -> dict[str, bytes]:
    """Role of `ImageRoles` -> gzip-compressed idx file: scikit-learn's 1,797 handwritten digits, 8x8 pixels, 17 shades.

    Each pixel becomes 3x3, with a margin of 2 as MNIST's digits have one: 28x28. Every seventh image is a test image.
    """
    from sklearn.datasets import load_digits

    bundled = load_digits()
    shades = np.rint(bundled.images * (255 / 16)).astype(np.uint8)
    pixels = np.pad(shades.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))
    labels = bundled.target.astype(np.uint8)
    tested = np.arange(len(labels)) % 7 == 6
    arrays = (pixels[~tested], labels[~tested], pixels[tested], labels[tested])
    return {role: _idx(array) for role, array in zip(ImageRoles.model_fields, arrays, strict=True)}


COLOUR_BATCHES = 5
"""Training batches of the coloured digits, as CIFAR-10 has."""


def colour_digits() -> dict[str, bytes]:
    """Role of `BatchesRoles` -> CIFAR-10's python archive of scikit-learn's digits: 3x3 per pixel and a margin of 4,
    32x32; digit and ground each in a colour of the image's own.
    """
    from sklearn.datasets import load_digits

    bundled = load_digits()
    shades = np.pad((bundled.images / 16).repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (4, 4), (4, 4)))[:, None]
    ink, ground = np.random.default_rng(0).uniform([[[96.0]], [[0.0]]], [[[255.0]], [[159.0]]], (2, len(shades), 3))
    pixels = shades * ink[..., None, None] + (1 - shades) * ground[..., None, None]
    flat = np.rint(pixels).astype(np.uint8).reshape(len(pixels), -1)
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as box:
        for number in range(COLOUR_BATCHES):
            rows = slice(number, None, COLOUR_BATCHES)
            batch = {b"data": flat[rows], b"labels": bundled.target[rows].tolist()}
            content = pickle.dumps(batch, protocol=2)
            info = tarfile.TarInfo(f"cifar-10-batches-py/data_batch_{number + 1}")
            info.size = len(content)
            box.addfile(info, io.BytesIO(content))
    return {"batches_archive": gzip.compress(written.getvalue(), mtime=0)}


def table() -> dict[str, bytes]:
    """Role of `RowRoles` -> scikit-learn's 569 breast tumours: the class, then 30 standardised numbers."""
    from sklearn.datasets import load_breast_cancer

    bundled = load_breast_cancer()
    numbers = (bundled.data - bundled.data.mean(axis=0)) / bundled.data.std(axis=0)
    lines = [",".join([str(y), *(f"{v:.5f}" for v in x)]) for x, y in zip(numbers, bundled.target, strict=True)]
    return {"rows": "".join(f"{line}\n" for line in lines).encode()}


def _idx(array: np.ndarray) -> bytes:
    """uint8 `array` in MNIST's file format (data/images.py), the same bytes every time."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    return gzip.compress(header + array.tobytes(), mtime=0)


def pairs() -> dict[str, bytes]:
    """Role of `PairRoles` -> sentences, one a line (standin_pairs.py)."""
    return {role: "".join(f"{line}\n" for line in lines).encode() for role, lines in standin_pairs.pairs().items()}


def packed(content: bytes, name: str) -> bytes:
    """`content` as a file called `name` holds it: gzip-compressed where the name says so, if it is not yet."""
    return gzip.compress(content, mtime=0) if name.endswith(".gz") and content[:2] != b"\x1f\x8b" else content


@dataclass(frozen=True)
class StandIn:
    """`make` gives the content of each role's file; `origin` says where it comes from."""

    make: Callable[[], dict[str, bytes]]
    origin: Callable[[], str]
    licence: str
    citation: str


STANDINS = {
    "text": StandIn(
        make=lambda: {role: content.encode() for role, content in text().items()},
        # It differs between Python versions.
        origin=lambda: f"English text from pydoc_data.topics of Python {platform.python_version()}",
        licence="Python Software Foundation License 2.0 (Python documentation)",
        citation="Python Software Foundation: The Python Language Reference",
    ),
    "mail": StandIn(
        make=mail,
        origin=lambda: f"mail of {OWNERS} invented owners from pydoc_data.topics of Python {platform.python_version()}",
        licence="Python Software Foundation License 2.0 (Python documentation)",
        citation="Python Software Foundation: The Python Language Reference",
    ),
    "digits": StandIn(
        make=digits,
        origin=lambda: f"8x8 digits bundled with scikit-learn {metadata.version('scikit-learn')}, enlarged to 28x28",
        licence="Creative Commons Attribution 4.0 (UCI Machine Learning Repository)",
        citation="Alpaydin, Kaynak: Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998",
    ),
    "colour_digits": StandIn(
        make=colour_digits,
        origin=lambda: f"8x8 digits bundled with scikit-learn {metadata.version('scikit-learn')}, coloured, 32x32",
        licence="Creative Commons Attribution 4.0 (UCI Machine Learning Repository)",
        citation="Alpaydin, Kaynak: Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998",
    ),
    "pairs": StandIn(
        make=pairs,
        origin=lambda: "made-up sentences of a small grammar and their word-by-word rendering in invented words",
        licence="generated by this repository, without any text of others",
        citation="none: generated",
    ),
    "table": StandIn(
        make=table,
        origin=lambda: f"breast tumours bundled with scikit-learn {metadata.version('scikit-learn')}, 30 numbers each",
        licence="Creative Commons Attribution 4.0 (UCI Machine Learning Repository)",
        citation="Wolberg, Mangasarian, Street, Street: Breast Cancer Wisconsin (Diagnostic). UCI Machine Learning "
        "Repository, 1995",
    ),
}
"""Registry key `standin` -> its maker."""
