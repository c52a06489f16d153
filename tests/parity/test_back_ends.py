"""The same weights under every back end: costs and exact ranks agree, with NumPy as the common reference."""

import numpy as np
import numpy_gru
import numpy_lstm
import pytest

from memorization import weights as weight_files
from memorization.canaries import CanaryFormat
from memorization.exposure import measure
from memorization.specs import ModelSpec
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary(tuple("\n 0123456789abcdefghijklmnopqrstuvwxyz"))
V = len(VOCABULARY)
FORMAT = "my pin is {d}{d}{d}"


def torch_model(weights):
    torch = pytest.importorskip("torch")
    from memorization.backends.torch.architectures import language_model

    architecture = architecture_of(weights)
    model = ModelSpec(architecture=architecture, layers=weight_files.layer_count(weights), units=13)
    return language_model(model, {n: torch.from_numpy(a) for n, a in weights.items()}, VOCABULARY)


def tf_model(weights):
    pytest.importorskip("tensorflow")
    from memorization.backends.tf.networks import language_model

    return language_model(weights, VOCABULARY, "/CPU:0")


BACKENDS = {"torch": torch_model, "tf": tf_model}


NUMPY = {"lstm": numpy_lstm, "gru": numpy_gru}


def architecture_of(weights):
    return "gru" if "gru.weight_hh_l0" in weights else "lstm"


def log2_probabilities(weights, ids):
    return NUMPY[architecture_of(weights)].log2_probabilities(weights, ids)


def log_perplexity(weights, ids):
    logs = log2_probabilities(weights, ids[:, :-1])
    return -np.take_along_axis(logs, ids[:, 1:, None], axis=2).sum(axis=(1, 2))


@pytest.fixture(params=NUMPY)
def architecture(request):
    return request.param


def sharp_weights(embedding, layers=2, architecture="lstm"):
    """Three times the initial weights, so that costs differ; bias_hh is not zero, as another file might have it."""
    model = ModelSpec(architecture=architecture, layers=layers, units=13, embedding=embedding)
    drawn = weight_files.initial_weights(model, V, np.random.default_rng([3, layers]))
    rng = np.random.default_rng(4)
    return {n: (3 * a if "bias_hh" not in n else rng.normal(size=a.shape).astype(np.float32)) for n, a in drawn.items()}


@pytest.fixture(params=BACKENDS)
def build(request):
    return BACKENDS[request.param]


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("embedding", [7, None])
@pytest.mark.parametrize("shared", [0, 8])
def test_log_perplexity_equals_numpy(build, architecture, layers, embedding, shared):
    weights = sharp_weights(embedding, layers, architecture)
    ids = np.random.default_rng(5).integers(0, V, (40, 12))
    ids[:, :shared] = ids[0, :shared]
    np.testing.assert_allclose(build(weights).log_perplexity(ids), log_perplexity(weights, ids), rtol=1e-5)


def test_steps_equal_numpy(build, architecture):
    weights = sharp_weights(7, architecture=architecture)
    model, ids = build(weights), np.random.default_rng(6).integers(0, V, (20, 6))
    ids[:, 0] = 2
    expected = log2_probabilities(weights, ids)
    logs, state = model.start(ids[0, :1])
    np.testing.assert_allclose(logs, expected[:1, 0], rtol=1e-5, atol=1e-5)
    state = state.take(np.zeros(20, dtype=int))
    for t in range(1, 6):
        logs, state = model.step(state, ids[:, t])
        np.testing.assert_allclose(logs, expected[:, t], rtol=1e-5, atol=1e-5)


def test_exact_rank_equals_numpys(build, architecture):
    """All 1,000 fills in order of their cost by the NumPy model; five of them ranked by the back end's exact walk."""
    weights, fmt = sharp_weights(7, architecture=architecture), CanaryFormat.parse(FORMAT)
    digits = np.stack(np.unravel_index(np.arange(1000), (10, 10, 10)), axis=1)
    tokens, nothing = fmt.tokens(VOCABULARY), np.empty((0, 3), dtype=np.int64)
    order = np.argsort(log_perplexity(weights, tokens.ids(digits)))
    for rank in (1, 2, 30, 500, 1000):
        rows = measure(
            build(weights), fmt, digits[order[rank - 1]], nothing, digits[::7], exact_steps=10_000, bootstrap=0,
            rng=np.random.default_rng(0),
        )  # fmt: skip
        assert rows.loc[rows["method"] == "exact", "rank"].tolist() == [rank]
