"""Products in bfloat16: how far from float32 they may be, by what rounding explains, and who refuses what.

u = 2^-8 is bfloat16's unit roundoff: 8 significant bits, so that rounding to nearest errs by at most u of the number.
"""

from itertools import pairwise

import numpy as np
import pytest
from test_training import make_corpora, make_spec

from memorization import backends
from memorization import weights as weight_files
from memorization.configuration import validate
from memorization.errors import UserError
from memorization.specs import ModelSpec, RunSpec

torch = pytest.importorskip("torch")

from memorization.backends import torch as backend  # noqa: E402
from memorization.backends.torch import products  # noqa: E402
from memorization.backends.torch.group import Group  # noqa: E402
from memorization.backends.torch.lstm import Workspace, losses  # noqa: E402

U = 2.0**-8
V = 13
CPU = torch.device("cpu")


def drawn(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def problem(model, replicates=2, length=9, batch=6, dtype=torch.float32):
    """Weights (three times the usual ones, so that gates leave their linear part), ids and targets."""
    rng = np.random.default_rng(1)
    arrays = [weight_files.initial_weights(model, V, np.random.default_rng([0, k])) for k in range(replicates)]
    weights = {n: 3 * torch.from_numpy(a).to(dtype) for n, a in weight_files.stack(arrays).items()}
    weights = {n: w.requires_grad_(weight_files.trained(n)) for n, w in weights.items()}
    ids, targets = (torch.from_numpy(rng.integers(0, V, (replicates, length, batch))) for _ in range(2))
    return weights, ids, targets


def gradients(model, operand, **options):
    weights, ids, targets = problem(model, **options)
    loss = losses(weights, ids, targets, [Workspace(operand) for _ in range(model.layers)])
    loss.sum().backward()
    return loss.detach(), {n: w.grad for n, w in weights.items() if w.requires_grad}


def test_a_product_errs_by_no_more_than_its_operands_rounding():
    """|fl(a) fl(b) - a b| <= (2 u + u^2) |a||b|, and float32's own rounding of the sum of 70 terms."""
    a, b = drawn(3, 40, 70), drawn(3, 70, 50, seed=1)
    short = products.batch_product(products.rounded(a), products.rounded(b))
    exact = torch.bmm(a.double(), b.double())
    bound = torch.bmm(a.abs().double(), b.abs().double()) * (2 * U + U**2 + 70 * 2.0**-23)
    assert ((short - exact).abs() <= bound).all()
    assert ((short - exact).abs() > bound / 100).any(), "nothing was rounded"


def test_rounding_an_already_rounded_number_changes_nothing():
    once = products.rounded(drawn(100))
    assert torch.equal(products.rounded(once), once)
    assert not torch.equal(once, drawn(100))


class Round(torch.autograd.Function):
    """To bfloat16, with the gradient of the identity: how a rounded operand is differentiated."""

    @staticmethod
    def forward(ctx, x):
        return x.to(torch.bfloat16).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad


class Product(torch.autograd.Function):
    """a b of rounded operands; the gradient that comes back is an operand of two more products."""

    @staticmethod
    def forward(ctx, a, b):
        a, b = Round.forward(None, a), Round.forward(None, b)
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        grad = Round.forward(None, grad)
        return grad @ b.T, a.T @ grad


def written_out(weights, k, ids, targets, layers):
    """Replicate k's loss, step by step in the plainest way, in the weights' own type."""
    w = {n: a[k] for n, a in weights.items()}
    inputs = list(w["embedding.weight"][ids])
    for layer in range(layers):
        w_ih, w_hh, bias = (w[f"lstm.{n}_l{layer}"] for n in ("weight_ih", "weight_hh", "bias_ih"))
        if layer == 0:
            table = Product.apply(w["embedding.weight"], w_ih.T) + bias
            gates_in = list(table[ids])
        else:
            gates_in = [Product.apply(x, w_ih.T) + bias for x in inputs]
        h = c = None
        inputs = []
        for a in gates_in:
            a = a if h is None else a + Product.apply(h, w_hh.T)
            i, f, g, o = a.chunk(4, dim=-1)
            c = i.sigmoid() * g.tanh() + (0 if c is None else f.sigmoid() * c)
            h = o.sigmoid() * c.tanh()
            inputs.append(h)
    logits = torch.stack([Product.apply(h, w["output.weight"].T) + w["output.bias"] for h in inputs])
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


@pytest.mark.parametrize("layers", [1, 2])
def test_rounded_operands_are_the_only_difference(layers):
    """Against the same model written out in float64 with rounded operands. What is left is float32 arithmetic, and the
    few operands that it moves across a rounding boundary, each by 2 u of itself: far less than rounding all of them.
    """
    model = ModelSpec(layers=layers, units=10, embedding=7)
    loss, ours = gradients(model, products.rounded)
    weights, ids, targets = problem(model, dtype=torch.float64)
    expected = torch.stack([written_out(weights, k, ids[k], targets[k], layers) for k in range(2)])
    expected.sum().backward()
    _, plain = gradients(model, products.exact)
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=U / 8, atol=0)
    for name, gradient in ours.items():
        wanted = weights[name].grad
        left, all_rounded = (gradient - wanted).norm(), (plain[name] - wanted).norm()
        assert left <= U / 8 * wanted.norm(), name
        assert left < all_rounded / 4, f"{name}: no nearer to rounded operands than float32 is"


