"""GRU, CNN, WaveNet and transformer against PyTorch's own modules with the same weights."""

import numpy as np
import pytest

from memorization import weights as weight_files
from memorization.specs import ModelSpec
from memorization.vocabulary import Vocabulary

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from memorization.backends.torch.architectures import language_model, make_network  # noqa: E402

V = 11
VOCABULARY = Vocabulary(tuple("abcdefghijk"))
MODELS = {
    "gru": ModelSpec(architecture="gru", layers=2, units=12, embedding=5),
    "gru-one-hot": ModelSpec(architecture="gru", layers=1, units=12, embedding=None),
    "cnn": ModelSpec(architecture="cnn", layers=3, units=12, embedding=5, kernel=4),
    "cnn-one-hot": ModelSpec(architecture="cnn", layers=1, units=12, embedding=None, kernel=2),
    "wavenet": ModelSpec(architecture="wavenet", layers=3, units=12, embedding=5, kernel=2),
    "wavenet-one-hot": ModelSpec(architecture="wavenet", layers=2, units=12, embedding=None, kernel=3),
    "transformer": ModelSpec(architecture="transformer", layers=2, units=12, embedding=5, heads=3),
    "transformer-one-hot": ModelSpec(architecture="transformer", layers=1, units=12, embedding=None, heads=2),
}


class Plain(nn.Module):
    """PyTorch's modules under the names of model.npz; a subclass adds those of its architecture."""

    def __init__(self, model):
        super().__init__()
        self.model, self.width = model, model.embedding or V
        if model.embedding:
            self.embedding = nn.Embedding(V, model.embedding)
        self.output = nn.Linear(model.units, V)

    def embedded(self, ids):
        """[B, T, E]."""
        return self.embedding(ids) if self.model.embedding else functional.one_hot(ids, V).to(self.output.weight.dtype)

    def forward(self, ids):
        return self.output(self.states(self.embedded(ids)))


class PlainGru(Plain):
    def __init__(self, model):
        super().__init__(model)
        self.gru = nn.GRU(self.width, model.units, model.layers, batch_first=True)

    def states(self, inputs):
        return self.gru(inputs)[0]


class PlainCnn(Plain):
    def __init__(self, model):
        super().__init__(model)
        widths = [self.width] + [model.units] * (model.layers - 1)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, model.units, model.kernel) for width in widths)

    def states(self, inputs):
        states = inputs.transpose(1, 2)
        for convolution in self.convolutions:
            states = convolution(functional.pad(states, (self.model.kernel - 1, 0))).relu()
        return states.transpose(1, 2)


class PlainWaveNet(Plain):
    def __init__(self, model):
        super().__init__(model)
        units, kernel = model.units, model.kernel
        self.input = nn.Linear(self.width, units)
        self.layers = nn.ModuleList()
        for k in range(model.layers):
            parts = {"dilated": nn.Conv1d(units, 2 * units, kernel, dilation=2**k), "skip": nn.Linear(units, units)}
            parts |= {"residual": nn.Linear(units, units)} if k < model.layers - 1 else {}
            self.layers.append(nn.ModuleDict(parts))
        self.post = nn.Linear(units, units)

    def states(self, inputs):
        states, skipped = self.input(inputs), 0
        for k, parts in enumerate(self.layers):
            padded = functional.pad(states.transpose(1, 2), ((self.model.kernel - 1) * 2**k, 0))
            filtered, gate = parts["dilated"](padded).transpose(1, 2).chunk(2, dim=2)
            gated = filtered.tanh() * gate.sigmoid()
            skipped = skipped + parts["skip"](gated)
            states = states + parts["residual"](gated) if "residual" in parts else states
        return self.post(skipped.relu()).relu()


class PlainTransformer(Plain):
    def __init__(self, model):
        super().__init__(model)
        units = model.units
        self.input = nn.Linear(self.width, units)
        layer = nn.TransformerEncoderLayer(
            units, model.heads, 4 * units, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, model.layers, nn.LayerNorm(units), enable_nested_tensor=False)

    def states(self, inputs):
        states = self.input(inputs)
        length, units = states.shape[1:]
        place, column = np.arange(length)[:, None], np.arange(units)
        angle = place / 10_000 ** (column // 2 * 2 / units)
        added = np.where(column % 2, np.cos(angle), np.sin(angle))
        mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=states.dtype)
        return self.encoder(states + torch.as_tensor(added, dtype=states.dtype), mask, is_causal=True)


