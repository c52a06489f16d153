"""Images: idx files, the stand-in digits, mini-batches, and the classifier's shapes and initial values."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest

from memorization import image_models
from memorization.data import standins
from memorization.data.fetch import fetch
from memorization.data.images import batches, build_images, count_examples
from memorization.data.registry import ImageRoles, lookup
from memorization.errors import UserError
from memorization.specs import ImageModelSpec, ImageRunSpec
from memorization.streams import stream

REGISTRY = Path(__file__).parents[2] / "config" / "datasets.yaml"
MNIST = lookup("mnist", REGISTRY)


def make_spec(**changes):
    """An ImageRunSpec from dotted keys; `_` stands for the dot."""
    tree = {"task": "image", "training": {"keep": "final", "gradient_clip": None, "batch_size": 4}}
    for key, value in changes.items():
        *head, last = key.split("__")
        node = tree
        for part in head:
            node = node.setdefault(part, {})
        node[last] = value
    return ImageRunSpec.model_validate(tree)


def idx(array):
    """An idx file, written independently of standins."""
    sizes = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


@pytest.fixture
def folder(tmp_path):
    """Ten training and four test images in four classes."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 10), ("test", 4)):
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        pixels[0, 0, :2] = 0, 255
        (tmp_path / getattr(MNIST.roles, f"{part}_images")).write_bytes(idx(pixels))
        labels = np.arange(count, dtype=np.uint8) % 4
        (tmp_path / getattr(MNIST.roles, f"{part}_labels")).write_bytes(idx(labels))
    return tmp_path


def test_images_and_labels_come_out_as_floats_and_numbers(folder):
    data = build_images(make_spec(), folder, MNIST)
    assert data.train.shape == (10, 28, 28)
    assert data.train.dtype == data.test.dtype == np.float32
    assert data.train[0, 0, 0] == 0
    assert data.train[0, 0, 1] == 1
    assert data.labels.dtype == np.int64
    np.testing.assert_array_equal(data.labels, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
    np.testing.assert_array_equal(data.test_labels, [0, 1, 2, 3])
    assert data.classes == 4


def test_leading_share_and_test_examples(folder):
    spec = make_spec(data__fraction=0.55, data__test_examples=3)
    whole, part = build_images(make_spec(), folder, MNIST), build_images(spec, folder, MNIST)
    np.testing.assert_array_equal(part.train, whole.train[:5])
    np.testing.assert_array_equal(part.labels, whole.labels[:5])
    assert len(part.test) == len(part.test_labels) == 3
    assert count_examples(spec, folder, MNIST) == 5


def replaced(folder, role, content):
    (folder / getattr(MNIST.roles, role)).write_bytes(content)


@pytest.mark.parametrize(
    ("role", "content", "message"),
    [
        ("train_images", b"no gzip", "train-images-idx3-ubyte.gz: damaged .*fetch it again"),
        ("train_images", idx(np.zeros((10, 28, 28), np.uint8))[:-9], "train-images.*: damaged"),
        ("train_images", idx(np.zeros(10, np.uint8)), "no idx file of bytes in 3 dimensions .it begins 00 00 08 01."),
        ("train_images", idx(np.zeros((10, 8, 8), np.uint8)), "images are 8x8 pixels, not 28x28"),
        ("train_labels", idx(np.zeros(9, np.uint8)), "10 images, but 9 labels in train-labels"),
        ("test_labels", idx(np.full(4, 7, np.uint8)), "t10k-labels.* has label 7, but the training labels end at 3"),
        ("train_labels", gzip.compress(b"\0\0\x08\1\0\0\0\x09abc"), "train-labels.*: 3 values, but its header says 9"),
    ],
)
def test_files_that_do_not_fit_are_one_line_errors(folder, role, content, message):
    replaced(folder, role, content)
    with pytest.raises(UserError, match=message) as caught:
        build_images(make_spec(), folder, MNIST)
    assert "\n" not in str(caught.value)


def test_missing_file_and_text_data_are_user_errors(folder):
    (folder / MNIST.roles.test_images).unlink()
    with pytest.raises(UserError, match=r"t10k-images.*cannot be read .*fetch it first"):
        build_images(make_spec(), folder, MNIST)
    ptb = lookup("ptb", REGISTRY)
    with pytest.raises(UserError, match="holds text, not images"):
        build_images(make_spec(data__dataset="ptb"), folder, ptb)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training__keep": "best_validation"}, "no validation set"),
        ({"training__patience": 2}, "no validation set"),
        ({"training__dropout": 0.1}, "has no dropout"),
        ({"data__fraction": 0.3}, "is 3, fewer than training.batch_size 4"),
    ],
)
def test_specifications_that_such_data_cannot_serve(folder, changes, message):
    with pytest.raises(UserError, match=message):
        build_images(make_spec(**changes), folder, MNIST)


