"""What every model behind backends.base.LanguageModel must keep, whatever computes it."""

import numpy as np
import pytest

from memorization.backends.controls import MarkovModel, OracleModel, UniformModel
from memorization.specs import ModelSpec
from memorization.vocabulary import Vocabulary
from memorization.weights import initial_weights

VOCABULARY = Vocabulary(tuple("\n abcdef"))
V = len(VOCABULARY)


def torch_model(layers):
    torch = pytest.importorskip("torch")
    from memorization.backends.torch.model import TorchLanguageModel

    weights = initial_weights(ModelSpec(layers=layers, units=9, embedding=5), V, np.random.default_rng(layers))
    return TorchLanguageModel({n: torch.from_numpy(2 * a) for n, a in weights.items()}, VOCABULARY)


def tf_model(layers, embedding=5):
    pytest.importorskip("tensorflow")
    from memorization.backends.tf.model import TFLanguageModel

    weights = initial_weights(ModelSpec(layers=layers, units=9, embedding=embedding), V, np.random.default_rng(layers))
    return TFLanguageModel({name: 2 * array for name, array in weights.items()}, VOCABULARY)


MODELS = {
    "torch-1": lambda: torch_model(1),
    "torch-2": lambda: torch_model(2),
    "tf-1": lambda: tf_model(1),
    "tf-2": lambda: tf_model(2),
    "tf-one-hot": lambda: tf_model(2, embedding=None),
    "uniform": lambda: UniformModel(VOCABULARY),
    "oracle": lambda: OracleModel(VOCABULARY, "abc fed"),
    "markov": lambda: MarkovModel(VOCABULARY, seed=0, order=2),
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


@pytest.fixture
def ids():
    ids = np.random.default_rng(1).integers(0, V, (30, 9))
    ids[:, 0] = 0
    return ids


def spread(model, ids):
    """States of all rows after their first token, and its log2 probabilities."""
    logs, state = model.start(ids[0, :1])
    rows = np.zeros(len(ids), dtype=int)
    return logs[rows], state.take(rows)


def test_probabilities_sum_to_one(model, ids):
    logs, state = model.start(ids[0, :3])
    assert logs.shape == (1, V)
    assert logs.dtype == np.float64
    assert len(state) == 1
    np.testing.assert_allclose(np.exp2(logs).sum(axis=1), 1, atol=1e-5)
    logs, _ = model.step(spread(model, ids)[1], ids[:, 1])
    assert logs.shape == (len(ids), V)
    np.testing.assert_allclose(np.exp2(logs).sum(axis=1), 1, atol=1e-5)


def test_steps_add_up_to_log_perplexity(model, ids):
    logs, state = spread(model, ids)
    total = np.zeros(len(ids))
    for t in range(1, ids.shape[1]):
        total -= logs[np.arange(len(ids)), ids[:, t]]
        logs, state = model.step(state, ids[:, t])
    np.testing.assert_allclose(model.log_perplexity(ids), total, rtol=1e-5)


def test_log_perplexity_of_one_token_is_zero(model, ids):
    assert model.log_perplexity(ids[:, :1]).tolist() == [0] * len(ids)


def test_log_perplexity_does_not_depend_on_the_other_rows(model, ids):
    alone = np.concatenate([model.log_perplexity(row[None]) for row in ids])
    np.testing.assert_allclose(model.log_perplexity(ids), alone, rtol=1e-5)


def test_start_equals_stepping(model, ids):
    logs, state = model.start(ids[0, :4])
    again, other = model.start(ids[0, :1])
    for token in ids[0, 1:4]:
        again, other = model.step(other, np.array([token]))
    np.testing.assert_allclose(logs, again, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.step(state, [1])[0], model.step(other, [1])[0], rtol=1e-5, atol=1e-5)


def test_columns_are_those_of_the_full_result(model, ids):
    _, state = spread(model, ids)
    columns = np.array([5, 1, 1])
    full, after = model.step(state, ids[:, 1])
    some, same = model.step(state, ids[:, 1], columns)
    np.testing.assert_array_equal(some, full[:, columns])
    np.testing.assert_array_equal(model.step(after, ids[:, 2])[0], model.step(same, ids[:, 2])[0])


def test_take_gathers_states(model, ids):
    _, state = spread(model, ids)
    _, state = model.step(state, ids[:, 1])
    index = np.array([7, 0, 7, 29])
    taken = state.take(index)
    assert len(taken) == 4
    np.testing.assert_allclose(
        model.step(taken, ids[index, 2])[0], model.step(state, ids[:, 2])[0][index], rtol=1e-5, atol=1e-5
    )


def test_siblings_of_shared_states_step_as_if_alone(model, ids):
    # Ten children per parent, as in a walk: a back end may keep the parents once.
    _, state = spread(model, ids)
    _, state = model.step(state, ids[:, 1])
    parents, tokens = np.repeat([3, 8, 3], 10), np.tile(ids[:10, 2], 3)
    alone = np.concatenate(
        [model.step(state.take([p]), np.array([t]))[0] for p, t in zip(parents, tokens, strict=True)]
    )
    shared = state.take([3, 8]).take(np.repeat([0, 1, 0], 10))
    assert len(shared) == 30
    together, after = model.step(shared, tokens)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)
    mixed = model.concatenate([state.take([8]), shared, shared.take([4, 25])])
    assert len(mixed) == 33
    again, _ = model.step(mixed, np.concatenate([tokens[10:11], tokens, tokens[[4, 25]]]))
    np.testing.assert_allclose(again, alone[[10, *range(30), 4, 25]], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        model.step(after, tokens)[0][7], model.step(after.take([7]), tokens[7:8])[0][0], rtol=1e-5, atol=1e-5
    )


def test_concatenate_keeps_the_order(model, ids):
    _, state = spread(model, ids)
    _, state = model.step(state, ids[:, 1])
    parts = [state.take(np.arange(0, 11)), state.take(np.arange(11, 30))]
    whole = model.concatenate(parts)
    assert len(whole) == 30
    np.testing.assert_allclose(model.step(whole, ids[:, 2])[0], model.step(state, ids[:, 2])[0], rtol=1e-5, atol=1e-5)


def test_step_does_not_write_into_its_argument(model, ids):
    _, state = spread(model, ids)
    taken = state.take(np.arange(5))
    first, _ = model.step(taken, ids[:5, 1])
    model.step(state, ids[:, 2])
    again, _ = model.step(taken, ids[:5, 1])
    np.testing.assert_array_equal(first, again)
