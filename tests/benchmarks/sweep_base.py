"""Choose the base model's learning rate and batch size by validation loss alone, before any exposure is read.

    PYTHONPATH=workflow envs/torch/.venv/bin/python tests/benchmarks/sweep_base.py --data DATA --out sweep.csv

The paper gives neither. No canary is inserted here, so the choice cannot favour memorisation.
"""

import argparse
import itertools
import tempfile
from pathlib import Path

import pandas as pd

from memorization import contracts, runs
from memorization.configuration import validate
from memorization.specs import RunSpec


def sweep(data: Path, fraction: float, epochs: float, rates: list[float], batches: list[int]) -> pd.DataFrame:
    """Best validation loss (nats per character) and its epoch for every learning rate and batch size."""
    rows = []
    for rate, batch in itertools.product(rates, batches):
        spec = {
            "corpus": {"fraction": fraction, "evaluation_characters": 20_000},
            "canary": {"insertions": 0},
            "training": {"learning_rate": rate, "batch_size": batch, "epochs": epochs},
            "replicates": 1,
        }
        with tempfile.TemporaryDirectory() as folder:
            runs.train(validate(RunSpec, spec, "sweep"), "torch", data, Path(folder), "cpu")
            curves = contracts.read("curves", Path(folder))
        best = curves.loc[curves["validation_loss_nats"].idxmin()]
        rows.append({"learning_rate": rate, "batch_size": batch, "epochs": epochs, "fraction": fraction,
                     "best_epoch": best["epoch"], "validation_loss_nats": best["validation_loss_nats"]})  # fmt: skip
        print(rows[-1], flush=True)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder filled by `python -m memorization fetch`")
    parser.add_argument("--fraction", type=float, default=0.05)
    parser.add_argument("--epochs", type=float, default=6.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3])
    parser.add_argument("--batches", type=int, nargs="+", default=[20, 64])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    table = sweep(options.data, options.fraction, options.epochs, options.rates, options.batches)
    table.to_csv(options.out, index=False)
    print(table.sort_values("validation_loss_nats").to_string(index=False))
