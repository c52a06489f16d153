"""Body of rule `summary`: every claim in one table, as CSV, as JSON and as a page without the figures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization.report import page, rows

if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        rows.write(rows.collect(list(snakemake.input)), snakemake.output.csv, snakemake.output.json)  # noqa: F821
        html = Path(snakemake.output.html)  # noqa: F821
        page.write(page.Places.of(html.parent, Path(snakemake.params.figures)), html, drawn=False)  # noqa: F821
