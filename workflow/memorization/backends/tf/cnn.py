"""The image classifier's forward pass, gradients, and sums of clipped per-example gradients.

Arrays have the names and shapes of `memorization.image_models` (PyTorch's: filters [out, in, row, column]).
"""

from collections.abc import Mapping
from typing import NamedTuple

from memorization.backends.tf.clipping import clip_factors
from memorization.backends.tf.runtime import tf
from memorization.image_models import PADDING

Weights = Mapping[str, "tf.Tensor"]


class Step(NamedTuple):
    """One layer: what it reads, [B, P, K] (P places, K values each), and what it gives before ReLU, [B, P, C]."""

    name: str
    inputs: "tf.Tensor"
    outputs: "tf.Tensor"


def _patches(images: "tf.Tensor", size: int) -> "tf.Tensor":
    """[B, row, column, channel] -> [B, places, channel * size * size], values in the order of PyTorch's filters."""
    window, stride = [1, size, size, 1], [1, 2, 2, 1]
    found = tf.image.extract_patches(images, window, stride, [1, 1, 1, 1], "VALID")
    shape = tf.shape(found)
    split = tf.reshape(found, [shape[0], shape[1] * shape[2], size * size, images.shape[3]])
    return tf.reshape(tf.transpose(split, [0, 1, 3, 2]), [shape[0], shape[1] * shape[2], size * size * images.shape[3]])


def _pooled(outputs: "tf.Tensor", side: int) -> "tf.Tensor":
    """[B, side * side, C] -> ReLU and a 2x2 maximum of stride 1, [B, side - 1, side - 1, C]."""
    images = tf.reshape(tf.nn.relu(outputs), [-1, side, side, outputs.shape[2]])
    return tf.nn.max_pool2d(images, 2, 1, "VALID")


def _layer(weights: Weights, name: str, inputs: "tf.Tensor", tape: "tf.GradientTape | None") -> Step:
    kernel = weights[f"{name}.weight"]
    kernel = tf.reshape(kernel, [kernel.shape[0], inputs.shape[2]])
    flat = tf.matmul(tf.reshape(inputs, [-1, inputs.shape[2]]), kernel, transpose_b=True) + weights[f"{name}.bias"]
    outputs = tf.reshape(flat, [-1, inputs.shape[1], kernel.shape[0]])
    if tape is not None:
        tape.watch(outputs)
    return Step(name, inputs, outputs)


def steps(weights: Weights, images: "tf.Tensor", tape: "tf.GradientTape | None" = None) -> list[Step]:
    """The four layers on float32[B, 28, 28] images; `tape` is asked to watch each one's output."""
    padded = tf.pad(images, [[0, 0], [PADDING, PADDING], [PADDING, PADDING]])[..., None]
    made = [_layer(weights, "conv1", _known(_patches(padded, 8), 196), tape)]
    made.append(_layer(weights, "conv2", _known(_patches(_pooled(made[0].outputs, 14), 4), 25), tape))
    # PyTorch flattens in the order channel, row, column.
    flat = tf.reshape(tf.transpose(_pooled(made[1].outputs, 5), [0, 3, 1, 2]), [-1, 1, 512])
    made.append(_layer(weights, "hidden", flat, tape))
    made.append(_layer(weights, "output", tf.nn.relu(made[2].outputs), tape))
    return made


def _known(rows: "tf.Tensor", places: int) -> "tf.Tensor":
    """The same, its number of places known while the graph is built."""
    return tf.ensure_shape(rows, [None, places, rows.shape[2]])


def logits(weights: Weights, images: "tf.Tensor") -> "tf.Tensor":
    """float32[B, classes]."""
    return steps(weights, images)[-1].outputs[:, 0]


def losses(weights: Weights, images: "tf.Tensor", labels: "tf.Tensor") -> "tf.Tensor":
    """Cross-entropy of each image in nats, [B]."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits(weights, images))


def clipped_sums(
    weights: Weights, images: "tf.Tensor", labels: "tf.Tensor", clip: float
) -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
    """(sum of the losses, per array the sum of the images' gradients, each scaled to norm <= `clip` over all arrays).

    A layer's gradient for one image is the product of its outputs' gradients with its inputs, so all images' gradients
    are one batched product per layer: 26,010 numbers an image.
    """
    with tf.GradientTape() as tape:
        made = steps(weights, images, tape)
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, made[-1].outputs[:, 0])
        total = tf.reduce_sum(each)
    outputs = tape.gradient(total, [step.outputs for step in made])
    own = {}
    for step, gradient in zip(made, outputs, strict=True):
        own[f"{step.name}.weight"] = tf.matmul(gradient, step.inputs, transpose_a=True)
        own[f"{step.name}.bias"] = tf.reduce_sum(gradient, axis=1)
    flat = {name: tf.reshape(gradient, [-1, weights[name].shape.num_elements()]) for name, gradient in own.items()}
    squared = tf.add_n([tf.reduce_sum(tf.square(gradient), axis=1) for gradient in flat.values()])
    factors = clip_factors(squared, clip)
    summed = {name: tf.linalg.matvec(gradient, factors, transpose_a=True) for name, gradient in flat.items()}
    return total, {name: tf.reshape(summed[name], weights[name].shape) for name in weights}
