"""Keras' momentum, Adagrad and Adadelta as we set them, against their papers' formulas; drops of the learning rate."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from test_tf_training import make_corpora, make_spec  # noqa: E402

from memorization.backends.tf.group import Group  # noqa: E402
from memorization.backends.tf.optimizers import Updater  # noqa: E402
from memorization.specs import TrainingSpec  # noqa: E402


def momentum(p, g, s, rate):
    s["v"] = 0.9 * s.get("v", 0) + g
    return p - rate * s["v"]


def adagrad(p, g, s, rate):
    s["sum"] = s.get("sum", 0) + g**2
    return p - rate * g / (np.sqrt(s["sum"]) + 1e-10)


def adadelta(p, g, s, rate):
    s["square"] = 0.9 * s.get("square", 0) + 0.1 * g**2
    step = np.sqrt(s.get("moved", 0) + 1e-6) / np.sqrt(s["square"] + 1e-6) * g
    s["moved"] = 0.9 * s.get("moved", 0) + 0.1 * step**2
    return p - rate * step


@pytest.mark.parametrize("formula", [momentum, adagrad, adadelta])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_updates_equal_the_formula(formula, decay):
    rng = np.random.default_rng(0)
    expected, state = rng.standard_normal(7).astype(np.float32), {}
    variable = tf.Variable(expected)
    training = TrainingSpec(optimizer=formula.__name__, learning_rate=0.3, weight_decay=decay)
    updater = Updater([variable], training, None)
    for _ in range(5):
        gradient = rng.standard_normal(7).astype(np.float32)
        updater.apply([tf.constant(gradient)], np.zeros(2, dtype=np.int64))
        expected = formula(expected, gradient + decay * expected, state, 0.3)
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_the_learning_rate_drops_after_the_named_epochs():
    spec = make_spec(optimizer="sgd", learning_rate=0.5, learning_rate_drops=[1])
    group = Group(spec, 0, make_corpora(spec)[0], "/CPU:0")
    moved = []
    for epoch in (1, 2):
        before = group.weights_of(0)["output.bias"]
        next(group.train_epoch(epoch, 1))
        moved.append(np.abs(group.weights_of(0)["output.bias"] - before).max())
        assert float(group.updater.optimizer.learning_rate) == pytest.approx(0.5 if epoch == 1 else 0.05)
    assert moved[1] < 0.5 * moved[0]
