"""What classifiers that fit data or noise are trained on: images with labels, some of them noise; a clean validation
set; and which examples a replicate sees when (A Closer Look at Memorization, section 2)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memorization.classifier_specs import ClassifierRunSpec, LabelledDataSpec
from memorization.data.pixels import read_training
from memorization.data.registry import DatasetSpec
from memorization.errors import UserError
from memorization.noise import GaussianImages, corrupt
from memorization.streams import stream

SPLIT = 10
"""A training file too small for both is split as CIFAR-10's 50,000 images in a co-author's later work: one in ten
validates (brief section 5)."""


@dataclass(frozen=True)
class LabelledData:
    """The same for all replicates. Images are float32[N, channels, rows, columns] in the network's units.

    train, given, true   images with noise in them; the labels int64[N] that are trained on; the right labels int64[N]
    corrupted            bool[N]: what noise has replaced, inputs or labels (a replaced label may happen to be right)
    validation, validation_labels   clean images and their labels; none where every example is its own class
    classes              of the output layer
    scale                what one unit of the pixels' 0 to 255 is in the network's input
    gaussian             noise inputs with the real training images' mean and variance (`draw` gives some)
    """

    train: np.ndarray
    given: np.ndarray
    true: np.ndarray
    corrupted: np.ndarray
    validation: np.ndarray
    validation_labels: np.ndarray
    classes: int
    scale: float
    gaussian: GaussianImages

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns) of an image."""
        return self.train.shape[1:]

    def arrays(self) -> list[np.ndarray]:
        """Everything that decides what a training sees: for telling one set of data from another."""
        return [self.train, self.given, self.true, self.corrupted, self.validation, self.validation_labels]


def build_labelled(spec: ClassifierRunSpec, directory: Path, dataset: DatasetSpec) -> LabelledData:
    """The images of the files that `fetch` placed in `directory`, as `spec.data` wants them.

    Raises UserError for files that are missing or damaged and for a specification that they cannot serve.
    """
    wanted = spec.data
    pixels, labels = read_training(directory, dataset)
    kept, held = sizes(wanted, len(pixels))
    classes = int(labels.max()) + 1
    images, validation = shrunk(pixels[:kept], wanted.side), shrunk(pixels[len(pixels) - held :], wanted.side)
    images, validation, scale = _in_units(images, validation)
    given = true = labels[:kept]
    validation_labels = labels[len(pixels) - held :]
    if wanted.classes == "unique":
        # No image outside the training set has one of its classes.
        given = true = np.arange(kept)
        classes, validation, validation_labels = kept, validation[:0], validation_labels[:0]
    gaussian = GaussianImages.like(images, wanted.noise.statistics)
    images, given, corrupted = corrupt(wanted.noise, images, given, classes)
    stay = ~corrupted if wanted.without_noise else np.ones(kept, dtype=bool)
    data = LabelledData(
        train=images[stay],
        given=given[stay],
        true=true[stay],
        corrupted=corrupted[stay],
        validation=validation,
        validation_labels=validation_labels,
        classes=classes,
        scale=scale,
        gaussian=gaussian,
    )
    _require_enough(spec, data)
    return data


def sizes(wanted: LabelledDataSpec, examples: int) -> tuple[int, int]:
    """How many of a file's images are trained on, and how many validate."""
    held = wanted.validation_examples
    if wanted.train_examples + held > examples:
        held = min(held, examples // SPLIT)
    return min(wanted.train_examples, examples - held), held


def record(data: LabelledData) -> dict[str, Any]:
    """What run.json says of the data: sizes, scale, and a digest of everything that noise decided."""
    digest = hashlib.sha256()
    for array in (data.train, data.given, data.corrupted):
        digest.update(np.ascontiguousarray(array).tobytes())
    return {
        "images": {
            "train": len(data.train),
            "validation": len(data.validation),
            "corrupted": int(data.corrupted.sum()),
        },
        "classes": data.classes,
        "pixel_scale": data.scale,
        "training_set_sha256": digest.hexdigest(),
    }


def own_examples(spec: ClassifierRunSpec, replicate: int, examples: int) -> np.ndarray:
    """int64[n], ascending: which of `examples` training examples a replicate is trained on."""
    if spec.data.subset == 1:
        return np.arange(examples)
    count = max(1, round(spec.data.subset * examples))
    return np.sort(stream(spec.seed, replicate, "subset").permutation(examples)[:count])


def batch_count(spec: ClassifierRunSpec, examples: int) -> int:
    """Mini-batches per epoch, `examples` being the size of the training set before any subset."""
    return -(-len(own_examples(spec, 0, examples)) // spec.training.batch_size)


def batches(spec: ClassifierRunSpec, replicate: int, epoch: int, examples: int) -> list[np.ndarray]:
    """The mini-batches int64[B] of one replicate in epoch 1, 2, ...; the same in every back end.

    Every own example is in one of them. Sizes differ by at most one, so that no small rest has statistics of its own.
    """
    own = own_examples(spec, replicate, examples)
    if spec.training.shuffle:
        own = own[stream(spec.seed, replicate, f"shuffle-{epoch}").permutation(len(own))]
    return np.array_split(own, batch_count(spec, examples))


def shrunk(pixels: np.ndarray, side: int | None) -> np.ndarray:
    """float32 of uint8[N, channels, rows, columns]; with `side` the averages over that many equal parts of each edge.

    Raises UserError where images are smaller than that.
    """
    images = pixels.astype(np.float32)
    if side is None:
        return images
    if side > min(images.shape[2:]):
        shown = "x".join(map(str, images.shape[2:]))
        raise UserError(f"data.side {side}: images have {shown} pixels; give at most their edge, or null")
    down, across = (_areas(edge, side) for edge in images.shape[2:])
    return np.einsum("nchw,ih,jw->ncij", images, down, across, optimize=True).astype(np.float32)


def _areas(edge: int, side: int) -> np.ndarray:
    """float64[side, edge]: the share that each of `edge` pixels has in each of `side` equal parts; rows sum to 1."""
    borders = np.linspace(0, edge, side + 1)
    pixels = np.arange(edge)
    overlap = np.minimum(borders[1:, None], pixels + 1) - np.maximum(borders[:-1, None], pixels)
    return overlap.clip(min=0) * side / edge


def _in_units(images: np.ndarray, validation: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Both in the network's units, and what one unit of 0 to 255 is there.

    A19: grey images are divided by 255; colour images also get mean 0 and s.d. 1, by one mean and one s.d. of all the
    training images' pixels.
    """
    if images.shape[1] == 1:
        return images / np.float32(255), validation / np.float32(255), 1 / 255
    mean, deviation = np.float32(images.mean(dtype=np.float64)), np.float32(images.std(dtype=np.float64))
    return (images - mean) / deviation, (validation - mean) / deviation, float(1 / deviation)


def _require_enough(spec: ClassifierRunSpec, data: LabelledData) -> None:
    count = len(data.train)
    smallest = len(own_examples(spec, 0, count)) // batch_count(spec, count) if count else 0
    # Normalisation by a batch needs two of them.
    if smallest < (2 if spec.model.architecture == "cnn" else 1):
        raise UserError(
            f"data.train_examples: {count} training images in batches of {spec.training.batch_size} leave "
            f"batches of {smallest}, too few to train on; raise train_examples or batch_size"
        )
