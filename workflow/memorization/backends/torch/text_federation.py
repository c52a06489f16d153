"""Federated averaging of character LSTMs, and what its users hold as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memorization.backends.torch.federated import Examples, Federations, User
from memorization.backends.torch.flat_models import training_gradient
from memorization.backends.torch.forsaken import Part
from memorization.backends.torch.group import clip_gradients
from memorization.backends.torch.optimizers import make_optimizer
from memorization.backends.torch.text_models import Passage, TextModels
from memorization.backends.torch.unlearning import TARGET, Case, with_others
from memorization.data.text_shares import TextShares, Windows
from memorization.federated_specs import RequestSpec
from memorization.federated_text_specs import FederatedTextRunSpec
from memorization.streams import stream
from memorization.translation_specs import OptimisationSpec

KEPT = 64
"""At most so many of user 0's other windows tell which parameters matter for what is retained."""


class TextFederations(Federations):
    """Users' local training by the specification's optimiser, begun afresh in every round."""

    models: TextModels

    @cached_property
    def _optimisation(self) -> OptimisationSpec:
        training = self.training
        return OptimisationSpec(optimizer=training.optimizer, learning_rate=training.learning_rate, keep="final")

    def _trained(self, local: Tensor, users: Sequence[User], round_: int, epochs: int | None) -> Tensor:
        """Local models [M, P] after the users' steps, changed in place."""
        leaves = self.models.leaves(local)
        parameters = list(leaves.values())
        optimizer = make_optimizer(parameters, self._optimisation)
        for picked, shares in self._steps(users, round_, epochs):
            idle = shares.sum(1) == 0
            before = local[idle]
            optimizer.zero_grad()
            logits = self.models.outputs(leaves, Passage(self.pool.inputs[picked]))
            labels = self.pool.labels[picked].flatten()
            costs = functional.cross_entropy(logits.flatten(0, 1), labels, reduction="none")
            (costs.view(*picked.shape, -1).mean(2) * shares).sum().backward()
            clip_gradients(parameters, self.training.gradient_clip)
            optimizer.step()
            # Who has no windows left has no gradient, but Adam would go on by its momentum.
            local[idle] = before
        return local


@dataclass(frozen=True)
class TextCase(Case):
    """Trained federations of language models; D_e: the characters of the canary's copies."""

    def federations(self, users: Sequence[User], purpose: str) -> TextFederations:
        """Some users training together; `purpose` names their shuffles."""
        return TextFederations(self.models, self.examples, users, self.spec.training, self.spec.seed, purpose)


def ascent(case: Case, request: RequestSpec):
    """User 0 climbs its training loss on D_e by `inner_steps` full-batch steps, as many as G1's."""
    each = torch.full_like(case.forget.labels, 1 / case.forget.inputs.count, dtype=torch.float32)
    by_logits = training_gradient(case.models.spec, case.forget.labels, each)

    def emit(models: Tensor, round_: int) -> Tensor:
        local = models.clone()
        for _ in range(request.inner_steps):
            local += request.step * case.models.gradient(local, case.forget.inputs, by_logits)
        return models - local

    return with_others(case, request, emit)


class TextHoldings:
    """Everything that one cell's models are trained on and asked about.

    examples     windows of all users of all replicates: inputs and labels int64[N, T]
    users        replicate by replicate in the order of their numbers; user 0 with its whole text
    forgotten    per replicate the rows of `examples` that hold the canary
    forget       D_e: the characters of the canary's line, in every copy's window
    kept         a sample of user 0's other windows
    """

    def __init__(self, spec: FederatedTextRunSpec, shares: Sequence[TextShares], device: torch.device) -> None:
        self.spec, self.shares, self.device = spec, shares, device
        self.models = TextModels(spec.model, len(shares[0].vocabulary))
        held = [user for own in shares for user in own.users]
        self.examples = Examples(*(_tensor(np.concatenate(arrays), device) for arrays in zip(*held, strict=True)))
        self.users: list[User] = []
        self.forgotten: list[np.ndarray] = []
        first = 0
        for k, own in enumerate(shares):
            self.forgotten.append(first + np.flatnonzero(own.holding))
            for number, (inputs, _) in enumerate(own.users):
                self.users.append(User(np.arange(first, first + len(inputs)), k, k, number))
                first += len(inputs)
        self.forget = self._forget()
        self.kept = self._part([self._sample(k, own) for k, own in enumerate(shares)])
        self.third_party = self._part([own.third_party for own in shares])
        self.test = self._part([own.test for own in shares])

    def initial(self) -> Tensor:
        """Models before training, float32[R, P]: every replicate its own."""
        vectors = [self.models.initial(stream(self.spec.seed, k, "init")) for k in range(len(self.shares))]
        return torch.from_numpy(np.stack(vectors)).to(self.device)

    def federations(self, users: Sequence[User], purpose: str) -> TextFederations:
        """Federations of `users`; `purpose` names their shuffles."""
        return TextFederations(self.models, self.examples, users, self.spec.training, self.spec.seed, purpose)

    def test_losses(self, models: Tensor) -> np.ndarray:
        """float64[R]: nats per character of the test text."""
        labels = self.test.labels.unflatten(1, self.test.inputs.ids.shape[1:])
        return self.models.losses(models, self.test.inputs, labels)

    def _sample(self, replicate: int, own: TextShares) -> Windows:
        """Some of user 0's windows without the canary; the third party's where there are none."""
        rows = np.flatnonzero(~own.holding)
        if not len(rows):
            return tuple(array[:KEPT] for array in own.third_party)
        count = min(KEPT, *(int((~o.holding).sum()) or KEPT for o in self.shares))
        chosen = np.sort(stream(self.spec.seed, replicate, "retained").permutation(rows)[:count])
        return tuple(array[chosen] for array in own.users[TARGET])

    def _forget(self) -> Part:
        ids, labels, chosen = [], [], []
        for own in self.shares:
            inputs, targets = (array[own.copies] for array in own.users[TARGET])
            ids.append(inputs)
            labels.append(np.take_along_axis(targets, own.places, axis=1).ravel())
            chosen.append((np.arange(len(inputs))[:, None] * inputs.shape[1] + own.places).ravel())
        ids, labels, chosen = (_tensor(np.stack(arrays), self.device) for arrays in (ids, labels, chosen))
        return Part(Passage(ids, chosen), labels)

    def _part(self, own: Sequence[Windows]) -> Part:
        """As many windows of every replicate, all of whose characters are asked about."""
        inputs, targets = (_tensor(np.stack(arrays), self.device) for arrays in zip(*own, strict=True))
        return Part(Passage(inputs), targets.flatten(1))


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