CLASSES = {"gru": PlainGru, "cnn": PlainCnn, "wavenet": PlainWaveNet, "transformer": PlainTransformer}


def draw(model, replicates, dtype=np.float64):
    """Weights of every replicate, wilder than initial ones so that nothing is nearly linear."""
    drawn = [weight_files.initial_weights(model, V, np.random.default_rng([5, k])) for k in range(replicates)]
    rng = np.random.default_rng(6)
    return [{n: (2 * a + 0.1 * rng.normal(size=a.shape)).astype(dtype) for n, a in one.items()} for one in drawn]


def plain(model, weights):
    """Loading is strict: every name and shape of model.npz is one of PyTorch's modules, and the other way round."""
    module = CLASSES[model.architecture](model).double()
    module.load_state_dict({name: torch.as_tensor(array) for name, array in weights.items()})
    return module


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


def text(replicates, length=9, batch=4):
    rng = np.random.default_rng(0)
    return (torch.from_numpy(rng.integers(0, V, (replicates, length, batch))) for _ in range(2))


def test_losses_and_gradients_equal_pytorchs_modules(model):
    weights = draw(model, 2)
    ids, targets = text(2)
    ours = {name: torch.from_numpy(a).requires_grad_() for name, a in weight_files.stack(weights).items()}
    result = make_network(model).losses(ours, ids, targets)
    result.sum().backward()
    for k in range(2):
        module = plain(model, weights[k])
        expected = functional.cross_entropy(module(ids[k].T).transpose(1, 2), targets[k].T)
        expected.backward()
        torch.testing.assert_close(result[k], expected, rtol=1e-9, atol=1e-12)
        for name, parameter in module.named_parameters():
            torch.testing.assert_close(ours[name].grad[k], parameter.grad, rtol=1e-7, atol=1e-10, msg=name)


def test_nothing_reads_what_comes_later(model):
    (weights,) = draw(model, 1)
    ours = {name: torch.from_numpy(a)[None] for name, a in weights.items()}
    ids, _ = text(1)
    other = ids.clone()
    other[:, 5:] = (other[:, 5:] + 1) % V
    one, two = (make_network(model).logits(ours, part) for part in (ids, other))
    torch.testing.assert_close(one[:, :5], two[:, :5], rtol=0, atol=1e-12)
    assert (one[:, 5:] - two[:, 5:]).abs().min(dim=-1).values.max() > 1e-6


def test_costs_equal_pytorchs_modules(model):
    (weights,) = draw(model, 1)
    ids = np.random.default_rng(7).integers(0, V, (20, 8))
    with torch.no_grad():
        logs = functional.log_softmax(plain(model, weights)(torch.from_numpy(ids))[:, :-1], dim=2).numpy()
    expected = -np.take_along_axis(logs, ids[:, 1:, None], axis=2)[..., 0].sum(axis=1) / np.log(2)
    single = {name: torch.from_numpy(array.astype(np.float32)) for name, array in weights.items()}
    ours = language_model(model, single, VOCABULARY)
    np.testing.assert_allclose(ours.log_perplexity(ids), expected, rtol=1e-5)
    logs, state = ours.start(ids[0, :1])
    stepped, state = -logs[0, ids[:1, 1]], state
    for t in range(1, 7):
        logs, state = ours.step(state, ids[:1, t])
        stepped = stepped - logs[0, ids[:1, t + 1]]
    np.testing.assert_allclose(stepped, expected[:1], rtol=1e-5)


def test_histories_of_different_beginnings_stand_side_by_side():
    """Two states of a transformer that began with different texts, of different lengths."""
    model = MODELS["transformer"]
    (weights,) = draw(model, 1, np.float32)
    ours = language_model(model, {name: torch.from_numpy(array) for name, array in weights.items()}, VOCABULARY)
    _, one = ours.start(np.array([0, 1, 2]))
    _, two = ours.start(np.array([3]))
    _, two = ours.step(two, np.array([4]))
    both = ours.concatenate([one, two.take([0, 0])])
    logs, _ = ours.step(both, np.array([5, 6, 7]))
    for row, text in enumerate(([0, 1, 2, 5], [3, 4, 6], [3, 4, 7])):
        np.testing.assert_allclose(logs[row], ours.start(np.array(text))[0][0], rtol=1e-4, atol=1e-4)
