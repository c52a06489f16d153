"""Private training against Opacus (DPLSTM, its engine, sampler, accountant), torch.func, torch.optim and a loop."""

import math

import numpy as np
import pytest

from memorization import weights as weight_files
from memorization.privacy_file import Mechanism
from memorization.sampling import poisson_batches
from memorization.specs import ModelSpec, TrainingSpec

torch = pytest.importorskip("torch")
opacus = pytest.importorskip("opacus")

from opacus.grad_sample import GradSampleModuleFastGradientClipping  # noqa: E402
from opacus.layers import DPLSTM  # noqa: E402
from opacus.utils.uniform_sampler import UniformWithReplacementSampler  # noqa: E402
from torch import nn  # noqa: E402

from memorization.backends.torch.opacus_layer import CharacterLSTM, LSTMLayer  # noqa: E402
from memorization.backends.torch.private import Clipper  # noqa: E402
from memorization.backends.torch.private_group import PrivateOptimizer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Secure RNG", "ignore:Full backward hook", "ignore:Optimal order")

V, T, B = 11, 9, 6
MODEL = ModelSpec(layers=2, units=12, embedding=7)


def arrays(model=MODEL, seed=0):
    drawn = weight_files.initial_weights(model, V, np.random.default_rng(seed))
    return {name: 2 * array for name, array in drawn.items()}


def stacked(weights):
    return {n: torch.from_numpy(a)[None].clone().requires_grad_(weight_files.trained(n)) for n, a in weights.items()}


def text(batch=B, length=T, seed=0):
    """Inputs and targets, int64[B, T]."""
    ids = np.random.default_rng(seed).integers(0, V, (batch, length + 1))
    return torch.from_numpy(ids[:, :-1]).contiguous(), torch.from_numpy(ids[:, 1:]).contiguous()


class WithLSTM(nn.Module):
    """Embedding, an nn.LSTM or Opacus' DPLSTM, and a linear layer; bias_hh not trained, as here."""

    def __init__(self, kind, weights):
        super().__init__()
        width, units = weights["embedding.weight"].shape[1], weights["output.weight"].shape[1]
        self.embedding = nn.Embedding(V, width)
        self.lstm = kind(width, units, weight_files.layer_count(weights), batch_first=True)
        self.output = nn.Linear(units, V)
        self.load_state_dict({name: torch.as_tensor(a) for name, a in weights.items()}, strict=False)
        for name, parameter in self.named_parameters():
            if "bias_hh" in name or "hh.bias" in name:
                nn.init.zeros_(parameter)
                parameter.requires_grad_(False)

    def forward(self, ids):
        return self.output(self.lstm(self.embedding(ids))[0])


def mean_losses(logits, targets):
    return nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)


def ours(weights, ids, targets, clip):
    """Clipped sums and norms of one replicate."""
    clipped = Clipper(weight_files.layer_count(weights))(stacked(weights), ids.T[None], targets.T[None], clip)
    return {name: g[0] for name, g in clipped.gradients.items()}, clipped.norms[0]


def clipped_sum(per_example, clip):
    """From name -> [B, ...] gradients."""
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in per_example.values()]).norm(dim=0)
    factor = (clip / norms).clamp(max=1)
    return {name: torch.einsum("b,b...->...", factor, g) for name, g in per_example.items()}, norms


def assert_same(one, other, tolerance=1e-5):
    assert one.keys() == other.keys()
    for name in one:
        scale = float(other[name].abs().max())
        torch.testing.assert_close(one[name], other[name], rtol=tolerance, atol=tolerance * scale, msg=name)


def typical_norm(weights, ids, targets):
    return float(ours(weights, ids, targets, 1.0)[1].median())


def wrapped(module, **options):
    return opacus.GradSampleModule(module, batch_first=True, loss_reduction="mean", **options)


