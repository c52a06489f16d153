"""Optimisers over blocks of replicates, with PyTorch's semantics and default constants.

Why not torch.optim: building any of its optimisers imports torch's compiler, which takes longer than many a training
here (5 s on a slow core), and every job would pay it. Equality with torch.optim is a test (tests/parity/test_lstm.py).
All arithmetic is element by element, so replicates stay apart.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memorization.specs import OptimisationSpec

DECAY, BETAS, EPSILON = 0.99, (0.9, 0.999), 1e-8
"""RMSProp's decay, Adam's decays, and what is added to the root: torch.optim's defaults."""
MOMENTUM, ADAGRAD_EPSILON, ADADELTA_DECAY, ADADELTA_EPSILON = 0.9, 1e-10, 0.9, 1e-6
"""The momentum usual in the literature (torch.optim has no default but 0), and torch.optim's defaults."""


class Optimizer:
    """State: `steps`, and per parameter tensors of its own shape under `moments`."""

    names: tuple[str, ...] = ()

    def __init__(self, parameters: Sequence[Tensor], training: OptimisationSpec) -> None:
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


class Momentum(Optimizer):
    """SGD with Polyak's heavy ball, as torch.optim.SGD: the rate multiplies the velocity, not what enters it."""

    names = ("velocity",)

    def update(self, gradients: Sequence[Tensor]) -> None:
        velocity = self.moments["velocity"]
        torch._foreach_mul_(velocity, MOMENTUM)
        torch._foreach_add_(velocity, gradients)
        torch._foreach_add_(self.parameters, velocity, alpha=-self.rate)


class Adagrad(Optimizer):
    """Duchi, Hazan and Singer 2011."""

    names = ("sum",)

    def update(self, gradients: Sequence[Tensor]) -> None:
        total = self.moments["sum"]
        torch._foreach_addcmul_(total, gradients, gradients, value=1)
        root = torch._foreach_sqrt(total)
        torch._foreach_add_(root, ADAGRAD_EPSILON)
        torch._foreach_addcdiv_(self.parameters, gradients, root, value=-self.rate)


class Adadelta(Optimizer):
    """Zeiler 2012; the rate multiplies its steps (1 in the paper)."""

    names = ("square", "moved")

    def update(self, gradients: Sequence[Tensor]) -> None:
        square, moved = self.moments["square"], self.moments["moved"]
        torch._foreach_mul_(square, ADADELTA_DECAY)
        torch._foreach_addcmul_(square, gradients, gradients, value=1 - ADADELTA_DECAY)
        root = torch._foreach_add(square, ADADELTA_EPSILON)
        torch._foreach_sqrt_(root)
        steps = torch._foreach_add(moved, ADADELTA_EPSILON)
        torch._foreach_sqrt_(steps)
        torch._foreach_div_(steps, root)
        torch._foreach_mul_(steps, gradients)
        torch._foreach_mul_(moved, ADADELTA_DECAY)
        torch._foreach_addcmul_(moved, steps, steps, value=1 - ADADELTA_DECAY)
        torch._foreach_add_(self.parameters, steps, alpha=-self.rate)


CLASSES: dict[str, type[Optimizer]] = {
    "sgd": Optimizer,
    "momentum": Momentum,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
}


def make_optimizer(parameters: Sequence[Tensor], training: OptimisationSpec) -> Optimizer:
    """The specification's optimiser for `parameters`."""
    return CLASSES[training.optimizer](parameters, training)