def test_standin_digits_are_read_like_mnist(tmp_path):
    for role, content in standins.digits().items():
        replaced(tmp_path, role, content)
    assert set(standins.digits()) == set(ImageRoles.model_fields)
    data = build_images(make_spec(), tmp_path, MNIST)
    assert len(data.train) == 1541
    assert len(data.test) == 256
    assert set(data.labels) == set(data.test_labels) == set(range(10))
    assert data.train.max() == 1
    assert not data.train[:, :2].any()
    # Every pixel of 8x8 became a block of 3x3.
    blocks = data.train[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3)
    assert (blocks == blocks[:, :, :1, :, :1]).all()


def test_offline_the_standin_takes_the_place_of_mnist(tmp_path):
    text = re.sub(r"https?://[^/ ]+/(?=.*gz$)", "http://127.0.0.1:9/", REGISTRY.read_text(), flags=re.MULTILINE)
    (tmp_path / "datasets.yaml").write_text(text)
    folder, registry = tmp_path / "data", tmp_path / "datasets.yaml"
    cache = tmp_path / "cache"
    got = fetch("mnist", folder, registry_path=registry, on_missing="standin", mirror=None, cache=cache)
    assert got.is_standin
    assert set(got.files) == set(MNIST.files)
    assert "8x8 digits bundled with scikit-learn" in got.note
    assert len(build_images(make_spec(), folder, MNIST).train) == 1541


def test_batches_of_shuffled_epochs():
    spec = make_spec(training__batch_size=4, seed=3)
    first = list(batches(spec, 1, 1, 11))
    assert [len(b) for b in first] == [4, 4]
    np.testing.assert_array_equal(np.concatenate(first), stream(3, 1, "shuffle-1").permutation(11)[:8])
    assert not np.array_equal(first, list(batches(spec, 1, 2, 11)))
    in_order = list(batches(make_spec(training__shuffle=False), 1, 2, 11))
    np.testing.assert_array_equal(in_order, [[0, 1, 2, 3], [4, 5, 6, 7]])


def test_batches_of_private_epochs():
    spec = make_spec(privacy={"noise_multiplier": 1.0}, training__batch_size=5, seed=3)
    drawn = list(batches(spec, 2, 4, 40))
    expected = stream(3, 2, "poisson-4").random((8, 40)) < 5 / 40
    assert len(drawn) == 8
    for batch, row in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(batch, np.flatnonzero(row))
    shuffled = make_spec(privacy={"noise_multiplier": 1.0, "sampling": "shuffle"}, training__batch_size=5)
    assert [len(b) for b in batches(shuffled, 2, 4, 42)] == [5] * 8


def test_the_classifier_has_the_tutorials_size():
    assert image_models.parameter_count(ImageModelSpec()) == 26_010
    # "same": 28 pixels at stride 2 are 14, so 13 strides and a filter span 34, six more than there are.
    assert 2 * image_models.PADDING == (14 - 1) * 2 + 8 - 28


def test_initial_weights_are_kerass_defaults():
    weights = image_models.initial_weights(ImageModelSpec(), 10, np.random.default_rng(0))
    assert {name: a.shape for name, a in weights.items()} == image_models.shapes(ImageModelSpec())
    assert all(a.dtype == np.float32 for a in weights.values())
    fans = {"conv1": (64, 1024), "conv2": (256, 512), "hidden": (512, 32), "output": (32, 10)}
    for layer, fan in fans.items():
        bound = np.sqrt(6 / sum(fan))
        weight = weights[f"{layer}.weight"]
        assert np.abs(weight).max() <= bound
        assert weight.std() == pytest.approx(bound / np.sqrt(3), rel=0.1)
        assert not weights[f"{layer}.bias"].any()
