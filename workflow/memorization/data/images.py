"""Images with labels of MNIST's files, and the mini-batches that classifiers are trained on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memorization.data.pixels import read_idx
from memorization.data.registry import DatasetSpec, ImageRoles
from memorization.errors import UserError
from memorization.image_models import SIDE
from memorization.sampling import poisson_batches, shuffled_batches
from memorization.specs import ImageRunSpec
from memorization.streams import stream


@dataclass(frozen=True)
class ImageData:
    """What classifiers are trained and tested on; the same for all replicates.

    train, test           float32[N, 28, 28] in [0, 1]
    labels, test_labels   int64[N] in 0..classes-1
    """

    train: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    classes: int

    def arrays(self) -> list[np.ndarray]:
        """Everything that decides what a training sees: for telling one set of data from another."""
        return [self.train, self.labels, self.test, self.test_labels]


def build_images(spec: ImageRunSpec, directory: Path, dataset: DatasetSpec) -> ImageData:
    """The images of the files that `fetch` placed in `directory`: the leading share `spec.data.fraction` of the
    training images and at most `spec.data.test_examples` leading test images, divided by 255 as in the tutorial.

    There is no validation set: the tutorial trains on all 60,000 images for a fixed number of epochs, and a choice by
    the test images would not be honest. Raises UserError for a file that is missing, damaged or does not fit the
    others, and for a specification that such data cannot serve.
    """
    _require_no_validation(spec)
    roles = _roles(spec, dataset)
    directory = Path(directory)
    train, labels = _read_pair(directory / roles.train_images, directory / roles.train_labels)
    test, test_labels = _read_pair(directory / roles.test_images, directory / roles.test_labels)
    kept = _leading(len(train), spec)
    classes = int(labels.max()) + 1
    if int(test_labels.max()) >= classes:
        raise UserError(
            f"{directory / roles.test_labels}: has label {test_labels.max()}, but the training labels end at "
            f"{classes - 1}; both must come from the same data set"
        )
    held_out = spec.data.test_examples
    return ImageData(
        train=_scaled(train[:kept]),
        labels=labels[:kept].astype(np.int64),
        test=_scaled(test[:held_out]),
        test_labels=test_labels[:held_out].astype(np.int64),
        classes=classes,
    )


def count_examples(spec: ImageRunSpec, directory: Path, dataset: DatasetSpec) -> int:
    """Number of training images that `build_images` gives, read from the labels alone. Raises UserError alike."""
    return _leading(len(read_idx(Path(directory) / _roles(spec, dataset).train_labels, dimensions=1)), spec)


def batches(spec: ImageRunSpec, replicate: int, epoch: int, examples: int) -> Iterator[np.ndarray]:
    """The mini-batches int64[B] of one replicate in epoch 1, 2, ...; the same in every back end.

    There are `examples` // batch size of them, at least one, as in the tutorial (60,000 // 256 = 234): the incomplete
    rest is dropped, and shuffling leaves out other images in every epoch. Poisson sampling gives as many batches, of
    varying size, possibly empty.
    """
    size = spec.training.batch_size
    if spec.privacy is not None and spec.privacy.sampling == "poisson":
        rng = stream(spec.seed, replicate, f"poisson-{epoch}")
        return poisson_batches(rng, examples, size / examples, max(1, examples // size))
    order = np.arange(examples)
    if spec.training.shuffle:
        order = stream(spec.seed, replicate, f"shuffle-{epoch}").permutation(examples)
    return shuffled_batches(order, size)


def _require_no_validation(spec: ImageRunSpec) -> None:
    training = spec.training
    if training.keep != "final" or training.patience is not None:
        raise UserError(
            "image classifiers have no validation set, so nothing can be chosen by its loss: "
            "set training.keep to final and training.patience to null"
        )
    if training.dropout:
        raise UserError(f"training.dropout: {training.dropout}, but the image classifier has no dropout: set it to 0")


def _roles(spec: ImageRunSpec, dataset: DatasetSpec) -> ImageRoles:
    if not isinstance(dataset.roles, ImageRoles):
        raise UserError(f"data.dataset: {spec.dataset!r} holds text, not images; choose a data set with train_images")
    return dataset.roles


def _leading(count: int, spec: ImageRunSpec) -> int:
    """How many of `count` training images are kept. Raises UserError where they do not fill a batch."""
    kept = math.floor(count * spec.data.fraction)
    if kept < spec.training.batch_size:
        raise UserError(
            f"data.fraction {spec.data.fraction} of {count} images is {kept}, fewer than training.batch_size "
            f"{spec.training.batch_size}: raise the one or lower the other"
        )
    return kept


def _scaled(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / np.float32(255)


def _read_pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8[N, 28, 28] and uint8[N], N at least 1. Raises UserError where they do not belong together."""
    pixels, classes = read_idx(images, dimensions=3), read_idx(labels, dimensions=1)
    if pixels.shape[1:] != (SIDE, SIDE):
        raise UserError(f"{images}: images are {pixels.shape[1]}x{pixels.shape[2]} pixels, not {SIDE}x{SIDE}")
    if len(pixels) != len(classes) or not len(pixels):
        raise UserError(f"{images}: {len(pixels)} images, but {len(classes)} labels in {labels.name}; fetch again")
    return pixels, classes
