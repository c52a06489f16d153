"""A text of the user's own (`snakemake audit --config corpus=my.txt`): read, checked, cut down, and put in place as a
data set like any other.

Nothing of the text itself is told to anybody: error messages give line numbers, provenance gives counts and checksums.
"""

import hashlib
import json
import re
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from memorization.canaries import CanaryFormat
from memorization.contracts import atomic
from memorization.data.corpora import leading_lines
from memorization.data.fetch import PROVENANCE, FileRecord, Provenance
from memorization.data.registry import own_dataset
from memorization.errors import UserError

LARGEST = 256 * 2**20
"""Bytes of a file that is read: far beyond what the paper scale uses, and a typing error costs no minute."""

LEAST = 20_000
"""Characters: below, a hundred planted canaries would be most of the text."""

LEAST_LINES = 20
"""Canaries are lines; they go in at line ends."""

TRAIN, HELD_OUT = 0.8, 0.5
"""Shares: of the text for training; of the rest for validation, what is left for the test."""

KINDS = 250
"""Distinct characters that a character model reads; of a text with more the rarest ones become `RARE`."""

RARE = "\N{REPLACEMENT CHARACTER}"

MOST_RARE = 0.05
"""Share of the text that may become `RARE`."""


@dataclass(frozen=True)
class OwnText:
    """What is used of a user's file, and what that file was.

    sha256, bytes  of the whole file
    characters     of the whole text, line ends as one character each
    parts          role -> text: train, validation and test, whole lines, one after the other from the beginning
    replaced       characters in `parts` that became `RARE`
    name           of the data set: the same file, used as far, has the same one
    """

    path: Path
    sha256: str
    bytes: int
    characters: int
    parts: dict[str, str]
    replaced: int
    name: str

    @property
    def used(self) -> int:
        """Characters in `parts`."""
        return sum(map(len, self.parts.values()))


def read(path: Path, most: int) -> OwnText:
    """The leading `most` characters of the UTF-8 text in `path`, cut at line ends.

    Raises UserError, in one line, for a file that is missing, not readable, no text, too large, too short, or in which
    no canary finds a place.
    """
    path = _expanded(path)
    content = _bytes(path)
    text = _decoded(content, path)
    if len(text) < LEAST:
        raise UserError(
            f"corpus: {path}: {len(text):,} characters are too short for an audit; give it at least {LEAST:,}, so that "
            "the planted canaries are not most of the text"
        )
    parts, replaced = _without_rare(_parts(text, most, path), path)
    digest = hashlib.sha256(content).hexdigest()
    name = "own_" + hashlib.sha256(f"{digest}:{most}".encode()).hexdigest()[:12]
    return OwnText(path, digest, len(content), len(text), parts, replaced, name)


def require_new(text: OwnText, canary_format: CanaryFormat) -> None:
    """Raises UserError where the used part of `text` holds a canary of this format already: it would be no secret of
    ours, and what is said of planted and left-out canaries would not hold.
    """
    lines = 0
    for part in text.parts.values():
        found = re.search(canary_format.pattern, part)
        if found:
            number = lines + part.count("\n", 0, found.start()) + 1
            raise UserError(
                f"corpus: {text.path}: line {number:,} holds the canary {canary_format.text!r} already; take another: "
                "--config canary='the pin of {x}{x}{x}{x} is {d}{d}{d}{d}', with words that the text lacks"
            )
        lines += part.count("\n")


