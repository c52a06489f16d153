"""Training image classifiers in the torch back end: files, replicates, resuming, private training."""

import math

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from interruption import interrupt  # noqa: E402

from memorization import contracts, image_models  # noqa: E402
from memorization.backends import checkpoint, training  # noqa: E402
from memorization.backends import torch as backend  # noqa: E402
from memorization.backends.torch.images import ImageGroup  # noqa: E402
from memorization.data.images import ImageData, batches  # noqa: E402
from memorization.errors import UserError  # noqa: E402
from memorization.specs import ImageRunSpec  # noqa: E402
from memorization.vocabulary import Vocabulary  # noqa: E402

PRIVATE = {"clip": 1.0, "noise_multiplier": 0.5}
ADAM = {"optimizer": "adam", "learning_rate": 0.003}


@pytest.fixture(scope="module")
def data():
    """48 images of ten classes that differ by the place of a bar."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 10
    images = rng.random((48, 28, 28), dtype=np.float32) * 0.1
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label + 3 : 2 * label + 5] += 0.8
    return ImageData(images, labels, images[:20], labels[:20], classes=10)


def make_spec(replicates=2, privacy=None, **options):
    settings = {"keep": "final", "gradient_clip": None, "optimizer": "sgd", "learning_rate": 0.1, "batch_size": 8}
    tree = {"task": "image", "replicates": replicates, "training": settings | {"epochs": 2.0} | options}
    return ImageRunSpec.model_validate(tree | {"privacy": privacy})


def train(spec, data, run_dir):
    run_dir.mkdir(exist_ok=True)
    if spec.privacy is not None:
        examples, size = len(data.train), spec.training.batch_size
        row = dict.fromkeys(contracts.columns("privacy"), math.nan) | {
            "convention": "rdp", "noise_multiplier": spec.privacy.noise_multiplier, "clip": spec.privacy.clip,
            "sample_rate": size / examples, "steps": 1, "examples": examples, "batch_size": size, "unit": "an image",
            "sampling": spec.privacy.sampling,
        }  # fmt: skip
        contracts.write("privacy", pd.DataFrame([row]), run_dir)
    backend.train(spec, data, run_dir, device="cpu")


def weights(run_dir):
    return image_models.load(run_dir, ImageRunSpec(task="image").model)


def assert_same_run(one, other):
    for name, array in weights(one).items():
        np.testing.assert_array_equal(array, weights(other)[name], err_msg=name)
    frames = [contracts.read("curves", d).drop(columns="wall_s") for d in (one, other)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_training_learns_and_leaves_its_files(data, tmp_path):
    train(make_spec(epochs=30.0, optimizer="adam", learning_rate=0.003), data, tmp_path / "run")
    curves = contracts.read("curves", tmp_path / "run")
    last = curves[curves["kept"]]
    assert list(last["step"]) == [180, 180]
    assert (last["test_accuracy"] == 1).all()
    assert curves["validation_loss_nats"].isna().all()
    assert curves["validation_accuracy"].isna().all()
    start = curves[curves["epoch"] == 0]
    assert (start["test_loss_nats"] - np.log(10)).abs().max() < 0.5
    assert start["train_loss_nats"].isna().all()
    assert len(contracts.read("measures", tmp_path / "run")) == 0


def test_loaded_models_have_the_last_curve_point(data, tmp_path):
    spec = make_spec()
    train(spec, data, tmp_path / "run")
    curves = contracts.read("curves", tmp_path / "run")
    models = backend.load(tmp_path / "run", spec, Vocabulary(()), device="cpu")
    for model, (_, row) in zip(models, curves[curves["kept"]].iterrows(), strict=True):
        losses, right = model.losses(data.test, data.test_labels)
        assert losses.mean() == pytest.approx(row["test_loss_nats"], rel=1e-9)
        assert right.mean() == row["test_accuracy"]


def test_the_first_step_is_plain_descent_on_the_mean_loss(data):
    """Against a step written with torch.optim on the same mini-batch."""
    from memorization.backends.torch import cnn
    from memorization.backends.torch.images import DeviceImages

    cpu = torch.device("cpu")
    group = ImageGroup(make_spec(), 1, DeviceImages(data, cpu), cpu, None)
    own = {name: w.detach().clone().requires_grad_() for name, w in group.weights.items()}
    [rows] = next(group.train_epoch(1, 1))
    optimizer = torch.optim.SGD(own.values(), lr=0.1)
    logits = cnn.logits(own, torch.from_numpy(data.train[rows]))
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels[rows])).backward()
    optimizer.step()
    for name, w in group.weights.items():
        torch.testing.assert_close(w, own[name], rtol=0, atol=1e-7, msg=name)


@pytest.mark.parametrize("privacy", [None, PRIVATE])
def test_a_replicate_does_not_depend_on_the_others(data, tmp_path, privacy):
    if privacy:
        pytest.importorskip("opacus")
    for replicates in (1, 3):
        train(make_spec(replicates, privacy, epochs=1.0), data, tmp_path / str(replicates))
    one, three = weights(tmp_path / "1"), weights(tmp_path / "3")
    for name, array in three.items():
        np.testing.assert_array_equal(array[0], one[name][0])
    assert not np.array_equal(three["conv1.weight"][1], three["conv1.weight"][2])


@pytest.mark.parametrize("settings", [{}, ADAM, {"privacy": PRIVATE}, {"privacy": PRIVATE, **ADAM}])
def test_resuming_is_bitwise_the_same(data, tmp_path, monkeypatch, settings):
    if "privacy" in settings:
        pytest.importorskip("opacus")
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    spec = make_spec(epochs=3.5, **settings)
    train(spec, data, tmp_path / "whole")
    original = training.Trainer._run_epoch
    interrupt(monkeypatch, lambda: train(spec, data, tmp_path / "part"))
    assert (tmp_path / "part" / checkpoint.FILE).exists()
    begun = []
    monkeypatch.setattr(training.Trainer, "_run_epoch", lambda self: (begun.append(self.epoch), original(self)))
    train(spec, data, tmp_path / "part")
    assert begun == [2, 3]
    assert_same_run(tmp_path / "whole", tmp_path / "part")


def test_private_training_needs_its_accounting(data, tmp_path):
    with pytest.raises(UserError, match=r"privacy\.csv: missing"):
        backend.train(make_spec(privacy=PRIVATE), data, tmp_path, device="cpu")


def test_poisson_batches_may_be_empty(data, tmp_path):
    """Two images, drawn with probability 1/2 each in each of two steps per epoch: a quarter of the steps has none."""
    pytest.importorskip("opacus")
    small = ImageData(data.train[:2], data.labels[:2], data.test, data.test_labels, classes=10)
    spec = make_spec(1, PRIVATE, epochs=20.0, batch_size=1, learning_rate=1e-3)
    sizes = [len(batch) for epoch in range(1, 21) for batch in batches(spec, 0, epoch, 2)]
    assert len(sizes) == 40
    assert 0 in sizes
    train(spec, small, tmp_path / "run")
    curves = contracts.read("curves", tmp_path / "run")
    assert np.isfinite(curves["test_loss_nats"]).all()
    assert all(np.isfinite(a).all() for a in weights(tmp_path / "run").values())


def test_divergence_is_logged_by_the_test_loss(data, tmp_path, caplog):
    train(make_spec(1, learning_rate=1e12), data, tmp_path / "run")
    assert "replicate 0: test loss is nan after epoch" in caplog.text
    caplog.clear()
    train(make_spec(1), data, tmp_path / "sound")
    assert "diverged" not in caplog.text