@pytest.mark.parametrize("embedding", [7, None])
def test_gradients_agree_with_float32_within_rounding(embedding):
    """To first order each rounded operand on the way of a gradient adds at most u of its size. The longest way through
    T steps of 2 layers is T + 2 products (the table, T - 1 recurrent ones, between the layers, the output) forward and
    as many back, of two operands each, and gates and tanh do not stretch (slopes of at most 1): 4 (T + 2) u in all.
    """
    model = ModelSpec(layers=2, units=12, embedding=embedding)
    _, short = gradients(model, products.rounded, length=5)
    _, plain = gradients(model, products.exact, length=5)
    for name, gradient in short.items():
        error = (gradient - plain[name]).norm() / plain[name].norm()
        assert 0 < error <= 4 * (5 + 2) * U, name


def test_the_loss_over_very_many_words_is_rounded_too():
    from memorization.backends.torch import words

    states, weight, bias = drawn(2, 30, 16), drawn(2, 1500, 16, seed=1) / 4, drawn(2, 1500, seed=2)
    targets = torch.from_numpy(np.random.default_rng(3).integers(0, 1500, (2, 30)))
    found = {}
    for operand in (products.rounded, products.exact):
        parts = [p.clone().requires_grad_() for p in (states, weight, bias)]
        loss = words.mean_cross_entropy(*parts, targets, operand)
        loss.sum().backward()
        found[operand] = [loss.detach(), *(p.grad for p in parts)]
    # A logit errs by at most (2 u + u^2) |h||w|; the loss by twice the largest such error, and a probability by as
    # much, relatively. A gradient is a product of probabilities, rounded, with another operand, rounded.
    largest = (2 * U + U**2) * torch.bmm(states.abs(), weight.abs().transpose(1, 2)).max()
    short, plain = found[products.rounded], found[products.exact]
    assert 0 < (short[0] - plain[0]).abs().max() <= 2 * largest
    for one, other in zip(short[1:], plain[1:], strict=True):
        assert 0 < (one - other).norm() <= (torch.expm1(2 * largest) + 2 * U) * other.norm()


def trained_losses(precision, epochs):
    """Mean training loss per epoch and validation loss, [R] each, of small models on lines of text."""
    spec = make_spec(3, precision=precision, optimizer="adam", learning_rate=0.01)
    group = Group(spec, [0, 1, 2], make_corpora(spec), CPU)
    start = group.evaluate("train")["loss_nats"]
    seen = []
    for epoch in range(1, epochs + 1):
        list(group.train_epoch(epoch, group.batches))
        seen.append(group.epoch_loss)
    return start, np.array(seen), group.evaluate("train")["loss_nats"]


def test_training_goes_the_same_way():
    """A gradient's direction errs by a few u (above), so what N steps gain differs by a few u of the gain: 4 u, two
    operands forward and two back. Evaluation is float32 in both.
    """
    start, plain, end = trained_losses("float32", 4)
    same_start, short, short_end = trained_losses("bfloat16", 4)
    assert np.array_equal(start, same_start), "evaluated in float32, whatever training is in"
    assert all((later < earlier).all() for earlier, later in pairwise(plain))
    gain = start - end
    assert (np.abs(short_end - end) <= 4 * U * gain).all()
    assert (np.abs(short - plain) <= 4 * U * gain).all()
    assert not np.array_equal(short_end, end)


