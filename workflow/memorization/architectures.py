"""The arrays of every architecture: names, shapes and the distributions of their initial values.

Names and shapes are those of the PyTorch modules that a model of its kind is made of, initial values have PyTorch's
default distributions. Back ends compute; what a model consists of is said here once, without any of them.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from memorization.specs import ModelSpec

FEED_FORWARD = 4
"""A transformer's inner layer is this many times as wide as its states (Vaswani et al. 2017)."""


class Array(NamedTuple):
    """One array of one replicate: its shape, and N(0, value^2), uniform within +-value, or the constant `value`."""

    shape: tuple[int, ...]
    start: Literal["normal", "uniform", "constant"]
    value: float


Layout = dict[str, Array]


def layout(model: ModelSpec, vocabulary_size: int) -> Layout:
    """Array name -> array, in the order in which initial values are drawn."""
    inside, width = LAYOUTS[model.architecture](model, vocabulary_size)
    first: Layout = {}
    if model.embedding is not None:
        first["embedding.weight"] = Array((vocabulary_size, model.embedding), "normal", 1.0)
    return first | inside | _linear("output", vocabulary_size, width)


def _linear(name: str, outputs: int, inputs: int, *kernel: int) -> Layout:
    """nn.Linear, or with a kernel nn.Conv1d: uniform within 1/sqrt(what one output reads)."""
    bound = (inputs * (kernel[0] if kernel else 1)) ** -0.5
    return {
        f"{name}.weight": Array((outputs, inputs, *kernel), "uniform", bound),
        f"{name}.bias": Array((outputs,), "uniform", bound),
    }


def _recurrent(model: ModelSpec, vocabulary_size: int) -> tuple[Layout, int]:
    """nn.LSTM (gates i, f, g, o) and nn.GRU (r, z, n). bias_hh stays zero: see weights.trained."""
    name, units = model.architecture, model.units
    gates, bound = {"lstm": 4, "gru": 3}[name] * units, units**-0.5
    arrays: Layout = {}
    for layer in range(model.layers):
        width = units if layer else model.embedding or vocabulary_size
        arrays[f"{name}.weight_ih_l{layer}"] = Array((gates, width), "uniform", bound)
        arrays[f"{name}.weight_hh_l{layer}"] = Array((gates, units), "uniform", bound)
        arrays[f"{name}.bias_ih_l{layer}"] = Array((gates,), "uniform", bound)
        arrays[f"{name}.bias_hh_l{layer}"] = Array((gates,), "constant", 0.0)
    return arrays, units


def _cnn(model: ModelSpec, vocabulary_size: int) -> tuple[Layout, int]:
    """nn.ModuleList of nn.Conv1d; each reads `kernel` places: its own and those before it."""
    arrays: Layout = {}
    for layer in range(model.layers):
        width = model.units if layer else model.embedding or vocabulary_size
        arrays |= _linear(f"convolutions.{layer}", model.units, width, model.kernel)
    return arrays, model.units


def _wavenet(model: ModelSpec, vocabulary_size: int) -> tuple[Layout, int]:
    """WaveNet (van den Oord et al. 2016): dilated gated convolutions with residual and skip connections.

    The rows of `dilated` are the filter's, then the gate's. Nothing would read the last layer's residual.
    """
    units = model.units
    arrays = _linear("input", units, model.embedding or vocabulary_size)
    for layer in range(model.layers):
        arrays |= _linear(f"layers.{layer}.dilated", 2 * units, units, model.kernel)
        arrays |= _linear(f"layers.{layer}.skip", units, units)
        if layer < model.layers - 1:
            arrays |= _linear(f"layers.{layer}.residual", units, units)
    return arrays | _linear("post", units, units), units


def _transformer(model: ModelSpec, vocabulary_size: int) -> tuple[Layout, int]:
    """nn.TransformerEncoder of layers with norm_first, and its final norm, after a projection of the input."""
    units, inner = model.units, FEED_FORWARD * model.units
    arrays = _linear("input", units, model.embedding or vocabulary_size)
    for layer in range(model.layers):
        name = f"encoder.layers.{layer}"
        # Glorot and Bengio's bound of a [3d, d] matrix, as nn.MultiheadAttention takes it.
        arrays[f"{name}.self_attn.in_proj_weight"] = Array((3 * units, units), "uniform", (6 / (4 * units)) ** 0.5)
        arrays[f"{name}.self_attn.in_proj_bias"] = Array((3 * units,), "constant", 0.0)
        arrays |= _linear(f"{name}.self_attn.out_proj", units, units)
        arrays[f"{name}.self_attn.out_proj.bias"] = Array((units,), "constant", 0.0)
        arrays |= _linear(f"{name}.linear1", inner, units) | _linear(f"{name}.linear2", units, inner)
        arrays |= _norm(f"{name}.norm1", units) | _norm(f"{name}.norm2", units)
    return arrays | _norm("encoder.norm", units), units


def _norm(name: str, units: int) -> Layout:
    """nn.LayerNorm."""
    return {f"{name}.weight": Array((units,), "constant", 1.0), f"{name}.bias": Array((units,), "constant", 0.0)}


LAYOUTS: dict[str, Callable[[ModelSpec, int], tuple[Layout, int]]] = {
    "lstm": _recurrent,
    "gru": _recurrent,
    "cnn": _cnn,
    "wavenet": _wavenet,
    "transformer": _transformer,
}
"""Architecture -> (its arrays between embedding and output layer, width of what the output layer reads)."""


def dilation(layer: int) -> int:
    """Distance between the inputs of WaveNet's layer 0, 1, ...: it doubles from layer to layer."""
    return 2**layer