def sampled(module, ids, targets):
    """Opacus' per-example gradients, name -> [B, ...]."""
    model = wrapped(module)
    mean_losses(model(ids), targets).mean().backward()
    return {name: p.grad_sample for name, p in module.named_parameters() if p.requires_grad}


def with_dplstm(weights, ids, targets):
    return sampled(WithLSTM(DPLSTM, weights), ids, targets)


def with_vmap(weights, ids, targets):
    """torch.func over a plain nn.LSTM."""
    module = WithLSTM(nn.LSTM, weights)
    trained = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    frozen = {name: p.detach() for name, p in module.named_parameters() if not p.requires_grad}

    def loss(parameters, x, y):
        return mean_losses(torch.func.functional_call(module, {**parameters, **frozen}, (x[None],)), y[None])[0]

    return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(trained, ids, targets)


def with_a_loop(weights, ids, targets):
    """One backward pass of nn.LSTM per example."""
    module = WithLSTM(nn.LSTM, weights)
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    losses = [mean_losses(module(x[None]), y[None])[0] for x, y in zip(ids, targets, strict=True)]
    rows = [torch.autograd.grad(loss, list(trained.values())) for loss in losses]
    return {name: torch.stack(parts) for name, parts in zip(trained, zip(*rows, strict=True), strict=True)}


@pytest.mark.parametrize("reference", [with_dplstm, with_vmap, with_a_loop])
@pytest.mark.parametrize("share", [0.1, 1.0, 10.0])
def test_clipped_sum_equals(reference, share):
    """All, some and no examples clipped."""
    weights, (ids, targets) = arrays(), text()
    clip = share * typical_norm(weights, ids, targets)
    expected, norms = clipped_sum(reference(weights, ids, targets), clip)
    result, own_norms = ours(weights, ids, targets, clip)
    torch.testing.assert_close(own_norms, norms, rtol=1e-5, atol=0)
    assert_same(result, expected)


def make_optimizer(parameters, noise=0.0, clip=1.0, batch_size=4, rate=0.5, **training):
    about = Mechanism(noise, clip, 0.25, 4, batch_size)
    options = {"optimizer": "sgd", "learning_rate": 0.01, "gradient_clip": None} | training
    return PrivateOptimizer(parameters, TrainingSpec(**options), about)


