"""The file that lets an interrupted training continue: written whole or not at all, and checked when read."""

import hashlib
import io
import logging
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from memorization import NUMERICS_VERSION
from memorization.contracts import atomic
from memorization.spec_base import Trainable, canonical_json

FILE = "checkpoint.pkl"

NUMPY_NAMES = {"ndarray", "dtype", "_reconstruct", "_frombuffer", "scalar"}
"""What pickled arrays and numbers are rebuilt with."""

log = logging.getLogger(__name__)


def fingerprint(spec: Trainable, data: Iterable[np.ndarray], platform: str) -> str:
    """What must agree for a checkpoint to be of use: numerics, spec, data, and `platform` (library, device)."""
    parts = hashlib.sha256(f"{NUMERICS_VERSION}:{platform}:{canonical_json(spec)}".encode())
    for array in data:
        parts.update(hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest())
    return parts.hexdigest()


class _Unpickler(pickle.Unpickler):
    """Plain values and NumPy arrays only: a checkpoint is data, whoever wrote it, and never runs code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in NUMPY_NAMES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a checkpoint")


def save(directory: Path, content: dict[str, Any]) -> None:
    """Write directory/checkpoint.pkl; the previous one stays whole until then.

    Raises UserError when the disk is full.
    """
    payload = pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)
    path = directory / FILE
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(payload).digest())
        file.write(payload)


def load(directory: Path, wanted: str) -> dict[str, Any] | None:
    """The content of directory/checkpoint.pkl, or None if there is none, or none that fits; the log says why."""
    for left_over in directory.glob(f".{FILE}.*"):
        left_over.unlink(missing_ok=True)
    path = directory / FILE
    if not path.exists():
        return None
    data = path.read_bytes()
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        log.warning("%s is damaged: training starts again", path)
        return None
    try:
        content = _Unpickler(io.BytesIO(data[32:])).load()
    except (ValueError, EOFError, pickle.UnpicklingError) as error:
        log.warning("%s cannot be read (%s): training starts again", path, str(error).split("\n", 1)[0])
        return None
    if content["fingerprint"] != wanted:
        log.warning("%s belongs to another spec, data set or device: training starts again", path)
        return None
    return content


def remove(directory: Path) -> None:
    """Delete the checkpoint of a finished run."""
    (directory / FILE).unlink(missing_ok=True)
