"""Looks through outputs for numbers of the shape of card or social-security numbers that no canary accounts for.

Card: 13 to 19 digits, bare or in groups of 3 to 6 with a space or dash between; social security: 3-2-4 digits. Under
mail also nine or more bare digits. A finding says where it is and what shape it has, never the number itself.
"""

import csv
import json
import re
import sys
import zlib
from base64 import b64decode
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from memorization.contracts import SCHEMAS
from memorization.redaction import FILLS, mail_datasets

GROUPS = re.compile(r"(?<![0-9])(?<![0-9]\.)[0-9]+(?:[ -][0-9]+)*(?![0-9]|\.[0-9])")
"""Groups of digits with single spaces or dashes between them; no fraction and nothing with one."""
HEXADECIMAL = re.compile(r"\b(?=[0-9a-f]*[a-f])(?:[0-9a-f]{12}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{1000,})\b")
"""Ids, checksums, and images in tables."""
EMBEDDED = re.compile(r"data:([a-z]+)/[^,\"]*base64,([A-Za-z0-9+/=]+)")
LIBRARY = re.compile(r"<script>.*?</script>", re.DOTALL)
"""A report's libraries, which have numbers of their own; what it shows is in its markup and in scripts with an id."""
BINARY = {".npz", ".png", ".gz", ".xz", ".zip", ".parquet", ".lock"}
INPUTS = {"data", "downloads", ".snakemake", ".venv"}
"""Folders of what is read, not written."""
BARE = 9
"""Digits of a social-security number without its dashes."""


def shapes(text: str, strict: bool = False) -> Iterator[tuple[str, str]]:
    """(shape, digits) of every number in `text` that could be a card or social-security number.

    strict: nine or more bare digits count, too.
    """
    for run in GROUPS.finditer(HEXADECIMAL.sub(" ", text)):
        groups = re.split("[ -]", run[0])
        lengths = [len(g) for g in groups]
        for i, first in enumerate(lengths):
            if 13 <= first <= 19 or (strict and first >= BARE):
                yield f"{first} digits", groups[i]
            if lengths[i : i + 3] == [3, 2, 4]:
                yield "3-2-4 digits", "".join(groups[i : i + 3])
            for j in range(i + 2, len(groups) + 1):
                inside = lengths[i:j]
                if 13 <= sum(inside) <= 19 and all(3 <= n <= 6 for n in inside):
                    yield "-".join(map(str, inside)) + " digits", "".join(groups[i:j])


def findings(root: Path) -> list[str]:
    """`<path>:<place>: <shape>` of every number below `root` (a folder or a file) that no canary accounts for.

    A run's folder may hold the numbers of its own canaries (run.json). Columns of fills may hold any number where the
    training data are no mail: it is then a canary's, or random, or what a model of public text without numbers says.
    """
    root = Path(root)
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    found = []
    for path in files:
        inner = path.relative_to(root if root.is_dir() else root.parent)
        if path.suffix in BINARY or INPUTS & set(inner.parts[:-1]):
            continue
        allowed, dataset = _run_of(path)
        strict = dataset in mail_datasets()
        for place, text in _texts(path, dataset):
            for shape, digits in shapes(text, strict or place.startswith("mail ")):
                if digits not in allowed:
                    found.append(f"{inner}:{place}: {shape}")
    return found


def _run_of(path: Path) -> tuple[frozenset[str], str | None]:
    """The canaries' numbers and the data set of the run whose folder `path` is in; nothing and None outside runs."""
    for folder in path.parents:
        if (folder / "run.json").is_file():
            return _canaries(folder / "run.json")
    return frozenset(), None


@cache
def _canaries(path: Path) -> tuple[frozenset[str], str | None]:
    record = json.loads(path.read_text())
    # Of a line its fill and text, of a pair its fill, source and target.
    own = (text for c in record.get("canaries", ()) for text in c.values() if isinstance(text, str))
    digits = frozenset(re.sub("[^0-9]", "", text) for text in own)
    return digits, record.get("data", {}).get("dataset")


def _texts(path: Path, dataset: str | None) -> Iterator[tuple[str, str]]:
    """(place, text) of everything in a file that could show a number. A place in mail begins with "mail "."""
    content = path.read_bytes()
    match path.suffix:
        case ".csv" | ".tsv":
            yield from _cells(content.decode("utf-8", errors="replace"), path.suffix == ".tsv", dataset)
        case ".json":
            yield from _values(json.loads(content), "")
        case ".pdf":
            yield "text", pdf_text(content)
        case _:
            yield from _lines(content.decode("utf-8", errors="replace"), path.suffix)


def _lines(text: str, suffix: str) -> Iterator[tuple[str, str]]:
    if suffix == ".html":
        text = EMBEDDED.sub(_embedded, LIBRARY.sub(lambda found: "\n" * found[0].count("\n"), text))
    for number, line in enumerate(text.splitlines(), start=1):
        yield f"{number}", line


def _embedded(found: re.Match) -> str:
    """A page within the page, as text on one line; nothing of an image."""
    return " ".join(b64decode(found[2]).decode("utf-8", errors="replace").split()) if found[1] == "text" else " "


@cache
def _numeric() -> frozenset[str]:
    """Columns that every contract which has them calls numeric: what is computed there is no text."""
    kinds: dict[str, set[str]] = {}
    for columns in yaml.safe_load(SCHEMAS.read_text()).values():
        for column, kind in columns.items():
            kinds.setdefault(column, set()).add(kind)
    return frozenset(column for column, found in kinds.items() if "str" not in found)


def _cells(text: str, tabs: bool, dataset: str | None) -> Iterator[tuple[str, str]]:
    # A cell may hold a whole text.
    csv.field_size_limit(sys.maxsize)
    for number, row in enumerate(csv.DictReader(text.splitlines(), delimiter="\t" if tabs else ","), start=2):
        of = row.get("dataset") or dataset
        mail = "mail " if of in mail_datasets() else ""
        for column, cell in row.items():
            if column in _numeric() or (column in FILLS and of is not None and not mail):
                continue
            yield f"{mail}{number}:{column}", cell if isinstance(cell, str) else " ".join(cell or ())


def _values(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Texts and whole numbers of a JSON tree."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield place, str(key)
            yield from _values(inner, f"{place}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _values(inner, f"{place}[{number}]")
    elif isinstance(value, str | int):
        yield place, str(value)


def pdf_text(content: bytes) -> str:
    """The text that a PDF by matplotlib shows, one line per piece."""
    lines = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
        try:
            stream = zlib.decompress(stream)
        except zlib.error:
            continue
        for piece in re.findall(rb"\bBT\b(.*?)\bET\b", stream, re.DOTALL):
            strings = re.findall(rb"\(((?:[^()\\]|\\.)*)\)", piece, re.DOTALL)
            # Two bytes a character, the first of which is zero in Latin text.
            lines.append(b"".join(strings).replace(b"\0", b"").decode("latin-1"))
    return "\n".join(lines)
