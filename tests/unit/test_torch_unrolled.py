"""Loss-sensitivity: the adjoint recursion against autograd through unrolled steps and against finite differences."""

from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from memorization.backends.torch import unrolled  # noqa: E402

SHAPE, EXAMPLES, CLASSES = (5, 7, 6, 3), 12, 3
RATES = [0.5, 0.5, 0.4, 0.4, 0.3, 0.3, 0.2]


def training(replicates=2, sizes=SHAPE, examples=EXAMPLES, steps=7, seed=0):
    """A short training in float64; the last mini-batch is smaller, and some examples come twice."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    start = [(draw(replicates, a, b) / a**0.5, 0.3 * draw(replicates, b)) for a, b in pairwise(sizes)]
    labels = torch.arange(examples) % sizes[-1]
    batches = [
        torch.stack([torch.randperm(examples, generator=generator)[: 4 - (s == steps - 1)] for _ in range(replicates)])
        for s in range(steps)
    ]
    return unrolled.Unrolled(start, draw(examples, sizes[0]), labels, batches, RATES[:steps])


def losses_after(run, k, images, updates, trained_on=None):
    """Cross-entropies [N] of `images` after `updates` of replicate k; autograd follows every one of them."""
    layers = [(w[k].clone().requires_grad_(), b[k].clone().requires_grad_()) for w, b in run.start]
    trained_on = images if trained_on is None else trained_on

    def losses(layers, x, y):
        for number, (weight, bias) in enumerate(layers):
            x = x @ weight + bias
            x = x.relu() if number < len(layers) - 1 else x
        return torch.nn.functional.cross_entropy(x, y, reduction="none")

    for rows, rate in zip(run.batches[:updates], run.rates, strict=False):
        flat = [p for pair in layers for p in pair]
        slopes = torch.autograd.grad(
            losses(layers, trained_on[rows[k]], run.labels[rows[k]]).mean(), flat, create_graph=True
        )
        flat = [p - rate * slope for p, slope in zip(flat, slopes, strict=True)]
        layers = list(zip(flat[::2], flat[1::2], strict=True))
    return losses(layers, images, run.labels)


def class_terms(labels, classes):
    return torch.nn.functional.one_hot(labels, classes).T.double() / len(labels)


@pytest.mark.parametrize("sizes", [SHAPE, (5, 3), (5, 6, 3), (4, 6, 12)], ids=str)
@pytest.mark.parametrize("direct", [True, False])
def test_recursion_is_autograd_through_the_unrolled_steps(sizes, direct):
    run, times = training(sizes=sizes), [0, 1, 3, 4, len(RATES)]
    terms = class_terms(run.labels, sizes[-1])
    found = unrolled.derivatives(run, times, terms, direct=direct)
    assert found.shape == (2, sizes[-1], len(times), *run.images.shape)
    for k in range(2):
        for at, t in enumerate(times):
            images = run.images.clone().requires_grad_()
            losses = losses_after(run, k, images if direct else run.images, t, trained_on=images)
            for c, term in enumerate(terms):
                target = (losses * term).sum()
                wanted = torch.autograd.grad(target, images, retain_graph=True, allow_unused=True)[0]
                wanted = torch.zeros_like(images) if wanted is None else wanted
                torch.testing.assert_close(found[k, c, at], wanted, rtol=1e-9, atol=1e-13)


def test_recursion_is_the_finite_difference_of_whole_trainings():
    run, step = training(replicates=1), 1e-6
    found = unrolled.derivatives(run, [5], torch.full((1, EXAMPLES), 1 / EXAMPLES, dtype=torch.float64))[0, 0, 0]
    for n, pixel in [(int(run.batches[0][0, 0]), 0), (int(run.batches[3][0, 1]), 4), (2, 2)]:
        either = []
        for sign in (1, -1):
            images = run.images.clone()
            images[n, pixel] += sign * step
            either.append(float(losses_after(run, 0, images, 5).mean().detach()))
        assert float(found[n, pixel]) == pytest.approx((either[0] - either[1]) / (2 * step), rel=1e-5, abs=1e-10)


def test_it_is_not_the_gradient_of_the_loss_at_the_example():
    run = training()
    terms = torch.full((1, EXAMPLES), 1 / EXAMPLES, dtype=torch.float64)
    total, direct = (unrolled.derivatives(run, [len(RATES)], terms, direct=kind) for kind in (True, False))
    _, ordinary = unrolled.gradients(unrolled.Replay(run).last, run.images, run.labels, terms)
    torch.testing.assert_close(total - direct, ordinary[:, None, None], rtol=1e-9, atol=1e-13)
    assert float(direct.abs().sum()) > 0.1 * float(ordinary.abs().sum())


def test_terms_of_classes_add_up_to_the_mean_loss():
    run = training()
    parts = unrolled.derivatives(run, [2, 6], class_terms(run.labels, CLASSES))
    whole = unrolled.derivatives(run, [2, 6], torch.full((1, EXAMPLES), 1 / EXAMPLES, dtype=torch.float64))
    torch.testing.assert_close(parts.sum(1), whole[:, 0])


def test_replicates_do_not_touch_each_other():
    run, terms = training(replicates=3), class_terms(training().labels, CLASSES)
    together = unrolled.derivatives(run, [4, 7], terms)
    alone = unrolled.derivatives(run.rows(slice(1, 2)), [4, 7], terms)
    torch.testing.assert_close(together[1:2], alone)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7])
def test_replay_gives_every_set_of_parameters_once_from_the_last(steps):
    run = training(steps=steps)
    forward = [run.start]
    replay = unrolled.Replay(run)
    for s in range(steps):
        forward.append(replay.step(forward[-1], s))
    seen = list(replay.backwards())
    assert [t for t, _ in seen] == list(range(steps, -1, -1))
    for t, layers in seen:
        for pair, wanted in zip(layers, forward[t], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(pair, wanted, strict=True))


@pytest.mark.parametrize("times", [[2, 1], [1, 1], [-1], [len(RATES) + 1]], ids=str)
def test_times_outside_the_training_are_refused(times):
    with pytest.raises(ValueError, match="times"):
        unrolled.derivatives(training(), times, torch.ones(1, EXAMPLES, dtype=torch.float64))
