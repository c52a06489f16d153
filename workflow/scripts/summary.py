"""Body of rule `summary`: every claim in one table, as CSV and as a page of the report."""

import html
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization import contracts

SHOWN = [
    "claim",
    "statement",
    "paper_value",
    "ours",
    "test",
    "verdict",
    "reason",
    "figure",
    "scale",
    "data_source",
]
COLOURS = {"reproduced": "#d7efd9", "not reproduced": "#f6d5d0"}
STYLE = """body{font:14px/1.45 system-ui,sans-serif;margin:1.5em;color:#222}table{border-collapse:collapse;width:100%}
th,td{border-bottom:1px solid #ddd;padding:.45em .6em;text-align:left;vertical-align:top}th{background:#f4f4f4}"""


def read(path: str) -> pd.DataFrame:
    """A figure's claims, all as text: they are only passed on."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def page(table: pd.DataFrame) -> str:
    """A self-contained HTML page, verdicts coloured."""
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in SHOWN)
    body = []
    for row in table[SHOWN].itertuples(index=False):
        colour = COLOURS.get(row.verdict, "#fff")
        cells = "".join(f"<td>{html.escape(str(value))}</td>" for value in row)
        body.append(f'<tr style="background:{colour}">{cells}</tr>')
    counts = ", ".join(f"{n} {verdict}" for verdict, n in table["verdict"].value_counts().items())
    return (
        f"<!doctype html><meta charset=utf-8><title>Claims</title><style>{STYLE}</style>"
        f"<h1>Claims</h1><p>{html.escape(counts)}</p><table><tr>{head}</tr>{''.join(body)}</table>\n"
    )


def main(paths: list[str], csv: str, html_path: str) -> None:
    """Join the claims of all figures."""
    table = pd.concat([read(path) for path in paths if Path(path).stat().st_size > 1], ignore_index=True)
    with contracts.atomic(Path(csv)) as temporary:
        table.to_csv(temporary, index=False)
    with contracts.atomic(Path(html_path)) as temporary:
        temporary.write_text(page(table))


if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        main(list(snakemake.input), snakemake.output.csv, snakemake.output.html)  # noqa: F821
