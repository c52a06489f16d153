"""Classifiers that fit data or noise in the tf back end: regularisers, critical samples, resuming, what is refused."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from interruption import interrupt

tf = pytest.importorskip("tensorflow")

sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))
from classifier_cases import made_up, make_spec  # noqa: E402

from memorization import classifier_models  # noqa: E402
from memorization.backends import require_able, training  # noqa: E402
from memorization.backends import tf as backend  # noqa: E402
from memorization.backends.tf import critical_samples  # noqa: E402
from memorization.backends.tf.classifier_group import ClassifierGroup  # noqa: E402
from memorization.backends.tf.classifiers import Regularisers, forward, forward_training  # noqa: E402
from memorization.classifier_specs import ClassifierSpec, ClassifierTrainingSpec, CriticalSpec  # noqa: E402
from memorization.errors import UserError  # noqa: E402

NOISY = {"dropout": 0.3, "input_dropout": 0.2, "input_noise": 0.1, "hidden_noise": 0.1, "weight_decay": 0.01}
KEY = tf.constant([1, 2], tf.int64)


def regularisers(key=KEY, **training):
    return Regularisers(ClassifierTrainingSpec(**training), key)


def weights_of(model, seed=0):
    drawn = classifier_models.initial_weights(model, (3, 32, 32), 10, np.random.default_rng(seed))
    return {name: tf.constant(array) for name, array in drawn.items()}


def files(run_dir):
    curves = pd.read_csv(run_dir / "curves.csv").drop(columns="wall_s")
    return curves, pd.read_csv(run_dir / "details.csv"), np.load(run_dir / "model.npz")


def assert_same_run(one, other):
    for ours, theirs in zip(files(one)[:2], files(other)[:2], strict=True):
        pd.testing.assert_frame_equal(ours, theirs)
    for name, array in files(one)[2].items():
        np.testing.assert_array_equal(array, files(other)[2][name], err_msg=name)


# --- regularisers -------------------------------------------------------------------------------------------------


def test_inverted_dropout_keeps_the_mean_and_drops_the_share():
    dropped = regularisers(dropout=0.3).hidden(tf.ones([200, 500])).numpy()
    assert (dropped == 0).mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_allclose(np.unique(dropped), [0, 1 / 0.7], rtol=1e-6)


@pytest.mark.parametrize(("where", "option"), [("inputs", "input_noise"), ("hidden", "hidden_noise")])
def test_noise_has_its_deviation(where, option):
    noisy = getattr(regularisers(**{option: 0.5}), where)(tf.zeros([200, 500])).numpy()
    assert noisy.std() == pytest.approx(0.5, rel=0.02)
    assert abs(noisy.mean()) < 0.01


def test_without_regularisers_nothing_changes_and_evaluation_has_no_noise():
    states = tf.ones([3, 4])
    assert regularisers().inputs(states) is states
    model = ClassifierSpec(architecture="mlp", units=8)
    weights, images = weights_of(model), tf.constant(made_up().train)
    quiet, statistics = forward_training(model, weights, images, regularisers())
    np.testing.assert_allclose(quiet, forward(model, weights, images), rtol=1e-6)
    noisy, _ = forward_training(model, weights, images, regularisers(dropout=0.5))
    assert not np.allclose(noisy, quiet)
    assert not statistics


def test_keys_decide_every_draw():
    states = tf.ones([20, 30])
    one, other = regularisers(dropout=0.5), regularisers(dropout=0.5)
    first = one.hidden(states).numpy()
    np.testing.assert_array_equal(first, other.hidden(states))
    assert not np.array_equal(first, one.hidden(states))
    assert not np.array_equal(first, regularisers(tf.constant([1, 99], tf.int64), dropout=0.5).hidden(states))


def test_normalisation_stores_unbiased_variances():
    model = ClassifierSpec(architecture="cnn", filters=4, dense=(8, 6))
    weights, images = weights_of(model), tf.constant(made_up().train)
    _, statistics = forward_training(model, weights, images, regularisers())
    assert set(statistics) == {f"norm{n}.{what}" for n in (1, 2, 3, 4) for what in ("mean", "variance")}
    cropped = made_up().train[:, :, 2:-2, 2:-2].transpose(0, 2, 3, 1)
    filters = weights["conv1.weight"].numpy().transpose(2, 3, 1, 0)
    states = tf.nn.conv2d(cropped, filters, 1, "VALID").numpy().reshape(-1, 4)
    np.testing.assert_allclose(statistics["norm1.mean"], 0.1 * states.mean(0), atol=1e-5)
    np.testing.assert_allclose(statistics["norm1.variance"], 0.9 + 0.1 * states.var(0, ddof=1), rtol=1e-4)


# --- critical samples ---------------------------------------------------------------------------------------------


def linear(weight):
    """An MLP that subtracts: class 1 where pixel 0 exceeds pixel 1, and its logit's slope is `weight`."""
    model = ClassifierSpec(architecture="mlp", layers=1, units=2)
    eye = np.eye(2, dtype=np.float32)
    arrays = {"hidden1.weight": eye, "hidden1.bias": np.full(2, 10, np.float32),
              "output.weight": weight * (eye[::-1] - eye), "output.bias": np.zeros(2, np.float32)}  # fmt: skip
    return model, {name: tf.constant(array) for name, array in arrays.items()}