def adopt(path: Path, most: int, directory: Path) -> Provenance:
    """Fill folder `directory`, named as the plan named the text, with the parts of the text in `path` and
    provenance.json. Raises UserError as `read`, and where the text is no longer the one that was planned for.
    """
    text = read(path, most)
    if text.name != Path(directory).name:
        raise UserError(f"corpus: {path}: the file changed while the audit was starting; run the same command again")
    files = {"corpus": FileRecord(sha256=text.sha256, bytes=text.bytes, url="own text")}
    for role, name in own_dataset().roles.model_dump().items():
        content = text.parts[role].encode()
        with atomic(Path(directory) / name) as temporary:
            temporary.write_bytes(content)
        files[name] = FileRecord(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content), url="own text")
    counts = ", ".join(f"{role} {len(part):,}" for role, part in text.parts.items())
    provenance = Provenance(
        dataset=text.name,
        source="own text",
        is_standin=False,
        files=files,
        licence=own_dataset().licence,
        citation="",
        note=f"the leading {text.used:,} of {text.characters:,} characters are used ({counts}); {text.replaced:,} of "
        f"them, of rare kinds, are read as {RARE}",
    )
    with atomic(Path(directory) / PROVENANCE) as temporary:
        temporary.write_text(json.dumps(provenance.model_dump(), indent=2) + "\n", encoding="utf-8")
    return provenance


def _expanded(path: Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user, or no home
        raise UserError(f"corpus: {path}: there is no such home folder; write the path out in full") from None


def _bytes(path: Path) -> bytes:
    """The file's content. Raises UserError where there is none to be had."""
    try:
        known = path.stat()
        if stat.S_ISDIR(known.st_mode):
            raise UserError(f"corpus: {path} is a folder; name one text file")
        if not stat.S_ISREG(known.st_mode):
            raise UserError(f"corpus: {path} is a pipe or a device; an audit reads its text twice: name a file")
        size = known.st_size
        if size > LARGEST:
            raise UserError(
                f"corpus: {path}: {size / 2**20:,.0f} MiB; an audit reads at most {LARGEST // 2**20} MiB and uses "
                "less: cut the file, for example with head -c"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"corpus: {path}: no such file; give the path of a text file: --config corpus=my.txt") from None
    except OSError as error:
        raise UserError(f"corpus: {path} cannot be read ({error.strerror}); mend its permissions") from None


def _decoded(content: bytes, path: Path) -> str:
    """UTF-8, with or without a byte order mark; every line end as one newline."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"corpus: {path}: not UTF-8 text (byte {error.start:,}); if it is a text, save it as UTF-8 (iconv -t UTF-8)"
        ) from None
    if "\0" in text:
        raise UserError(f"corpus: {path}: not a text (it holds zero bytes); give it plain text in UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _parts(text: str, most: int, path: Path) -> dict[str, str]:
    """Role -> text. Raises UserError where lines are so long that a part would have none."""
    excerpt = leading_lines(text, most)
    train = leading_lines(excerpt, int(TRAIN * len(excerpt)))
    rest = excerpt[len(train) :]
    validation = leading_lines(rest, int(HELD_OUT * len(rest)))
    parts = {"train": train, "validation": validation, "test": rest[len(validation) :]}
    lines = train.count("\n")
    if lines < LEAST_LINES or len(train) < LEAST / 2 or min(map(len, parts.values())) < LEAST / 50:
        raise UserError(
            f"corpus: {path}: its leading {most:,} characters have {excerpt.count(chr(10)):,} line ends, too few: "
            "canaries are lines of their own; break long lines, for example with fold -s -w 100"
        )
    return parts


def _without_rare(parts: dict[str, str], path: Path) -> tuple[dict[str, str], int]:
    """The parts with every character that training never or hardly ever sees as `RARE`, and how many those are.

    Raises UserError where they are too many.
    """
    trained = Counter(parts["train"])
    kept = {symbol for symbol, _ in trained.most_common(KINDS)} | {"\n"}
    counts = trained + Counter(parts["validation"]) + Counter(parts["test"])
    table = {ord(symbol): RARE for symbol in counts if symbol not in kept}
    replaced = sum(count for symbol, count in counts.items() if symbol not in kept)
    if replaced > MOST_RARE * counts.total():
        raise UserError(
            f"corpus: {path}: has {len(counts):,} kinds of characters; the audit's models read characters and know "
            f"{KINDS}, so that {100 * replaced / counts.total():.0f} % of the text would be lost; audit a model of "
            "your own instead (workflow/audit/own_models.md)"
        )
    return {role: part.translate(table) for role, part in parts.items()}, replaced
