"""Training classifiers that fit data or noise in TensorFlow, one replicate after the other."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from memorization import classifier_models
from memorization.backends import checkpoint
from memorization.backends.recorder import Recorder
from memorization.backends.tf import critical_samples
from memorization.backends.tf.classifiers import Regularisers, forward, forward_training
from memorization.backends.tf.optimizers import MOMENTUM
from memorization.backends.tf.runtime import tf
from memorization.backends.tf.steps import clipped_to, keys
from memorization.backends.training import Trainer
from memorization.classifier_models import decayed, trained
from memorization.classifier_specs import ClassifierRunSpec, ClassifierSpec, ClassifierTrainingSpec
from memorization.data.labelled import LabelledData, batch_count, batches, own_examples
from memorization.streams import stream

EVALUATION_IMAGES = 500
"""Images per call without gradients."""

Arrays = dict[str, "tf.Tensor"]


@functools.cache
def _logits_function(model: ClassifierSpec):
    return tf.function(lambda weights, images: forward(model, weights, images), reduce_retracing=True)


@functools.cache
def _step_function(model: ClassifierSpec, training: ClassifierTrainingSpec):
    """(weights, velocities, images, labels, rate, int64[2] key of the noise) -> (weights, velocities, mean loss).

    SGD, plain or with momentum, as torch.optim has it: a velocity holds gradients, so that a new rate acts at once.
    Weights go in and out, so all replicates share one graph.
    """

    @tf.function(reduce_retracing=True)
    def step(weights, velocities, images, labels, rate, key):
        names = [name for name in weights if trained(name)]
        with tf.GradientTape() as tape:
            tape.watch([weights[name] for name in names])
            logits, statistics = forward_training(model, weights, images, Regularisers(training, key))
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, [weights[name] for name in names])
        decay = [training.weight_decay if decayed(name) else 0.0 for name in names]
        gradients = [g + d * weights[n] if d else g for g, d, n in zip(gradients, decay, names, strict=True)]
        gradients = dict(zip(names, clipped_to(gradients, training.gradient_clip), strict=True))
        if training.optimizer == "momentum":
            velocities = gradients = {name: MOMENTUM * velocities[name] + gradients[name] for name in names}
        moved = {name: weights[name] - rate * gradients[name] for name in names}
        # In the order in which they came: the next call then needs no new graph.
        return {name: (moved | statistics)[name] for name in weights}, velocities, loss

    return step


class ClassifierGroup:
    """One replicate in training: `backends.base.Group` and `backends.recorder.ClassifierGroup`."""

    unit = "nats/image"

    def __init__(self, spec: ClassifierRunSpec, member: int, data: LabelledData, device: str) -> None:
        self.spec, self.members, self.data, self.device = spec, [member], data, device
        self._given = data.given.astype(np.int32)
        initial = classifier_models.initial_weights(
            spec.model, data.shape, data.classes, stream(spec.seed, member, "init")
        )
        velocities = {}
        if spec.training.optimizer == "momentum":
            velocities = {name: np.zeros_like(array) for name, array in initial.items() if trained(name)}
        self._install(initial, velocities)

    def _install(self, weights: Mapping[str, np.ndarray], velocities: Mapping[str, np.ndarray]) -> None:
        with tf.device(self.device):
            self.weights, self.velocities = (
                {name: tf.constant(array, tf.float32) for name, array in arrays.items()}
                for arrays in (weights, velocities)
            )

    @property
    def batches(self) -> int:
        """Mini-batches per epoch."""
        return batch_count(self.spec, len(self.data.train))

    def train_epoch(self, epoch: int, batches_: int) -> Iterator[np.ndarray]:
        """Train on the first `batches_` mini-batches; yields after each its images' numbers, int64[1, B].

        `epoch_loss` then holds float64[1]: nats per image, the mean over all images trained on in this epoch, in
        training, without what regularisers add.
        """
        spec, member = self.spec, self.members[0]
        step = _step_function(spec.model, spec.training)
        halvings = 0 if spec.training.halve_every is None else int((epoch - 1) // spec.training.halve_every)
        rate = spec.training.learning_rate / 2**halvings
        noises = keys(spec.seed, member, f"regularisers-{epoch}", batches_)
        total, seen = 0.0, 0
        for rows, noise in zip(batches(spec, member, epoch, len(self.data.train)), noises, strict=False):
            with tf.device(self.device):
                images, labels = tf.constant(self.data.train[rows]), tf.constant(self._given[rows])
                settings = tf.constant(rate, tf.float32), tf.constant(noise, tf.int64)
                self.weights, self.velocities, loss = step(self.weights, self.velocities, images, labels, *settings)
            total += float(loss) * len(rows)
            seen += len(rows)
            yield rows[None]
        self.epoch_loss = np.array([total / seen])

    def _logits(self, images: np.ndarray) -> np.ndarray:
        """float64[N, classes] of images [N, ...], in evaluation."""
        return _logits(self.spec.model, self.weights, images, self.device)

    def outcomes(self, examples: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `backends.recorder.ClassifierGroup`."""
        logits = self._logits(self.data.train[:examples])
        return _losses(logits, self.data.given[:examples])[None], logits.argmax(1)[None]

    def evaluate(self, role: str) -> dict[str, np.ndarray]:
        """Nats per image and accuracy, float64[1] each, on the validation images; there are none for testing."""
        labels = self.data.validation_labels
        if role != "validation" or not len(labels):
            return {"loss_nats": np.full(1, np.nan), "accuracy": np.full(1, np.nan)}
        logits = self._logits(self.data.validation)
        right = (logits.argmax(1) == labels).mean(keepdims=True)
        return {"loss_nats": _losses(logits, labels).mean(keepdims=True), "accuracy": right}

    def fits(self, asked: np.ndarray) -> np.ndarray:
        """As `backends.recorder.ClassifierGroup`."""
        if not asked.any():
            return asked.copy()
        own = own_examples(self.spec, self.members[0], len(self.data.train))
        parts = (own[first : first + EVALUATION_IMAGES] for first in range(0, len(own), EVALUATION_IMAGES))
        right = ((self._logits(self.data.train[part]).argmax(1) == self.data.given[part]).all() for part in parts)
        return np.array([all(right)])

    def critical(self, epoch: int) -> Mapping[tuple[str, str], np.ndarray]:
        """As `backends.recorder.ClassifierGroup`."""
        [key] = keys(self.spec.seed, self.members[0], f"critical-{epoch}", 1)
        parts = critical_samples.images_of(self.spec, self.data, self.members[0])
        with tf.device(self.device):
            return critical_samples.measures(
                self.spec.model, self.weights, parts, self.spec.measure.critical, self.data.scale, key
            )

    def weights_of(self, member: int) -> dict[str, np.ndarray]:
        """A copy of the replicate's arrays."""
        return {name: np.array(array.numpy()) for name, array in self.weights.items()}

    def model(self, member: int) -> "TFClassifier":
        """The replicate as it is now."""
        return TFClassifier(self.spec.model, self.weights_of(member), self.device)

    def drop(self, finished: set[int]) -> None:
        """Stop training."""
        self.members = [member for member in self.members if member not in finished]

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        velocities = {name: np.array(array.numpy()) for name, array in self.velocities.items()}
        return {"members": self.members, "weights": self.weights_of(-1), "velocities": velocities}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self._install(state["weights"], state["velocities"])


