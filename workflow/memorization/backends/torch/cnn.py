"""The tutorial's image classifier: its forward pass, and sums of clipped per-example gradients (Abadi et al. 2016).

Arrays have the names and shapes of image_models.py, images are [B, 28, 28].
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from memorization.image_models import PADDING

Parameters = Mapping[str, Tensor]
Sums = dict[str, Tensor]


def logits(weights: Parameters, images: Tensor) -> Tensor:
    """[B, classes] of `images`."""
    # Channels last, said by the strides: a pooling of the other layout takes several times longer on a CPU.
    states = images.unsqueeze(3).permute(0, 3, 1, 2)
    states = functional.conv2d(states, weights["conv1.weight"], weights["conv1.bias"], stride=2, padding=PADDING)
    states = functional.conv2d(_reduced(states), weights["conv2.weight"], weights["conv2.bias"], stride=2)
    hidden = functional.linear(_reduced(states).flatten(1), weights["hidden.weight"], weights["hidden.bias"])
    return functional.linear(hidden.relu(), weights["output.weight"], weights["output.bias"])


def _reduced(states: Tensor) -> Tensor:
    """The layer's ReLU and its 2x2 maximum of stride 1: they commute, and this order rectifies fewer numbers."""
    return functional.max_pool2d(states, 2, 1).relu()


def clipped_sums(weights: Parameters, images: Tensor, labels: Tensor, clip: float) -> tuple[Sums, Tensor]:
    """Per array the sum over examples of their gradients, each scaled to norm <= `clip`; and the losses [B] in nats.

    A convolution is a product with its patches, so one backward pass to what each layer puts out gives all examples'
    gradients: formed for the convolutions (9,264 numbers each), through norms of both factors for the dense layers.
    With no images sums are zero.
    """
    if not len(images):
        return {name: torch.zeros_like(w) for name, w in weights.items()}, images.new_zeros(0)
    weights = {name: w.detach() for name, w in weights.items()}
    losses, layers = _backward(weights, images, labels)
    with torch.no_grad():
        squares = sum(layer.squares() for layer in layers.values())
        factor = clip / squares.sqrt().clamp(min=clip)
        sums: Sums = {}
        for name, layer in layers.items():
            sums[f"{name}.weight"], sums[f"{name}.bias"] = layer.sums(factor)
    return {name: sums[name] for name in weights}, losses


class _Convolution:
    """Per-example gradients from `_patches` of the input and output gradients [B, O, rows, columns]."""

    def __init__(self, patches: Tensor, gradients: Tensor, size: int) -> None:
        gradients = gradients.permute(0, 2, 3, 1).flatten(1, 2)
        # Patches, and so these gradients, hold row, column, channel; weights hold channel, row, column.
        self.shape = (gradients.shape[2], size, size, -1)
        self.weight = torch.bmm(gradients.transpose(1, 2), patches).flatten(1)
        self.bias = gradients.sum(1)

    def squares(self) -> Tensor:
        return _squares(self.weight) + _squares(self.bias)

    def sums(self, factor: Tensor) -> tuple[Tensor, Tensor]:
        return (factor @ self.weight).view(self.shape).permute(0, 3, 1, 2).contiguous(), factor @ self.bias


class _Dense:
    """The same from inputs [B, I] and output gradients [B, O]: a gradient is their outer product."""

    def __init__(self, inputs: Tensor, gradients: Tensor) -> None:
        self.inputs, self.gradients = inputs, gradients

    def squares(self) -> Tensor:
        return _squares(self.gradients) * (_squares(self.inputs) + 1)

    def sums(self, factor: Tensor) -> tuple[Tensor, Tensor]:
        return (self.gradients * factor[:, None]).T @ self.inputs, factor @ self.gradients


def _squares(rows: Tensor) -> Tensor:
    """Squared norm of every row. On a CPU quicker than vecdot, which stores all the products."""
    return torch.linalg.vector_norm(rows, dim=1).square()


def _backward(weights: Parameters, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, "_Convolution | _Dense"]]:
    """The losses [B], and per layer its per-example gradients."""
    padded = functional.pad(images, (PADDING,) * 4).unsqueeze(3)
    patches1 = _patches(padded, 8)
    conv1 = torch.addmm(weights["conv1.bias"], patches1.flatten(0, 1), weights["conv1.weight"].flatten(1).T)
    conv1 = conv1.view(len(images), 14, 14, 16).permute(0, 3, 1, 2).requires_grad_()
    reduced1 = _reduced(conv1)
    conv2 = functional.conv2d(reduced1, weights["conv2.weight"], weights["conv2.bias"], stride=2)
    flat = _reduced(conv2).flatten(1)
    hidden = functional.linear(flat, weights["hidden.weight"], weights["hidden.bias"])
    rectified = hidden.relu()
    output = functional.linear(rectified, weights["output.weight"], weights["output.bias"])
    losses = functional.cross_entropy(output, labels, reduction="none")
    g1, g2, g3, g4 = torch.autograd.grad(losses.sum(), (conv1, conv2, hidden, output))
    with torch.no_grad():
        return losses.detach(), {
            "conv1": _Convolution(patches1, g1, 8),
            "conv2": _Convolution(_patches(reduced1.permute(0, 2, 3, 1), 4), g2, 4),
            "hidden": _Dense(flat, g3),
            "output": _Dense(rectified, g4),
        }


def _patches(states: Tensor, size: int) -> Tensor:
    """[B, positions, size * size * channels] of [B, rows, columns, channels]: what a filter of stride 2 reads."""
    batch, edge, _, channels = states.shape
    count = (edge - size) // 2 + 1
    image, row, column, _ = states.contiguous().stride()
    shape = (batch, count, count, size, size * channels)
    views = states.contiguous().as_strided(shape, (image, 2 * row, 2 * column, row, 1))
    return views.reshape(batch, count * count, size * size * channels)
