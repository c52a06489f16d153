"""Federated averaging (McMahan et al. 2017, Algorithm 1), deterministic and in one process: all users of many
federations train side by side.

A federation is a row of the matrix of global models; its users are rows of another, which all make their k-th local
step together (`flat_models.FlatModels.descend`). Every order of examples comes from a stream that is named after
purpose, user and round: no user's draws depend on who else takes part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from memorization.backends.torch.flat_models import FlatModels, descend, training_gradient
from memorization.federated_specs import FederationSpec
from memorization.streams import stream

BLOCK_NUMBERS = {"cpu": 2**20, "cuda": 2**28}
"""Numbers of all models that train side by side: on a CPU what stays in its cache."""
NUMBER_BYTES = 4
"""Of an upload: float32."""


@dataclass(frozen=True)
class Examples:
    """All examples of all federations, on the device: inputs float32[N, features] and labels int64[N]."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class User:
    """One user of one federation.

    rows         of the pool: the examples it holds
    federation   row of the matrix of global models
    replicate, number   name the stream of its shuffles
    """

    rows: np.ndarray
    federation: int
    replicate: int
    number: int


@dataclass
class Traffic:
    """What the server has received in one round, all federations together."""

    messages: int = 0
    bytes: int = 0


@dataclass
class Server:
    """Weighted averaging of uploads. It keeps no history and cannot tell what an upload means."""

    received: Traffic = field(default_factory=Traffic)

    def aggregate(self, models: Tensor, uploads: Tensor, federations: Tensor, weights: Tensor) -> Tensor:
        """New global models [F, P]: the old ones less every federation's weighted sum of uploads.

        uploads      [M, P]: old global model minus local model, or whatever a user sends in its place
        federations  int64[M]: whose they are
        weights      [M]: n_u / N
        """
        self.received = Traffic(len(uploads), uploads.numel() * NUMBER_BYTES)
        return models.index_add(0, federations, uploads * -weights.unsqueeze(1))


@cache
def _slots(count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """How `count` examples in some order are cut into batches of at most `size`, which differ by one at most: places
    int64[batches, B] and weights float32[batches, B], one over the batch's size; 0 where a batch is smaller.
    """
    batches = np.array_split(np.arange(count), -(-count // size))
    places = np.zeros((len(batches), len(batches[0])), dtype=np.int64)
    weights = np.zeros(places.shape, dtype=np.float32)
    for number, own in enumerate(batches):
        places[number, : len(own)], weights[number, : len(own)] = own, 1 / len(own)
    return places, weights


def local_batches(
    seed: int, user: User, purpose: str, round_: int, epochs: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """A user's local steps of round 1, 2, ..., epoch after epoch: rows int64[steps, B], weights float32[steps, B]."""
    rng = stream(seed, user.replicate, f"{purpose}-{user.number}-{round_}")
    places, weights = _slots(len(user.rows), size)
    orders = [user.rows[rng.permutation(len(user.rows))] for _ in range(epochs)]
    return np.concatenate([order[places] for order in orders]), np.concatenate([weights] * epochs)


def schedule(batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Users' batches side by side: pool rows int64[steps, M, B] and weights float32[steps, M, B].

    Where a user has fewer steps or smaller batches than another its weights are 0, so that plain SGD leaves it
    unchanged.
    """
    steps, width = (max(own[0].shape[axis] for own in batches) for axis in (0, 1))
    rows = np.zeros((steps, len(batches), width), dtype=np.int64)
    weights = np.zeros((steps, len(batches), width), dtype=np.float32)
    for user, (own, shares) in enumerate(batches):
        rows[: len(own), user, : own.shape[1]], weights[: len(own), user, : own.shape[1]] = own, shares
    return rows, weights


class Federations:
    """Some federations: who takes part, and what they send. Users without examples do not take part."""

    def __init__(
        self,
        models: FlatModels,
        pool: Examples,
        users: Sequence[User],
        training: FederationSpec,
        seed: int,
        purpose: str,
    ) -> None:
        """`purpose` names the streams of this training; another one shuffles otherwise."""
        self.models, self.pool, self.training, self.seed, self.purpose = models, pool, training, seed, purpose
        self.users = [user for user in users if len(user.rows)]
        device = pool.inputs.device
        self.owners = torch.tensor([user.federation for user in self.users], dtype=torch.long, device=device)
        held = torch.tensor([float(len(user.rows)) for user in self.users], dtype=torch.float64, device=device)
        whole = torch.zeros(max(map(int, self.owners), default=-1) + 1, dtype=torch.float64, device=device)
        whole.index_add_(0, self.owners, held)
        self.weights = (held / whole[self.owners]).float()
        """n_u / N of every user's federation."""

    def uploads(self, models: Tensor, round_: int, epochs: int | None = None) -> Tensor:
        """[users, P]: what every user sends in round 1, 2, ... on receiving the global models [F, P].

        epochs: of local training; None: as the federation's.
        """
        block = max(1, BLOCK_NUMBERS[models.device.type] // self.models.size)
        found = torch.empty(len(self.users), self.models.size, device=models.device)
        for first in range(0, len(self.users), block):
            part = slice(first, min(first + block, len(self.users)))
            start = models[self.owners[part]]
            found[part] = start - self._trained(start.clone(), self.users[part], round_, epochs)
        return found

    def _trained(self, local: Tensor, users: Sequence[User], round_: int, epochs: int | None) -> Tensor:
        """Local models [M, P] after the users' steps, changed in place."""
        layers = self.models.views(local)
        for picked, shares in self._steps(users, round_, epochs):
            inputs = self.pool.inputs.index_select(0, picked.flatten()).unflatten(0, picked.shape)
            by_logits = training_gradient(self.models.spec, self.pool.labels[picked], shares)
            descend(layers, inputs, by_logits, self.training.learning_rate)
        return local

    def _steps(self, users: Sequence[User], round_: int, epochs: int | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Local steps of a round: rows of the pool int64[M, B] and weights float32[M, B] of every user's batch."""
        epochs = self.training.local_epochs if epochs is None else epochs
        size = self.training.batch_size
        batches = [local_batches(self.seed, user, self.purpose, round_, epochs, size) for user in users]
        rows, weights = (torch.from_numpy(array).to(self.pool.inputs.device) for array in schedule(batches))
        return zip(rows, weights, strict=True)

    def round(self, models: Tensor, round_: int, server: Server) -> Tensor:
        """The global models after one ordinary round."""
        return server.aggregate(models, self.uploads(models, round_), self.owners, self.weights)

    def train(self, models: Tensor, server: Server) -> Tensor:
        """The global models after all rounds."""
        for round_ in range(1, self.training.rounds + 1):
            models = self.round(models, round_, server)
        return models
