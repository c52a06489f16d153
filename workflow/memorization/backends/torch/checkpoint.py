"""The file that lets an interrupted training continue: written whole or not at all, and checked when read."""

import hashlib
import io
import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from memorization import NUMERICS_VERSION
from memorization.contracts import atomic
from memorization.data.corpora import TrainingCorpus
from memorization.specs import RunSpec, canonical_json
from memorization.weights import disk_error

FILE = "checkpoint.pt"

log = logging.getLogger(__name__)


def fingerprint(spec: RunSpec, corpora: Sequence[TrainingCorpus], device: torch.device) -> str:
    """What must agree for a checkpoint to be of use: numerics, spec, data and kind of device."""
    parts = hashlib.sha256(f"{NUMERICS_VERSION}:{torch.__version__}:{device.type}:{canonical_json(spec)}".encode())
    for corpus in corpora:
        parts.update("".join(corpus.vocabulary.symbols).encode())
        for ids in (corpus.train, corpus.validation, corpus.test):
            parts.update(hashlib.sha256(ids.tobytes()).digest())
    return parts.hexdigest()


def save(directory: Path, content: dict[str, Any]) -> None:
    """Write directory/checkpoint.pt; the previous one stays whole until then.

    Raises UserError when the disk is full.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getbuffer()
    path = directory / FILE
    try:
        with atomic(path) as temporary, temporary.open("wb") as file:
            file.write(hashlib.sha256(payload).digest())
            file.write(payload)
    except OSError as error:
        raise disk_error(error, path) from error


def load(directory: Path, wanted: str, device: torch.device) -> dict[str, Any] | None:
    """The content of directory/checkpoint.pt, or None if there is none, or none that fits; the log says why."""
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
        content = torch.load(io.BytesIO(data[32:]), map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        log.warning("%s cannot be read (%s): training starts again", path, str(error).split("\n", 1)[0])
        return None
    if content["fingerprint"] != wanted:
        log.warning("%s belongs to another spec, data set or device: training starts again", path)
        return None
    return content


def remove(directory: Path) -> None:
    """Delete the checkpoint of a finished run."""
    (directory / FILE).unlink(missing_ok=True)
