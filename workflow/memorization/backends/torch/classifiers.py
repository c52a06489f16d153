"""Classifiers of many replicates at once in PyTorch: logits in evaluation and in training, and regularisation by noise.

Arrays have the names and shapes of classifier_models.py with the replicate axis R in front. Replicates of an MLP are
batched products; a CNN's convolutions run one replicate after the other, which on a CPU is quicker than groups.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from memorization.classifier_models import (
    CROP,
    KERNEL,
    NORM_EPSILON,
    NORM_MOMENTUM,
    POOL,
    map_sides,
    padded,
    pool_stride,
)
from memorization.classifier_specs import ClassifierSpec, ClassifierTrainingSpec
from memorization.streams import stream

Parameters = Mapping[str, Tensor]
Statistics = dict[str, Tensor]


def forward(model: ClassifierSpec, weights: Parameters, images: Tensor) -> Tensor:
    """Logits [R, B, classes] in evaluation: normalisation with its stored statistics, no noise.

    images  [R, B, channels, rows, columns]; [1, B, ...] shows the same ones to every replicate
    """
    return _Pass(model, weights, None).logits(images)


def forward_training(
    model: ClassifierSpec, weights: Parameters, images: Tensor, regularisers: "Regularisers | None"
) -> tuple[Tensor, Statistics]:
    """Logits [R, B, classes] in training: noise by `regularisers`, normalisation by the batch; and what the stored
    statistics become (`normN.mean` and `normN.variance`, [R, width] each; empty for the MLP).
    """
    one_pass = _Pass(model, weights, regularisers, training=True)
    return one_pass.logits(images), one_pass.statistics


def generators(seed: int, members: Sequence[int], purpose: str, device: torch.device) -> list[torch.Generator]:
    """One generator per replicate, from the stream of its own number: no replicate's draws depend on the others."""
    made = [torch.Generator(device) for _ in members]
    for generator, member in zip(made, members, strict=True):
        generator.manual_seed(int(stream(seed, member, purpose).integers(2**63)))
    return made


def normal_like(states: Tensor, drawn_from: Sequence[torch.Generator]) -> Tensor:
    """Standard normal numbers of the shape [R, ...] of `states`, each replicate's from its own generator."""
    noise = torch.empty_like(states, memory_format=torch.contiguous_format)
    for part, generator in zip(noise, drawn_from, strict=True):
        part.normal_(generator=generator)
    return noise


class Regularisers:
    """Dropout and Gaussian noise on inputs and hidden layers (paper section 5), with a generator per replicate that is
    seeded per epoch: nothing to store for resuming.

    Dropout is inverted: what stays is divided by the share that stays. A9: hidden means after every ReLU of a dense
    layer.
    """

    def __init__(
        self, training: ClassifierTrainingSpec, seed: int, members: Sequence[int], epoch: int, device: torch.device
    ) -> None:
        self.training = training
        self._generators = generators(seed, members, f"regularisers-{epoch}", device)

    def inputs(self, images: Tensor) -> Tensor:
        """[R, B, ...] of as many."""
        return self._noisy(self._dropped(images, self.training.input_dropout), self.training.input_noise)

    def hidden(self, states: Tensor) -> Tensor:
        """[R, B, units] of as many."""
        return self._noisy(self._dropped(states, self.training.dropout), self.training.hidden_noise)

    def _dropped(self, states: Tensor, rate: float) -> Tensor:
        if rate == 0:
            return states
        mask = torch.empty_like(states)
        for part, generator in zip(mask, self._generators, strict=True):
            part.bernoulli_(1 - rate, generator=generator)
        return states * mask.div_(1 - rate)

    def _noisy(self, states: Tensor, deviation: float) -> Tensor:
        return states if deviation == 0 else states + deviation * normal_like(states, self._generators)


