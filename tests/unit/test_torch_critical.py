"""LASS against exhaustive search and closed forms, and its bookkeeping."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from memorization.backends.torch.critical_samples import critical, measures, search  # noqa: E402
from memorization.classifier_specs import CriticalSpec  # noqa: E402

RADIUS, STEP, NOISE = 0.3, 0.25, 0.2


def generators(replicates=1):
    return [torch.Generator().manual_seed(k) for k in range(replicates)]


def count(*arguments):
    return {radius: found.sum(1) for radius, found in search(*arguments).items()}


def network(seed, units=24, replicates=1):
    """Logits of an untrained MLP on the plane, sharp enough for many boundaries between its classes."""
    rng = np.random.default_rng(seed)
    sizes = [(replicates, 2, units), (replicates, 1, units), (replicates, units, 3), (replicates, 1, 3)]
    w1, b1, w2, b2 = (torch.from_numpy(2 * rng.standard_normal(size)) for size in sizes)
    return lambda images: torch.tanh(images @ w1 + b1) @ w2 + b2


def points(n, seed=1):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-1.5, 1.5, (1, n, 2)))


def exhaustive(logits, images, radius, grid=81):
    """bool[N]: does any point of a fine grid over the box have another class?"""
    offsets = torch.linspace(-radius, radius, grid, dtype=images.dtype)
    box = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), -1).reshape(-1, 2)
    around = logits((images[0, :, None] + box).reshape(1, -1, 2)).argmax(-1).reshape(images.shape[1], len(box))
    return (around != logits(images).argmax(-1)[0, :, None]).any(1)


@pytest.mark.parametrize("seed", range(3))
def test_search_agrees_with_exhaustive_search(seed):
    logits, images = network(seed), points(120)
    truth = exhaustive(logits, images, RADIUS)
    assert 0.15 < truth.double().mean() < 0.9
    found = critical(logits, images, RADIUS, STEP, NOISE, 100, generators()).found[0]
    assert not (found & ~truth).any()
    assert (found & truth).sum() >= 0.95 * truth.sum()


def test_linear_classifiers_are_searched_exactly():
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(rng.standard_normal((1, 6, 2)))
    images = torch.from_numpy(rng.standard_normal((1, 300, 6)))
    margins = (images @ weights)[0].diff(dim=1).abs()[:, 0]
    reach = 0.3 * weights[0].diff(dim=1).abs().sum()  # Hölder: the largest change of the margin in the box
    found = critical(lambda x: x @ weights, images, 0.3, STEP, NOISE, 100, generators()).found[0]
    clear = (margins - reach).abs() > 0.01 * reach
    assert (found == (margins < reach))[clear].all()
    assert 0.1 < found.double().mean() < 0.9


def test_what_is_returned_lies_in_the_box_and_has_another_class():
    logits, images = network(0, replicates=3), points(50).expand(3, -1, -1)
    found, ends = critical(logits, images, RADIUS, STEP, NOISE, 20, generators(3))
    assert found.shape == (3, 50)
    assert ends.shape == (3, 50, 2)
    assert (ends - images).abs().max() <= RADIUS + 1e-12
    assert ((logits(ends).argmax(-1) != logits(images).argmax(-1)) == found).all()


def test_replicates_are_searched_each_for_itself():
    images = points(80)
    several = critical(network(0, replicates=3), images.expand(3, -1, -1), RADIUS, STEP, NOISE, 10, generators(3))
    for k in range(3):
        one = lambda x, k=k: network(0, replicates=3)(x.expand(3, -1, -1))[k : k + 1]  # noqa: E731
        alone = critical(one, images, RADIUS, STEP, NOISE, 10, generators(3)[k : k + 1])
        assert torch.equal(several.found[k], alone.found[0])
        torch.testing.assert_close(several.images[k], alone.images[0])


def test_more_iterations_and_larger_radii_find_more():
    logits, images = network(1), points(300)
    few, many = (critical(logits, images, RADIUS, STEP, NOISE, n, generators()).found for n in (1, 30))
    assert few.sum() < many.sum()
    assert not (few & ~many).any()  # the same noise: what was found stays found
    spec = CriticalSpec(radii=(0.1, 0.3, 1.0), iterations=20)
    counts = [int(n) for n in count(logits, images, spec, 1.0, generators()).values()]
    assert counts == sorted(set(counts))


def test_radius_is_on_the_scale_of_pixels():
    """A network of x / 255 with a scale of 1 sees what one of x with a scale of 1 / 255 sees."""
    logits, images = network(2), points(100)
    spec = CriticalSpec(radii=(40.0, 80.0), step=30.0, noise=20.0, iterations=10)
    scaled = count(logits, images, spec, 1 / 255, generators())
    pixels = count(lambda x: logits(x / 255), images * 255, spec, 1.0, generators())
    assert {radius: n.tolist() for radius, n in scaled.items()} == {radius: n.tolist() for radius, n in pixels.items()}
    assert 0 < scaled[40.0] < scaled[80.0] < 100


def test_saturated_softmax_still_has_a_direction():
    """Where the softmax is 0 and 1 in float32 the cross-entropy's gradient would be zero."""
    weights = torch.zeros(1, 400, 2)
    weights[..., 0] = 1.0
    images = torch.full((1, 1, 400), 0.29)
    logits = lambda x: 10 * x @ weights  # noqa: E731
    assert torch.softmax(logits(images), -1)[0, 0, 1] == 0
    assert critical(logits, images, 0.3, 0.1, 0.0, 10, generators()).found.all()


def test_measures_of_parts_of_many_images(monkeypatch):
    from memorization.backends.torch import critical_samples

    logits, images = network(0, replicates=2), points(60).expand(2, -1, -1)
    spec = CriticalSpec(radii=(0.3, 1.0), noise=0.0, iterations=5)
    parts = {"validation": images, "train": images[:, :20]}
    whole = measures(logits, parts, spec, 1.0, generators(2))
    assert set(whole) == {
        (name, part) for name in ("csr_0.3", "csr_1", "csr_count_0.3", "csr_count_1") for part in parts
    }
    np.testing.assert_allclose(whole["csr_count_0.3", "train"], 20 * whole["csr_0.3", "train"])
    monkeypatch.setattr(critical_samples, "AT_ONCE", 14)
    again = measures(logits, parts, spec, 1.0, generators(2))
    assert all((again[name] == whole[name]).all() for name in whole)
