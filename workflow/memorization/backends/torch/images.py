"""Image classifiers in the PyTorch back end: training with and without differential privacy, and losses of images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memorization import image_models, privacy_file
from memorization.backends import checkpoint
from memorization.backends.torch import cnn
from memorization.backends.torch.group import arrays, tensors
from memorization.backends.torch.optimizers import make_optimizer
from memorization.backends.torch.private_group import PrivateOptimizer
from memorization.backends.training import Trainer
from memorization.data.images import ImageData, batches
from memorization.privacy_file import Mechanism
from memorization.specs import ImageRunSpec
from memorization.streams import stream

EVALUATION_IMAGES = 500
"""Images per call without gradients."""


class TorchImageClassifier:
    """One trained classifier: `backends.base.ImageClassifier`."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights

    @torch.no_grad()
    def losses(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cross-entropies float64[n] in nats and bool[n]: classified rightly, of float32[n, 28, 28] and int64[n]."""
        device = self.weights["output.bias"].device
        losses, right = [], []
        for first in range(0, len(images), EVALUATION_IMAGES):
            part = slice(first, first + EVALUATION_IMAGES)
            given, wanted = (torch.from_numpy(a[part]).to(device) for a in (images, labels))
            logits = cnn.logits(self.weights, given)
            # In float32 a loss below 1e-7 would be 0, and losses of learnt images are often smaller.
            losses.append(functional.cross_entropy(logits.double(), wanted, reduction="none").cpu().numpy())
            right.append((logits.argmax(1) == wanted).cpu().numpy())
        return np.concatenate(losses), np.concatenate(right)


class ImageGroup:
    """One replicate in training: `backends.base.Group`. Replicates share the images, but no tensor that is trained."""

    unit = "nats/image"

    def __init__(
        self, spec: ImageRunSpec, member: int, images: "DeviceImages", device: torch.device, mechanism: Mechanism | None
    ) -> None:
        self.spec, self.members, self.images, self.device = spec, [member], images, device
        self.mechanism = mechanism
        initial = image_models.initial_weights(spec.model, images.data.classes, stream(spec.seed, member, "init"))
        self._install({name: torch.from_numpy(a) for name, a in initial.items()})

    def _install(self, weights: dict[str, Tensor]) -> None:
        """Make `weights` the trained tensors, with a fresh optimiser."""
        self.weights = {name: array.to(self.device).clone().requires_grad_() for name, array in weights.items()}
        parameters, training = list(self.weights.values()), self.spec.training
        if self.mechanism is None:
            self.optimizer = make_optimizer(parameters, training)
        else:
            self.optimizer = PrivateOptimizer(parameters, training, self.mechanism)

    @property
    def batches(self) -> int:
        """Mini-batches per epoch; an incomplete rest is dropped."""
        return max(1, len(self.images.data.train) // self.spec.training.batch_size)

    def train_epoch(self, epoch: int, batches_: int) -> Iterator[list[np.ndarray]]:
        """Train on the first `batches_` mini-batches; yields after each [its images' numbers, int64[B]].

        `epoch_loss` then holds float64[1]: nats per image, mean over all images trained on in this epoch. A private
        step without images still adds noise.
        """
        member, examples = self.members[0], len(self.images.data.train)
        if self.mechanism is not None:
            self.optimizer.seed(stream(self.spec.seed, member, f"noise-{epoch}"))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        seen = 0
        for _, rows in zip(range(batches_), batches(self.spec, member, epoch, examples), strict=False):
            total += self._update(torch.from_numpy(rows).to(self.device))
            seen += len(rows)
            yield [rows]
        self.epoch_loss = (total / seen).reshape(1).cpu().numpy() if seen else np.full(1, np.nan)

    def _update(self, rows: Tensor) -> Tensor:
        """One step of the optimiser on the images int64[B] `rows`; returns the sum of their losses before it."""
        images, labels = self.images.train[rows], self.images.train_labels[rows]
        if self.mechanism is not None:
            sums, losses = cnn.clipped_sums(self.weights, images, labels, self.mechanism.clip)
            self.optimizer.step(list(sums.values()))
            return losses.double().sum()
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(cnn.logits(self.weights, images), labels)
        loss.backward()
        if self.spec.training.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.weights.values(), self.spec.training.gradient_clip)
        self.optimizer.step()
        return loss.detach().double() * len(rows)

    def evaluate(self, role: str) -> dict[str, np.ndarray]:
        """Nats per image and accuracy, float64[1] each, on the test images; there are none for validation."""
        if role == "validation":
            return {"loss_nats": np.full(1, np.nan), "accuracy": np.full(1, np.nan)}
        losses, right = self.model(self.members[0]).losses(self.images.data.test, self.images.data.test_labels)
        return {"loss_nats": losses.mean(keepdims=True), "accuracy": right.mean(keepdims=True)}

    def weights_of(self, member: int) -> dict[str, np.ndarray]:
        """A copy of the replicate's arrays."""
        return arrays(self.weights)

    def model(self, member: int) -> TorchImageClassifier:
        """The replicate as it is now."""
        return TorchImageClassifier({name: weight.detach() for name, weight in self.weights.items()})

    def drop(self, finished: set[int]) -> None:
        """Stop training."""
        self.members = [member for member in self.members if member not in finished]

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return arrays({"members": self.members, "weights": self.weights, "optimizer": self.optimizer.state()})

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        state = tensors(state, self.device)
        self._install(state["weights"])
        self.optimizer.restore(state["optimizer"])


class DeviceImages:
    """The training images on the device, once for all replicates."""

    def __init__(self, data: ImageData, device: torch.device) -> None:
        self.data = data
        self.train, self.train_labels = (torch.from_numpy(a).to(device) for a in (data.train, data.labels))


def train_images(spec: ImageRunSpec, data: ImageData, run_dir: Path, device: torch.device) -> None:
    """Train all replicates of `spec`; write model.npz, curves.csv and an empty measures.csv into `run_dir`.

    A private run reads its noise from run_dir/privacy.csv. Interrupted, training continues from the checkpoint.
    """
    mechanism = None if spec.privacy is None else privacy_file.read(run_dir)
    images = DeviceImages(data, device)
    groups = [ImageGroup(spec, k, images, device, mechanism) for k in range(spec.replicates)]
    key = checkpoint.fingerprint(spec, data.arrays(), f"torch {torch.__version__} {device.type} {mechanism}")
    Trainer(spec, groups, run_dir, key).train()


def load_images(run_dir: Path, spec: ImageRunSpec, device: torch.device) -> list[TorchImageClassifier]:
    """The trained classifiers of a finished run, one per replicate. Raises UserError as `image_models.load`."""
    stacked = image_models.load(run_dir, spec.model)
    return [
        TorchImageClassifier({name: torch.from_numpy(a[k]).to(device) for name, a in stacked.items()})
        for k in range(spec.replicates)
    ]