def test_state_weights_and_gradients_stay_float32():
    spec = make_spec(2, precision="bfloat16")
    group = Group(spec, [0, 1], make_corpora(spec), CPU)
    list(group.train_epoch(1, 2))
    everything = [*group.weights.values(), *(p.grad for p in group.parameters), *group.optimizer.moments["square"]]
    assert {tensor.dtype for tensor in everything} == {torch.float32}


def test_float32_products_are_torch_s_own_calls():
    """The default: the very functions, with the tensors as they are."""
    a, b = drawn(1, 4, 5), drawn(1, 5, 6, seed=1)
    assert products.exact(a) is a
    assert products.adder(b) is torch.baddbmm
    assert products.adder(b[0]) is torch.addmm
    assert torch.equal(products.batch_product(a, b), (a[0] @ b[0])[None])
    with products.computing("float32", CPU):
        assert products._switches("float32", CPU) == products._switches("float32", torch.device("cuda")) == []


def test_torch_s_switches_are_put_back(monkeypatch):
    before = torch.backends.mkldnn.matmul.fp32_precision
    monkeypatch.setattr(products, "has_bfloat16_units", lambda: True)
    with products.computing("bfloat16", CPU):
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    assert torch.backends.mkldnn.matmul.fp32_precision == before


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"training": {"precision": "bfloat16"}, "model": {"architecture": "gru"}}, "only for model.architecture lstm"),
        (
            {"training": {"precision": "tf32", "gradient_clip": None}, "privacy": {"noise_multiplier": 1.0}},
            "precision tf32: not in private training",
        ),
        ({"training": {"precision": "auto"}}, "training.precision"),
        ({"training": {"precision": "float16"}}, "training.precision"),
        ({"task": "translation", "training": {"precision": "bfloat16"}}, "training.precision"),
    ],
)
def test_what_does_not_go_together_is_one_clear_line(tree, said):
    from memorization.specs import TASKS

    with pytest.raises(UserError, match=said):
        validate(TASKS[tree.get("task", "text")], tree, "here")


def test_tensorflow_and_a_cpu_refuse_what_they_lack(tmp_path):
    with pytest.raises(UserError, match=r"training\.precision: back end 'tf' has no 'bfloat16'; .* torch"):
        backends.require_able("tf", make_spec(precision="bfloat16"), "here")
    backends.require_able("tf", make_spec(), "here")
    spec = make_spec(precision="tf32")
    with pytest.raises(UserError, match="tf32: only a GPU has it, and the device is cpu"):
        backend.train(spec, make_corpora(spec), tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_the_default_names_no_run_anew():
    assert RunSpec().run_id == RunSpec.model_validate({"training": {"precision": "float32"}}).run_id
    assert RunSpec().run_id != RunSpec.model_validate({"training": {"precision": "bfloat16"}}).run_id


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("replicates", [1, 2])
def test_a_gpu_s_bfloat16_products_are_a_cpu_s_rounded_ones(replicates):
    """As above: the same rounding, other orders of sums."""
    model = ModelSpec(layers=2, units=16, embedding=8)
    loss, ours = gradients(model, products.rounded, replicates=replicates)
    weights, ids, targets = problem(model, replicates=replicates)
    weights = {n: w.detach().cuda().requires_grad_(w.requires_grad) for n, w in weights.items()}
    theirs = losses(weights, ids.cuda(), targets.cuda(), [Workspace(products.rounded) for _ in range(2)])
    theirs.sum().backward()
    torch.testing.assert_close(theirs.detach().cpu(), loss, rtol=U / 8, atol=0)
    for name, gradient in ours.items():
        assert (weights[name].grad.cpu() - gradient).norm() <= U / 8 * gradient.norm(), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_a_gpu_s_lower_precision_trains_the_same_way(precision):
    """tf32 keeps 11 significant bits: nearer to float32 than bfloat16."""
    ends = {}
    for one in ("float32", precision):
        spec = make_spec(3, precision=one, optimizer="adam", learning_rate=0.01)
        group = Group(spec, [0, 1, 2], make_corpora(spec), torch.device("cuda:0"))
        start = group.evaluate("train")["loss_nats"]
        for epoch in range(1, 5):
            list(group.train_epoch(epoch, group.batches))
        ends[one] = group.evaluate("train")["loss_nats"]
    assert (np.abs(ends[precision] - ends["float32"]) <= 4 * U * (start - ends["float32"])).all()
