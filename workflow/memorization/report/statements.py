"""What is claimed of each paper, as listed in workflow/papers/<paper>/statements.csv, and which claims test it.

A row is a statement: id (H1, G7, ...; the list's, not the paper's), whose (paper: the paper says it; control: a check
of ours that says whether the others can be believed; ours: we put it, whatever the paper's numbers), statement, claims
(one or more <figure>/<claim> or <paper>/<figure>/<claim>, separated by spaces).
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from memorization.errors import UserError
from memorization.expansion import PAPERS

COLUMNS = ["id", "whose", "statement", "claims"]
WHOSE = ("paper", "control", "ours")

Key = tuple[str, str, str]
"""(paper, figure, claim): what names a claim."""


@dataclass(frozen=True)
class Statement:
    """One thing that a paper says, or that we say of it, and the claims of figures.yaml that test it."""

    id: str
    whose: str
    text: str
    claims: tuple[Key, ...]


def load(paper: str, folder: Path = PAPERS) -> list[Statement]:
    """The statements of `paper`, in order; [] where it has no such list (comparisons of ours make no claims of others).

    Raises UserError for other columns, for a whose that is not one of `WHOSE`, for a claim that is not written as it
    should be, and for an id that comes twice.
    """
    path = folder / paper / "statements.csv"
    if not path.exists():
        return []
    with path.open(newline="") as lines:
        reader = csv.DictReader(lines)
        if reader.fieldnames != COLUMNS:
            raise UserError(f"{_name(paper)}: columns {reader.fieldnames}; write {','.join(COLUMNS)}")
        found = [_statement(row, paper) for row in reader]
    if len({s.id for s in found}) < len(found):
        raise UserError(f"{_name(paper)}: an id comes twice; make them different")
    return found


def _name(paper: str) -> str:
    return f"workflow/papers/{paper}/statements.csv"


def _statement(row: dict[str, str], paper: str) -> Statement:
    if not row["statement"] or not row["claims"] or None in row or len(row["id"].split()) != 1:
        raise UserError(
            f"{_name(paper)}: {row['id']}: needs an id of one word, statement and claims; quote a text with commas"
        )
    if row["whose"] not in WHOSE:
        raise UserError(f"{_name(paper)}: {row['id']}: whose is {row['whose']!r}; write {', '.join(WHOSE)}")
    keys = []
    for word in row["claims"].split():
        parts = word.split("/")
        if len(parts) not in (2, 3):
            raise UserError(f"{_name(paper)}: {row['id']}: claim {word!r}; write <figure>/<claim>")
        keys.append(tuple([paper, *parts][-3:]))
    return Statement(row["id"], row["whose"], row["statement"], tuple(keys))


def by_claim(papers: list[str]) -> dict[Key, list[str]]:
    """Claim -> the ids of the statements of its own paper that it tests."""
    found: dict[Key, list[str]] = {}
    for paper in papers:
        for statement in load(paper):
            for key in statement.claims:
                if key[0] == paper:
                    found.setdefault(key, []).append(statement.id)
    return found
