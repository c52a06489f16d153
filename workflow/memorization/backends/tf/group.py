"""One replicate in training: weights, optimiser, data, and one epoch (`backends.base.Group`).

Every replicate is a group of its own: the numbers of one then never depend on how many are trained.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from memorization import weights as weight_files
from memorization.backends.tf.model import TFLanguageModel
from memorization.backends.tf.networks import language_model
from memorization.backends.tf.optimizers import Updater
from memorization.backends.tf.runtime import tf
from memorization.backends.tf.steps import (
    clipped_sum_function,
    gradient_function,
    keys,
    loss_function,
    shapes_of,
)
from memorization.data.corpora import TrainingCorpus, windows
from memorization.errors import UserError
from memorization.privacy_file import Mechanism
from memorization.sampling import epoch_order, poisson_batches, shuffled_batches
from memorization.specs import RunSpec
from memorization.streams import stream

EVALUATION_WINDOWS = 128
"""Held-out windows per call."""


class WindowSet:
    """The windows of one text: inputs and targets, int32[N, T] each."""

    def __init__(self, text: np.ndarray, length: int, what: str):
        self.inputs, self.targets = (part.astype(np.int32) for part in windows(text, length))
        self.count = len(self.inputs)
        if self.count == 0:
            raise UserError(
                f"{what} text: no window of {length} tokens: use more text or a smaller training.sequence_length"
            )

    def batch(self, rows: np.ndarray) -> tuple["tf.Tensor", "tf.Tensor"]:
        """Inputs and targets [B, T] of the windows int64[B] `rows`."""
        return tf.constant(self.inputs[rows]), tf.constant(self.targets[rows])


class Group:
    """One replicate of a cell in training: `backends.base.Group` with R = 1."""

    def __init__(
        self, spec: RunSpec, member: int, corpus: TrainingCorpus, device: str, mechanism: Mechanism | None = None
    ):
        """`mechanism` is that of private training."""
        self.spec, self.members, self.device, self.mechanism = spec, [member], device, mechanism
        self.vocabulary, self.unit = corpus.vocabulary, f"nats/{spec.corpus.unit}"
        initial = weight_files.initial_weights(spec.model, len(corpus.vocabulary), stream(spec.seed, member, "init"))
        length = spec.training.sequence_length
        roles = ("train", "validation", "test")
        self.data = {role: WindowSet(getattr(corpus, role), length, role) for role in roles}
        with tf.device(device):
            self.weights = {name: tf.Variable(array) for name, array in initial.items()}
            self.trained = [w for name, w in self.weights.items() if weight_files.trained(name)]
            self.updater = Updater(self.trained, spec.training, mechanism)

    @property
    def batches(self) -> int:
        """Mini-batches per epoch. Without privacy the last may be smaller: a dropped rest could hold the canary."""
        if self.mechanism is not None:
            return self.mechanism.steps_per_epoch
        return -(-self.data["train"].count // self.spec.training.batch_size)

    def _order(self, epoch: int) -> np.ndarray:
        """int64[N]: the windows of epoch 1, 2, ..."""
        return epoch_order(self.spec.training, self.spec.seed, self.members[0], epoch, self.data["train"].count)

    def _batches(self, epoch: int, batches: int) -> Iterator[np.ndarray]:
        """int64[B] windows of each of the epoch's first `batches` steps."""
        size = self.spec.training.batch_size
        if self.mechanism is None:
            order = self._order(epoch)
            return (order[first : first + size] for first in range(0, batches * size, size))
        if self.spec.privacy.sampling == "poisson":
            rng = stream(self.spec.seed, self.members[0], f"poisson-{epoch}")
            return poisson_batches(rng, self.data["train"].count, self.mechanism.sample_rate, batches)
        return (rows for _, rows in zip(range(batches), shuffled_batches(self._order(epoch), size), strict=False))

    def train_epoch(self, epoch: int, batches: int) -> Iterator[list[np.ndarray]]:
        """Train on the first `batches` mini-batches; yields after each its windows, [int64[B]].

        `epoch_loss` then holds float64[1]: nats per token, mean over all tokens trained on in this epoch.
        """
        seed, member = self.spec.seed, self.members[0]
        self.updater.set_rate(self.spec.training.rate_in(epoch))
        masks, noises = (keys(seed, member, f"{what}-{epoch}", batches) for what in ("dropout", "noise"))
        total = seen = 0
        for rows, mask, noise in zip(self._batches(epoch, batches), masks, noises, strict=True):
            total += self._update(rows, mask, noise) * len(rows)
            seen += len(rows)
            yield [rows]
        self.epoch_loss = np.array([total / seen if seen else np.nan])

    def _update(self, rows: np.ndarray, mask: np.ndarray, noise: np.ndarray) -> float:
        """One step of the optimiser under the keys of its dropout and noise; the batch's mean loss (0 if empty)."""
        training = self.spec.training
        arguments = (shapes_of(self.weights), training.dropout)
        with tf.device(self.device):
            if self.mechanism is None:
                compute = gradient_function(*arguments, training.gradient_clip)
                loss, gradients = compute(self._values(), *self.data["train"].batch(rows), mask)
            elif len(rows):
                compute = clipped_sum_function(*arguments, self.mechanism.clip)
                loss, gradients = compute(self._values(), *self.data["train"].batch(rows), mask)
                loss = loss / len(rows)
            else:
                loss, gradients = 0.0, [tf.zeros_like(w) for w in self.trained]
            self.updater.apply(gradients, noise)
        return float(loss)

    def _values(self) -> dict[str, "tf.Tensor"]:
        return {name: variable.value() for name, variable in self.weights.items()}

    def evaluate(self, role: str) -> dict[str, np.ndarray]:
        """Nats per token on the validation or test windows, each from a zero state as in training."""
        data, compute, total = self.data[role], loss_function(shapes_of(self.weights)), 0.0
        with tf.device(self.device):
            for first in range(0, data.count, EVALUATION_WINDOWS):
                rows = np.arange(first, min(first + EVALUATION_WINDOWS, data.count))
                total += float(np.sum(compute(self._values(), *data.batch(rows)).numpy(), dtype=np.float64))
        return {"loss_nats": np.array([total / data.count]), "accuracy": np.array([np.nan])}

    def weights_of(self, member: int) -> dict[str, np.ndarray]:
        """A copy of the replicate's arrays."""
        return {name: np.array(variable.numpy()) for name, variable in self.weights.items()}

    def model(self, member: int) -> TFLanguageModel:
        """The replicate as it is now."""
        return language_model(self.weights_of(member), self.vocabulary, self.device)

    def drop(self, finished: set[int]) -> None:
        """Stop training; the Trainer then drops the group, which has no other member."""
        self.members = [member for member in self.members if member not in finished]

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "members": self.members,
            "weights": {name: np.array(variable.numpy()) for name, variable in self.weights.items()},
            "optimizer": self.updater.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        for name, variable in self.weights.items():
            variable.assign(state["weights"][name])
        self.updater.restore(state["optimizer"])
