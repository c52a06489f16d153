"""The clipped sum of per-example gradients against a loop over examples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memorization import weights as weight_files
from memorization.specs import ModelSpec

torch = pytest.importorskip("torch")

from memorization.backends.torch import norms as norms_module  # noqa: E402
from memorization.backends.torch.lstm import Workspace, losses  # noqa: E402
from memorization.backends.torch.norms import Map, squared_norms, through_grams  # noqa: E402
from memorization.backends.torch.private import Clipper  # noqa: E402

V = 11


def initial(model, replicates=1, dtype=np.float64, scale=2.0):
    drawn = [weight_files.initial_weights(model, V, np.random.default_rng([7, k])) for k in range(replicates)]
    arrays = weight_files.stack(drawn)
    return {
        name: torch.from_numpy((scale * a).astype(dtype)).requires_grad_(weight_files.trained(name))
        for name, a in arrays.items()
    }


def text(replicates, length, batch, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(torch.from_numpy(rng.integers(0, V, (replicates, length, batch))) for _ in range(2))


def fixed_dropout(rate, replicates, batch, seed=3):
    """A dropout whose mask depends on layer, replicate and example only: `dropout(rows)` for some of the examples."""

    def of(examples):
        calls = iter(range(100))

        def apply(states):
            generator = torch.Generator().manual_seed(seed + next(calls))
            shape = (replicates, states.shape[1], batch, states.shape[3])
            mask = torch.empty(shape, dtype=states.dtype).bernoulli_(1 - rate, generator=generator)
            return states * mask[:, :, examples] / (1 - rate)

        return apply

    return of


def loop(weights, ids, targets, clip, layers, dropout=None):
    """Sum of clipped gradients, losses and norms, [R, B], one example at a time with the non-private pass."""
    trained = {n: w for n, w in weights.items() if w.requires_grad}
    total = {name: torch.zeros_like(w) for name, w in trained.items()}
    costs, norms = [], []
    for b in range(ids.shape[2]):
        one = slice(b, b + 1)
        workspaces = [Workspace() for _ in range(layers)]
        cost = losses(weights, ids[..., one], targets[..., one], workspaces, dropout([b]) if dropout else None)
        gradients = torch.autograd.grad(cost.sum(), list(trained.values()))
        norm = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        for name, gradient in zip(trained, gradients, strict=True):
            factor = (clip / norm).clamp(max=1).view(-1, *[1] * (gradient.dim() - 1))
            total[name] += factor * gradient
        costs.append(cost.detach())
        norms.append(norm)
    return total, torch.stack(costs, 1), torch.stack(norms, 1)


def assert_same(clipped, expected, tolerance):
    gradients, costs, norms = expected
    torch.testing.assert_close(clipped.losses, costs, rtol=tolerance, atol=0)
    torch.testing.assert_close(clipped.norms, norms, rtol=tolerance, atol=0)
    assert clipped.gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(clipped.gradients[name], gradient, rtol=tolerance, atol=tolerance * scale, msg=name)


@settings(max_examples=40, deadline=None)
@given(
    layers=st.integers(1, 3),
    units=st.integers(1, 12),
    embedding=st.none() | st.integers(1, 9),
    replicates=st.integers(1, 2),
    length=st.integers(1, 12),
    batch=st.integers(1, 6),
    rate=st.sampled_from([0.0, 0.4]),
    share=st.sampled_from([0.3, 1.0, 3.0]),
)
def test_clipped_sum_equals_a_loop(layers, units, embedding, replicates, length, batch, rate, share):
    """In float64; some, all or none of the examples are clipped."""
    model = ModelSpec(layers=layers, units=units, embedding=embedding)
    weights = initial(model, replicates)
    ids, targets = text(replicates, length, batch)
    dropout = fixed_dropout(rate, replicates, batch) if rate else None
    clip = share * float(loop(weights, ids, targets, 1.0, layers, dropout)[2].median())
    clipped = Clipper(layers)(weights, ids, targets, clip, dropout(slice(None)) if dropout else None)
    assert_same(clipped, loop(weights, ids, targets, clip, layers, dropout), 1e-9)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("embedding", [None, 7])
@pytest.mark.parametrize("rate", [0.0, 0.4])
@pytest.mark.parametrize("batch", [1, 9])
def test_single_precision(layers, embedding, rate, batch):
    model = ModelSpec(layers=layers, units=16, embedding=embedding)
    weights = initial(model, dtype=np.float32, scale=1.0)
    ids, targets = text(1, 30, batch)
    dropout = fixed_dropout(rate, 1, batch) if rate else None
    clip = float(loop(weights, ids, targets, 1.0, layers, dropout)[2].median())
    clipped = Clipper(layers)(weights, ids, targets, clip, dropout(slice(None)) if dropout else None)
    assert_same(clipped, loop(weights, ids, targets, clip, layers, dropout), 1e-5)


def test_no_clipped_gradient_is_longer_than_the_bound():
    weights = initial(ModelSpec(layers=2, units=9, embedding=5))
    ids, targets = text(1, 8, 1)
    clipper = Clipper(2)
    free = clipper(weights, ids, targets, 1e9)
    length = torch.stack([g.norm() for g in free.gradients.values()]).norm()
    assert float(length) == pytest.approx(float(free.norms))
    bound = float(length) / 10
    clipped = clipper(weights, ids, targets, bound).gradients
    assert float(torch.stack([g.norm() for g in clipped.values()]).norm()) == pytest.approx(bound)


def test_an_empty_batch_gives_zeros_of_every_trained_shape():
    model = ModelSpec(layers=2, units=6, embedding=5)
    weights = initial(model)
    clipped = Clipper(2)(weights, *text(1, 4, 0), 1.0)
    assert clipped.losses.shape == clipped.norms.shape == (1, 0)
    assert {n: g.shape for n, g in clipped.gradients.items()} == {
        n: w.shape for n, w in weights.items() if w.requires_grad
    }
    assert not any(g.any() for g in clipped.gradients.values())


def test_buffers_serve_batches_of_any_size():
    """Poisson batches vary: bigger, empty, smaller."""
    weights, clipper = initial(ModelSpec(layers=2, units=6, embedding=5)), Clipper(2)
    for batch in (2, 7, 0, 1, 5):
        ids, targets = text(1, 6, batch, seed=batch)
        clipped = clipper(weights, ids, targets, 0.1)
        if batch:
            assert_same(clipped, loop(weights, ids, targets, 0.1, 2), 1e-9)


def test_examples_can_be_left_out():
    weights = initial(ModelSpec(layers=2, units=6, embedding=5), replicates=2)
    ids, targets = text(2, 6, 4)
    included = torch.tensor([[1.0, 0, 1, 0], [0, 1, 1, 0]], dtype=torch.float64)
    clipped = Clipper(2)(weights, ids, targets, 0.1, included=included).gradients
    for r in range(2):
        rows = included[r].bool()
        one = {n: w.detach()[r : r + 1].clone().requires_grad_(w.requires_grad) for n, w in weights.items()}
        expected = loop(one, ids[r : r + 1][..., rows], targets[r : r + 1][..., rows], 0.1, 2)[0]
        for name, gradient in expected.items():
            torch.testing.assert_close(clipped[name][r : r + 1], gradient, rtol=1e-9, atol=1e-12)


def maps(length, batch, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda width: torch.randn(length, batch, width, generator=generator, dtype=torch.float64)  # noqa: E731
    inputs, hidden = draw(5), draw(3)
    return [Map(draw(12), inputs, hidden), Map(draw(7), hidden), Map(draw(4), None, hidden)]


@pytest.mark.parametrize("numbers", [1, 400, 10**6])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_both_ways_give_every_arrays_norm(monkeypatch, numbers, length):
    """Gram matrices, formed gradients and a mixture, in chunks of one, some and all examples, against einsum."""
    monkeypatch.setattr(norms_module, "NUMBERS", numbers)
    given_maps = maps(length, 6)
    before = lambda h: torch.cat([torch.zeros_like(h[:1]), h[:-1]])  # noqa: E731
    for grams in ([True] * 3, [False] * 3, [True, False, True]):
        for one, rows in zip(given_maps, squared_norms(given_maps, grams), strict=True):
            g = one.gradients
            read = [one.inputs] if one.inputs is not None else []
            read += [before(one.hidden)] if one.hidden is not None else []
            expected = [torch.einsum("tbo,tbi->boi", g, x).square().sum((1, 2)) for x in read]
            expected.append(g.sum(0).square().sum(1))
            torch.testing.assert_close(rows, torch.stack(expected), rtol=1e-9, atol=1e-12)


def test_the_cheaper_way_is_taken():
    """Short sequences of wide layers through Gram matrices, long sequences of narrow ones not."""
    assert through_grams(maps(2, 1)) == [True, True, True]
    assert through_grams(maps(50, 1)) == [False, False, False]


def test_a_shared_gram_matrix_costs_once():
    """T (O + I) <= O I decides for a map alone; with the states' matrix already there T <= I does."""
    states = torch.zeros(30, 1, 40)
    alone = Map(torch.zeros(30, 1, 50), states)
    assert through_grams([alone]) == [False]
    assert through_grams([Map(torch.zeros(30, 1, 400), None, states), alone]) == [True, True]
