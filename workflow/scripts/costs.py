"""Body of rule `costs`: print what every figure would cost at every scale."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization import costs
from memorization.configuration import Config

if __name__ == "__main__":
    costs.show(Config.model_validate_json(snakemake.params.config))  # noqa: F821
