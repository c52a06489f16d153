"""Body of rule `figure`: draw one figure from its table, stamp its footer, save PDF and PNG."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization import warm

if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        arguments = {
            "paper": snakemake.wildcards.paper,  # noqa: F821
            "figure": snakemake.wildcards.figure,  # noqa: F821
            "table_path": snakemake.input.table,  # noqa: F821
            "reference_path": snakemake.input.reference,  # noqa: F821
            "pdf": snakemake.output.pdf,  # noqa: F821
            "png": snakemake.output.png,  # noqa: F821
        }
        status = warm.call("memorization.drawing:draw", arguments, sys.stderr.fileno())
    sys.exit(status)
