"""Many small classifiers at once, each the row of one matrix: outputs, gradients and SGD steps by batched products.

A row is the vector that a user uploads (`federated_models.places`), so that averaging, masking and penalties are
operations on rows. Gradients are written out: for networks this small autograd would take most of the time, and the
steps of all rows can be made in place.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from memorization import federated_models
from memorization.federated_specs import NetworkSpec

LogitGradient = Callable[[Tensor], Tensor]
"""Logits [M, B, classes] -> derivative of every model's objective with respect to them."""
Layer = tuple[Tensor, Tensor]
"""Weight [M, outputs, inputs] and bias [M, 1, outputs]."""


class Joined:
    """Matrices [M, size] whose rows are the arrays of one model each, one after another."""

    def __init__(self, places: Iterable[tuple[str, slice, tuple[int, ...]]]) -> None:
        """`places`: name, part of a row and shape of every array, in order."""
        self.places = list(places)
        self.size = self.places[-1][1].stop

    def layer_norms(self, rows: Tensor) -> Tensor:
        """Euclidean norm of every array of every row, [M, arrays]."""
        return torch.stack([rows[:, place].norm(dim=1) for _, place, _ in self.places], 1)

    def scaled(self, rows: Tensor, factors: Tensor) -> Tensor:
        """Every array of every row times its factor [M, arrays]."""
        sizes = torch.tensor([place.stop - place.start for _, place, _ in self.places], device=rows.device)
        return rows * torch.repeat_interleave(factors, sizes, dim=1)


class FlatModels(Joined):
    """Computes with matrices [M, parameters], one model a row; holds no parameters itself."""

    def __init__(self, model: NetworkSpec, inputs: int, classes: int) -> None:
        self.spec, self.inputs, self.classes = model, inputs, classes
        super().__init__(federated_models.places(model, inputs, classes))

    def views(self, rows: Tensor) -> list[Layer]:
        """Every layer's weight [M, outputs, inputs] and bias [M, 1, outputs] as parts of `rows`."""
        return [
            (self._view(rows, weight), self._view(rows, bias).unsqueeze(1))
            for weight, bias in zip(self.places[::2], self.places[1::2], strict=True)
        ]

    def logits(self, rows: Tensor, inputs: Tensor) -> Tensor:
        """[M, B, classes] of inputs [M, B, features], or [B, features] that are shown to all."""
        if inputs.ndim == 3:
            return _forward(self.views(rows), inputs)[1]
        # The same inputs for all models: one product instead of M.
        (weight, bias), *others = self.views(rows)
        together = functional.linear(inputs, weight.flatten(0, 1), bias.flatten())
        states = together.unflatten(1, weight.shape[:2]).transpose(0, 1)
        return _forward(others, states.relu())[1] if others else states

    def gradient(self, rows: Tensor, inputs: Tensor, by_logits: LogitGradient) -> Tensor:
        """[M, parameters]: gradient of the objective whose derivative at the logits is `by_logits`."""
        found = torch.empty_like(rows)
        for (weight, bias), deltas, states in self._derived(rows, found, inputs, by_logits):
            torch.bmm(deltas.transpose(1, 2), states, out=weight)
            bias.copy_(deltas.sum(1, keepdim=True))
        return found

    def absolute_gradients(self, rows: Tensor, inputs: Tensor, by_logits: LogitGradient) -> Tensor:
        """[M, parameters]: sum over the B inputs of the absolute value of each input's own gradient.

        A dense layer's gradient of one example is an outer product, and so is its absolute value: no example's
        gradient is ever formed.
        """
        found = torch.empty_like(rows)
        for (weight, bias), deltas, states in self._derived(rows, found, inputs, by_logits):
            torch.bmm(deltas.abs().transpose(1, 2), states.abs(), out=weight)
            bias.copy_(deltas.abs().sum(1, keepdim=True))
        return found

    def _derived(
        self, rows: Tensor, found: Tensor, inputs: Tensor, by_logits: LogitGradient
    ) -> Iterator[tuple[Layer, Tensor, Tensor]]:
        """For every layer: where in `found` its result goes, the derivative at what it computes, and what it reads."""
        layers, wanted = self.views(rows), self.views(found)
        states, logits = _forward(layers, inputs)
        for number, deltas in _backward(layers, states, by_logits(logits)):
            yield wanted[number], deltas, states[number]

    def _view(self, rows: Tensor, place: tuple[str, slice, tuple[int, ...]]) -> Tensor:
        _, where, shape = place
        return rows[:, where].unflatten(1, shape)


def descend(layers: Sequence[Layer], inputs: Tensor, by_logits: LogitGradient, rate: float) -> None:
    """One SGD step of every model, in place, on inputs [M, B, features]; `layers`: `FlatModels.views`."""
    states, logits = _forward(layers, inputs)
    for number, deltas in _backward(layers, states, by_logits(logits)):
        weight, bias = layers[number]
        weight.baddbmm_(deltas.transpose(1, 2), states[number], alpha=-rate)
        bias.sub_(deltas.sum(1, keepdim=True), alpha=rate)


def _forward(layers: Sequence[Layer], inputs: Tensor) -> tuple[list[Tensor], Tensor]:
    """What every layer reads, and the logits."""
    states = [inputs]
    for weight, bias in layers[:-1]:
        states.append(torch.baddbmm(bias, states[-1], weight.transpose(1, 2)).relu_())
    weight, bias = layers[-1]
    return states, torch.baddbmm(bias, states[-1], weight.transpose(1, 2))


def _backward(layers: Sequence[Layer], states: Sequence[Tensor], deltas: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Number of every layer, last first, with the derivative at what it computes; the layer below is derived before the
    caller changes this one.
    """
    for number in reversed(range(len(layers))):
        below = torch.bmm(deltas, layers[number][0]).mul_(states[number] > 0) if number else None
        yield number, deltas
        deltas = below


def training_gradient(spec: NetworkSpec, labels: Tensor, weights: Tensor) -> LogitGradient:
    """Of the training loss: cross-entropy, or for `svm` the sum over classes of max(0, 1 - s z), s = +1 for the label
    and -1 for the others.

    labels   int64[M, B]
    weights  float32[M, B]: of every example in its model's loss (1 / batch size; 0 for one that only fills up)
    """

    def cross_entropy(logits: Tensor) -> Tensor:
        found = torch.softmax(logits, 2)
        found.scatter_add_(2, labels.unsqueeze(2), found.new_full((1, 1, 1), -1.0).expand(*labels.shape, 1))
        return found.mul_(weights.unsqueeze(2))

    def hinge(logits: Tensor) -> Tensor:
        signs = torch.full_like(logits, -1.0).scatter_(2, labels.unsqueeze(2), 1.0)
        return -signs * (signs * logits < 1) * weights.unsqueeze(2)

    return hinge if spec.architecture == "svm" else cross_entropy


def target_gradient(targets: Tensor) -> LogitGradient:
    """Of the mean over examples of KL(p* || softmax(logits)): (softmax - p*) / B, as of the cross-entropy with soft
    targets p* [M, B or 1, classes] (brief, section 4).
    """
    return lambda logits: (torch.softmax(logits, 2) - targets) / logits.shape[1]


def divergence(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over examples of KL(p* || softmax(logits)) in nats, [M]; targets [M, B or 1, classes]."""
    logs = torch.log_softmax(logits.double(), 2)
    wanted = targets.double()
    return (torch.special.xlogy(wanted, wanted) - wanted * logs).sum(2).mean(1)
