"""LASS, the search for critical samples, of one classifier: backends/torch/critical_samples.py in TensorFlow."""

import functools

import numpy as np

from memorization.backends.tf.classifiers import forward
from memorization.backends.tf.runtime import tf
from memorization.classifier_specs import ClassifierRunSpec, ClassifierSpec, CriticalSpec
from memorization.data.labelled import LabelledData, own_examples
from memorization.streams import stream

AT_ONCE = 500
"""Images per forward pass of the search."""
LOWEST = -1e30
"""Instead of minus infinity, whose gradient would be NaN."""


@functools.cache
def search_function(model: ClassifierSpec):
    """(weights, images [N, ...], radius, step, noise, iterations, int64[2] key) -> bool[N]: found to be critical.

    radius, step (alpha) and noise (beta) in the images' units; the number of iterations is fixed. The gradient is taken
    at the current point, of the log odds against the class predicted at the image, and ascended; noise is drawn per
    element; a sample once found critical stays so.
    """

    @tf.function(reduce_retracing=True)
    def predict(weights, images):
        return tf.argmax(forward(model, weights, images), -1)

    @tf.function(reduce_retracing=True)
    def step_on(weights, images, point, found, predicted, radius, step, noise, key):
        with tf.GradientTape() as tape:
            tape.watch(point)
            scores = forward(model, weights, point)
            excess = tf.reduce_sum(_excess(scores, predicted))
        found = tf.logical_or(found, tf.argmax(scores, -1) != predicted)
        random = tf.random.stateless_normal(tf.shape(images), key)
        moved = point + step * tf.sign(tape.gradient(excess, point)) + noise * random
        return tf.maximum(tf.minimum(moved, images + radius), images - radius), found

    def search(weights, images, radius, step, noise, iterations, key):
        # The loop is Python's: inside one of TensorFlow's, large sums of two iterations collide ("AlreadyExistsError",
        # tensorflow issue 37740; seen at 4096 units).
        predicted = predict(weights, images)
        point, found = images, tf.zeros_like(predicted, tf.bool)
        for number in range(iterations):
            now = tf.stack([key[0], key[1] + number])
            point, found = step_on(weights, images, point, found, predicted, radius, step, noise, now)
        return tf.logical_or(found, predict(weights, point) != predicted)

    return search


def _excess(scores: "tf.Tensor", predicted: "tf.Tensor") -> "tf.Tensor":
    """[N]: log of the summed odds of the other classes; unlike the cross-entropy it does not saturate."""
    chosen = tf.one_hot(predicted, scores.shape[-1])
    return tf.reduce_logsumexp(scores + LOWEST * chosen, -1) - tf.reduce_sum(scores * chosen, -1)


def measures(
    model: ClassifierSpec,
    weights: dict[str, "tf.Tensor"],
    parts: dict[str, np.ndarray],
    spec: CriticalSpec,
    scale: float,
    key: np.ndarray,
) -> dict[tuple[str, str], np.ndarray]:
    """(csr_<radius> or csr_count_<radius>, part) -> float64[1]: share and number of critical images [N, ...]; with
    `spec.each` also (critical_<radius>, part) -> float64[1, N]: which they are.

    scale: what one unit of the pixels' scale of 0 to 255 is in the input. Step and noise hold for the first radius; for
    others they are in proportion. int64[2] `key` decides the random numbers.
    """
    search, rows = search_function(model), {}
    for part, images in parts.items():
        for number, radius in enumerate(spec.radii):
            unit = scale * radius / spec.radii[0]
            how = [tf.constant(value, tf.float32) for value in (radius * scale, spec.step * unit, spec.noise * unit)]
            found = []
            for first in range(0, len(images), AT_ONCE):
                own = tf.constant([key[0] + number, key[1] + first * spec.iterations], tf.int64)
                chunk = tf.constant(images[first : first + AT_ONCE])
                found.append(search(weights, chunk, *how, spec.iterations, own).numpy())
            critical = np.concatenate(found).astype(np.float64)
            rows[f"csr_{radius:g}", part] = critical.mean(keepdims=True)
            rows[f"csr_count_{radius:g}", part] = critical.sum(keepdims=True)
            if spec.each:
                rows[f"critical_{radius:g}", part] = critical[None]
    return rows


def images_of(spec: ClassifierRunSpec, data: LabelledData, member: int) -> dict[str, np.ndarray]:
    """Part -> float32[N, ...]: the images in which `spec.measure.critical` searches."""
    wanted, found = spec.measure.critical, {}
    for part in wanted.parts:
        if part == "train":
            found[part] = data.train[own_examples(spec, member, len(data.train))[: wanted.examples]]
        elif part == "validation":
            found[part] = data.validation[: wanted.examples]
        else:
            found[part] = data.gaussian.draw(wanted.examples, stream(spec.data.noise.seed, 0, "critical-gaussian"))
    return found
