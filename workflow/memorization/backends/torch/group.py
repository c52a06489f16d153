"""Replicates that share one block of tensors: their weights, optimiser, data, and one epoch of training.

On a GPU all replicates of a cell form one group, and what leads from windows to gradients is recorded once and replayed
(graphed.py). On a CPU each is a group of its own: its products then have the same shapes, and its elementwise loops the
same tails, whatever else is trained, so that its numbers are equal bit by bit; a block of several replicates would
leave the cache without being quicker.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorization import weights as weight_files
from memorization.backends.base import LanguageModel
from memorization.backends.torch.architectures import language_model, make_network
from memorization.backends.torch.graphed import GraphedSteps, Step, recorder_for
from memorization.backends.torch.lstm import Dropout
from memorization.backends.torch.optimizers import make_optimizer
from memorization.backends.torch.products import computing
from memorization.data.corpora import TrainingCorpus, windows
from memorization.errors import UserError
from memorization.sampling import epoch_order
from memorization.specs import RunSpec
from memorization.streams import stream

EVALUATION_WINDOWS = 128
"""Held-out windows per call."""


def blocks(replicates: int, device: torch.device, private: bool = False) -> list[list[int]]:
    """Which replicates share a group: all on a GPU, none on a CPU (see above).

    Private replicates are groups of their own on every device: Opacus' optimiser draws one noise tensor per parameter
    from one generator, and each replicate's noise must come from its own stream.
    """
    everyone = list(range(replicates))
    return [everyone] if device.type == "cuda" and not private else [[k] for k in everyone]


def arrays(tree: Any) -> Any:
    """`tree` with every tensor as a NumPy array of its own."""
    if isinstance(tree, Tensor):
        return tree.detach().cpu().numpy().copy()
    if isinstance(tree, dict):
        return {key: arrays(value) for key, value in tree.items()}
    return [arrays(value) for value in tree] if isinstance(tree, list | tuple) else tree


def tensors(tree: Any, device: torch.device) -> Any:
    """The inverse of `arrays`."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree).to(device)
    if isinstance(tree, dict):
        return {key: tensors(value, device) for key, value in tree.items()}
    return [tensors(value, device) for value in tree] if isinstance(tree, list) else tree


def clip_gradients(parameters: Sequence[Tensor], limit: float) -> None:
    """Scale each replicate's gradients so that their global norm is at most `limit` (Pascanu et al. 2013)."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients])
    factor = (limit / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))


def connected(weights: dict[str, Tensor], drop: Dropout | None) -> dict[str, Tensor]:
    """The weights; with training.weight_dropout the recurrent ones under one mask for the whole batch, as in AWD-LSTM
    (Merity, Keskar and Socher 2018).
    """
    return {n: drop(w) if drop and "weight_hh" in n else w for n, w in weights.items()}


class Masks:
    """Inverted dropout with a generator per replicate: `graphed.Masks`."""

    def __init__(self, generators: Sequence[torch.Generator], rate: float):
        self._generators, self._rate = generators, rate

    def draw(self, mask: Tensor) -> Tensor:
        """A new mask, written into `mask` [R, ...]."""
        for part, generator in zip(mask, self._generators, strict=True):
            part.bernoulli_(1 - self._rate, generator=generator)
        return mask.div_(1 - self._rate)

    def __call__(self, states: Tensor) -> Tensor:
        """`states` [R, ...] under a new mask."""
        return states * self.draw(torch.empty_like(states))


class WindowSet:
    """The windows of one text per replicate: inputs and targets, int64[R, N, T] each."""

    def __init__(self, texts: Sequence[np.ndarray], length: int, device: torch.device, what: str):
        pairs = [windows(text, length) for text in texts]
        counts = {len(inputs) for inputs, _ in pairs}
        if counts == {0} or len(counts) > 1:
            raise UserError(
                f"{what} text: replicates have {sorted(counts)} windows of {length} tokens; all need the same "
                "number, at least 1: use more text or a smaller training.sequence_length"
            )
        self.count = counts.pop()
        self.inputs, self.targets = (self._stack(arrays, device) for arrays in zip(*pairs, strict=True))

    @staticmethod
    def _stack(arrays: Sequence[np.ndarray], device: torch.device) -> Tensor:
        tensors = [torch.from_numpy(np.ascontiguousarray(a, dtype=np.int64)) for a in arrays]
        return (tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)).to(device)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets [R, T, B] of the windows int64[R, B] `rows`."""
        replicate = torch.arange(len(rows), device=rows.device)[:, None]
        return tuple(part[replicate, rows].transpose(1, 2).contiguous() for part in (self.inputs, self.targets))

    def select(self, rows: Tensor) -> None:
        """Keep only some replicates."""
        self.inputs, self.targets = self.inputs[rows], self.targets[rows]


