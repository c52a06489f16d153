"""The torch back end's image classifier against a NumPy forward pass, a per-example loop and Opacus' own hooks."""

import numpy as np
import pytest
from numpy_cnn import logits as numpy_logits
from numpy_cnn import loss as numpy_loss

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from memorization import image_models, privacy_file  # noqa: E402
from memorization.backends.torch import cnn  # noqa: E402
from memorization.backends.torch.images import DeviceImages, ImageGroup, TorchImageClassifier  # noqa: E402
from memorization.data.images import ImageData  # noqa: E402
from memorization.specs import ImageModelSpec, ImageRunSpec  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    """Twelve images with strokes on an empty ground, as digits are."""
    rng = np.random.default_rng(5)
    images = rng.random((12, 28, 28), dtype=np.float32) * (rng.random((12, 28, 28)) < 0.2)
    labels = rng.integers(0, 10, 12)
    return ImageData(images, labels, images[:4], labels[:4], classes=10)


@pytest.fixture(scope="module")
def arrays():
    """Weights with biases that are not zero."""
    rng = np.random.default_rng(6)
    drawn = image_models.initial_weights(ImageModelSpec(), 10, rng)
    return {name: a + (rng.normal(0, 0.1, a.shape) if a.ndim == 1 else 0).astype("f4") if a.ndim == 1 else a
            for name, a in drawn.items()}  # fmt: skip


@pytest.fixture
def weights(arrays):
    return {name: torch.from_numpy(a.copy()).requires_grad_() for name, a in arrays.items()}


def per_example(weights, data, rows):
    """Gradient of each image's loss by itself, one flat vector per image and array."""
    result = []
    for row in rows:
        image, label = torch.from_numpy(data.train[[row]]), torch.from_numpy(data.labels[[row]])
        loss = functional.cross_entropy(cnn.logits(weights, image), label)
        result.append(torch.autograd.grad(loss, list(weights.values())))
    return result


def clipped_by_loop(weights, data, rows, clip):
    total = [torch.zeros_like(w) for w in weights.values()]
    norms = []
    for gradients in per_example(weights, data, rows):
        norm = torch.sqrt(sum(g.square().sum() for g in gradients))
        norms.append(float(norm))
        for own, g in zip(total, gradients, strict=True):
            own += g * min(1.0, clip / float(norm))
    return dict(zip(weights, total, strict=True)), norms


def make_spec(**training):
    return ImageRunSpec.model_validate(
        {
            "task": "image",
            "replicates": 1,
            "training": {"keep": "final", "gradient_clip": None, "optimizer": "sgd", "learning_rate": 0.5} | training,
            "privacy": {"clip": 0.7, "noise_multiplier": 1.0, "sampling": "shuffle"},
        }
    )


def make_group(data, noise_multiplier, batch_size=4, **training):
    spec = make_spec(batch_size=batch_size, **training)
    mechanism = privacy_file.Mechanism(noise_multiplier, 0.7, batch_size / 12, 12 // batch_size, batch_size)
    return ImageGroup(spec, 0, DeviceImages(data, CPU), CPU, mechanism)


def test_forward_pass_and_losses_against_numpy(arrays, weights, data):
    with torch.no_grad():
        ours = cnn.logits(weights, torch.from_numpy(data.train)).numpy()
    expected = np.stack([numpy_logits(arrays, image) for image in data.train])
    np.testing.assert_allclose(ours, expected, atol=2e-5)
    model = TorchImageClassifier({name: w.detach() for name, w in weights.items()})
    losses, right = model.losses(data.train, data.labels)
    assert losses.dtype == np.float64
    np.testing.assert_allclose(
        losses, [numpy_loss(arrays, *pair) for pair in zip(data.train, data.labels, strict=True)], rtol=2e-5
    )
    np.testing.assert_array_equal(right, expected.argmax(1) == data.labels)


def test_gradients_against_differences_in_numpy(arrays, weights, data):
    """One number of every array, by central differences of the NumPy loss."""
    gradients = dict(zip(weights, per_example(weights, data, [3])[0], strict=True))
    for name, array in arrays.items():
        index = np.unravel_index(int(np.argmax(np.abs(gradients[name].numpy()))), array.shape)
        values = []
        for step in (1e-5, -1e-5):
            moved = {k: a.astype(np.float64) for k, a in arrays.items()}
            moved[name][index] += step
            values.append(numpy_loss(moved, data.train[3], data.labels[3]))
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(gradients[name][index]), rel=1e-3), name


