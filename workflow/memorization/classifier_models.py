"""Classifiers that fit data or noise, as NumPy arrays: names, shapes and initial values, which every back end shares.

A Closer Look at Memorization, section 2 and footnote 2. The MLP: hidden layers with ReLU, then one output per class.
The CNN: two pixels cropped from every side, twice [convolution 5x5, batch normalisation, ReLU, 3x3 maximum], twice
[dense, batch normalisation, ReLU], then one output per class.

Names and shapes are those of PyTorch modules: a dense `weight` is [outputs, inputs], a convolution's [filters,
channels, 5, 5], and the second convolution's result is flattened in the order channel, row, column. `normN.mean` and
`normN.variance` are what normalisation uses in evaluation. In model.npz every array has a leading replicate axis.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from memorization import weights as weight_files
from memorization.classifier_specs import ClassifierSpec
from memorization.errors import UserError
from memorization.weights import Weights

KERNEL, POOL, CROP = 5, 3, 2
"""Edges of a convolution's filter and of a maximum; pixels cropped from each side. In pixels (footnote 2)."""
NORM_EPSILON = 1e-3
"""Added to the variance: Keras's default."""
NORM_MOMENTUM = 0.9
"""Of the stored mean and variance. Deviation: Keras's default is 0.99, which after an epoch of 16 steps, as at the
reduced scale, would still be mostly the initial values; at 390 steps per epoch the two agree."""


def shapes(model: ClassifierSpec, shape: Sequence[int], classes: int) -> dict[str, tuple[int, ...]]:
    """Array name -> shape of one replicate, in the order in which initial values are drawn.

    shape: (channels, rows, columns) of an image. Raises UserError where images are too small for the CNN.
    """
    if model.architecture == "mlp":
        widths = [int(np.prod(shape)), *[model.units] * model.layers]
        dense = {f"hidden{n}": (out, into) for n, (into, out) in enumerate(pairwise(widths), 1)}
        return _with_biases(dense | {"output": (classes, widths[-1])})
    filters, channels = model.filters, shape[0]
    flat = filters * int(np.prod(map_sides(model, shape)[-1]))
    layers = {
        "conv1": (filters, channels, KERNEL, KERNEL),
        "norm1": (filters,),
        "conv2": (filters, filters, KERNEL, KERNEL),
        "norm2": (filters,),
        "dense1": (model.dense[0], flat),
        "norm3": (model.dense[0],),
        "dense2": (model.dense[1], model.dense[0]),
        "norm4": (model.dense[1],),
        "output": (classes, model.dense[1]),
    }
    return _with_biases(layers)


def _with_biases(layers: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Every layer's arrays: weight and bias, of a normalisation also the stored mean and variance."""
    arrays = {}
    for name, shape in layers.items():
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = shape, shape[:1]
        if name.startswith("norm"):
            arrays[f"{name}.mean"] = arrays[f"{name}.variance"] = shape
    return arrays


def pool_stride(model: ClassifierSpec) -> int:
    """Pixels between two maxima."""
    return 3 if model.padding.endswith("stride3") else 2


def padded(model: ClassifierSpec) -> tuple[bool, bool]:
    """Whether convolutions keep the size of what they read ("same"), and whether maxima do but for their stride."""
    return model.padding.startswith("same"), model.padding == "same_stride2"


def map_sides(model: ClassifierSpec, shape: Sequence[int]) -> list[tuple[int, int]]:
    """(rows, columns) of the CNN's states: cropped image, then after each convolution and each maximum.

    The literal reading of footnote 2 in Keras 28 > 24 > 8 > 4 > 1 (brief section 5). Raises UserError where nothing
    would be left.
    """
    same_convolution, same_pool = padded(model)
    stride = pool_stride(model)

    def sides(edge: int) -> list[int]:
        found = [edge - 2 * CROP]
        for _ in range(2):
            found.append(found[-1] if same_convolution else found[-1] - KERNEL + 1)
            found.append(-(-found[-1] // stride) if same_pool else (found[-1] - POOL) // stride + 1)
        return found

    found = list(zip(sides(shape[1]), sides(shape[2]), strict=True))
    if min(map(min, found)) < 1:
        raise UserError(
            f"model.architecture cnn with padding {model.padding}: images of {shape[1]}x{shape[2]} pixels are too "
            "small; use larger images or the mlp"
        )
    return found


def trained(name: str) -> bool:
    """Whether training follows the gradient of the array `name`; the statistics of normalisation are averages."""
    return not name.endswith((".mean", ".variance"))


def decayed(name: str) -> bool:
    """Whether weight decay applies to the array `name`: weights of dense layers and convolutions, nothing else, as
    Keras's kernel regularisers."""
    return name.endswith(".weight") and not name.startswith("norm")


def parameter_count(model: ClassifierSpec, shape: Sequence[int], classes: int) -> int:
    """Trained numbers of one model: 20,037,642 of the paper's MLP on MNIST, 1,170,386 of its CNN on CIFAR-10."""
    return sum(int(np.prod(array)) for name, array in shapes(model, shape, classes).items() if trained(name))


def multiplications(model: ClassifierSpec, shape: Sequence[int], classes: int = 10) -> int:
    """Of one image's way forward: 24.8 million in the paper's CNN on CIFAR-10, 20.0 million in its MLP on MNIST."""
    arrays = shapes(model, shape, classes)
    positions = {}
    if model.architecture == "cnn":
        _, after1, _, after2, _ = map_sides(model, shape)
        positions = {"conv1.weight": after1, "conv2.weight": after2}
    return sum(
        int(np.prod(size)) * int(np.prod(positions.get(name, (1,))))
        for name, size in arrays.items()
        if name.endswith(".weight") and not name.startswith("norm")
    )


def initial_weights(model: ClassifierSpec, shape: Sequence[int], classes: int, rng: np.random.Generator) -> Weights:
    """One replicate's float32 arrays before training, drawn from `rng`: Keras's defaults, which the paper used.

    Weights are uniform within sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010), where a convolution's fans count
    its receptive field; biases are zero; normalisation starts as the identity.
    """

    def draw(name: str, size: tuple[int, ...]) -> np.ndarray:
        if name.startswith("norm"):
            return np.full(size, name.endswith((".weight", ".variance")), dtype=np.float32)
        if name.endswith("bias"):
            return np.zeros(size, dtype=np.float32)
        bound = np.sqrt(6 / ((size[0] + size[1]) * np.prod(size[2:])))
        return rng.uniform(-bound, bound, size).astype(np.float32)

    return {name: draw(name, size) for name, size in shapes(model, shape, classes).items()}


def load(directory: Path, model: ClassifierSpec) -> Weights:
    """The arrays of directory/model.npz, [R, ...]. Raises UserError if they are missing, damaged or do not fit."""
    weights = weight_files.read(directory)
    wanted = shapes(model, shape=(3, 32, 32), classes=10)
    ranks = {name: array.ndim - 1 for name, array in weights.items()}
    if ranks != {name: len(shape) for name, shape in wanted.items()}:
        raise UserError(f"{directory}: model.npz does not fit the run's spec: delete it and train again")
    return weights
