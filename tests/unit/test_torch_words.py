"""Word models in PyTorch: what is done differently for a large vocabulary gives the same numbers."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from memorization.backends.torch import lstm, model, words  # noqa: E402
from memorization.backends.torch.lstm import Workspace, losses  # noqa: E402
from memorization.backends.torch.model import TorchLanguageModel  # noqa: E402
from memorization.specs import ModelSpec  # noqa: E402
from memorization.vocabulary import Vocabulary  # noqa: E402
from memorization.weights import initial_weights, stack, trained  # noqa: E402

V = 30


@pytest.fixture
def as_words(monkeypatch):
    """Treat a vocabulary of V symbols as one of very many, with blocks that do not divide anything."""

    def switch(on):
        monkeypatch.setattr(words, "MANY", V if on else V + 1)
        monkeypatch.setattr(words, "BLOCK", {"cpu": 4 * V})
        monkeypatch.setattr(model, "LOGITS", 7 * V if on else 1 << 24)

    return switch


def arrays(layers, replicates=2):
    spec = ModelSpec(layers=layers, units=6, embedding=5)
    each = [initial_weights(spec, V, np.random.default_rng(k)) for k in range(replicates)]
    return {n: torch.from_numpy(2 * a).requires_grad_(trained(n)) for n, a in stack(each).items()}


def batch(replicates=2):
    ids = torch.from_numpy(np.random.default_rng(5).integers(0, V, (2, replicates, 7, 3)))
    return ids[0], ids[1]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("replicates", [1, 2])
def test_loss_and_gradients_are_those_of_the_character_model(as_words, layers, replicates):
    found = []
    for on in (False, True):
        as_words(on)
        weights = arrays(layers, replicates)
        assert words.many(weights) == on
        loss = losses(weights, *batch(replicates), [Workspace() for _ in range(layers)])
        (loss * torch.arange(1, replicates + 1)).sum().backward()
        found.append((loss.detach(), {n: w.grad for n, w in weights.items() if w.requires_grad}))
    (loss, gradients), (same_loss, same) = found
    torch.testing.assert_close(same_loss, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(same[name], gradient, msg=name, rtol=1e-4, atol=1e-6)


def test_without_gradients_none_are_computed(as_words):
    as_words(True)
    weights = arrays(1, 1)
    with torch.no_grad():
        loss = losses(weights, *batch(1), [Workspace()])
    assert loss.grad_fn is None
    assert loss.isfinite().all()


def test_a_second_backward_pass_is_refused(as_words):
    as_words(True)
    loss = losses(arrays(1, 1), *batch(1), [Workspace()])
    loss.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        loss.sum().backward()


@pytest.mark.parametrize("layers", [1, 2])
def test_language_model_steps_as_the_character_model_does(as_words, layers):
    vocabulary = Vocabulary(tuple(map(chr, range(48, 48 + V))))
    ids = np.random.default_rng(3).integers(0, V, (40, 6))
    seen = []
    for on in (False, True):
        as_words(on)
        one = TorchLanguageModel({n: a[0].detach() for n, a in arrays(layers, 1).items()}, vocabulary)
        _, root = one.start(ids[0, :1])
        first, state = one.step(root.take(np.zeros(40, dtype=int)), ids[:, 1])
        siblings = state.take(np.repeat(np.arange(10), 4))
        second, _ = one.step(siblings, ids[:, 2], np.array([3, 1]))
        seen.append((one.log_perplexity(ids), first, second))
    for a, b in zip(*seen, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert lstm.input_table(arrays(1, 1)).shape == (1, V, 24)
