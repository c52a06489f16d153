"""Our LSTM layers against torch.nn.LSTM (outputs and gradients) and the stepping model against NumPy."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_lstm import log2_probabilities, log_perplexity

from memorization import weights as weight_files
from memorization.specs import ModelSpec, TrainingSpec
from memorization.vocabulary import Vocabulary

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from memorization.backends.torch.group import clip_gradients  # noqa: E402
from memorization.backends.torch.lstm import Workspace, losses  # noqa: E402
from memorization.backends.torch.model import TorchLanguageModel  # noqa: E402
from memorization.backends.torch.optimizers import make_optimizer  # noqa: E402

CLASSES = {
    "rmsprop": torch.optim.RMSprop,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
}
V = 11
VOCABULARY = Vocabulary(tuple("abcdefghijk"))


def one_hot(ids):
    return nn.functional.one_hot(ids, V)


class Plain(nn.Module):
    """One replicate with PyTorch's own modules; parameter names as in model.npz."""

    def __init__(self, model, weights):
        super().__init__()
        self.embedding = nn.Embedding(V, model.embedding) if model.embedding else one_hot
        self.lstm = nn.LSTM(model.embedding or V, model.units, model.layers)
        self.output = nn.Linear(model.units, V)
        self.load_state_dict({name: torch.as_tensor(array) for name, array in weights.items()})
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(weight_files.trained(name))

    def loss(self, ids, targets):
        logits = self.output(self.lstm(self.embedding(ids).to(self.output.weight.dtype))[0])
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def trained(self):
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


def initial(model, replicates, dtype=np.float32, seed=0):
    drawn = [weight_files.initial_weights(model, V, np.random.default_rng([seed, k])) for k in range(replicates)]
    return [{name: array.astype(dtype) for name, array in weights.items()} for weights in drawn]


def stacked(weights):
    arrays = weight_files.stack(weights)
    return {name: torch.from_numpy(a).requires_grad_(weight_files.trained(name)) for name, a in arrays.items()}


def text(replicates, length, batch, seed=0):
    rng = np.random.default_rng(seed)
    return (torch.from_numpy(rng.integers(0, V, (replicates, length, batch))) for _ in range(2))


@settings(max_examples=10, deadline=None)
@given(
    layers=st.integers(1, 3),
    units=st.integers(1, 17),
    embedding=st.none() | st.integers(1, 9),
    replicates=st.integers(1, 3),
    length=st.integers(1, 6),
    batch=st.integers(1, 5),
    double=st.booleans(),
)
def test_loss_and_gradients_equal_nn_lstm(layers, units, embedding, replicates, length, batch, double):
    model = ModelSpec(layers=layers, units=units, embedding=embedding)
    weights = initial(model, replicates, np.float64 if double else np.float32)
    ids, targets = text(replicates, length, batch)
    ours = stacked(weights)
    result = losses(ours, ids, targets, [Workspace() for _ in range(layers)])
    result.sum().backward()
    rtol, atol = (1e-9, 1e-12) if double else (1e-4, 1e-6)
    for k in range(replicates):
        plain = Plain(model, weights[k]).to(torch.float64 if double else torch.float32)
        expected = plain.loss(ids[k], targets[k])
        expected.backward()
        torch.testing.assert_close(result[k], expected, rtol=rtol, atol=atol)
        for name, parameter in plain.trained().items():
            torch.testing.assert_close(ours[name].grad[k], parameter.grad, rtol=rtol, atol=atol, msg=name)


def test_gradients_equal_finite_differences():
    """Along a random direction, in float64."""
    model = ModelSpec(layers=2, units=5, embedding=3)
    weights = stacked(initial(model, 1, np.float64))
    ids, targets = text(1, 6, 4)
    workspaces = [Workspace(), Workspace()]
    losses(weights, ids, targets, workspaces).sum().backward()
    generator = torch.Generator().manual_seed(0)
    direction = {n: torch.randn(w.shape, generator=generator) for n, w in weights.items() if w.requires_grad}
    slope = sum((weights[name].grad * d).sum() for name, d in direction.items())

    def moved(distance):
        new = {n: w.detach() + distance * direction.get(n, 0) for n, w in weights.items()}
        return losses(new, ids, targets, workspaces).sum()

    torch.testing.assert_close((moved(1e-5) - moved(-1e-5)) / 2e-5, slope, rtol=1e-6, atol=1e-9)


