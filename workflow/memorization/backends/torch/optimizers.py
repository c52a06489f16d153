"""Optimisers over blocks of replicates: SGD, RMSProp and Adam with PyTorch's semantics and default constants.

Why not torch.optim: building any of its optimisers imports torch's compiler, which takes longer than many a training
here (5 s on a slow core), and every job would pay it. Equality with torch.optim is a test (tests/parity/test_lstm.py).
All arithmetic is element by element, so replicates stay apart.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memorization.specs import TrainingSpec

DECAY, BETAS, EPSILON = 0.99, (0.9, 0.999), 1e-8
"""RMSProp's decay, Adam's decays, and what is added to the root: torch.optim's defaults."""


class Optimizer:
    """State: `steps`, and per parameter tensors of its own shape under `moments`."""

    names: tuple[str, ...] = ()

    def __init__(self, parameters: Sequence[Tensor], training: TrainingSpec) -> None:
        self.parameters, self.rate, self.weight_decay = list(parameters), training.learning_rate, training.weight_decay
        self.steps = 0
        self.moments = {name: [torch.zeros_like(p) for p in self.parameters] for name in self.names}

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update from the parameters' gradients; weight decay is added to the gradient (L2)."""
        gradients = [p.grad for p in self.parameters]
        if self.weight_decay:
            gradients = torch._foreach_add(gradients, self.parameters, alpha=self.weight_decay)
        self.steps += 1
        self.update(gradients)

    def update(self, gradients: Sequence[Tensor]) -> None:
        """Plain SGD."""
        torch._foreach_add_(self.parameters, gradients, alpha=-self.rate)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"steps": self.steps, "moments": self.moments}

    def restore(self, state: dict[str, Any], rows: Tensor | None = None) -> None:
        """The inverse of `state`, optionally for some rows of the replicate axis only."""
        self.steps = state["steps"]
        for name, tensors in state["moments"].items():
            for own, given in zip(self.moments[name], tensors, strict=True):
                own.copy_(given if rows is None else given[rows])


class RMSProp(Optimizer):
    """Tieleman and Hinton 2012, epsilon outside the root."""

    names = ("square",)

    def update(self, gradients: Sequence[Tensor]) -> None:
        square = self.moments["square"]
        torch._foreach_mul_(square, DECAY)
        torch._foreach_addcmul_(square, gradients, gradients, value=1 - DECAY)
        root = torch._foreach_sqrt(square)
        torch._foreach_add_(root, EPSILON)
        torch._foreach_addcdiv_(self.parameters, gradients, root, value=-self.rate)


class Adam(Optimizer):
    """Kingma and Ba 2015, with bias correction."""

    names = ("mean", "square")

    def update(self, gradients: Sequence[Tensor]) -> None:
        mean, square = self.moments["mean"], self.moments["square"]
        torch._foreach_lerp_(mean, gradients, 1 - BETAS[0])
        torch._foreach_mul_(square, BETAS[1])
        torch._foreach_addcmul_(square, gradients, gradients, value=1 - BETAS[1])
        root = torch._foreach_sqrt(square)
        torch._foreach_div_(root, (1 - BETAS[1] ** self.steps) ** 0.5)
        torch._foreach_add_(root, EPSILON)
        torch._foreach_addcdiv_(self.parameters, mean, root, value=-self.rate / (1 - BETAS[0] ** self.steps))


def make_optimizer(parameters: Sequence[Tensor], training: TrainingSpec) -> Optimizer:
    """The specification's optimiser for `parameters`."""
    return {"rmsprop": RMSProp, "adam": Adam, "sgd": Optimizer}[training.optimizer](parameters, training)
