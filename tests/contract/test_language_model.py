"""What every model behind backends.base.LanguageModel must keep, whatever computes it."""

import numpy as np
import pytest

from memorization.backends.controls import MarkovModel, OracleModel, UniformModel
from memorization.canaries import TokenFormat
from memorization.search.shortest_path import shortest_path
from memorization.search.walk import exact_rank
from memorization.specs import ModelSpec
from memorization.vocabulary import Vocabulary
from memorization.weights import initial_weights

VOCABULARY = Vocabulary(tuple("\n abcdef"))
V = len(VOCABULARY)


def torch_model(layers, architecture="lstm", embedding=5, **more):
    torch = pytest.importorskip("torch")
    from memorization.backends.torch.architectures import language_model

    model = ModelSpec(architecture=architecture, layers=layers, units=9, embedding=embedding, heads=3, **more)
    weights = initial_weights(model, V, np.random.default_rng(layers))
    return language_model(model, {n: torch.from_numpy(2 * a) for n, a in weights.items()}, VOCABULARY)


def tf_model(layers, embedding=5, architecture="lstm"):
    pytest.importorskip("tensorflow")
    from memorization.backends.tf.networks import language_model

    model = ModelSpec(architecture=architecture, layers=layers, units=9, embedding=embedding)
    weights = initial_weights(model, V, np.random.default_rng(layers))
    return language_model({name: 2 * array for name, array in weights.items()}, VOCABULARY, "/CPU:0")


MODELS = {
    "torch-1": lambda: torch_model(1),
    "torch-2": lambda: torch_model(2),
    "torch-gru": lambda: torch_model(2, "gru"),
    "torch-gru-one-hot": lambda: torch_model(1, "gru", None),
    "torch-cnn": lambda: torch_model(3, "cnn"),
    "torch-cnn-one-hot": lambda: torch_model(1, "cnn", None, kernel=5),
    "torch-wavenet": lambda: torch_model(3, "wavenet", kernel=2),
    "torch-wavenet-one-hot": lambda: torch_model(2, "wavenet", None),
    "torch-transformer": lambda: torch_model(2, "transformer"),
    "torch-transformer-one-hot": lambda: torch_model(1, "transformer", None),
    "tf-1": lambda: tf_model(1),
    "tf-2": lambda: tf_model(2),
    "tf-one-hot": lambda: tf_model(2, embedding=None),
    "tf-gru": lambda: tf_model(2, architecture="gru"),
    "tf-gru-one-hot": lambda: tf_model(1, None, "gru"),
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


def small_space():
    """Four symbols in each of four holes, a fixed token after the second and the last: 256 sequences."""
    nothing, one = np.zeros(0, dtype=int), np.array([1])
    return TokenFormat(np.array([0, 3, 4]), (np.array([2, 5, 6, 7]),) * 4, (nothing, one, nothing, one))


def test_exact_rank_and_search_equal_brute_force(model):
    tokens = small_space()
    fills = np.stack(np.unravel_index(np.arange(256), (4,) * 4), axis=1)
    costs = model.log_perplexity(tokens.ids(fills))
    costs -= model.log_perplexity(tokens.prefix[None])[0]
    order = np.argsort(costs)
    for place in (0, 1, 40, 255):
        own = costs[order[place]]
        found = exact_rank(model, tokens, fills[order[place]], max_steps=10_000, chunk=64)
        assert found.algorithm == "pruned_walk"
        assert found.cost_bits == pytest.approx(own, rel=1e-4)
        # Within rounding of the two ways to add up costs, ties count against the canary.
        assert (costs < own - 1e-3).sum() < found.rank <= (costs < own + 1e-3).sum()
    best = shortest_path(model, tokens, k=3, batch=7, max_steps=10_000, cached_states=20)
    assert best.provable
    np.testing.assert_allclose(best.costs_bits, costs[order[:3]], rtol=1e-4)
