"""The image classifier as NumPy arrays: names, shapes and initial values, which every back end shares.

TensorFlow Privacy's MNIST tutorial network (tutorials/mnist_dpsgd_tutorial_common.py): convolution of 16 filters 8x8,
stride 2, "same"; convolution of 32 filters 4x4, stride 2, "valid"; each with ReLU and a 2x2 maximum of stride 1; a
dense layer of 32 with ReLU; one output per class.

Names and shapes are those of a PyTorch module with `conv1 = nn.Conv2d(1, 16, 8, 2, padding=3)`,
`conv2 = nn.Conv2d(16, 32, 4, 2)`, `hidden = nn.Linear(512, 32)` and `output = nn.Linear(32, classes)`, the second
convolution's result flattened in the order channel, row, column. In model.npz every array has a leading replicate axis.
"""

from pathlib import Path

import numpy as np

from memorization import weights as weight_files
from memorization.specs import ImageModelSpec
from memorization.weights import Weights

SIDE = 28
"""Pixels along an image's edge."""
PADDING = 3
"""Zeros on each side before the first convolution: what "same" means for 28 pixels, 8x8 filters and stride 2."""
FLAT = 32 * 4 * 4
"""Inputs of the dense layer: 28 -> 14 -> 13 -> 5 -> 4 pixels along an edge, 32 channels."""


def shapes(model: ImageModelSpec, classes: int = 10) -> dict[str, tuple[int, ...]]:
    """Array name -> shape of one replicate, in the order in which initial values are drawn."""
    del model  # There is one architecture so far.
    return {
        "conv1.weight": (16, 1, 8, 8),
        "conv1.bias": (16,),
        "conv2.weight": (32, 16, 4, 4),
        "conv2.bias": (32,),
        "hidden.weight": (32, FLAT),
        "hidden.bias": (32,),
        "output.weight": (classes, 32),
        "output.bias": (classes,),
    }


def parameter_count(model: ImageModelSpec, classes: int = 10) -> int:
    """Trained numbers of one model (26,010 with ten classes)."""
    return sum(int(np.prod(shape)) for shape in shapes(model, classes).values())


def initial_weights(model: ImageModelSpec, classes: int, rng: np.random.Generator) -> Weights:
    """One replicate's float32 arrays before training, drawn from `rng`: Keras's defaults, as in the tutorial.

    Weights are uniform within sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010), where a convolution's fans count
    its receptive field; biases are zero.
    """

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name.endswith("bias"):
            return np.zeros(shape, dtype=np.float32)
        bound = np.sqrt(6 / ((shape[0] + shape[1]) * np.prod(shape[2:])))
        return rng.uniform(-bound, bound, shape).astype(np.float32)

    return {name: draw(name, shape) for name, shape in shapes(model, classes).items()}


def load(directory: Path, model: ImageModelSpec, classes: int = 10) -> Weights:
    """The arrays of directory/model.npz, [R, ...]. Raises UserError if they are missing, damaged or do not fit."""
    return weight_files.load_shaped(directory, shapes(model, classes))