class TFClassifier:
    """One trained classifier: `backends.base.ImageClassifier`, for images [n, channels, rows, columns]."""

    def __init__(self, model: ClassifierSpec, weights: Mapping[str, np.ndarray], device: str = "/CPU:0") -> None:
        self.spec, self._device = model, device
        with tf.device(device):
            self.weights: Arrays = {name: tf.constant(array, tf.float32) for name, array in weights.items()}

    def losses(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cross-entropies float64[n] in nats and bool[n]: classified rightly, of images in the network's units."""
        logits = _logits(self.spec, self.weights, images, self._device)
        return _losses(logits, labels), logits.argmax(1) == labels


def _logits(model: ClassifierSpec, weights: Arrays, images: np.ndarray, device: str) -> np.ndarray:
    compute, found = _logits_function(model), []
    for first in range(0, len(images), EVALUATION_IMAGES):
        with tf.device(device):
            found.append(compute(weights, tf.constant(images[first : first + EVALUATION_IMAGES])).numpy())
    # In float32 a loss below 1e-7 would be 0, and losses of learnt images are often smaller.
    return np.concatenate(found).astype(np.float64)


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Cross-entropies float64[n] of float64[n, classes]."""
    exact = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(exact).sum(axis=1)) - np.take_along_axis(exact, labels[:, None], axis=1)[:, 0]


def train_classifiers(spec: ClassifierRunSpec, data: LabelledData, run_dir: Path, device: str) -> None:
    """Train all replicates of `spec`; write model.npz, curves.csv, details.csv and an empty measures.csv.

    Interrupted, training continues from the checkpoint in `run_dir`.
    """
    groups = [ClassifierGroup(spec, k, data, device) for k in range(spec.replicates)]
    key = checkpoint.fingerprint(spec, data.arrays(), f"tensorflow {tf.__version__} {device}")
    Trainer(spec, groups, run_dir, key, recorder=Recorder(spec, data)).train()


def load_classifiers(run_dir: Path, spec: ClassifierRunSpec, device: str) -> list[TFClassifier]:
    """The trained classifiers of a finished run, one per replicate. Raises UserError as `classifier_models.load`."""
    stacked = classifier_models.load(run_dir, spec.model)
    return [TFClassifier(spec.model, {n: a[k] for n, a in stacked.items()}, device) for k in range(spec.replicates)]