def test_a_second_backward_pass_is_refused():
    weights = stacked(initial(ModelSpec(layers=1, units=3, embedding=2), 1))
    result = losses(weights, *text(1, 3, 2), [Workspace()]).sum()
    result.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        result.backward()


@pytest.mark.parametrize("optimizer", CLASSES)
def test_training_steps_equal_torch_optim_on_nn_lstm(optimizer):
    """Same start, same batches: after a few clipped steps with weight decay the weights agree."""
    model = ModelSpec(layers=2, units=8, embedding=5)
    training = TrainingSpec(optimizer=optimizer, learning_rate=0.01, weight_decay=0.01)
    weights = initial(model, 2)
    ours, workspaces = stacked(weights), [Workspace(), Workspace()]
    parameters = [w for w in ours.values() if w.requires_grad]
    own_optimizer = make_optimizer(parameters, training)
    plain = [Plain(model, w) for w in weights]
    optimizers = [CLASSES[optimizer](p.trained().values(), lr=0.01, weight_decay=0.01) for p in plain]
    for step in range(4):
        ids, targets = text(2, 7, 3, seed=step)
        own_optimizer.zero_grad()
        losses(ours, ids, targets, workspaces).sum().backward()
        clip_gradients(parameters, 0.2)
        own_optimizer.step()
        for k in range(2):
            optimizers[k].zero_grad()
            plain[k].loss(ids[k], targets[k]).backward()
            nn.utils.clip_grad_norm_(plain[k].parameters(), 0.2)
            optimizers[k].step()
    for k in range(2):
        for name, parameter in plain[k].trained().items():
            torch.testing.assert_close(ours[name].detach()[k], parameter.detach(), rtol=1e-3, atol=1e-4, msg=name)


@pytest.fixture(params=[(1, 7), (2, 7), (3, 7), (2, None)], ids=lambda shape: f"{shape[0]}-layer-{shape[1]}")
def pair(request):
    """A model and its weights; bias_hh is not zero here, as another back end's file might have it."""
    layers, embedding = request.param
    model = ModelSpec(layers=layers, units=13, embedding=embedding)
    weights = initial(model, 1, seed=3)[0]
    rng = np.random.default_rng(4)
    weights = {
        n: (3 * a if "bias_hh" not in n else rng.normal(size=a.shape).astype(np.float32)) for n, a in weights.items()
    }
    return TorchLanguageModel({n: torch.from_numpy(a) for n, a in weights.items()}, VOCABULARY), weights


def test_log_perplexity_equals_numpy(pair):
    model, weights = pair
    ids = np.random.default_rng(5).integers(0, V, (40, 12))
    np.testing.assert_allclose(model.log_perplexity(ids), log_perplexity(weights, ids), rtol=1e-5)


def test_log_perplexity_with_a_shared_prefix_equals_numpy(pair):
    model, weights = pair
    ids = np.random.default_rng(5).integers(0, V, (40, 12))
    ids[:, :8] = ids[0, :8]
    np.testing.assert_allclose(model.log_perplexity(ids), log_perplexity(weights, ids), rtol=1e-5)


def test_steps_equal_numpy(pair, monkeypatch):
    monkeypatch.setattr("memorization.backends.torch.model.CPU_ROWS", 7)
    model, weights = pair
    ids = np.random.default_rng(6).integers(0, V, (20, 6))
    ids[:, 0] = 2
    expected = log2_probabilities(weights, ids)
    logs, state = model.start(ids[0, :1])
    np.testing.assert_allclose(logs, expected[:1, 0], rtol=1e-5, atol=1e-5)
    state = state.take(np.zeros(20, dtype=int))
    for t in range(1, 6):
        logs, state = model.step(state, ids[:, t])
        np.testing.assert_allclose(logs, expected[:, t], rtol=1e-5, atol=1e-5)
