"""Many small classifiers at once, each the row of one matrix: outputs, gradients and SGD steps by batched products.

A row is the vector that a user uploads (`federated_models.places`), so that averaging, masking and penalties are
operations on rows. Gradients are written out: for networks this small autograd would take most of the time, and the
steps of all rows can be made in place.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from memorization import federated_models
from memorization.federated_specs import NetworkSpec

LogitGradient = Callable[[Tensor], Tensor]
"""Logits [M, B, classes] -> derivative of every model's objective with respect to them."""


class FlatModels:
    """Computes with matrices [M, parameters], one model a row; holds no parameters itself."""

    def __init__(self, model: NetworkSpec, inputs: int, classes: int) -> None:
        self.spec, self.inputs, self.classes = model, inputs, classes
        self.places = list(federated_models.places(model, inputs, classes))
        self.size = self.places[-1][1].stop
        self._layers = [(self.places[n], self.places[n + 1]) for n in range(0, len(self.places), 2)]

    def logits(self, rows: Tensor, inputs: Tensor) -> Tensor:
        """[M, B, classes] of inputs [M, B, features], or [B, features] that are shown to all."""
        shared = inputs.ndim == 2
        states = inputs
        for number, (weight, bias) in enumerate(self._views(rows)):
            if shared and number == 0:
                # The same inputs for all models: one product instead of M.
                together = functional.linear(states, weight.flatten(0, 1), bias.flatten())
                states = together.unflatten(1, weight.shape[:2]).transpose(0, 1)
            else:
                states = torch.baddbmm(bias.unsqueeze(1), states, weight.transpose(1, 2))
            if number < len(self._layers) - 1:
                states = states.relu()
        return states

    def gradient(self, rows: Tensor, inputs: Tensor, by_logits: LogitGradient) -> Tensor:
        """[M, parameters]: gradient of the objective whose derivative at the logits is `by_logits`."""
        found = torch.empty_like(rows)
        states, logits = self._forward(rows, inputs)
        for number, deltas in self._backward(rows, states, by_logits(logits)):
            weight, bias = (self._view(found, place) for place in self._layers[number])
            weight.copy_(torch.bmm(deltas.transpose(1, 2), states[number]))
            bias.copy_(deltas.sum(1))
        return found

    def descend(self, rows: Tensor, inputs: Tensor, by_logits: LogitGradient, rate: float) -> None:
        """One SGD step of every model, in place, on inputs [M, B, features]."""
        states, logits = self._forward(rows, inputs)
        for number, deltas in self._backward(rows, states, by_logits(logits)):
            weight, bias = (self._view(rows, place) for place in self._layers[number])
            weight.baddbmm_(deltas.transpose(1, 2), states[number], alpha=-rate)
            bias.sub_(deltas.sum(1), alpha=rate)

    def absolute_gradients(self, rows: Tensor, inputs: Tensor, by_logits: LogitGradient) -> Tensor:
        """[M, parameters]: sum over the B inputs of the absolute value of each input's own gradient.

        A dense layer's gradient of one example is an outer product, and so is its absolute value: no example's
        gradient is ever formed.
        """
        found = torch.empty_like(rows)
        states, logits = self._forward(rows, inputs)
        for number, deltas in self._backward(rows, states, by_logits(logits)):
            weight, bias = (self._view(found, place) for place in self._layers[number])
            weight.copy_(torch.bmm(deltas.abs().transpose(1, 2), states[number].abs()))
            bias.copy_(deltas.abs().sum(1))
        return found

    def layer_norms(self, rows: Tensor) -> Tensor:
        """Euclidean norm of every array of every row, [M, arrays]."""
        return torch.stack([rows[:, place].norm(dim=1) for _, place, _ in self.places], 1)

    def scaled(self, rows: Tensor, factors: Tensor) -> Tensor:
        """Every array of every row times its factor [M, arrays]."""
        sizes = torch.tensor([place.stop - place.start for _, place, _ in self.places], device=rows.device)
        return rows * torch.repeat_interleave(factors, sizes, dim=1)

    def _view(self, rows: Tensor, place: tuple[str, slice, tuple[int, ...]]) -> Tensor:
        _, where, shape = place
        return rows[:, where].unflatten(1, shape)

    def _views(self, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(self._view(rows, weight), self._view(rows, bias)) for weight, bias in self._layers]

    def _forward(self, rows: Tensor, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        """What every layer reads, and the logits."""
        states = [inputs]
        for number, (weight, bias) in enumerate(self._views(rows)):
            found = torch.baddbmm(bias.unsqueeze(1), states[-1], weight.transpose(1, 2))
            if number == len(self._layers) - 1:
                return states, found
            states.append(found.relu_())
        raise AssertionError("a model without layers")

    def _backward(self, rows: Tensor, states: list[Tensor], deltas: Tensor):
        """Number of every layer, last first, with the derivative at what it computes; the layer below is derived before
        the caller changes this one.
        """
        for number in reversed(range(len(self._layers))):
            below = None
            if number:
                weight = self._view(rows, self._layers[number][0])
                below = torch.bmm(deltas, weight).mul_(states[number] > 0)
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
