"""Private training in the tf back end against TF Privacy's own optimisers, a per-example loop, and formulas."""

import numpy as np
import pytest

from memorization import weights as weight_files
from memorization.privacy_file import Mechanism
from memorization.specs import ImageModelSpec, ModelSpec, TrainingSpec
from memorization.streams import stream

tf = pytest.importorskip("tensorflow")

from keras_lstm import keras_model, to_keras, window_losses  # noqa: E402

from memorization import image_models  # noqa: E402
from memorization.backends.tf import cnn, steps  # noqa: E402
from memorization.backends.tf.optimizers import Updater  # noqa: E402
from memorization.backends.tf.private import vectorized_optimizer  # noqa: E402

V, BATCH, LENGTH = 7, 5, 6
CLIP = 0.7
KEY = np.array([3, 4])


@pytest.fixture(params=[(1, 4), (2, 4), (2, None)], ids=["1-layer", "2-layer", "one-hot"])
def weights(request):
    """Three times the initial arrays: the windows' gradients then differ in norm."""
    layers, embedding = request.param
    model = ModelSpec(layers=layers, units=6, embedding=embedding)
    drawn = weight_files.initial_weights(model, V, np.random.default_rng(layers))
    return {name: 3 * array for name, array in drawn.items()}


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return tuple(rng.integers(0, V, (BATCH, LENGTH)).astype(np.int32) for _ in range(2))


def trained(weights):
    return [name for name in weights if weight_files.trained(name)]


def gradients(weights, ids, targets, dropout=0.0, limit=None):
    """Mean loss and its gradient, in the order of Keras' weights."""
    values = {name: tf.constant(array) for name, array in weights.items()}
    loss, result = steps.gradient_function(steps.shapes_of(values), dropout, limit)(values, ids, targets, KEY)
    return float(loss), to_keras(dict(zip(trained(weights), (g.numpy() for g in result), strict=True)))


def clipped_sums(weights, ids, targets, clip=CLIP):
    values = {name: tf.constant(array) for name, array in weights.items()}
    _, result = steps.clipped_sum_function(steps.shapes_of(values), 0.0, clip)(values, ids, targets, KEY)
    return to_keras(dict(zip(trained(weights), (g.numpy() for g in result), strict=True)))


def norm(arrays):
    return np.sqrt(sum(float(np.square(a, dtype=np.float64).sum()) for a in arrays))


def loop_sums(weights, ids, targets, clip=CLIP):
    """One window at a time through Keras' layers; also the norms before clipping."""
    model, total, norms = keras_model(weights), None, []
    for row in range(len(ids)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(window_losses(model, ids[row : row + 1], targets[row : row + 1]))
        own = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, model.trainable_variables)]
        norms.append(norm(own))
        own = [g * min(1, clip / norms[-1]) for g in own]
        total = own if total is None else [a + b for a, b in zip(total, own, strict=True)]
    return total, norms


def assert_close(ours, theirs, rtol=1e-5):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.abs(other).max())


def test_loss_and_gradient_equal_keras(weights, batch):
    model = keras_model(weights)
    with tf.GradientTape() as tape:
        expected = tf.reduce_mean(window_losses(model, *batch))
    theirs = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(expected, model.trainable_variables)]
    loss, ours = gradients(weights, *batch)
    assert loss == pytest.approx(float(expected), rel=1e-6)
    assert_close(ours, theirs)
    _, limited = gradients(weights, *batch, limit=0.01)
    assert norm(limited) == pytest.approx(0.01, rel=1e-3)
    assert_close(limited, [g * 0.01 / norm(theirs) for g in theirs], rtol=2e-4)


def test_loss_equals_numpy(weights, batch):
    from numpy_lstm import log_perplexity

    ids, targets = batch
    sequences = np.concatenate([ids, targets[:, -1:]], axis=1)
    sequences[:, 1:] = targets
    model_loss, _ = gradients(weights, sequences[:, :-1], sequences[:, 1:])
    assert model_loss == pytest.approx(log_perplexity(weights, sequences).mean() / LENGTH * np.log(2), rel=1e-5)


def test_gradient_with_dropout_equals_finite_differences(weights, batch):
    """Along a random direction; masks depend on the key alone."""
    rng = np.random.default_rng(5)
    direction = {name: rng.normal(size=weights[name].shape).astype(np.float32) for name in trained(weights)}
    values = {name: tf.constant(array) for name, array in weights.items()}
    compute = steps.gradient_function(steps.shapes_of(values), 0.4, None)
    _, found = compute(values, *batch, KEY)
    slope = sum(float((g.numpy() * direction[n]).sum()) for n, g in zip(trained(weights), found, strict=True))

    def moved(distance):
        new = {name: tf.constant(array + distance * direction.get(name, 0)) for name, array in weights.items()}
        return float(compute(new, *batch, KEY)[0])

    assert (moved(2e-3) - moved(-2e-3)) / 4e-3 == pytest.approx(slope, rel=2e-2)
    plain, _ = gradients(weights, *batch)
    assert moved(0) != plain


