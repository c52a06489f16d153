"""Losses of single images under every finished classifier: the counterpart of scoring.py."""

import logging
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd

from memorization import contracts
from memorization.backends.base import ImageClassifier
from memorization.data.images import ImageData
from memorization.specs import ScoreSpec

log = logging.getLogger(__name__)


def score_images(models: Sequence[ImageClassifier], data: ImageData, spec: ScoreSpec) -> pd.DataFrame:
    """Cross-entropies of leading training and test images, one row per model and image (contract `scores`).

    `data` is what the models were trained on, so all its training images are marked `trained`; `index` counts from 0 in
    the whole file.
    """
    splits = {
        "train": (data.train[: spec.train_examples], data.labels[: spec.train_examples]),
        "test": (data.test[: spec.test_examples], data.test_labels[: spec.test_examples]),
    }
    parts: list[pd.DataFrame] = []
    began = time.perf_counter()
    for replicate, model in enumerate(models):
        for split, (images, labels) in splits.items():
            if len(images):
                losses, correct = model.losses(images, labels)
                parts.append(_rows(split, labels, losses, correct).assign(replicate=replicate))
        log.info("scores: replicate %d of %d done, %.0f s", replicate + 1, len(models), time.perf_counter() - began)
    return contracts.check("scores", pd.concat(parts, ignore_index=True)) if parts else contracts.empty("scores")


def _rows(split: str, labels: np.ndarray, losses: np.ndarray, correct: np.ndarray) -> pd.DataFrame:
    """One model's rows of one split, `replicate` not yet set."""
    return pd.DataFrame(
        {
            "split": split,
            "trained": split == "train",
            "index": np.arange(len(labels)),
            "label": labels.astype(str),
            "size": 1,
            "loss_nats": losses,
            "correct": correct.astype(np.float64),
        }
    )
