"""What the users of all replicates' federations hold, as tensors, and what models answer about it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorization import federated_models, membership
from memorization.backends.torch.federated import Examples, Federations, Server, User
from memorization.backends.torch.flat_models import FlatModels
from memorization.backends.torch.forsaken import Part
from memorization.data.shares import Shares
from memorization.federated_specs import FederatedRunSpec
from memorization.forgetting import JUDGED, Answers
from memorization.streams import stream

RETAINED = 1000
"""At most so many retained examples, drawn for each replicate, are asked about while forgetting."""


class Holdings:
    """Everything that one cell's models are trained on and asked about.

    examples     of all users of all replicates
    users        replicate by replicate in the order of their numbers; user 0 with all its examples
    forgotten    per replicate the rows of `examples` that are to be forgotten
    parts        name -> `Part`: what is judged (forget, retain, test), third_party, shadow, and `kept`: user 0's other
                 examples, or the third party's where there are none
    """

    def __init__(self, spec: FederatedRunSpec, shares: Sequence[Shares], device: torch.device) -> None:
        self.spec, self.device = spec, device
        self.models = FlatModels(spec.model, shares[0].features, shares[0].classes)
        held = [user for own in shares for user in own.users]
        self.examples = Examples(*(_tensor(np.concatenate(arrays), device) for arrays in zip(*held, strict=True)))
        self.users, self.forgotten = _users(shares)
        kept = [(x[~own.forget], y[~own.forget]) for own in shares for x, y in own.users[:1]]
        parts = {
            "forget": [own.forgotten for own in shares],
            "retain": [_sample(own, stream(spec.seed, k, "retained")) for k, own in enumerate(shares)],
            "test": [own.test for own in shares],
            "third_party": [own.third_party for own in shares],
            "shadow": [own.shadow for own in shares],
            "kept": kept if len(kept[0][1]) else [own.third_party for own in shares],
        }
        self.parts = {name: _part(own, device) for name, own in parts.items()}

    def initial(self, purpose: str = "init") -> Tensor:
        """Models before training, float32[R, P]: every replicate its own."""
        models = self.models
        vectors = [
            federated_models.initial_vector(
                models.spec, models.inputs, models.classes, stream(self.spec.seed, k, purpose)
            )
            for k in range(self.spec.replicates)
        ]
        return torch.from_numpy(np.stack(vectors)).to(self.device)

    def federations(self, users: Sequence[User], purpose: str) -> Federations:
        """Federations of `users`; `purpose` names their shuffles."""
        return Federations(self.models, self.examples, users, self.spec.training, self.spec.seed, purpose)

    def answers(self, members: Tensor) -> list[Answers]:
        """Per replicate what its models [R, S, P] answer together (mean posterior) about what is judged."""
        found = {name: self._log_posteriors(members, self.parts[name]) for name in JUDGED}
        labels = {name: self.parts[name].labels.cpu().numpy() for name in JUDGED}
        return [{name: (found[name][k], labels[name][k]) for name in JUDGED} for k in range(len(members))]

    def _log_posteriors(self, members: Tensor, part: Part) -> np.ndarray:
        """float64[R, n, classes]."""
        each = [torch.log_softmax(self.models.logits(m, part.inputs).double(), 2) for m in members.unbind(1)]
        return (torch.logsumexp(torch.stack(each), 0) - np.log(len(each))).cpu().numpy()

    def shadow_answers(self, replicate: int) -> dict[str, Any]:
        """What this replicate's shadow models answer, log posteriors float32[S, n, classes] about `shadow` and what is
        judged, and `members` bool[S, n]: what each was trained on.

        A shadow model is the global model of a federation with as many users, rounds and epochs as the real one.
        Its users share out half of the shadow part: by default each holds as much as a real one.
        """
        spec, shadow = self.spec, self.parts["shadow"]
        count = spec.oracle.shadow_models
        members = membership.shadow_members(stream(spec.seed, replicate, "shadow-members"), count, shadow.count)
        users = [
            User(rows, s, replicate, s * spec.data.users + number)
            for s, own in enumerate(members)
            for number, rows in enumerate(np.array_split(np.flatnonzero(own), spec.data.users))
        ]
        examples = Examples(shadow.inputs[replicate], shadow.labels[replicate])
        federations = Federations(self.models, examples, users, spec.training, spec.seed, "shadow")
        models = self.models
        start = [stream(spec.seed, replicate, f"shadow-init-{s}") for s in range(count)]
        vectors = [federated_models.initial_vector(models.spec, models.inputs, models.classes, rng) for rng in start]
        trained = federations.train(torch.from_numpy(np.stack(vectors)).to(self.device), Server())
        asked = {name: self.parts[name].inputs[replicate] for name in ("shadow", *JUDGED)}
        answers = {n: torch.log_softmax(models.logits(trained, x), 2).cpu().numpy() for n, x in asked.items()}
        return answers | {"members": members}

    def oracles(self, answers: Sequence[dict[str, Any]]) -> list[membership.Oracles]:
        """One set per replicate, of its `shadow_answers`."""
        labels = {name: part.labels.cpu().numpy() for name, part in self.parts.items()}
        return [
            membership.calibrate(
                own["shadow"],
                labels["shadow"][k],
                own["members"],
                {name: (own[name], labels[name][k]) for name in JUDGED},
                lira=self.spec.oracle.lira,
            )
            for k, own in enumerate(answers)
        ]


def _users(shares: Sequence[Shares]) -> tuple[list[User], list[np.ndarray]]:
    """All users of all replicates, and the rows that each replicate's user 0 wants forgotten."""
    users, forgotten, first = [], [], 0
    for k, own in enumerate(shares):
        forgotten.append(first + np.flatnonzero(own.forget))
        for number, (_, labels) in enumerate(own.users):
            users.append(User(np.arange(first, first + len(labels)), k, k, number))
            first += len(labels)
    return users, forgotten


def _sample(own: Shares, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x, y = own.retained
    chosen = np.sort(rng.permutation(len(y))[:RETAINED])
    return x[chosen], y[chosen]


def _part(own: Sequence[tuple[np.ndarray, np.ndarray]], device: torch.device) -> Part:
    return Part(*(_tensor(np.stack(arrays), device) for arrays in zip(*own, strict=True)))


def _tensor(array: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)
