"""Forsaken's dummy gradients (Learn to Forget, v1; our reading of it is in the brief, section 4): what user 0 sends
instead of its ordinary update, so that the global model answers for D_e as for data that it has never seen.

Everything here runs at the user; nothing of the server's changes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from memorization.backends.torch.flat_models import FlatModels, divergence, target_gradient, training_gradient
from memorization.federated_specs import RequestSpec

CHUNK_NUMBERS = 2**26
"""Distances between examples held at a time while matching."""


@dataclass(frozen=True)
class Part:
    """As many examples of every replicate: inputs float32[R, n, features] and labels int64[R, n]."""

    inputs: Tensor
    labels: Tensor

    @property
    def count(self) -> int:
        """n."""
        return self.inputs.shape[1]


def targets(kind: str, models: FlatModels, base: Tensor, third_party: Part, forget: Part) -> Tensor:
    """p*, what a perfectly forgotten example would be answered: [R, 1 or n, classes]; every row sums to 1.

    mean: of the base models' [R, P] posteriors on the third party; class_mean: of those with the example's label (of
    all, where there are none); matched: that of the third party's example with the same label that is nearest in the
    inputs (of any label, where there are none); uniform: over the classes.
    """
    if kind == "uniform":
        return torch.full((len(base), 1, models.classes), 1 / models.classes, device=base.device)
    posteriors = torch.softmax(models.logits(base, third_party.inputs), 2)
    if kind == "mean":
        return posteriors.mean(1, keepdim=True)
    same = (forget.labels.unsqueeze(2) == third_party.labels.unsqueeze(1)).float()
    same[same.sum(2) == 0] = 1.0
    if kind == "class_mean":
        return torch.bmm(same / same.sum(2, keepdim=True), posteriors)
    each = zip(forget.inputs, third_party.inputs, same, posteriors, strict=True)
    return torch.stack([_nearest(*four) for four in each])


def _nearest(inputs: Tensor, others: Tensor, allowed: Tensor, answers: Tensor) -> Tensor:
    """[n, classes]: `answers` [m, classes] of the allowed ([n, m]: 1) row of `others` that is nearest to each input."""
    size = max(1, CHUNK_NUMBERS // len(others))
    found = []
    for first in range(0, len(inputs), size):
        part = slice(first, first + size)
        distances = torch.cdist(inputs[part], others).masked_fill(allowed[part] == 0, torch.inf)
        found.append(answers[distances.argmin(1)])
    return torch.cat(found)


def importance(kind: str, models: FlatModels, base: Tensor, retained: Part) -> Tensor:
    """omega, float32[R, P]: how much a dummy gradient is charged for every parameter; none: 0, uniform: 1.

    gradient: mean over the retained examples of the absolute value of each one's gradient of the training loss, over
    its largest parameter's (all 0 where no example has any).
    """
    if kind != "gradient":
        return torch.full_like(base, 1.0 if kind == "uniform" else 0.0)
    each = torch.ones_like(retained.labels, dtype=base.dtype)
    found = models.absolute_gradients(base, retained.inputs, training_gradient(models.spec, retained.labels, each))
    largest = found.amax(1, keepdim=True)
    return torch.where(largest > 0, found / largest, torch.zeros_like(found))


def shrunk(values: Tensor, by: Tensor) -> Tensor:
    """Soft threshold: sign(v) max(|v| - by, 0), the proximal step of the penalty sum_i omega_i |delta_i|."""
    return values.sign() * (values.abs() - by).clamp_(min=0)


class Generator:
    """The dummy gradient generator of all replicates' users 0, warm-started from round to round."""

    def __init__(self, request: RequestSpec, models: FlatModels, forget: Part, wanted: Tensor, omega: Tensor) -> None:
        """`wanted`: p* [R, 1 or n, classes]; `omega`: importance [R, P]."""
        self.request, self.models, self.forget, self.wanted = request, models, forget, wanted
        self._threshold = request.step * request.penalty * omega
        self._delta = torch.zeros_like(omega)

    def emit(self, models: Tensor) -> Tensor:
        """The dummy gradient float32[R, P] on receiving the global models [R, P].

        G0: one proximal gradient step of KL(p* || f) from the model itself. G1: `inner_steps` of them on a free delta,
        minimising KL(p* || f(theta - delta)) + penalty from the last round's delta on.
        """
        if self.request.generator == "G0":
            return shrunk(self.request.step * self._gradient(models), self._threshold)
        for _ in range(self.request.inner_steps):
            # Minus the gradient with respect to delta is the one with respect to the parameters.
            ahead = self._gradient(models - self._delta)
            self._delta = shrunk(self._delta + self.request.step * ahead, self._threshold)
        return self._delta.clone()

    def distance(self, models: Tensor) -> Tensor:
        """Mean KL(p* || f) over D_e in nats, float64[R]."""
        return divergence(self.models.logits(models, self.forget.inputs), self.wanted)

    def _gradient(self, models: Tensor) -> Tensor:
        return self.models.gradient(models, self.forget.inputs, target_gradient(self.wanted))
