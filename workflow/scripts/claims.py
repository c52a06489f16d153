"""Body of rule `claims`: test every claim of one figure."""

import json
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization import claims, contracts, tables, tidy
from memorization.figure_specs import ClaimSpec


def main(paper: str, figure: str, specs: str, table_path: str, reference_path: str, path: str) -> None:
    """Write one row per claim, with its verdict."""
    table = tables.read(table_path)
    reference = tidy.read_reference(reference_path, figure)
    scale = table["scale"].iloc[0]
    rows = []
    for spec in json.loads(specs):
        claim = ClaimSpec.model_validate(spec)
        rows.append({"paper": paper, **claims.evaluate(claim, table, reference, scale)})
    with contracts.atomic(Path(path)) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False)


if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        main(
            paper=snakemake.wildcards.paper,  # noqa: F821
            figure=snakemake.wildcards.figure,  # noqa: F821
            specs=snakemake.params.claims,  # noqa: F821
            table_path=snakemake.input.table,  # noqa: F821
            reference_path=snakemake.input.reference,  # noqa: F821
            path=snakemake.output[0],  # noqa: F821
        )