def test_clipped_sum_equals_a_loop_over_examples(weights, batch):
    expected, norms = loop_sums(weights, *batch)
    assert min(norms) < CLIP < max(norms), "some windows must be clipped and some not"
    assert_close(clipped_sums(weights, *batch), expected)
    assert_close(clipped_sums(weights, *batch, clip=1e6), loop_sums(weights, *batch, clip=1e6)[0])


def test_norms_under_dropout_are_those_of_single_windows(weights, batch):
    """With a tiny clip every window counts by its direction alone, so the sum of one window has norm `clip`."""
    values = {name: tf.constant(array) for name, array in weights.items()}
    compute = steps.clipped_sum_function(steps.shapes_of(values), 0.4, 1e-3)
    for row in range(BATCH):
        _, result = compute(values, *(part[row : row + 1] for part in batch), KEY)
        assert norm([g.numpy() for g in result]) == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("kind", ["vectorized", "loop"])
def test_clipped_mean_equals_tf_privacys_optimisers(weights, batch, kind):
    from tensorflow_privacy.privacy.optimizers.dp_optimizer_keras import DPKerasSGDOptimizer

    if kind == "loop":
        optimizer = DPKerasSGDOptimizer(CLIP, 0.0, num_microbatches=BATCH, learning_rate=1.0)
    else:
        training = TrainingSpec(optimizer="sgd", learning_rate=1.0, gradient_clip=None)
        optimizer = vectorized_optimizer(training, Mechanism(0.0, CLIP, 0.1, 10, BATCH), BATCH)
    model = keras_model(weights)
    tf.random.set_seed(0)
    with tf.GradientTape(persistent=True) as tape:
        losses = window_losses(model, *batch)
    pairs = optimizer._compute_gradients(losses, model.trainable_variables, tape=tape)
    ours = [total / BATCH for total in clipped_sums(weights, *batch)]
    assert_close(ours, [gradient.numpy() for gradient, _ in pairs])


def updates(name, gradients_, mechanism=None, keys=None, **options):
    """The changes of one float32[n] variable under successive gradients."""
    training = TrainingSpec(optimizer=name, learning_rate=0.01, gradient_clip=None, **options)
    variable = tf.Variable(np.linspace(-1, 1, len(gradients_[0]), dtype=np.float32))
    updater, result = Updater([variable], training, mechanism), [variable.numpy()]
    for number, gradient in enumerate(gradients_):
        updater.apply([tf.constant(gradient, tf.float32)], KEY if keys is None else keys[number])
        result.append(variable.numpy())
    return result


def formula(name, start, gradients_, decay):
    """torch.optim's formulas in float64."""
    x, m, v, result = start.astype(np.float64), 0.0, 0.0, [start]
    for t, gradient in enumerate(gradients_, start=1):
        g = gradient + decay * x
        if name == "rmsprop":
            v = 0.99 * v + 0.01 * g**2
            x = x - 0.01 * g / (np.sqrt(v) + 1e-8)
        elif name == "adam":
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            x = x - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        else:
            x = x - 0.01 * g
        result.append(x)
    return result


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
def test_updates_are_those_of_torch_optim(name, decay, private):
    """Some gradients are as small as epsilon, where its place in the formula shows."""
    rng = np.random.default_rng(1)
    given = rng.normal(size=(4, 6)) * np.array([1, 1e-2, 1e-4, 1e-7, 1e-8, 3e-9])
    mechanism = Mechanism(0.0, 1.0, 0.1, 10, 4) if private else None
    ours = updates(name, [4 * g for g in given] if private else given, mechanism, weight_decay=decay)
    expected = formula(name, ours[0], given, decay)
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=2e-7)
    assert np.abs(expected[-1] - expected[0]).min() > 1e-6 or name == "sgd"


