"""Body of rule `audit_page`: one page, and its numbers as CSV, from an audit's table."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization import audit_page

if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        audit_page.write(
            snakemake.input.table,  # noqa: F821
            snakemake.input.provenance,  # noqa: F821
            snakemake.output.html,  # noqa: F821
            snakemake.output.csv,  # noqa: F821
            snakemake.params.queries_to_try_all,  # noqa: F821
        )
