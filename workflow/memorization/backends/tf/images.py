"""Image classifiers in the TensorFlow back end: training, private or not, and losses of single images."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from memorization import image_models, privacy_file
from memorization.backends import checkpoint
from memorization.backends.tf import cnn
from memorization.backends.tf.optimizers import Updater
from memorization.backends.tf.runtime import tf
from memorization.backends.tf.steps import Shapes, clipped_to, keys, shapes_of, specs_of
from memorization.backends.training import Trainer
from memorization.data.images import ImageData, batches
from memorization.privacy_file import Mechanism
from memorization.specs import ImageRunSpec
from memorization.streams import stream

EVALUATION_IMAGES = 500
"""Images per call without gradients."""

IMAGES, LABELS = tf.TensorSpec([None, 28, 28], tf.float32), tf.TensorSpec([None], tf.int32)


@functools.cache
def _logits_function(shapes: Shapes):
    return tf.function(cnn.logits, input_signature=[specs_of(shapes), IMAGES])


@functools.cache
def _gradient_function(shapes: Shapes, limit: float | None):
    """(weights, images, labels) -> (sum of losses, gradients of their mean)."""

    @tf.function(input_signature=[specs_of(shapes), IMAGES, LABELS])
    def gradients(weights, images, labels):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            losses = cnn.losses(weights, images, labels)
            mean = tf.reduce_mean(losses)
        result = tape.gradient(mean, [weights[name] for name, _ in shapes])
        return tf.reduce_sum(losses), clipped_to(result, limit)

    return gradients


@functools.cache
def _clipped_sum_function(shapes: Shapes, clip: float):
    """(weights, images, labels) -> (sum of losses, sums of the images' clipped gradients)."""

    @tf.function(input_signature=[specs_of(shapes), IMAGES, LABELS])
    def clipped_sums(weights, images, labels):
        total, named = cnn.clipped_sums(weights, images, labels, clip)
        return total, [named[name] for name, _ in shapes]

    return clipped_sums


class TFImageClassifier:
    """One trained classifier: `backends.base.ImageClassifier`."""

    def __init__(self, weights: Mapping[str, np.ndarray], device: str = "/CPU:0") -> None:
        with tf.device(device):
            self.weights = {name: tf.constant(array, tf.float32) for name, array in weights.items()}
        self._device = device

    def losses(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cross-entropies float64[n] in nats and bool[n]: classified rightly, of float32[n, 28, 28] and int64[n]."""
        compute, losses, right = _logits_function(shapes_of(self.weights)), [], []
        for first in range(0, len(images), EVALUATION_IMAGES):
            part = slice(first, first + EVALUATION_IMAGES)
            with tf.device(self._device):
                logits = compute(self.weights, tf.constant(images[part])).numpy()
            # In float32 a loss below 1e-7 would be 0, and losses of learnt images are often smaller.
            exact = logits.astype(np.float64)
            exact -= exact.max(axis=1, keepdims=True)
            chosen = np.take_along_axis(exact, labels[part, None], axis=1)[:, 0]
            losses.append(np.log(np.exp(exact).sum(axis=1)) - chosen)
            right.append(logits.argmax(axis=1) == labels[part])
        return np.concatenate(losses), np.concatenate(right)


class ImageGroup:
    """One replicate in training: `backends.base.Group`."""

    unit = "nats/image"

    def __init__(
        self, spec: ImageRunSpec, member: int, data: ImageData, device: str, mechanism: Mechanism | None = None
    ) -> None:
        self.spec, self.members, self.data, self.device, self.mechanism = spec, [member], data, device, mechanism
        self._labels = data.labels.astype(np.int32)
        initial = image_models.initial_weights(spec.model, data.classes, stream(spec.seed, member, "init"))
        with tf.device(device):
            self.weights = {name: tf.Variable(array) for name, array in initial.items()}
            self.updater = Updater(list(self.weights.values()), spec.training, mechanism)

    @property
    def batches(self) -> int:
        """Mini-batches per epoch; an incomplete rest is dropped."""
        return max(1, len(self.data.train) // self.spec.training.batch_size)

    def train_epoch(self, epoch: int, count: int) -> Iterator[list[np.ndarray]]:
        """Train on the first `count` mini-batches; yields after each [its images' numbers, int64[B]].

        `epoch_loss` then holds float64[1]: nats per image, mean over all images trained on in this epoch. A private
        step without images still adds noise.
        """
        member, seed = self.members[0], self.spec.seed
        noises = keys(seed, member, f"noise-{epoch}", count)
        total, seen = 0.0, 0
        for noise, rows in zip(noises, batches(self.spec, member, epoch, len(self.data.train)), strict=False):
            total += self._update(rows, noise)
            seen += len(rows)
            yield [rows]
        self.epoch_loss = np.array([total / seen if seen else np.nan])

    def _update(self, rows: np.ndarray, noise: np.ndarray) -> float:
        """One step of the optimiser on the images int64[B] `rows`; returns the sum of their losses before it.

        int64[2] `noise` decides a private step's noise.
        """
        shapes = shapes_of(self.weights)
        if self.mechanism is None:
            compute = _gradient_function(shapes, self.spec.training.gradient_clip)
        else:
            compute = _clipped_sum_function(shapes, self.mechanism.clip)
        with tf.device(self.device):
            values = {name: variable.value() for name, variable in self.weights.items()}
            if len(rows):
                total, gradients = compute(values, tf.constant(self.data.train[rows]), tf.constant(self._labels[rows]))
            else:
                total, gradients = 0.0, [tf.zeros_like(w) for w in values.values()]
            self.updater.apply(gradients, noise)
        return float(total)

    def evaluate(self, role: str) -> dict[str, np.ndarray]:
        """Nats per image and accuracy, float64[1] each, on the test images; there are none for validation."""
        if role == "validation":
            return {"loss_nats": np.full(1, np.nan), "accuracy": np.full(1, np.nan)}
        losses, right = self.model(self.members[0]).losses(self.data.test, self.data.test_labels)
        return {"loss_nats": losses.mean(keepdims=True), "accuracy": right.mean(keepdims=True)}

    def weights_of(self, member: int) -> dict[str, np.ndarray]:
        """A copy of the replicate's arrays."""
        return {name: np.array(variable.numpy()) for name, variable in self.weights.items()}

    def model(self, member: int) -> TFImageClassifier:
        """The replicate as it is now."""
        return TFImageClassifier(self.weights_of(member), self.device)

    def drop(self, finished: set[int]) -> None:
        """Stop training."""
        self.members = [member for member in self.members if member not in finished]

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"members": self.members, "weights": self.weights_of(-1), "optimizer": self.updater.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        for name, variable in self.weights.items():
            variable.assign(state["weights"][name])
        self.updater.restore(state["optimizer"])


def train_images(spec: ImageRunSpec, data: ImageData, run_dir: Path, device: str) -> None:
    """Train all replicates of `spec`; write model.npz, curves.csv and an empty measures.csv into `run_dir`.

    A private run reads its noise from run_dir/privacy.csv. Interrupted, training continues from the checkpoint.
    """
    mechanism = None if spec.privacy is None else privacy_file.read(run_dir)
    groups = [ImageGroup(spec, k, data, device, mechanism) for k in range(spec.replicates)]
    key = checkpoint.fingerprint(spec, data.arrays(), f"tensorflow {tf.__version__} {device} {mechanism}")
    Trainer(spec, groups, run_dir, key).train()


def load_images(run_dir: Path, spec: ImageRunSpec, device: str) -> list[TFImageClassifier]:
    """The trained classifiers of a finished run, one per replicate. Raises UserError as `image_models.load`."""
    stacked = image_models.load(run_dir, spec.model)
    return [TFImageClassifier({name: a[k] for name, a in stacked.items()}, device) for k in range(spec.replicates)]
