"""Weights as NumPy arrays: names, shapes, initial values and the model.npz file that every back end reads.

Names and shapes are those of a PyTorch module with `embedding = nn.Embedding(V, E)`, `lstm = nn.LSTM(E, H, layers)` and
`output = nn.Linear(H, V)`; gate order i, f, g, o. Other architectures: architectures.py. In model.npz every array has a
leading replicate axis. With one-hot input (`model.embedding: null`) there is no embedding and the first layer is
nn.LSTM(V, H).
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from memorization.architectures import Array, layout
from memorization.contracts import atomic
from memorization.errors import UserError
from memorization.specs import ModelSpec

FILE = "model.npz"

Weights = dict[str, np.ndarray]


def shapes(model: ModelSpec, vocabulary_size: int) -> dict[str, tuple[int, ...]]:
    """Array name -> shape of one replicate, in the order in which initial values are drawn."""
    return {name: array.shape for name, array in layout(model, vocabulary_size).items()}


def layer_count(names: Mapping[str, object]) -> int:
    """Number of recurrent layers in a set of weights."""
    return sum(bool(re.fullmatch(r"(lstm|gru)\.weight_hh_l\d+", name)) for name in names)


def trained(name: str) -> bool:
    """Whether an array is trained: all but bias_hh.

    nn.LSTM adds two bias vectors, of which only the sum matters. The paper's parameter count (Table 4: about 620K for
    a 2x200 LSTM) fits one vector per gate, so bias_hh stays zero and is kept only for nn.LSTM's sake. The same goes for
    nn.GRU, whose second bias of the new gate would mean something of its own.
    """
    return not re.fullmatch(r"(lstm|gru)\.bias_hh_l\d+", name)


def parameter_count(model: ModelSpec, vocabulary_size: int) -> int:
    """Trained numbers of one model (622,550 for 2x200 units, embedding 154, 50 characters)."""
    sizes = shapes(model, vocabulary_size)
    return sum(int(np.prod(shape)) for name, shape in sizes.items() if trained(name))


def initial_weights(model: ModelSpec, vocabulary_size: int, rng: np.random.Generator) -> Weights:
    """One replicate's float32 arrays before training, with PyTorch's default distributions drawn from `rng`.

    nn.Embedding: N(0, 1). nn.LSTM and nn.Linear(H, V): uniform within 1/sqrt(H). bias_hh: zero (see `trained`).
    """

    def draw(array: Array) -> np.ndarray:
        if array.start == "constant":
            return np.full(array.shape, array.value, dtype=np.float32)
        if array.start == "normal":
            return rng.standard_normal(array.shape, dtype=np.float32)
        return rng.uniform(-array.value, array.value, array.shape).astype(np.float32)

    return {name: draw(array) for name, array in layout(model, vocabulary_size).items()}


def stack(replicates: Sequence[Weights]) -> Weights:
    """Arrays with a leading replicate axis."""
    return {name: np.stack([weights[name] for weights in replicates]) for name in replicates[0]}


def save(weights: Weights, directory: Path) -> None:
    """Write directory/model.npz atomically. Raises UserError when the disk is full."""
    with atomic(Path(directory) / FILE) as path, path.open("wb") as file:
        np.savez(file, **weights)


def load(directory: Path, model: ModelSpec, vocabulary_size: int) -> Weights:
    """The arrays of directory/model.npz, [R, ...].

    Raises UserError if they are missing, damaged or of another model.
    """
    return load_shaped(directory, shapes(model, vocabulary_size))


def load_shaped(directory: Path, wanted: Mapping[str, tuple[int, ...]]) -> Weights:
    """`load` for any model: `wanted` gives the name and the shape of each array of one replicate."""
    path, weights = Path(directory) / FILE, read(directory)
    found = {name: array.shape[1:] for name, array in weights.items()}
    if found != dict(wanted):
        names = sorted(set(found.items()) ^ set(wanted.items()))
        raise UserError(f"{path}: arrays do not fit the run's spec, e.g. {names[0][0]}: delete it and train again")
    return weights


def read(directory: Path) -> Weights:
    """All arrays of directory/model.npz, of any model. Raises UserError if they are missing or damaged."""
    path = Path(directory) / FILE
    try:
        with np.load(path) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"{path}: no trained model here: run `train` first") from None
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError) as error:
        raise UserError(f"{path}: damaged ({error}): delete it and train again") from None
