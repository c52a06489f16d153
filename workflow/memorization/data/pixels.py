"""Training images as their public files hold them: MNIST's idx files, and CIFAR-10's archive of pickled batches."""

import codecs
import gzip
import io
import pickle
import re
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from memorization.contracts import atomic
from memorization.data.archives import members
from memorization.data.registry import BatchesRoles, DatasetSpec, ImageRoles
from memorization.errors import UserError

UNSIGNED_BYTE = 8
"""The idx format's code of the only type used here."""
CHANNELS, SIDE = 3, 32
"""Of an image in CIFAR-10's batches: all of red, then green, then blue, row by row."""
TRAINING_BATCH = re.compile(r"(?:^|/)data_batch_(\d+)$")
"""Members of the archive that make the training set, in the order of their numbers."""


def read_training(directory: Path, dataset: DatasetSpec) -> tuple[np.ndarray, np.ndarray]:
    """The data set's training images uint8[N, channels, rows, columns] and labels int64[N], in the files' order.

    Raises UserError for a data set without images, and for files that are missing, damaged or do not fit each other.
    """
    roles, directory = dataset.roles, Path(directory)
    if isinstance(roles, BatchesRoles):
        return _decoded(directory / roles.batches_archive)
    if not isinstance(roles, ImageRoles):
        raise UserError(f"data.dataset: {dataset.title} holds {dataset.kind}, not images")
    images, labels = directory / roles.train_images, directory / roles.train_labels
    pixels, classes = read_idx(images, dimensions=3), read_idx(labels, dimensions=1)
    if len(pixels) != len(classes) or not len(pixels):
        raise UserError(f"{images}: {len(pixels)} images, but {len(classes)} labels in {labels.name}; fetch again")
    return pixels[:, None], classes.astype(np.int64)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array in a gzip-compressed idx file: two zeros, type, number of dimensions, sizes as big-endian 32-bit
    numbers, values in C order. Raises UserError naming the file and what is wrong.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}); delete it and fetch it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); fetch it first") from None
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, UNSIGNED_BYTE, dimensions]):
        raise UserError(f"{path}: no idx file of bytes in {dimensions} dimensions (it begins {content[:4].hex(' ')})")
    sizes = np.frombuffer(content, dtype=">u4", count=dimensions, offset=4).astype(np.int64)
    if len(content) - header != np.prod(sizes):
        shown = "x".join(map(str, sizes))
        raise UserError(f"{path}: {len(content) - header} values, but its header says {shown}; fetch it again")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(sizes)


def _decoded(archive: Path) -> tuple[np.ndarray, np.ndarray]:
    """As `_read_batches`, kept beside the archive for the next job: unpacking takes longer than many a training."""
    kept = [archive.with_name(f".{archive.name}.{part}.npy") for part in ("pixels", "labels")]
    if archive.exists() and all(path.exists() and path.stat().st_mtime >= archive.stat().st_mtime for path in kept):
        pixels, labels = (np.load(path, mmap_mode="r") for path in kept)
        return pixels, np.array(labels)
    arrays = _read_batches(archive)
    with suppress(OSError):  # a folder that cannot be written to: every job unpacks
        for path, array in zip(kept, arrays, strict=True):
            with atomic(path) as temporary, temporary.open("wb") as file:
                np.save(file, array)
    return arrays


def _read_batches(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All training batches of a CIFAR-10 archive (python version), joined."""
    found = {}
    for name, content in members(path):
        if match := TRAINING_BATCH.search(name):
            found[int(match[1])] = _read_batch(content, f"{path}: {name}")
    if not found:
        raise UserError(f"{path}: holds no data_batch_1; it is not the python version of CIFAR-10: fetch it again")
    pixels, labels = zip(*(found[number] for number in sorted(found)), strict=True)
    return np.concatenate(pixels), np.concatenate(labels)


ALLOWED = {"_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}
"""What a pickled array asks NumPy for, wherever that keeps it."""


class _Unpickler(pickle.Unpickler):
    """What a batch is made of and nothing else: an archive is data, whoever packed it, and never runs code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in ALLOWED:
            return ALLOWED[name]
        if (module, name) == ("_codecs", "encode"):
            return codecs.encode
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a batch of images")


def _read_batch(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8[n, 3, 32, 32] and labels int64[n] of one pickled batch."""
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = batch[b"data"], np.asarray(batch[b"labels"], dtype=np.int64)
        if pixels.dtype != np.uint8 or len(pixels) != len(labels) or labels.min(initial=0) < 0:
            raise ValueError(f"{pixels.dtype} images {pixels.shape}, {len(labels)} labels")
        return pixels.reshape(-1, CHANNELS, SIDE, SIDE), labels
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{where}: no batch of CIFAR-10 ({error}); delete the archive and fetch it again") from None
