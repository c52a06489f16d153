"""All examples of a data set as rows of numbers with a class each: pixels of images, people, bags of words. Who gets
which of them is decided in shares.py. Pure NumPy.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memorization.data.fetch import PROVENANCE, Provenance
from memorization.data.labelled import shrunk
from memorization.data.pixels import read_training
from memorization.data.registry import DatasetSpec
from memorization.data.row_files import read_rows


@dataclass(frozen=True)
class Pool:
    """All examples of a data set, as small as they come.

    raw         uint8[N, channels, rows, columns] of images, else float32[N, d] in the network's units
    y           int64[N], 0 ... classes - 1
    classes     of the data set
    centre, unit   of images: subtracted from pixels of 0 to 255, and what they are divided by then
    side        larger images are averaged down to this edge, where one is given
    is_standin  whether the files are a stand-in's
    """

    raw: np.ndarray
    y: np.ndarray
    classes: int
    centre: float = 0.0
    unit: float = 1.0
    side: int | None = None
    is_standin: bool = False

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x float32[n, d] in the network's units and y int64[n] of the examples int64[n] `rows`."""
        x = self.raw[rows]
        if x.ndim == 4:
            x = (shrunk(x, self.side) - np.float32(self.centre)) / np.float32(self.unit)
        return x.reshape(len(rows), -1), self.y[rows]


def read_pool(directory: Path, dataset: DatasetSpec, side: int | None = None) -> Pool:
    """The examples in the files that `fetch` placed in `directory`, in their order: rows of all files, or the training
    images; `side` is for images only, and smaller ones stay as they are.

    Raises UserError for files that are missing or damaged, and for data that are neither images nor rows.
    """
    directory = Path(directory)
    provenance = directory / PROVENANCE
    is_standin = provenance.is_file() and Provenance.read(directory).is_standin
    if dataset.kind == "rows":
        x, y, classes = read_rows(directory, dataset, is_standin)
        return Pool(x, y, classes, is_standin=is_standin)
    pixels, labels = read_training(directory, dataset)
    if side is not None and side >= min(pixels.shape[2:]):
        side = None
    centre, unit = 0.0, 255.0
    if pixels.shape[1] > 1:
        # As data/labelled.py (A19): colour images get mean 0 and s.d. 1, by one mean and one s.d. of all pixels.
        centre, unit = _moments(pixels)
    return Pool(pixels, labels, int(labels.max()) + 1, centre, unit, side, is_standin)


def _moments(pixels: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of uint8 `pixels`, from how often each of the 256 values occurs."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    values = np.arange(256)
    mean = float(np.average(values, weights=counts))
    return mean, float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))