def test_noise_has_the_stated_deviation():
    """A15: at zero gradient, 10^4 draws of the update times the batch size: s.d. clip * sigma within 3 %, mean 0."""
    parameter = torch.zeros(50, requires_grad=True)
    optimizer = make_optimizer([parameter], noise=1.7, clip=0.3, batch_size=8, learning_rate=1.0)
    draws = []
    for _ in range(200):
        before = parameter.detach().clone()
        optimizer.step([torch.zeros(50)])
        draws.append((parameter.detach() - before) * 8)
    draws = torch.stack(draws)
    assert float(draws.std()) == pytest.approx(1.7 * 0.3, rel=0.03)
    assert abs(float(draws.mean())) < 5 * 1.7 * 0.3 / 100
    assert abs(float(torch.corrcoef(torch.stack([draws[:-1].flatten(), draws[1:].flatten()]))[0, 1])) < 0.05


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "sgd"])
def test_updates_equal_torch_optim(optimizer):
    """For given sums: torch.optim with its defaults on sum / batch size, weight decay included; noise 0."""
    classes = {"rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    start = [torch.randn(1, 5, 3), torch.randn(1, 4)]
    mine, reference = ([p.clone().requires_grad_() for p in start] for _ in range(2))
    ours_ = make_optimizer(mine, optimizer=optimizer, weight_decay=0.02)
    theirs = classes[optimizer](reference, lr=0.01, weight_decay=0.02)
    for _ in range(5):
        sums = [torch.randn_like(p) for p in mine]
        ours_.step(sums)
        for parameter, total in zip(reference, sums, strict=True):
            parameter.grad = total / 4
        theirs.step()
        torch.testing.assert_close(mine, reference, rtol=1e-6, atol=1e-7)


def test_batches_are_like_those_of_opacus_sampler():
    """Share of inclusion per record and the spread of batch sizes, over 2,000 steps each."""
    examples, q, steps = 60, 0.1, 2_000
    sampler = UniformWithReplacementSampler(
        num_samples=examples, sample_rate=q, steps=steps, generator=torch.Generator().manual_seed(1)
    )
    counts, sizes = [], []
    for batches in (poisson_batches(np.random.default_rng(0), examples, q, steps), sampler):
        taken = [np.asarray(batch, dtype=np.int64) for batch in batches]
        assert len(taken) == steps
        counts.append(np.bincount(np.concatenate(taken), minlength=examples) / steps)
        sizes.append(np.array([len(batch) for batch in taken]))
    error = math.sqrt(2 * q * (1 - q) / steps)
    assert np.abs(counts[0] - counts[1]).max() < 5 * error
    assert sizes[0].mean() == pytest.approx(sizes[1].mean(), abs=5 * error * math.sqrt(examples))
    assert sizes[0].std() == pytest.approx(sizes[1].std(), rel=0.1)


def test_opacus_accountant_agrees_with_dp_accounting():
    """B7's rows without long training: 234 steps at sigma 1.1, q = 256 / 60,000, delta 1e-5: 0.7402 (dp-accounting)."""
    parameter = torch.zeros(3, requires_grad=True)
    about = Mechanism(1.1, 1.0, 256 / 60_000, 234, 256)
    optimizer = PrivateOptimizer([parameter], TrainingSpec(gradient_clip=None), about)
    for _ in range(234):
        optimizer.step([torch.zeros(3)])
    assert optimizer.accountant.get_epsilon(delta=1e-5) == pytest.approx(0.7402, abs=5e-4)


def test_layer_equals_nn_lstm_and_may_be_differentiated_twice():
    inputs = torch.randn(B, T, 5, dtype=torch.float64, requires_grad=True)
    layer, reference = LSTMLayer(5, 7).double(), nn.LSTM(5, 7, batch_first=True).double()
    reference.load_state_dict(
        {
            "weight_ih_l0": layer.weight_ih, "weight_hh_l0": layer.weight_hh,
            "bias_ih_l0": layer.bias, "bias_hh_l0": torch.zeros(28),
        }
    )  # fmt: skip
    torch.testing.assert_close(layer(inputs), reference(inputs)[0])
    expected = torch.autograd.grad(reference(inputs)[0].square().sum(), [inputs, *list(reference.parameters())[:3]])
    loss = layer(inputs).square().sum()
    for _ in range(2):
        found = torch.autograd.grad(loss, [inputs, *layer.parameters()], retain_graph=True)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("last", ["kept", "forgotten"])
def test_layer_under_opacus_gives_the_per_example_gradients_of_dplstm(last, monkeypatch):
    if last == "forgotten":
        monkeypatch.setattr(LSTMLayer, "__setattr__", _forgetful)
    weights, (ids, targets) = arrays(), text()
    expected = with_dplstm(weights, ids, targets)
    found = sampled(CharacterLSTM.of(weights), ids, targets)
    assert_same({_array(name): g for name, g in found.items()}, expected)


def _forgetful(self, name, value):
    nn.Module.__setattr__(self, name, None if name == "last" else value)


def _array(name):
    """CharacterLSTM's parameter name -> that of model.npz."""
    parts = name.split(".")
    if parts[0] != "layers":
        return name
    return f"lstm.{'bias_ih' if parts[2] == 'bias' else parts[2]}_l{parts[1]}"


def private_engine(mode, model, data, noise=0.0, clip=0.1, rate=1.0, batch_size=4):
    engine = opacus.PrivacyEngine(accountant="rdp")
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    loader = torch.utils.data.DataLoader(data, batch_size=batch_size)
    options = {"noise_multiplier": noise, "max_grad_norm": clip, "grad_sample_mode": mode, "poisson_sampling": True}
    if mode == "hooks":
        model, optimizer, loader = engine.make_private(module=model, optimizer=optimizer, data_loader=loader, **options)
        return engine, model, optimizer, loader, nn.CrossEntropyLoss()
    model, optimizer, criterion, loader = engine.make_private(
        module=model, optimizer=optimizer, data_loader=loader, criterion=nn.CrossEntropyLoss(), **options
    )
    return engine, model, optimizer, loader, criterion


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_engine_step_is_the_clipped_sum(mode):
    """One engine step at noise 0 moves the weights by our clipped sum over the expected batch size."""
    weights, (ids, targets) = arrays(), text()
    clip = typical_norm(weights, ids, targets)
    model = CharacterLSTM.of(weights)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    data = torch.utils.data.TensorDataset(ids, targets)
    _, private, optimizer, _, criterion = private_engine(mode, model, data, clip=clip)
    logits = private(ids)
    if mode == "ghost":
        criterion(logits.reshape(-1, V), targets.reshape(-1), shape=logits.shape).backward()
    else:
        criterion(logits.reshape(-1, V), targets.reshape(-1)).backward()
    optimizer.step()
    moved = {_array(n): (before[n] - p.detach()) * optimizer.expected_batch_size for n, p in model.named_parameters()}
    # Opacus adds 1e-6 to the norm before dividing.
    assert_same(moved, ours(weights, ids, targets, clip)[0], 1e-4)


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_engine_trains_with_poisson_batches_and_gives_an_epsilon(mode):
    """With empty batches in hooks mode; Opacus 1.6.0's own ghost norms of nn.Embedding fail on an empty batch."""
    torch.manual_seed(0)
    ids, targets = text(batch=12)
    model = CharacterLSTM.of(arrays())
    data = torch.utils.data.TensorDataset(ids, targets)
    size = {"hooks": 1, "ghost": 4}[mode]
    engine, private, optimizer, loader, criterion = private_engine(
        mode, model, data, noise=1.0, rate=0.1, batch_size=size
    )
    sizes = []
    for _ in range(6):
        for x, y in loader:
            sizes.append(len(x))
            optimizer.zero_grad()
            logits = private(x.long().view(-1, T))
            options = {"shape": logits.shape} if mode == "ghost" else {}
            criterion(logits.reshape(-1, V), y.long().reshape(-1), **options).backward()
            optimizer.step()
    assert len(set(sizes)) > 2
    assert (0 in sizes) == (mode == "hooks")
    assert 0 < engine.get_epsilon(delta=1e-3) < 50
    assert all(p.isfinite().all() for p in model.parameters())


def test_layer_takes_an_empty_batch_in_ghost_mode():
    layer = LSTMLayer(5, 7)
    ghost = GradSampleModuleFastGradientClipping(layer, batch_first=True, loss_reduction="mean")
    ghost(torch.zeros(0, T, 5)).sum().backward()
    assert [p._norm_sample.shape for p in layer.parameters()] == [(0,)] * 3


def test_ghost_norms_equal_the_gradients_norms():
    """Each parameter's, with sequences short enough for Gram matrices and long enough to form gradients."""
    for length in (3, 40):
        weights, (ids, targets) = arrays(), text(length=length)
        model = CharacterLSTM.of(weights)
        ghost = GradSampleModuleFastGradientClipping(model, batch_first=True, loss_reduction="mean")
        mean_losses(ghost(ids), targets).mean().backward()
        for name, gradient in sampled(CharacterLSTM.of(weights), ids, targets).items():
            expected = gradient.flatten(1).norm(dim=1)
            norm = model.get_parameter(name)._norm_sample
            torch.testing.assert_close(norm, expected, rtol=1e-4, atol=1e-7, msg=name)
