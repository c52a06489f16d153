"""Critical samples of a group in training: what is measured, and what is trained on."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from memorization.backends.torch.classifier_group import ClassifierGroup, DeviceData  # noqa: E402
from memorization.backends.torch.critical_samples import Adversary, measure  # noqa: E402
from memorization.classifier_specs import ClassifierRunSpec  # noqa: E402
from memorization.data.labelled import LabelledData  # noqa: E402
from memorization.noise import GaussianImages  # noqa: E402

CPU = torch.device("cpu")


def data(channels=1, edge=8, examples=48):
    rng = np.random.default_rng(0)
    images = rng.random((examples + 20, channels, edge, edge), dtype=np.float32)
    labels = (images.mean(axis=(1, 2)) > 0.5)[:, 0].astype(np.int64) + (images[:, 0, 0, 0] > 0.5)
    noise = np.zeros(examples, dtype=bool)
    return LabelledData(
        images[:examples], labels[:examples], labels[:examples], noise, images[examples:], labels[examples:], 3,
        1 / 255, GaussianImages.like(images, "scalar"),
    )  # fmt: skip


def spec(architecture="mlp", replicates=2, **parts):
    model = {"architecture": architecture, "units": 16, "filters": 4, "dense": (8, 8)}
    training = {"epochs": 2.0, "batch_size": 16, "learning_rate": 0.1} | parts.pop("training", {})
    critical = {"radii": (5.0, 30.0), "step": 4.0, "noise": 3.0, "iterations": 5, "examples": 10}
    critical["parts"] = ("validation", "train", "gaussian")
    tree = {"task": "classification", "model": model, "training": training, "replicates": replicates}
    tree |= {"data": parts.pop("data", {}), "measure": {"critical": critical}}
    return ClassifierRunSpec.model_validate(tree)


def group(wanted, members=None, **made):
    return ClassifierGroup(wanted, members or list(range(wanted.replicates)), DeviceData(data(**made), CPU), CPU)


def trained(wanted, epochs=2, **made):
    one = group(wanted, **made)
    for epoch in range(1, epochs + 1):
        for _ in one.train_epoch(epoch, one.batches):
            pass
    return one


def test_all_parts_and_radii_are_measured():
    found = measure(trained(spec()), 2)
    names = {f"csr_{c}{radius}" for c in ("", "count_") for radius in (5, 30)}
    assert set(found) == {(name, part) for name in names for part in ("validation", "train", "gaussian")}
    for (name, part), values in found.items():
        assert values.shape == (2,)
        if "count" not in name:
            np.testing.assert_allclose(values * 10, found[name.replace("csr", "csr_count"), part])
    assert found["csr_30", "validation"].mean() > found["csr_5", "validation"].mean()


def test_measuring_changes_nothing_and_can_be_repeated():
    one = trained(spec())
    before = one.weights_of(0)
    assert {key: list(v) for key, v in measure(one, 2).items()} == {key: list(v) for key, v in measure(one, 2).items()}
    assert all((before[name] == array).all() for name, array in one.weights_of(0).items())


def test_a_replicate_is_measured_the_same_alone():
    wanted = spec(data={"subset": 0.5})
    both, second = group(wanted), group(wanted, [1])
    for key, values in measure(both, 0).items():
        assert values[1] == measure(second, 0)[key][0], key


def test_adversary_makes_critical_samples_in_the_box():
    wanted = spec(training={"adversarial": 0.5})
    one = group(wanted)
    images = one.shown.train[:16].expand(2, -1, -1, -1, -1)
    found = Adversary(wanted, 10 / 255, one.members, 1, CPU).images(one.weights, images)
    assert 0 < (found - images).abs().max() <= 0.3 * 10 / 255 + 1e-6
    again = Adversary(wanted, 10 / 255, one.members, 1, CPU).images(one.weights, images)
    assert torch.equal(found, again)
    assert all(weight.grad is None for weight in one.parameters)


@pytest.mark.parametrize(("architecture", "made"), [("mlp", {}), ("cnn", {"channels": 3, "edge": 32})])
def test_training_on_critical_samples(architecture, made):
    """The weight counts; so small a radius changes little, and the loss that is reported is that of clean images."""
    runs = {w: trained(spec(architecture, training={"adversarial": w}), **made) for w in (0.0, 0.5)}
    weights = {w: run.weights_of(0)["output.weight"] for w, run in runs.items()}
    assert not np.array_equal(weights[0.0], weights[0.5])
    np.testing.assert_allclose(weights[0.0], weights[0.5], atol=0.2)
    np.testing.assert_allclose(runs[0.0].epoch_loss, runs[0.5].epoch_loss, rtol=0.2)


def test_gradient_of_the_mix(monkeypatch):
    """With critical samples far away the step is that of the mixed loss."""
    shift = 1.0
    monkeypatch.setattr(Adversary, "images", lambda self, weights, images: images + shift)
    steps = {}
    for weight in (1e-9, 0.25, 1.0):
        one = group(spec(training={"adversarial": weight}))
        before = one.weights_of(0)["output.bias"]
        next(iter(one.train_epoch(1, 1)))
        steps[weight] = one.weights_of(0)["output.bias"] - before
    np.testing.assert_allclose(steps[0.25], 0.75 * steps[1e-9] + 0.25 * steps[1.0], rtol=1e-4, atol=1e-7)
    assert not np.allclose(steps[1e-9], steps[1.0])
