"""What `python -m memorization account` does: count a specification's records and write its privacy.csv."""

import logging
from pathlib import Path

import pandas as pd

from memorization import contracts, privacy, runs
from memorization.configuration import ROOT
from memorization.data import corpora, images
from memorization.data.registry import lookup
from memorization.specs import ImageRunSpec, Trainable

logger = logging.getLogger(__name__)


def count_examples(spec: Trainable, data: Path) -> int:
    """Number of records that the fetched data set in folder `data` gives: training images, or the training windows of
    replicate 0 (its canaries included; other replicates' may make a few more or fewer).

    Raises UserError for data that are missing or fit the specification not.
    """
    dataset = lookup(spec.dataset, ROOT / "config" / "datasets.yaml")
    if isinstance(spec, ImageRunSpec):
        return images.count_examples(spec, data, dataset)
    corpus = corpora.build_corpus(spec, data, dataset, 0)
    return len(corpora.windows(corpus.train, spec.training.sequence_length)[0])


def account_run(spec_path: Path, data: Path, directory: Path) -> None:
    """Write <directory>/privacy.csv for the private specification in `spec_path`, and say in the log what it holds.

    Raises UserError where the specification is not private, does not fit the data, or asks for an epsilon that cannot
    be reached.
    """
    spec = runs.read_spec(spec_path)
    frame = privacy.account(spec, count_examples(spec, data))
    contracts.write("privacy", frame, directory)
    logger.info(describe(frame))


def describe(frame: pd.DataFrame) -> str:
    """One line for people: the noise in rows of contract `privacy`, and every epsilon with all that it means."""
    row, known = frame.iloc[0], frame.dropna(subset="epsilon")
    values = ", ".join(
        f"{value:.4g} ({name})" for name, value in zip(known["convention"], known["epsilon"], strict=True)
    )
    assumed = "Poisson sampling" if row["sampling"] == "poisson" else "nominal (shuffled batches, accounted as Poisson)"
    return (
        f"noise {row['noise_multiplier']:.5g}: epsilon {values} at delta {row['delta']:g} for {row['unit']}, "
        f"{row['steps']} steps, {assumed}"
    )