class Group:
    """Some replicates of a cell (`members`, their numbers) in training: `backends.base.Group`."""

    _dropconnect: Dropout | None = None
    _graphed: GraphedSteps | None = None

    def __init__(self, spec: RunSpec, members: Sequence[int], corpora: Sequence[TrainingCorpus], device: torch.device):
        """`corpora` are the members', in the same order."""
        self.spec, self.members, self.device = spec, list(members), device
        self.vocabulary, self.unit = corpora[0].vocabulary, f"nats/{spec.corpus.unit}"
        size = len(corpora[0].vocabulary)
        initial = [weight_files.initial_weights(spec.model, size, stream(spec.seed, k, "init")) for k in self.members]
        self.precision = spec.training.precision
        self.network = make_network(spec.model)
        self._trained_network = self._make_trained_network()
        length = spec.training.sequence_length
        self.data = {
            role: WindowSet([getattr(c, role) for c in corpora], length, device, role)
            for role in ("train", "validation", "test")
        }
        self._install({name: torch.from_numpy(a) for name, a in weight_files.stack(initial).items()})

    def _install(self, weights: dict[str, Tensor]) -> None:
        """Make `weights` [R, ...] the trained tensors, with a fresh optimiser."""
        self.weights = {
            name: array.to(self.device).clone().requires_grad_(weight_files.trained(name))
            for name, array in weights.items()
        }
        self.parameters = [w for w in self.weights.values() if w.requires_grad]
        self.optimizer = self._make_optimizer()
        self._graphed = self._make_graphed()

    def _make_graphed(self) -> GraphedSteps | None:
        """Recorded steps on the tensors of now. Where recording failed before, there is no second try."""
        if self._graphed is not None and not self._graphed.works:
            return self._graphed
        recorder = recorder_for(self.device)
        return GraphedSteps(self._make_step, self.parameters, recorder) if recorder else None

    def _make_step(self) -> Step:
        """A step without the optimiser, on buffers of its own."""
        network = make_network(self.spec.model, self.precision)
        return lambda rows, masks: self._gradients(network, rows, masks[0], connected(self.weights, masks[1]))

    def _make_trained_network(self) -> Any:
        """Evaluation is in float32 always; only training's products may be of less."""
        return self.network if self.precision != "bfloat16" else make_network(self.spec.model, self.precision)

    def _make_optimizer(self) -> Any:
        return make_optimizer(self.parameters, self.spec.training)

    @property
    def batches(self) -> int:
        """Mini-batches per epoch. The last may be smaller: with a dropped rest an epoch could miss the canary."""
        return -(-self.data["train"].count // self.spec.training.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """int64[R, N]: the windows of epoch 1, 2, ..., drawn per replicate and epoch."""
        training, seed, count = self.spec.training, self.spec.seed, self.data["train"].count
        return np.stack([epoch_order(training, seed, k, epoch, count) for k in self.members])

    def _dropout(self, epoch: int) -> Masks | None:
        return self._masks("dropout", epoch, self.spec.training.dropout)

    def _masks(self, what: str, epoch: int, rate: float) -> Masks | None:
        """Inverted dropout with a generator per replicate, seeded per epoch: nothing to store for resuming."""
        if rate == 0:
            return None
        generators = [torch.Generator(self.device) for _ in self.members]
        for generator, k in zip(generators, self.members, strict=True):
            generator.manual_seed(int(stream(self.spec.seed, k, f"{what}-{epoch}").integers(2**63)))
        return Masks(generators, rate)

    def train_epoch(self, epoch: int, batches: int) -> Iterator[np.ndarray]:
        """Train on the first `batches` mini-batches; yields after each its windows, int64[R, B].

        `epoch_loss` then holds float64[R]: nats per token, mean over all tokens trained on in this epoch.
        """
        size, order = self.spec.training.batch_size, self.order(epoch)
        on_device = torch.from_numpy(order).to(self.device)
        dropout = self._dropout(epoch)
        self.optimizer.rate = self.spec.training.rate_in(epoch)
        self._dropconnect = self._masks("weight-dropout", epoch, self.spec.training.weight_dropout)
        total = torch.zeros(len(self.members), dtype=torch.float64, device=self.device)
        seen = 0
        for first in range(0, batches * size, size):
            rows = on_device[:, first : first + size]
            total += self._update(rows, dropout).double() * rows.shape[1]
            seen += rows.shape[1]
            yield order[:, first : first + size]
        self.epoch_loss = (total / seen).cpu().numpy()

    def _connected(self) -> dict[str, Tensor]:
        return connected(self.weights, self._dropconnect)

    def _update(self, rows: Tensor, dropout: Masks | None) -> Tensor:
        """One step of the optimiser on the mean loss of each replicate; returns that loss, [R]."""
        with computing(self.precision, self.device):
            loss = self._graphed(rows, [dropout, self._dropconnect]) if self._graphed else None
            if loss is None:
                self.optimizer.zero_grad()
                loss = self._gradients(self._trained_network, rows, dropout, self._connected())
        self.optimizer.step()
        return loss

    def _gradients(self, network: Any, rows: Tensor, dropout: Dropout | None, weights: dict[str, Tensor]) -> Tensor:
        """Losses [R] of the windows int64[R, B] `rows`; their clipped gradients are in the parameters' `grad`."""
        loss = network.losses(weights, *self.data["train"].batch(rows), dropout)
        loss.sum().backward()
        if self.spec.training.gradient_clip is not None:
            clip_gradients(self.parameters, self.spec.training.gradient_clip)
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, role: str) -> dict[str, np.ndarray]:
        """Nats per token on the validation or test windows, each from a zero state as in training."""
        data = self.data[role]
        total = torch.zeros(len(self.members), dtype=torch.float64, device=self.device)
        for first in range(0, data.count, EVALUATION_WINDOWS):
            rows = torch.arange(first, min(first + EVALUATION_WINDOWS, data.count), device=self.device)
            rows = rows.expand(len(self.members), -1)
            total += self.network.losses(self.weights, *data.batch(rows)).double() * rows.shape[1]
        loss = (total / data.count).cpu().numpy()
        return {"loss_nats": loss, "accuracy": np.full_like(loss, np.nan)}

    def _views(self, member: int) -> dict[str, Tensor]:
        row = self.members.index(member)
        return {name: array.detach()[row] for name, array in self.weights.items()}

    def weights_of(self, member: int) -> dict[str, np.ndarray]:
        """A copy of one replicate's arrays."""
        return arrays(self._views(member))

    def model(self, member: int) -> LanguageModel:
        """One replicate as it is now."""
        return language_model(self.spec.model, self._views(member), self.vocabulary)

    def drop(self, finished: set[int]) -> None:
        """Take finished replicates off the replicate axis, optimiser state included."""
        keep = [row for row, member in enumerate(self.members) if member not in finished]
        rows = torch.tensor(keep, dtype=torch.long, device=self.device)
        old = self.optimizer.state()
        self.members = [self.members[row] for row in keep]
        self._install({name: array.detach()[rows] for name, array in self.weights.items()})
        self.optimizer.restore(old, rows)
        for data in self.data.values():
            data.select(rows)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return arrays({"members": self.members, "weights": self.weights, "optimizer": self.optimizer.state()})

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        if gone := set(self.members) - set(state["members"]):
            self.drop(gone)
        state = tensors(state, self.device)
        self._install(state["weights"])
        self.optimizer.restore(state["optimizer"])
