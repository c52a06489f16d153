"""One classifier that fits data or noise in TensorFlow: logits in evaluation and in training, regularised by noise.

Arrays have the names and shapes of classifier_models.py (PyTorch's: filters [out, in, row, column], images
[B, channels, rows, columns]). What is computed is that of backends/torch/classifiers.py; random numbers differ.
"""

from collections.abc import Mapping

from memorization.backends.tf.runtime import tf
from memorization.classifier_models import CROP, NORM_EPSILON, NORM_MOMENTUM, POOL, padded, pool_stride
from memorization.classifier_specs import ClassifierSpec, ClassifierTrainingSpec

Weights = Mapping[str, "tf.Tensor"]


def forward(model: ClassifierSpec, weights: Weights, images: "tf.Tensor") -> "tf.Tensor":
    """Logits [B, classes] of images [B, channels, rows, columns] in evaluation: stored statistics, no noise."""
    return _Pass(model, weights, None).logits(images)


def forward_training(
    model: ClassifierSpec, weights: Weights, images: "tf.Tensor", regularisers: "Regularisers"
) -> tuple["tf.Tensor", dict[str, "tf.Tensor"]]:
    """Logits [B, classes] in training, and what the stored statistics of normalisation become (none for the MLP)."""
    one_pass = _Pass(model, weights, regularisers)
    return one_pass.logits(images), one_pass.statistics


class Regularisers:
    """Dropout and Gaussian noise on inputs and hidden dense layers (paper section 5), of one step.

    Every draw is decided by int64[2] `key` and its number within the step. Dropout is inverted.
    """

    def __init__(self, training: ClassifierTrainingSpec, key: "tf.Tensor") -> None:
        self.training, self._key, self._draws = training, key, 0

    def inputs(self, images: "tf.Tensor") -> "tf.Tensor":
        """[B, ...] of as many."""
        return self._noisy(self._dropped(images, self.training.input_dropout), self.training.input_noise)

    def hidden(self, states: "tf.Tensor") -> "tf.Tensor":
        """[B, units] of as many."""
        return self._noisy(self._dropped(states, self.training.dropout), self.training.hidden_noise)

    def _dropped(self, states: "tf.Tensor", rate: float) -> "tf.Tensor":
        if rate == 0:
            return states
        kept = tf.random.stateless_uniform(tf.shape(states), self._next()) >= rate
        return states * tf.cast(kept, states.dtype) / (1 - rate)

    def _noisy(self, states: "tf.Tensor", deviation: float) -> "tf.Tensor":
        if deviation == 0:
            return states
        return states + deviation * tf.random.stateless_normal(tf.shape(states), self._next())

    def _next(self) -> "tf.Tensor":
        self._draws += 1
        return tf.stack([self._key[0], self._key[1] + self._draws])


class _Pass:
    """One forward pass; with `regularisers` that of training."""

    def __init__(self, model: ClassifierSpec, weights: Weights, regularisers: Regularisers | None) -> None:
        self.model, self.weights, self.regularisers = model, weights, regularisers
        self.statistics: dict[str, tf.Tensor] = {}

    def logits(self, images: "tf.Tensor") -> "tf.Tensor":
        if self.regularisers is not None:
            images = self.regularisers.inputs(images)
        if self.model.architecture == "mlp":
            states = tf.reshape(images, [-1, self.weights["hidden1.weight"].shape[1]])
            for number in range(1, self.model.layers + 1):
                states = self._hidden(tf.nn.relu(self._dense(f"hidden{number}", states)))
            return self._dense("output", states)
        states = self._convolved(images)
        for number in (1, 2):
            states = self._normalised(f"norm{number + 2}", self._dense(f"dense{number}", states))
            states = self._hidden(tf.nn.relu(states))
        return self._dense("output", states)

    def _hidden(self, states: "tf.Tensor") -> "tf.Tensor":
        return states if self.regularisers is None else self.regularisers.hidden(states)

    def _dense(self, name: str, states: "tf.Tensor") -> "tf.Tensor":
        return tf.matmul(states, self.weights[f"{name}.weight"], transpose_b=True) + self.weights[f"{name}.bias"]

    def _convolved(self, images: "tf.Tensor") -> "tf.Tensor":
        """The two convolutional layers, flattened in the order channel, row, column as PyTorch does: [B, flat]."""
        same, same_pool = padded(self.model)
        # On a CPU TensorFlow convolves only with channels last.
        states = tf.transpose(images, [0, 2, 3, 1])[:, CROP:-CROP, CROP:-CROP]
        for number in (1, 2):
            filters = tf.transpose(self.weights[f"conv{number}.weight"], [2, 3, 1, 0])
            states = tf.nn.conv2d(states, filters, 1, "SAME" if same else "VALID") + self.weights[f"conv{number}.bias"]
            states = self._normalised(f"norm{number}", states)
            pooled = tf.nn.max_pool2d(states, POOL, pool_stride(self.model), "SAME" if same_pool else "VALID")
            states = tf.nn.relu(pooled)
        return tf.reshape(tf.transpose(states, [0, 3, 1, 2]), [-1, self.weights["dense1.weight"].shape[1]])

    def _normalised(self, name: str, states: "tf.Tensor") -> "tf.Tensor":
        """Batch normalisation over all but the last axis."""
        weight, bias, mean, variance = (
            self.weights[f"{name}.{what}"] for what in ("weight", "bias", "mean", "variance")
        )
        if self.regularisers is not None:
            batch_mean, batch_variance = tf.nn.moments(states, list(range(states.shape.rank - 1)))
            count = tf.cast(tf.size(states) / states.shape[-1], tf.float32)
            # What is stored is the unbiased variance, as in PyTorch.
            unbiased = batch_variance * count / (count - 1)
            self.statistics[f"{name}.mean"] = NORM_MOMENTUM * mean + (1 - NORM_MOMENTUM) * batch_mean
            self.statistics[f"{name}.variance"] = NORM_MOMENTUM * variance + (1 - NORM_MOMENTUM) * unbiased
            mean, variance = batch_mean, batch_variance
        return (states - mean) * tf.math.rsqrt(variance + NORM_EPSILON) * weight + bias
