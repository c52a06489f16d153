"""Body of rule `summary`: every claim in one table, as CSV, as JSON and as a page without the figures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization.report import page, rows

if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        made, figures, tables = snakemake.output, snakemake.params.figures, snakemake.params.tables  # noqa: F821
        rows.write(rows.collect(list(snakemake.input)), made.csv, made.json, figures, tables)  # noqa: F821
        html = Path(made.html)
        page.write(page.Places(html.parent, Path(figures), Path(tables)), html, drawn=False)