def test_noise_has_the_promised_deviation_and_its_key_decides_it():
    """s.d. of the update times the denominator: sigma C, over 4 x 10^4 numbers; steps and arrays draw independently."""
    sigma, clip, size, count = 1.7, 0.3, 8, 10_000
    mechanism = Mechanism(sigma, clip, 0.1, 10, size)
    training = TrainingSpec(optimizer="sgd", learning_rate=1.0, gradient_clip=None)

    def noise(keys):
        variables = [tf.Variable(tf.zeros([count])), tf.Variable(tf.zeros([count // 2, 2]))]
        updater, steps_ = Updater(variables, training, mechanism), []
        for key in keys:
            before = [v.numpy() for v in variables]
            updater.apply([tf.zeros_like(v) for v in variables], key)
            steps_ += [(v.numpy() - b).ravel() * size for v, b in zip(variables, before, strict=True)]
        return steps_

    keys = steps.keys(0, 0, "noise-1", 2)
    drawn = noise(keys)
    for part in drawn:
        assert part.std() == pytest.approx(sigma * clip, rel=0.03)
        assert abs(part.mean()) < 5 * sigma * clip / np.sqrt(count)
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.05
    for one, other in zip(drawn, noise(keys), strict=True):
        np.testing.assert_array_equal(one, other)


def test_keys_depend_on_the_epoch_and_not_on_the_number_of_steps():
    first = steps.keys(7, 1, "noise-1", 5)
    np.testing.assert_array_equal(steps.keys(7, 1, "noise-1", 3), first[:3])
    assert not np.array_equal(steps.keys(7, 1, "noise-2", 5), first)
    np.testing.assert_array_equal(first, stream(7, 1, "noise-1").integers(2**62, size=(5, 2)))


def test_noise_differs_from_tf_privacys_only_by_its_key():
    """Same query state, event and deviation as the library's own query, on the same sums."""
    from tensorflow_privacy.privacy.dp_query.gaussian_query import GaussianSumQuery

    from memorization.backends.tf.private import ResumableQuery

    tf.random.set_seed(0)
    results = []
    for cls in (GaussianSumQuery, ResumableQuery):
        query = cls(0.5, 0.5 * 1.2)
        query.key = tf.constant([1, 2], tf.int64)
        noised, state, event = query.get_noised_result([tf.zeros([20_000])], query.initial_global_state())
        results.append((noised[0].numpy().std(), float(state.l2_norm_clip), float(event.noise_multiplier)))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=0.03)
    assert results[0][1:] == pytest.approx(results[1][1:])


@pytest.fixture
def images():
    rng = np.random.default_rng(2)
    data = rng.random((6, 28, 28), dtype=np.float32) * (rng.random((6, 28, 28)) < 0.3)
    weights = image_models.initial_weights(ImageModelSpec(), 10, rng)
    return weights, tf.constant(data), tf.constant(rng.integers(0, 10, 6).astype(np.int32))


def keras_cnn(weights):
    """The tutorial's network from Keras' layers, as TF Privacy's tutorial has it."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Conv2D(16, 8, strides=2, padding="same", activation="relu", input_shape=(28, 28, 1)),
            layers.MaxPool2D(2, 1),
            layers.Conv2D(32, 4, strides=2, padding="valid", activation="relu"),
            layers.MaxPool2D(2, 1),
            # PyTorch's flattening order, so that the dense layer has model.npz's columns.
            layers.Permute((3, 1, 2)),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10),
        ]
    )
    model.set_weights(from_torch(weights))
    return model


def from_torch(arrays):
    """Filters [out, in, row, column] -> [row, column, in, out]; dense kernels transposed."""
    return [np.asarray(a).transpose(2, 3, 1, 0) if np.ndim(a) == 4 else np.asarray(a).T for a in arrays.values()]


def test_classifier_equals_keras(images):
    weights, pixels, _ = images
    np.testing.assert_allclose(cnn.logits(weights, pixels), keras_cnn(weights)(pixels[..., None]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clip", [4.0, 1e6])
def test_classifiers_clipped_mean_equals_tf_privacys(images, clip):
    weights, pixels, labels = images
    _, ours = cnn.clipped_sums({n: tf.constant(a) for n, a in weights.items()}, pixels, labels, clip)
    training = TrainingSpec(optimizer="sgd", learning_rate=1.0, gradient_clip=None)
    optimizer, model = vectorized_optimizer(training, Mechanism(0.0, clip, 0.1, 10, 6), 6), keras_cnn(weights)
    tf.random.set_seed(0)
    with tf.GradientTape(persistent=True) as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(pixels[..., None], training=True))
        single = [tf.gather(losses, row) for row in range(6)]
    norms = [norm([g.numpy() for g in tape.gradient(loss, model.trainable_variables)]) for loss in single]
    assert clip > 1e5 or min(norms) < clip < max(norms)
    pairs = optimizer._compute_gradients(losses, model.trainable_variables, tape=tape)
    assert_close([g / 6 for g in from_torch(ours)], [gradient.numpy() for gradient, _ in pairs], rtol=2e-5)
