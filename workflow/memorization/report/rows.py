"""The claims table: the verdicts of all figures as one table, with what each claim says of its paper and comes from.

Written as CSV (text as it is) and as JSON (numbers as numbers, lists as lists).
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from memorization import contracts
from memorization.configuration import ROOT, read_yaml
from memorization.expansion import known_papers, load_paper
from memorization.report import statements

NUMBERS = ("estimate", "low", "high", "statistic", "p_value")
LISTS = ("statements", "runs")
NOT_RUN = "not run yet"
"""In place of a verdict, in the README: a declared claim whose figure has not been published."""


def read(path: Path) -> pd.DataFrame:
    """A claims file, all as text: it is only passed on. Without rows and columns where a figure has no claims."""
    if Path(path).stat().st_size <= 1:
        return pd.DataFrame()
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def collect(paths: list[Path]) -> pd.DataFrame:
    """The claims of all figures' files, in order, with a column `statements`: what of the paper each one tests."""
    table = pd.concat([read(path) for path in paths], ignore_index=True)
    known = statements.by_claim(sorted(set(table["paper"])))
    keys = zip(table["paper"], table["figure"], table["claim"], strict=True)
    return table.assign(statements=[" ".join(known.get(key, ())) for key in keys])


def write(table: pd.DataFrame, csv: Path, as_json: Path, figures: str, tables: str) -> None:
    """`table` as both files, atomically. figures, tables: the folders that the JSON rows' files are in; their `runs`
    are folders of results/<scale>/runs.
    """
    found = [
        typed(row)
        | {
            "figure_file": f"{figures}/{row['paper']}/{row['figure']}.png",
            "table_file": f"{tables}/{row['paper']}/{row['figure']}.csv",
        }
        for row in table.to_dict("records")
    ]
    with contracts.atomic(Path(csv)) as temporary:
        table.to_csv(temporary, index=False)
    with contracts.atomic(Path(as_json)) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")


def typed(row: dict[str, str]) -> dict[str, Any]:
    """One row with numbers (null where there is none) and lists."""
    numbers = {name: float(row[name]) if row.get(name) else None for name in NUMBERS}
    return row | numbers | {"n": int(row["n"] or 0)} | {name: row.get(name, "").split() for name in LISTS}


def papers() -> list[str]:
    """Every paper, in the order of config/config.yaml; what is not named there last."""
    configured = read_yaml(ROOT / "config" / "config.yaml")["papers"]
    return [*configured, *(name for name in known_papers() if name not in configured)]


def declared(paper: str) -> list[tuple[str, Any]]:
    """(figure, ClaimSpec) of every claim of `paper`'s figures.yaml, in order."""
    return [(key, claim) for key, figure in load_paper(paper).figures.items() for claim in figure.claims]


def completed(claims: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """`claims` in the order of the papers `names` and their figures.yaml, with a row for every declared claim that is
    not among them; claims that are no longer declared are left out.
    """
    own = {(r["paper"], r["figure"], r["claim"]): r for r in claims.to_dict("records")}
    rows = []
    for paper in names:
        for figure, claim in declared(paper):
            absent = {
                "paper": paper,
                "figure": figure,
                "claim": claim.id,
                "statement": claim.statement,
                "test": claim.test,
                "paper_value": claim.paper,
                "verdict": NOT_RUN,
                "reason": "its figure has not been published",
            }
            rows.append(own.get((paper, figure, claim.id), absent))
    return pd.DataFrame(rows, columns=list(claims.columns)).fillna("")
