"""Printed when a run ends well: where the figures, the verdicts and the report are.

usage: closing.py RESULTS FIGURES
"""

import sys
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table


def main(results: str, figures: str) -> None:
    """Verdicts per claim, then the places."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    path = Path(results) / "claims.csv"
    if path.exists():
        shown = Table("claim", "figure", "paper", "ours", "verdict", title="Claims")
        for row in pd.read_csv(path, dtype=str, keep_default_na=False).itertuples():
            shown.add_row(row.claim, row.figure, str(row.paper_value), str(row.ours), row.verdict)
        console.print(shown)
    drawn = len([path for path in Path(figures).glob("*/*.png") if not path.name.startswith("preview_")])
    places = f"{figures}/   verdicts: {path}   everything on one page: {results}/report.html"
    console.print(f"{drawn} figures and tables: {places}", soft_wrap=True)
    provenance = [p.read_text() for p in Path(results).glob("data/*/provenance.json")]
    if any('"is_standin": true' in text for text in provenance):
        console.print("Trained on STAND-IN data: no data mirror and no network. Nothing here tests a paper's claim.")


if __name__ == "__main__":
    main(*sys.argv[1:])
