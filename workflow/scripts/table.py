"""Body of rule `table`."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization import tables


def main(figure: str, scale: str, sources: list[str], cells: str, results: str, path: str) -> None:
    """Write the tidy table of one figure."""
    tables.write(tables.build(figure, scale, sources, json.loads(cells), results), path)


if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        main(
            figure=snakemake.wildcards.figure,  # noqa: F821
            scale=snakemake.params.scale,  # noqa: F821
            sources=snakemake.params.sources,  # noqa: F821
            cells=snakemake.params.cells,  # noqa: F821
            results=snakemake.params.results,  # noqa: F821
            path=snakemake.output[0],  # noqa: F821
        )
