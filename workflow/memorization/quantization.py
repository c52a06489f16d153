"""Eight-bit weights (Secret Sharer, text: "quantisation to 256 values"): what is stored, and what is computed from it.

Symmetric, one scale per output row: a row w becomes the integers round(w / s) in -127..127 with s = max|w| / 127,
halves rounded to even. Vectors (biases) stay float32. The model that is attacked or scored is computed, in float32,
from the products s * integer: weights are 8-bit, activations are not.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from memorization import weights as weight_files
from memorization.contracts import atomic
from memorization.errors import UserError
from memorization.weights import Weights

LEVELS = 127
"""Largest integer; with its negatives and zero 255 of a byte's 256 values, so that zero stays zero and signs match."""

FILE = "model_int8.npz"
"""Integers under the arrays' own names, their scales under `<name>.scale`, vectors as they were; [R, ...] each."""

SCALE = ".scale"


def quantize(weights: Mapping[str, np.ndarray]) -> tuple[Weights, Weights]:
    """int8 arrays and float32 scales of one replicate's matrices, by name.

    A matrix or a convolution's kernel float[O, ...] gives int8[O, ...] and float32[O]; a row of zeros has scale 1.
    Vectors are in neither. Raises UserError for weights that are not finite.
    """
    integers, scales = {}, {}
    for name, array in weights.items():
        if array.ndim < 2:
            continue
        if not np.isfinite(array).all():
            raise UserError(f"{name}: not finite (did training diverge?): such a model cannot be made int8")
        largest = np.abs(array).max(axis=tuple(range(1, array.ndim)))
        scale = np.where(largest > 0, largest / np.float32(LEVELS), 1).astype(np.float32)
        steps = np.rint(array / _rows(scale, array)).clip(-LEVELS, LEVELS)
        integers[name], scales[name] = steps.astype(np.int8), scale
    return integers, scales


def dequantize(integers: Mapping[str, np.ndarray], scales: Mapping[str, np.ndarray]) -> Weights:
    """float32 products s * integer of what `quantize` returned."""
    return {name: array.astype(np.float32) * _rows(scales[name], array) for name, array in integers.items()}


def _rows(scale: np.ndarray, array: np.ndarray) -> np.ndarray:
    """[O] -> [O, 1, ...], to go with [O, ...]."""
    return scale.reshape(-1, *[1] * (array.ndim - 1))


def write_quantized(run: Path, to: Path) -> None:
    """Write to/model_int8.npz from run/model.npz. Raises UserError when there is no model or the disk is full."""
    stacked = weight_files.read(run)
    replicates = len(next(iter(stacked.values())))
    parts = []
    for k in range(replicates):
        own = {name: array[k] for name, array in stacked.items()}
        integers, scales = quantize(own)
        parts.append(own | integers | {name + SCALE: scale for name, scale in scales.items()})
    path = Path(to) / FILE
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **weight_files.stack(parts))


def write_dequantized(quantized: Path, to: Path) -> None:
    """Write to/model.npz, which any back end loads, from quantized/model_int8.npz."""
    with np.load(Path(quantized) / FILE) as archive:
        stored = {name: archive[name] for name in archive.files}
    replicates = []
    for k in range(len(next(iter(stored.values())))):
        own = {name: array[k] for name, array in stored.items() if not name.endswith(SCALE)}
        integers = {name: array for name, array in own.items() if name + SCALE in stored}
        replicates.append(own | dequantize(integers, {name: stored[name + SCALE][k] for name in integers}))
    weight_files.save(weight_files.stack(replicates), to)
