"""Classifiers of a federation: names, shapes and initial values of their arrays, and where each lies in the one vector
that users upload.

`hiddenN.weight` [units, inputs], `hiddenN.bias`, `output.weight` [classes, inputs], `output.bias`: an MLP with ReLU;
without hidden layers softmax regression, or the linear one-against-rest SVM. In model.npz every array has a leading
replicate axis.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from memorization.federated_specs import NetworkSpec

Weights = dict[str, np.ndarray]


def shapes(model: NetworkSpec, inputs: int, classes: int) -> dict[str, tuple[int, ...]]:
    """Array name -> shape of one model, in the order in which initial values are drawn and arrays are joined."""
    widths = [inputs, *(model.units if model.architecture == "mlp" else ()), classes]
    names = [*(f"hidden{n}" for n in range(1, len(widths) - 1)), "output"]
    found: dict[str, tuple[int, ...]] = {}
    for name, (into, out) in zip(names, pairwise(widths), strict=True):
        found[f"{name}.weight"], found[f"{name}.bias"] = (out, into), (out,)
    return found


def parameter_count(model: NetworkSpec, inputs: int, classes: int) -> int:
    """Numbers of one model: as many as an upload has."""
    return sum(int(np.prod(shape)) for shape in shapes(model, inputs, classes).values())


def places(model: NetworkSpec, inputs: int, classes: int) -> Iterator[tuple[str, slice, tuple[int, ...]]]:
    """Name, place in the joined vector, and shape of every array."""
    first = 0
    for name, shape in shapes(model, inputs, classes).items():
        last = first + int(np.prod(shape))
        yield name, slice(first, last), shape
        first = last


def initial_vector(model: NetworkSpec, inputs: int, classes: int, rng: np.random.Generator) -> np.ndarray:
    """One model before training, float32[parameters]: weights uniform within sqrt(6 / (fan in + fan out)) (Glorot and
    Bengio 2010), biases zero.
    """
    parts = []
    for name, _, shape in places(model, inputs, classes):
        bound = 0.0 if name.endswith("bias") else float(np.sqrt(6 / sum(shape)))
        parts.append(rng.uniform(-bound, bound, shape).astype(np.float32).ravel())
    return np.concatenate(parts)


def arrays(model: NetworkSpec, inputs: int, classes: int, vectors: np.ndarray) -> Weights:
    """What model.npz holds of joined vectors [R, parameters]."""
    return {
        name: vectors[:, place].reshape(len(vectors), *shape) for name, place, shape in places(model, inputs, classes)
    }


def joined(model: NetworkSpec, inputs: int, classes: int, weights: Weights) -> np.ndarray:
    """The inverse of `arrays`: [R, parameters]."""
    names = list(shapes(model, inputs, classes))
    return np.concatenate([weights[name].reshape(len(weights[name]), -1) for name in names], axis=1)
