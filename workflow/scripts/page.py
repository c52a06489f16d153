"""Body of rule `report`: the run's claims and figures as one web page."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization.report import page

if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        html = Path(snakemake.output[0])  # noqa: F821
        figures, tables = (Path(path) for path in (snakemake.params.figures, snakemake.params.tables))  # noqa: F821
        page.write(page.Places(html.parent, figures, tables), html)
