"""Body of rule `claims`: test every claim of one figure."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization import warm

if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        arguments = {
            "paper": snakemake.wildcards.paper,  # noqa: F821
            "figure": snakemake.wildcards.figure,  # noqa: F821
            "specs": snakemake.params.claims,  # noqa: F821
            "table_path": snakemake.input.table,  # noqa: F821
            "reference_path": snakemake.input.reference,  # noqa: F821
            "path": snakemake.output[0],  # noqa: F821
        }
        status = warm.call("memorization.drawing:claims", arguments, sys.stderr.fileno())
    sys.exit(status)