@pytest.mark.parametrize("weight", [1.0, 1e4])
def test_search_finds_just_what_lies_within_the_radius(weight):
    """The boundary is x0 = x1, so an image with x0 - x1 = d is critical iff d < 2 r; also where softmax saturates."""
    model, weights = linear(np.float32(weight))
    gaps = np.array([0.1, 0.5, 0.9, 1.1, 1.5], dtype=np.float32)
    images = tf.constant(np.stack([gaps, np.zeros(5, np.float32)], 1).reshape(5, 1, 1, 2))
    how = [tf.constant(v, tf.float32) for v in (0.5, 0.1, 0.0)]
    found = critical_samples.search_function(model)(weights, images, *how, 10, KEY)
    np.testing.assert_array_equal(found, gaps < 1)


def test_counts_and_shares_and_radii_in_proportion():
    model, weights = linear(np.float32(1))
    images = np.stack([np.linspace(0.01, 2, 100, dtype=np.float32), np.zeros(100, np.float32)], 1).reshape(-1, 1, 1, 2)
    spec = CriticalSpec(radii=(100.0, 200.0), step=25.0, noise=0.0, iterations=10, each=True)
    rows = critical_samples.measures(model, weights, {"validation": images}, spec, 1 / 255, np.array([1, 2]))
    expected = [(images[:, 0, 0, 0] < 2 * r / 255).sum() for r in (100, 200)]
    assert [rows[f"csr_count_{r}", "validation"][0] for r in (100, 200)] == expected
    assert rows["csr_100", "validation"][0] == expected[0] / 100
    np.testing.assert_array_equal(rows["critical_100", "validation"], [images[:, 0, 0, 0] < 200 / 255])


# --- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_training_fits_and_records_subsets(tmp_path, model):
    settings = {"epochs": 40.0, "learning_rate": 0.01}
    spec = make_spec(model, **settings, measure={"examples": 5, "critical": {"iterations": 2, "times": 2}})
    backend.train(spec, made_up(), tmp_path, device="cpu")
    details = pd.read_csv(tmp_path / "details.csv")
    end = details[(details["measure"] == "accuracy") & (details["epoch"] == 40)].groupby("part")["value"].mean()
    assert end["train"] > 0.9
    assert {"clean", "corrupted", "corrupted_true", "validation"} <= set(end.index)
    assert {"csr_0.3", "csr_count_0.3", "fitted_epoch", "p_correct"} <= set(details["measure"])


def test_an_interrupted_run_ends_the_same(tmp_path, monkeypatch):
    spec = make_spec("cnn", epochs=3.0, measure={"examples": 3}, **NOISY)
    backend.train(spec, made_up(), tmp_path / "whole", device="cpu")
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    interrupt(monkeypatch, lambda: backend.train(spec, made_up(), tmp_path / "cut", device="cpu"), after=2)
    backend.train(spec, made_up(), tmp_path / "cut", device="cpu")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_replicate_does_not_depend_on_the_others(tmp_path):
    data = made_up()
    for count in (1, 2):
        backend.train(make_spec("mlp", replicates=count, **NOISY), data, tmp_path / str(count), device="cpu")
    one, two = (np.load(tmp_path / str(count) / "model.npz") for count in (1, 2))
    for name in one:
        np.testing.assert_array_equal(one[name][0], two[name][0])
        assert name.endswith("bias") or not np.array_equal(two[name][0], two[name][1])


def test_weight_decay_moves_weights_by_hand():
    """One step of plain SGD: with decay the weights end rate * decay * weight lower, biases where they were."""
    moved = []
    for decay in (0.0, 0.5):
        spec = make_spec("mlp", optimizer="sgd", weight_decay=decay)
        group = ClassifierGroup(spec, 0, made_up(), "/CPU:0")
        before = group.weights_of(0)
        next(group.train_epoch(1, 1))
        moved.append(group.weights_of(0))
    for name, weight in before.items():
        expected = 0.05 * 0.5 * weight if name.endswith("weight") else 0
        np.testing.assert_allclose(moved[0][name] - moved[1][name], expected, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"adversarial": 0.5}, "training.adversarial"),
        ({"optimizer": "adam"}, "training.optimizer"),
        ({"optimizer": "sgd", "measure": {"sensitivity": {}}}, "measure.sensitivity"),
    ],
)
def test_what_it_lacks_is_refused(options, words):
    with pytest.raises(UserError, match=words):
        require_able("tf", make_spec("mlp", **options), "here")
    require_able("torch", make_spec("mlp", **options), "here")
    require_able("tf", make_spec("cnn", measure={"critical": {}}), "here")
