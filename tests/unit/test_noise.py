"""randX and randY, the labelled data made of them, and which examples a replicate sees."""

import gzip
import os
import pickle
import re
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from memorization.classifier_specs import ClassifierRunSpec, NoiseSpec
from memorization.data import standins
from memorization.data.labelled import batch_count, batches, build_labelled, own_examples, record, sizes
from memorization.data.pixels import read_training
from memorization.data.registry import lookup
from memorization.errors import UserError
from memorization.noise import corrupt

REGISTRY = Path(__file__).parents[2] / "config" / "datasets.yaml"
MNIST, CIFAR10 = lookup("mnist", REGISTRY), lookup("cifar10", REGISTRY)


def make_spec(seed=0, **data):
    measure, training = data.pop("measure", {}), data.pop("training", {"batch_size": 8})
    tree = {"task": "classification", "seed": seed, "data": data, "measure": measure, "training": training}
    return ClassifierRunSpec.model_validate(tree)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with the stand-ins of both data sets."""
    folder = tmp_path_factory.mktemp("digits")
    for dataset in (MNIST, CIFAR10):
        for role, content in standins.STANDINS[dataset.standin].make().items():
            (folder / getattr(dataset.roles, role)).write_bytes(content)
    return folder


def images_and_labels(count=400):
    rng = np.random.default_rng(1)
    return (rng.random((count, 1, 6, 6)) * 3 - 1).astype(np.float32), rng.integers(10, size=count)


@pytest.mark.parametrize("kind", ["inputs", "labels"])
def test_a_higher_level_corrupts_what_a_lower_one_does_alike_and_more(kind):
    images, labels = images_and_labels()
    low, high = (corrupt(NoiseSpec(kind=kind, level=level), images, labels, 10) for level in (0.2, 0.7))
    assert low[2].sum() == 80
    assert high[2].sum() == 280
    assert high[2][low[2]].all()
    np.testing.assert_array_equal(low[0][low[2]], high[0][low[2]])
    np.testing.assert_array_equal(low[1][low[2]], high[1][low[2]])


def test_noise_leaves_the_rest_and_its_arguments_alone():
    images, labels = images_and_labels()
    copies = images.copy(), labels.copy()
    for kind in ("inputs", "labels", "none"):
        found, given_labels, replaced = corrupt(NoiseSpec(kind=kind, level=0.5), images, labels, 10)
        np.testing.assert_array_equal(found[~replaced], images[~replaced])
        np.testing.assert_array_equal(given_labels[~replaced], labels[~replaced])
        assert replaced.sum() == (0 if kind == "none" else 200)
        # Only what the kind names is touched.
        assert np.array_equal(found, images) == (kind != "inputs")
        assert np.array_equal(given_labels, labels) == (kind != "labels")
    np.testing.assert_array_equal(images, copies[0])
    np.testing.assert_array_equal(labels, copies[1])


def test_noise_inputs_have_the_real_mean_and_deviation_and_no_structure():
    images, labels = images_and_labels(2000)
    images[:, :, 0] = 0  # a border that never changes: the scalar noise does not know it
    found, _, _ = corrupt(NoiseSpec(kind="inputs"), images, labels, 10)
    assert found.mean() == pytest.approx(images.mean(), abs=0.02)
    assert found.std() == pytest.approx(images.std(), rel=0.02)
    assert found[:, :, 0].std() == pytest.approx(images.std(), rel=0.1)
    per_pixel, _, _ = corrupt(NoiseSpec(kind="inputs", statistics="pixel"), images, labels, 10)
    assert (per_pixel[:, :, 0] == 0).all()
    assert per_pixel.mean(0) == pytest.approx(images.mean(0), abs=0.1)
    pairs = np.corrcoef(found[:, 0, 2, 2], found[:, 0, 2, 3])[0, 1]
    assert abs(pairs) < 5 / np.sqrt(2000)


def test_random_labels_are_uniform_over_all_classes_so_a_tenth_stays_right():
    _, labels = images_and_labels(20_000)
    images = np.zeros((20_000, 1, 1, 1), dtype=np.float32)
    _, drawn, _ = corrupt(NoiseSpec(kind="labels"), images, labels, 10)
    assert np.bincount(drawn, minlength=10) == pytest.approx(np.full(10, 2000), abs=5 * np.sqrt(1800))
    assert (drawn == labels).mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / 20_000))


def test_noise_does_not_depend_on_the_runs_seed_but_on_its_own(digits):
    noise = {"kind": "labels", "level": 1.0}
    one, other = (build_labelled(make_spec(seed, noise=noise), digits, MNIST) for seed in (0, 1))
    np.testing.assert_array_equal(one.given, other.given)
    third = build_labelled(make_spec(noise=noise | {"seed": 1}), digits, MNIST)
    assert (third.given != one.given).mean() > 0.8
    assert record(third)["training_set_sha256"] != record(one)["training_set_sha256"]
    assert record(one) == record(other)


def test_training_and_validation_do_not_overlap(digits):
    data = build_labelled(make_spec(train_examples=100, validation_examples=50), digits, MNIST)
    pixels, labels = read_training(digits, MNIST)
    np.testing.assert_array_equal(data.train, pixels[:100] / np.float32(255))
    np.testing.assert_array_equal(data.validation, pixels[-50:] / np.float32(255))
    np.testing.assert_array_equal(data.validation_labels, labels[-50:])
    assert data.scale == pytest.approx(1 / 255)
    assert not data.corrupted.any()


@settings(deadline=None)  # a busy machine
@given(st.integers(10, 100_000), st.integers(1, 60_000), st.integers(1, 20_000))
def test_sizes_fit_the_file(examples, wanted, held_out):
    spec = make_spec(train_examples=wanted, validation_examples=held_out).data
    kept, held = sizes(spec, examples)
    assert kept >= 1
    assert kept + held <= examples
    assert kept <= wanted
    assert held <= held_out
    if wanted + held_out <= examples:
        assert (kept, held) == (wanted, held_out)


def test_colour_images_are_standardised_by_their_own_scale(digits):
    data = build_labelled(make_spec(dataset="cifar10", train_examples=300, validation_examples=30), digits, CIFAR10)
    pixels, _ = read_training(digits, CIFAR10)
    assert data.shape == (3, 32, 32)
    assert data.train.mean() == pytest.approx(0, abs=1e-5)
    assert data.train.std() == pytest.approx(1, abs=1e-5)
    # One unit of 0 to 255 is `scale` in the input.
    difference = pixels[0, 0].astype(float) - pixels[0, 0, 0, 0]
    np.testing.assert_allclose(data.train[0, 0] - data.train[0, 0, 0, 0], difference * data.scale, atol=1e-5)
    np.testing.assert_allclose(data.validation[0, 0, 0, 0] - data.train[0, 0, 0, 0],
                               (float(pixels[-30, 0, 0, 0]) - pixels[0, 0, 0, 0]) * data.scale, atol=1e-5)  # fmt: skip


def test_half_the_side_is_the_mean_of_four_pixels_and_other_sides_keep_the_mean(digits):
    whole = build_labelled(make_spec(train_examples=20), digits, MNIST).train
    half = build_labelled(make_spec(train_examples=20, side=14), digits, MNIST).train
    np.testing.assert_allclose(half, whole.reshape(20, 1, 14, 2, 14, 2).mean(axis=(3, 5)), atol=1e-6)
    odd = build_labelled(make_spec(train_examples=20, side=11), digits, MNIST).train
    np.testing.assert_allclose(odd.mean(axis=(1, 2, 3)), whole.mean(axis=(1, 2, 3)), atol=1e-5)
    with pytest.raises(UserError, match=r"data\.side 29: images have 28x28 pixels"):
        build_labelled(make_spec(side=29), digits, MNIST)


def test_unique_classes_give_every_example_its_own_and_no_validation(digits):
    data = build_labelled(make_spec(train_examples=50, classes="unique"), digits, MNIST)
    np.testing.assert_array_equal(data.given, np.arange(50))
    assert data.classes == 50
    assert len(data.validation) == len(data.validation_labels) == 0


def test_without_noise_leaves_the_corrupted_examples_out(digits):
    noise = {"kind": "inputs", "level": 0.4}
    noisy, clean = (build_labelled(make_spec(train_examples=100, noise=noise, without_noise=w), digits, MNIST)
                    for w in (False, True))  # fmt: skip
    assert len(clean.train) == 60
    np.testing.assert_array_equal(clean.train, noisy.train[~noisy.corrupted])
    assert not clean.corrupted.any()


def test_each_replicate_has_a_share_of_its_own_for_all_epochs():
    spec = make_spec(subset=0.7)
    own = [own_examples(spec, k, 50) for k in range(3)]
    assert [len(rows) for rows in own] == [35, 35, 35]
    assert not np.array_equal(own[0], own[1])
    for epoch in (1, 2):
        np.testing.assert_array_equal(np.sort(np.concatenate(batches(spec, 1, epoch, 50))), own[1])


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 64), st.booleans())
def test_an_epoch_shows_every_example_once_in_batches_of_equal_size(examples, size, shuffle):
    spec = make_spec(training={"batch_size": size, "shuffle": shuffle})
    parts = batches(spec, 0, 1, examples)
    assert len(parts) == batch_count(spec, examples) == -(-examples // size)
    lengths = [len(part) for part in parts]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    joined = np.concatenate(parts)
    np.testing.assert_array_equal(np.sort(joined), np.arange(examples))
    if not shuffle:
        np.testing.assert_array_equal(joined, np.arange(examples))


def test_epochs_and_replicates_are_shuffled_differently():
    spec = make_spec()
    orders = [np.concatenate(batches(spec, k, epoch, 100)) for k in (0, 1) for epoch in (1, 2)]
    assert len({tuple(order) for order in orders}) == 4
    np.testing.assert_array_equal(orders[0], np.concatenate(batches(spec, 0, 1, 100)))


def write_archive(path, batches_):
    with tarfile.open(path, "w:gz") as box:
        for name, content in batches_.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            box.addfile(info, BytesIO(content))


def test_batches_are_joined_by_number_whatever_their_order_in_the_archive(tmp_path):
    parts = {number: np.full((2, 3072), number, dtype=np.uint8) for number in (3, 1, 2)}
    contents = {
        f"cifar-10-batches-py/data_batch_{number}": pickle.dumps({b"data": rows, b"labels": [number, 0]}, protocol=2)
        for number, rows in parts.items()
    }
    write_archive(tmp_path / "cifar-10-python.tar.gz", contents | {"cifar-10-batches-py/test_batch": b"other"})
    pixels, labels = read_training(tmp_path, CIFAR10)
    assert pixels.shape == (6, 3, 32, 32)
    np.testing.assert_array_equal(pixels[:, 0, 0, 0], [1, 1, 2, 2, 3, 3])
    np.testing.assert_array_equal(labels, [1, 0, 2, 0, 3, 0])


def test_an_archive_is_unpacked_once(tmp_path):
    """Later readers need neither its time nor its bytes; another archive in its place is read anew."""
    path = tmp_path / "cifar-10-python.tar.gz"
    for label in (1, 2):
        rows = np.full((2, 3072), label, dtype=np.uint8)
        write_archive(path, {"a/data_batch_1": pickle.dumps({b"data": rows, b"labels": [label, 0]}, protocol=2)})
        os.utime(path, (label * 1e8, label * 1e8))
        for kept in tmp_path.glob(".*.npy"):
            os.utime(kept, (1.5e8, 1.5e8))
        for content in (path.read_bytes(), b"gone"):
            path.write_bytes(content)
            os.utime(path, (label * 1e8, label * 1e8))
            pixels, labels = read_training(tmp_path, CIFAR10)
            np.testing.assert_array_equal(pixels, rows.reshape(2, 3, 32, 32))
            np.testing.assert_array_equal(labels, [label, 0])


class Evil:
    def __reduce__(self):
        return eval, ("1 + 1",)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"a/data_batch_1": pickle.dumps({b"data": Evil()}, protocol=2)}, "eval has no place in a batch of images"),
        ({"a/data_batch_1": b"nothing"}, "no batch of CIFAR-10"),
        ({"a/data_batch_1": pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [0, 1]})}, "float64 images"),
        ({"a/readme.html": b""}, "holds no data_batch_1"),
    ],
)
def test_archives_that_are_no_cifar10_are_one_line_errors(tmp_path, contents, message):
    write_archive(tmp_path / "cifar-10-python.tar.gz", contents)
    with pytest.raises(UserError, match=message) as caught:
        read_training(tmp_path, CIFAR10)
    assert str(tmp_path / "cifar-10-python.tar.gz") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_colour_stand_in_is_the_same_every_time_and_says_what_it_is():
    made = [standins.colour_digits()["batches_archive"] for _ in range(2)]
    assert made[0] == made[1]
    with tarfile.open(fileobj=BytesIO(gzip.decompress(made[0]))) as box:
        assert len(box.getnames()) == 5
    assert "digits" in standins.STANDINS["colour_digits"].origin()


def test_a_cnn_needs_two_images_in_a_batch(digits):
    tree = {"task": "classification", "model": {"architecture": "cnn"}, "training": {"batch_size": 1}}
    spec = ClassifierRunSpec.model_validate(tree | {"data": {"dataset": "cifar10", "train_examples": 4}})
    with pytest.raises(UserError, match="leave batches of 1, too few"):
        build_labelled(spec, digits, CIFAR10)


def test_text_is_no_image(digits):
    with pytest.raises(UserError, match="holds text, not images"):
        read_training(digits, lookup("ptb", REGISTRY))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"measure": {"critical": {"radii": []}}}, "radii: give at least one"),
        ({"measure": {"critical": {"radii": [0.3, 0.3]}}}, "radii: give at least one, each once"),
        ({"measure": {"critical": {"parts": []}}}, "parts: give at least one"),
        ({"measure": {"critical": {}}, "classes": "unique"}, "measure.critical.parts validation: there are no"),
        ({"training": {"keep": "best_validation"}, "classes": "unique"}, "training.keep best_validation: there are no"),
        ({"training": {"patience": 3}, "classes": "unique"}, "training.patience: there are no"),
        ({"noise": {"kind": "inputs"}, "without_noise": True}, "leaves nothing to train on"),
        ({"without_noise": True}, "needs a data.noise.kind"),
    ],
)
def test_specifications_that_cannot_be_trained_say_so_beforehand(data, message):
    with pytest.raises(ValidationError, match=re.escape(message)):
        make_spec(**data)
