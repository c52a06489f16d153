"""randX and randY: inputs or labels of a share of the training set replaced by noise (A Closer Look, section 2).

Noise is drawn once from `NoiseSpec.seed` alone, so it is the same in every epoch, for every replicate and whatever is
trained; a higher level replaces what a lower one does, by the same values, and more.
"""

from dataclasses import dataclass

import numpy as np

from memorization.classifier_specs import NoiseSpec
from memorization.streams import stream


@dataclass(frozen=True)
class GaussianImages:
    """Independent Gaussian pixels with the mean and the standard deviation of real ones, in the network's units.

    mean, deviation: float32, scalars or arrays of an image's shape; shape: (channels, rows, columns).
    """

    mean: np.ndarray
    deviation: np.ndarray
    shape: tuple[int, ...]

    @classmethod
    def like(cls, images: np.ndarray, statistics: str) -> "GaussianImages":
        """Of float32[N, channels, rows, columns] `images`: "scalar", one number for all pixels (A7), or "pixel"."""
        axis = None if statistics == "scalar" else 0
        mean = images.mean(axis=axis, dtype=np.float64)
        deviation = images.std(axis=axis, dtype=np.float64)
        return cls(np.float32(mean), np.float32(deviation), images.shape[1:])

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """float32[count, channels, rows, columns]; values outside a pixel's range stay as they are."""
        return self.mean + self.deviation * rng.standard_normal((count, *self.shape), dtype=np.float32)


def chosen(noise: NoiseSpec, examples: int) -> np.ndarray:
    """int64[int(level * examples)]: the examples that are replaced, in the order in which their noise is drawn."""
    if noise.kind == "none":
        return np.zeros(0, dtype=np.int64)
    order = stream(noise.seed, 0, "noise-examples").permutation(examples)
    return order[: int(noise.level * examples)]


def corrupt(
    noise: NoiseSpec, images: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images float32[N, ...], labels int64[N] with noise in them, and bool[N]: which were replaced.

    A replaced input keeps its label; a replaced label is uniform over all classes, so a share 1 / classes stays right.
    The arguments are left as they are.
    """
    rows = chosen(noise, len(images))
    replaced = np.zeros(len(images), dtype=bool)
    replaced[rows] = True
    if noise.kind == "inputs":
        gaussian = GaussianImages.like(images, noise.statistics)
        images = images.copy()
        images[rows] = gaussian.draw(len(rows), stream(noise.seed, 0, "noise-inputs"))
    elif noise.kind == "labels":
        labels = labels.copy()
        labels[rows] = stream(noise.seed, 0, "noise-labels").integers(classes, size=len(rows))
    return images, labels, replaced
