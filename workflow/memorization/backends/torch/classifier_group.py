"""Training classifiers that fit data or noise in PyTorch: replicates in blocks, their steps, evaluation and files."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memorization import classifier_models
from memorization import weights as weight_files
from memorization.backends import checkpoint
from memorization.backends.details import Details
from memorization.backends.recorder import Recorder
from memorization.backends.torch.classifiers import Regularisers, forward, forward_training
from memorization.backends.torch.critical_samples import Adversary, measure
from memorization.backends.torch.group import arrays, clip_gradients, tensors
from memorization.backends.torch.optimizers import make_optimizer
from memorization.backends.training import Trainer
from memorization.classifier_models import decayed, trained
from memorization.classifier_specs import ClassifierRunSpec, ClassifierSpec
from memorization.data.labelled import LabelledData, batch_count, batches, own_examples
from memorization.streams import stream

EVALUATION_IMAGES = {"mlp": 500, "cnn": 100}
"""Images per call without gradients."""
BLOCK_NUMBERS = {"cpu": 2**22, "cuda": 2**30}
"""Trained numbers that one block of replicates may hold, as much again for gradients. CUDA: 4 GiB. CPU: 16 MiB, about
35 of Figure 1's 100 replicates; all at once fall out of the caches and take half as long again.
"""


class DeviceData:
    """The data on the device, once for all replicates."""

    def __init__(self, data: LabelledData, device: torch.device) -> None:
        self.data = data
        self.train, self.given, self.validation, self.validation_labels = (
            torch.from_numpy(np.ascontiguousarray(array)).to(device)
            for array in (data.train, data.given, data.validation, data.validation_labels)
        )


class ClassifierGroup:
    """Some replicates in training: `backends.base.Group` and `backends.recorder.ClassifierGroup`."""

    unit = "nats/image"

    def __init__(self, spec: ClassifierRunSpec, members: list[int], shown: DeviceData, device: torch.device) -> None:
        self.spec, self.members, self.shown, self.device = spec, list(members), shown, device
        data = shown.data
        initial = [
            classifier_models.initial_weights(spec.model, data.shape, data.classes, stream(spec.seed, k, "init"))
            for k in self.members
        ]
        self._install({name: torch.from_numpy(a) for name, a in weight_files.stack(initial).items()})

    def _install(self, weights: dict[str, Tensor]) -> None:
        """Make `weights` [R, ...] the trained tensors, with a fresh optimiser."""
        self.weights = {
            name: array.to(self.device).clone().requires_grad_(trained(name)) for name, array in weights.items()
        }
        self.parameters = [w for w in self.weights.values() if w.requires_grad]
        # Weight decay is added here, to some arrays only; the optimiser would add it to all.
        plain = self.spec.training.model_copy(update={"weight_decay": 0.0})
        self.optimizer = make_optimizer(self.parameters, plain)

    @property
    def batches(self) -> int:
        """Mini-batches per epoch; the same for all replicates."""
        return batch_count(self.spec, len(self.shown.data.train))

    @cached_property
    def _own(self) -> Tensor:
        """The examples that each member is trained on, int64[R, n]."""
        count = len(self.shown.data.train)
        return torch.from_numpy(np.stack([own_examples(self.spec, k, count) for k in self.members])).to(self.device)

    def train_epoch(self, epoch: int, batches_: int) -> Iterator[np.ndarray]:
        """Train on the first `batches_` mini-batches; yields after each its examples' numbers, int64[R, B].

        `epoch_loss` then holds float64[R]: nats per image, the mean over all images trained on in this epoch, in
        training, without what regularisers add.
        """
        spec, count = self.spec, len(self.shown.data.train)
        orders = [batches(spec, k, epoch, count)[:batches_] for k in self.members]
        regularisers = Regularisers(spec.training, spec.seed, self.members, epoch, self.device)
        adversary = Adversary(spec, self.shown.data.scale, self.members, epoch, self.device)
        halvings = 0 if spec.training.halve_every is None else int((epoch - 1) // spec.training.halve_every)
        self.optimizer.rate = spec.training.learning_rate / 2**halvings
        total = torch.zeros(len(self.members), dtype=torch.float64, device=self.device)
        seen = 0
        for parts in zip(*orders, strict=True):
            rows = np.stack(parts)
            total += self._update(torch.from_numpy(rows).to(self.device), regularisers, adversary) * rows.shape[1]
            seen += rows.shape[1]
            yield rows
        self.epoch_loss = (total / seen).cpu().numpy()

    def _update(self, rows: Tensor, regularisers: Regularisers, adversary: Adversary) -> Tensor:
        """One step of the optimiser on the mean loss of each replicate's images int64[R, B]; returns that loss, double
        [R], without what regularisers add.
        """
        self.optimizer.zero_grad()
        images, labels = self.shown.train[rows], self.shown.given[rows]
        loss, statistics = self._losses(images, labels, regularisers)
        objective = loss
        if adversary.weight:
            # A13: a convex mix, with the labels of the images; normalisation stores the statistics of these alone.
            found, _ = self._losses(adversary.images(self.weights, images), labels, regularisers)
            objective = (1 - adversary.weight) * loss + adversary.weight * found
        objective.sum().backward()
        training = self.spec.training
        if training.weight_decay:
            for name, weight in self.weights.items():
                if decayed(name):
                    weight.grad.add_(weight.detach(), alpha=training.weight_decay)
        if training.gradient_clip is not None:
            clip_gradients(self.parameters, training.gradient_clip)
        self.optimizer.step()
        for name, array in statistics.items():
            self.weights[name].copy_(array)
        return loss.detach().double()

    def _losses(self, images: Tensor, labels: Tensor, regularisers: Regularisers) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropies in training, [R], of images [R, B, ...] and labels [R, B]; the new stored statistics."""
        logits, statistics = forward_training(self.spec.model, self.weights, images, regularisers)
        return _cross_entropies(logits, labels).mean(1), statistics

    @torch.no_grad()
    def _outcomes(self, images: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Losses float64[R, N] and predicted classes int64[R, N] of images [N, ...], in evaluation."""
        losses, predicted = [], []
        for part in _slices(len(images), self.spec.model):
            # In float32 a loss below 1e-7 would be 0, and losses of learnt images are often smaller.
            logits = forward(self.spec.model, self.weights, images[part].unsqueeze(0)).double()
            losses.append(_cross_entropies(logits, labels[part].expand(len(logits), -1)))
            predicted.append(logits.argmax(2))
        return torch.cat(losses, 1).cpu().numpy(), torch.cat(predicted, 1).cpu().numpy()

    def outcomes(self, examples: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `backends.recorder.ClassifierGroup`."""
        return self._outcomes(self.shown.train[:examples], self.shown.given[:examples])

    def evaluate(self, role: str) -> dict[str, np.ndarray]:
        """Nats per image and accuracy, float64[R] each, on the validation images; there are none for testing."""
        labels = self.shown.validation_labels
        if role != "validation" or not len(labels):
            unknown = np.full(len(self.members), np.nan)
            return {"loss_nats": unknown, "accuracy": unknown}
        losses, predicted = self._outcomes(self.shown.validation, labels)
        return {"loss_nats": losses.mean(1), "accuracy": (predicted == labels.cpu().numpy()).mean(1)}

    @torch.no_grad()
    def fits(self, asked: np.ndarray) -> np.ndarray:
        """As `backends.recorder.ClassifierGroup`: stops at the first images where every asked member errs."""
        possible = asked.copy()
        for part in _slices(self._own.shape[1], self.spec.model):
            if not possible.any():
                break
            rows = np.flatnonzero(possible)
            chosen = torch.from_numpy(rows).to(self.device)
            own = self._own[chosen, part]
            weights = {name: array[chosen] for name, array in self.weights.items()}
            logits = forward(self.spec.model, weights, self.shown.train[own])
            possible[rows] = (logits.argmax(2) == self.shown.given[own]).all(1).cpu().numpy()
        return possible

    def critical(self, epoch: int) -> Mapping[tuple[str, str], np.ndarray]:
        """As `backends.recorder.ClassifierGroup`."""
        return measure(self, epoch)

    def _views(self, member: int) -> dict[str, Tensor]:
        row = self.members.index(member)
        return {name: array.detach()[row] for name, array in self.weights.items()}

    def weights_of(self, member: int) -> dict[str, np.ndarray]:
        """A copy of one replicate's arrays."""
        return arrays(self._views(member))

    def model(self, member: int) -> "TorchClassifier":
        """One replicate as it is now."""
        return TorchClassifier(self.spec.model, self._views(member))

    def drop(self, finished: set[int]) -> None:
        """Take finished replicates off the replicate axis, optimiser state included."""
        keep = [row for row, member in enumerate(self.members) if member not in finished]
        rows = torch.tensor(keep, dtype=torch.long, device=self.device)
        old = self.optimizer.state()
        self.members = [self.members[row] for row in keep]
        self._install({name: array.detach()[rows] for name, array in self.weights.items()})
        self.optimizer.restore(old, rows)
        self.__dict__.pop("_own", None)

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


class TorchClassifier:
    """One trained classifier: `backends.base.ImageClassifier`, for images [n, channels, rows, columns]."""

    def __init__(self, model: ClassifierSpec, weights: dict[str, Tensor]) -> None:
        self.spec, self.weights = model, weights

    @torch.no_grad()
    def losses(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cross-entropies float64[n] in nats and bool[n]: classified rightly, of images in the network's units."""
        weights = {name: array.unsqueeze(0) for name, array in self.weights.items()}
        device, losses, right = weights["output.bias"].device, [], []
        for part in _slices(len(images), self.spec):
            given, wanted = (torch.from_numpy(a[part]).to(device) for a in (images, labels))
            logits = forward(self.spec, weights, given.unsqueeze(0)).double()
            losses.append(_cross_entropies(logits, wanted.unsqueeze(0))[0].cpu().numpy())
            right.append((logits[0].argmax(1) == wanted).cpu().numpy())
        return np.concatenate(losses), np.concatenate(right)


def _cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """[R, B] of logits [R, B, classes] and labels [R, B]."""
    flat = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return flat.view(labels.shape)


def _slices(count: int, model: ClassifierSpec) -> Iterator[slice]:
    size = EVALUATION_IMAGES[model.architecture]
    return (slice(first, min(first + size, count)) for first in range(0, count, size))


def blocks(spec: ClassifierRunSpec, data: LabelledData, device: torch.device) -> list[list[int]]:
    """Which replicates share a group: as many as memory allows; each CNN on a CPU alone, where nothing is gained."""
    numbers = classifier_models.parameter_count(spec.model, data.shape, data.classes)
    size = max(1, BLOCK_NUMBERS[device.type] // numbers)
    if device.type == "cpu" and spec.model.architecture == "cnn":
        size = 1
    everyone = list(range(spec.replicates))
    return [everyone[first : first + size] for first in range(0, len(everyone), size)]


def train_classifiers(spec: ClassifierRunSpec, data: LabelledData, run_dir: Path, device: torch.device) -> None:
    """Train all replicates of `spec`; write model.npz, curves.csv, details.csv and an empty measures.csv.

    Interrupted, training continues from the checkpoint in `run_dir`.
    """
    shown = DeviceData(data, device)
    groups = [ClassifierGroup(spec, members, shown, device) for members in blocks(spec, data, device)]
    key = checkpoint.fingerprint(spec, data.arrays(), f"torch {torch.__version__} {device.type}")
    Trainer(spec, groups, run_dir, key, recorder=Recorder(spec, data, _extras(spec, shown, device))).train()


def _extras(spec: ClassifierRunSpec, shown: DeviceData, device: torch.device) -> list:
    """What is measured by training once more, when training has ended."""
    if spec.measure.sensitivity is None:
        return []

    def sensitivity(details: Details) -> None:
        from memorization.backends.torch import sensitivity

        sensitivity.record(spec, shown, device, details)

    return [sensitivity]


def load_classifiers(run_dir: Path, spec: ClassifierRunSpec, device: torch.device) -> list[TorchClassifier]:
    """The trained classifiers of a finished run, one per replicate. Raises UserError as `classifier_models.load`."""
    stacked = classifier_models.load(run_dir, spec.model)
    return [
        TorchClassifier(spec.model, {name: torch.from_numpy(a[k]).to(device) for name, a in stacked.items()})
        for k in range(spec.replicates)
    ]