@pytest.mark.parametrize("clip", [1e-3, 3.8, 1e6])
def test_clipped_sum_against_a_loop(weights, data, clip):
    expected, norms = clipped_by_loop(weights, data, range(12), clip)
    if clip == 3.8:
        assert min(norms) < clip < max(norms)
    sums, losses = cnn.clipped_sums(weights, torch.from_numpy(data.train), torch.from_numpy(data.labels), clip)
    assert list(sums) == list(weights)
    scale = min(clip, max(norms))
    for name, own in sums.items():
        np.testing.assert_allclose(own.numpy(), expected[name].numpy(), atol=2e-6 * scale, err_msg=name)
    own = TorchImageClassifier(weights).losses(data.train, data.labels)[0]
    np.testing.assert_allclose(losses.numpy(), own, rtol=1e-5)


def test_no_images_give_zero_sums(weights):
    sums, losses = cnn.clipped_sums(weights, torch.zeros(0, 28, 28), torch.zeros(0, dtype=torch.long), 1.0)
    assert losses.shape == (0,)
    assert all(s.shape == w.shape and not s.any() for s, w in zip(sums.values(), weights.values(), strict=True))


def test_opacus_hooks_agree(weights, data):
    """The same network as a module, its per-example gradients by Opacus."""
    opacus = pytest.importorskip("opacus")
    nn = torch.nn
    module = nn.Sequential(
        nn.Conv2d(1, 16, 8, 2, 3), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Conv2d(16, 32, 4, 2), nn.ReLU(),
        nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    with torch.no_grad():
        for parameter, w in zip(module.parameters(), weights.values(), strict=True):
            parameter.copy_(w)
    hooked = opacus.GradSampleModule(module)
    images, labels = torch.from_numpy(data.train), torch.from_numpy(data.labels)
    functional.cross_entropy(hooked(images[:, None]), labels).backward()
    samples = [p.grad_sample.flatten(1) for p in hooked.parameters()]
    norms = torch.cat(samples, 1).norm(dim=1)
    factor = (3.0 / norms).clamp(max=1)
    sums, _ = cnn.clipped_sums(weights, images, labels, 3.0)
    for (name, own), sample in zip(sums.items(), samples, strict=True):
        np.testing.assert_allclose(own.flatten().numpy(), (factor @ sample).numpy(), atol=6e-6, err_msg=name)


def test_private_update_without_noise_is_the_clipped_mean(data):
    pytest.importorskip("opacus")
    group = make_group(data, noise_multiplier=0.0, batch_size=4)
    before = {name: w.detach().clone().requires_grad_() for name, w in group.weights.items()}
    [rows] = next(group.train_epoch(1, 1))
    expected, _ = clipped_by_loop(before, data, rows, clip=0.7)
    for name, weight in group.weights.items():
        moved = (before[name] - weight).detach().numpy() / 0.5 * 4
        np.testing.assert_allclose(moved, expected[name].numpy(), atol=5e-6, err_msg=name)


def test_noise_has_the_right_deviation_and_its_own_stream(data):
    """An empty batch leaves only noise: lr * sigma * clip / batch size on every number."""
    pytest.importorskip("opacus")
    moved = []
    for _ in range(2):
        group = make_group(data, noise_multiplier=2.0, batch_size=4)
        start = {name: w.detach().clone() for name, w in group.weights.items()}
        group.optimizer.seed(np.random.default_rng(1))
        group._update(torch.zeros(0, dtype=torch.long))
        moved.append(torch.cat([(w - start[n]).detach().flatten() for n, w in group.weights.items()]).numpy())
    np.testing.assert_array_equal(*moved)
    deviation = 0.5 * 2.0 * 0.7 / 4
    assert moved[0].std() == pytest.approx(deviation, rel=0.03)
    assert abs(moved[0].mean()) < 4 * deviation / np.sqrt(moved[0].size)