class _Pass:
    """One forward pass."""

    def __init__(
        self,
        model: ClassifierSpec,
        weights: Parameters,
        regularisers: Regularisers | None,
        training: bool = False,
    ) -> None:
        self.model, self.weights, self.regularisers, self.training = model, weights, regularisers, training
        self.statistics: Statistics = {}

    def logits(self, images: Tensor) -> Tensor:
        if self.regularisers is not None:
            images = self.regularisers.inputs(images)
        if self.model.architecture == "mlp":
            states = images.flatten(2)
            for number in range(1, self.model.layers + 1):
                states = self._hidden(self._dense(f"hidden{number}", states).relu())
            return self._dense("output", states)
        states = self._convolved(images).flatten(2)
        for number in (1, 2):
            states = self._normalised(f"norm{number + 2}", self._dense(f"dense{number}", states))
            states = self._hidden(states.relu())
        return self._dense("output", states)

    def _hidden(self, states: Tensor) -> Tensor:
        return states if self.regularisers is None else self.regularisers.hidden(states)

    def _dense(self, name: str, states: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        if len(states) == 1 and len(weight) > 1:
            # The same inputs for all: one product instead of R.
            together = functional.linear(states[0], weight.flatten(0, 1), bias.flatten())
            return together.unflatten(1, weight.shape[:2]).transpose(0, 1)
        return torch.baddbmm(bias.unsqueeze(1), states, weight.transpose(1, 2))

    def _convolved(self, images: Tensor) -> Tensor:
        """The two convolutional layers: [R, B, filters, rows, columns]."""
        replicates = len(self.weights["conv1.weight"])
        parts = [images[min(row, len(images) - 1)][..., CROP:-CROP, CROP:-CROP] for row in range(replicates)]
        sides = map_sides(self.model, images.shape[2:])
        for number in (1, 2):
            weight, bias = self._filters(number)
            same = KERNEL // 2 if padded(self.model)[0] else 0
            # Channels last, said by the strides: on a CPU the other layout takes twice as long.
            parts = [part.contiguous(memory_format=torch.channels_last) for part in parts]
            parts = [functional.conv2d(p, w, b, padding=same) for p, w, b in zip(parts, weight, bias, strict=True)]
            if self.training:
                parts = [self._normalised_map(f"norm{number}", row, part) for row, part in enumerate(parts)]
            parts = [self._pooled(part, sides[2 * number]).relu() for part in parts]
        self._stack_statistics()
        return torch.stack([part.contiguous() for part in parts])

    def _filters(self, number: int) -> tuple[Tensor, Tensor]:
        """Filters [R, ...] and biases of a convolution; in evaluation with its normalisation, by then a fixed scale and
        shift, multiplied in: one pass less over the largest arrays, and one less back in every step of a search.
        """
        weight, bias = self.weights[f"conv{number}.weight"], self.weights[f"conv{number}.bias"]
        if self.training:
            return weight, bias
        names = (f"norm{number}.{what}" for what in ("weight", "bias", "mean", "variance"))
        gain, shift, mean, variance = (self.weights[name] for name in names)
        scale = gain * (variance + NORM_EPSILON).rsqrt()
        return weight * scale[..., None, None, None], (bias - mean) * scale + shift

    def _pooled(self, states: Tensor, wanted: tuple[int, int]) -> Tensor:
        """The 3x3 maximum. Before the ReLU: they commute, and this order rectifies fewer numbers."""
        stride = pool_stride(self.model)
        if padded(self.model)[1]:
            missing = [(n - 1) * stride + POOL - have for n, have in zip(wanted, states.shape[2:], strict=True)]
            rows, columns = (max(0, m) for m in missing)
            edges = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
            states = functional.pad(states, edges, value=-math.inf)
        return functional.max_pool2d(states, POOL, stride)

    def _normalised_map(self, name: str, row: int, states: Tensor) -> Tensor:
        """Batch normalisation in training of one replicate's states [B, filters, rows, columns]."""
        weight, bias = self.weights[f"{name}.weight"][row], self.weights[f"{name}.bias"][row]
        stored = [self.weights[f"{name}.{what}"][row].detach().clone() for what in ("mean", "variance")]
        for what, array in zip(("mean", "variance"), stored, strict=True):
            self.statistics.setdefault(f"{name}.{what}", []).append(array)
        return functional.batch_norm(
            states, *stored, weight, bias, training=True, momentum=1 - NORM_MOMENTUM, eps=NORM_EPSILON
        )

    def _stack_statistics(self) -> None:
        self.statistics = {name: torch.stack(arrays) for name, arrays in self.statistics.items()}

    def _normalised(self, name: str, states: Tensor) -> Tensor:
        """Batch normalisation of states [R, B, units]: every replicate's by its own batch."""
        wide = states.transpose(0, 1).flatten(1)
        arrays = {what: self.weights[f"{name}.{what}"].flatten() for what in ("weight", "bias", "mean", "variance")}
        stored = [arrays[what].detach() for what in ("mean", "variance")]
        if self.training:
            stored = [array.clone() for array in stored]
            shape = states.shape[::2]
            self.statistics |= {
                f"{name}.{what}": array.view(shape) for what, array in zip(("mean", "variance"), stored, strict=True)
            }
        found = functional.batch_norm(
            wide,
            *stored,
            arrays["weight"],
            arrays["bias"],
            training=self.training,
            momentum=1 - NORM_MOMENTUM,
            eps=NORM_EPSILON,
        )
        return found.unflatten(1, states.shape[::2]).transpose(0, 1)
