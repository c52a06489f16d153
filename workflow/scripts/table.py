"""Body of rule `table`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization import warm

if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        arguments = {
            "figure": snakemake.wildcards.figure,  # noqa: F821
            "scale": snakemake.params.scale,  # noqa: F821
            "sources": list(snakemake.params.sources),  # noqa: F821
            "cells": snakemake.params.cells,  # noqa: F821
            "results": snakemake.params.results,  # noqa: F821
            "path": snakemake.output[0],  # noqa: F821
            "details": snakemake.params.details,  # noqa: F821
        }
        status = warm.call("memorization.drawing:table", arguments, sys.stderr.fileno())
    sys.exit(status)
