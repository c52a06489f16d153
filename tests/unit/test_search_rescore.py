"""Exact ranks by scoring again in float64: whatever the walk itself computes in, against brute force in float64."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from memorization.backends.torch.model import TorchLanguageModel  # noqa: E402
from memorization.canaries import CanaryFormat  # noqa: E402
from memorization.errors import UserError  # noqa: E402
from memorization.search import Tree, exact_rank, rescore, walk  # noqa: E402
from memorization.search.walk import TOLERANCE, rank_in  # noqa: E402
from memorization.specs import ModelSpec  # noqa: E402
from memorization.vocabulary import Vocabulary  # noqa: E402
from memorization.weights import initial_weights  # noqa: E402

VOCABULARY = Vocabulary.of(["\nthe random number is 0123456789-"])
FORMATS = ["the {d}{d}{d}{d}", "{d}-{d}{d} is", "{d}{d}{k}", "the {d}"]
UNLIMITED = 10**9


def model_of(seed: int = 0, sharpen: float = 20.0, **more) -> TorchLanguageModel:
    """A small LSTM whose fills differ by many bits."""
    spec = ModelSpec(layers=2, units=24, embedding=8, **more)
    weights = initial_weights(spec, len(VOCABULARY), np.random.default_rng(seed))
    weights["output.weight"] *= sharpen
    return TorchLanguageModel({n: torch.from_numpy(a) for n, a in weights.items()}, VOCABULARY)


def case(text: str, seed: int = 0):
    """Model, tokens, all fills, and float64[n] what they cost in float64."""
    model, fmt = model_of(seed), CanaryFormat.parse(text)
    tokens, fills = fmt.tokens(VOCABULARY), fmt.enumerate()
    twin = Tree.plant(model, tokens).in_precision("float64")
    costs = walk.score(twin, fills)[0]
    return model, tokens, fills, costs


def near_ties(costs: np.ndarray, count: int) -> np.ndarray:
    """Fills whose next dearer one is closest: a walk in few digits gets these wrong."""
    order = np.argsort(costs)
    return order[np.argsort(np.diff(costs[order]))[:count]]


def test_the_twin_has_the_same_weights():
    model, tokens, fills, _ = case("the {d}{d}{d}{d}")
    ids = tokens.ids(fills[::101])
    precise = model.in_precision("float64").log_perplexity(ids)
    spec = ModelSpec(layers=2, units=24, embedding=8)
    weights = initial_weights(spec, len(VOCABULARY), np.random.default_rng(0))
    weights["output.weight"] *= 20.0
    twin = TorchLanguageModel({n: torch.from_numpy(a).double() for n, a in weights.items()}, VOCABULARY)
    np.testing.assert_allclose(precise, twin.log_perplexity(ids), rtol=1e-12)
    rough = np.abs(model.log_perplexity(ids) - precise).max()
    assert 0 < rough < 1e-3
    assert np.abs(model.in_precision("bfloat16").log_perplexity(ids) - precise).max() > 20 * rough


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("prune", [True, False])
def test_rank_equals_brute_force_in_float64(text, precision, prune):
    model, tokens, fills, costs = case(text)
    order, tree = np.argsort(costs), Tree.plant(model, tokens)
    places = order[np.unique([0, len(fills) // 50, len(fills) // 2])]
    for own in [*places, *near_ties(costs, 2)]:
        found = rank_in(tree, fills[own], max_steps=UNLIMITED, precision=precision, prune=prune, chunk=500)
        assert found.rank == np.count_nonzero(costs <= costs[own] + TOLERANCE)
        assert found.rank_low == found.rank_high == found.rank
        assert found.rescored is not None


def test_bfloat16_alone_would_be_wrong(monkeypatch):
    """Without scoring again near-ties come out in the wrong order, or the test above would show nothing."""
    model, tokens, fills, costs = case(FORMATS[0])
    rough = Tree.plant(model, tokens).in_precision("bfloat16")
    monkeypatch.setattr(rough.model, "in_precision", lambda name: None)
    ranks = [rank_in(rough, fills[own], max_steps=UNLIMITED).rank for own in near_ties(costs, 5)]
    assert ranks != [np.count_nonzero(costs <= costs[own] + TOLERANCE) for own in near_ties(costs, 5)]


def test_a_margin_that_proves_too_small_is_widened_and_the_walk_repeated():
    model, tokens, fills, costs = case(FORMATS[0])
    own = np.argsort(costs)[300]
    options = {"max_steps": UNLIMITED, "precision": "bfloat16"}
    found = exact_rank(model, tokens, fills[own], margin=1e-9, **options)
    assert found.rank == np.count_nonzero(costs <= costs[own] + TOLERANCE)
    # Every cost in bfloat16 lies within the margin that was used at last, many times over.
    assert found.error_bits > 1e-3
    assert found.rescored >= np.count_nonzero(np.abs(costs - costs[own]) < (rescore.SAFETY - 2) * found.error_bits) - 1


def test_a_repeated_walk_that_runs_out_of_budget_leaves_the_interval_of_the_first(caplog):
    model, tokens, fills, costs = case(FORMATS[0])
    own, tree = np.argsort(costs)[300], Tree.plant(model, tokens)
    alone = rank_in(tree, fills[own], max_steps=UNLIMITED, margin=1e-7)
    assert alone.rescored is not None  # in time: the walk was repeated, with a margin that will do
    assert alone.model_steps > rank_in(tree, fills[own], max_steps=UNLIMITED).model_steps
    short = rank_in(tree, fills[own], max_steps=alone.model_steps - 10, margin=1e-7)
    assert (short.algorithm, short.rescored) == ("pruned_walk", None)
    assert short.rank_low <= short.rank <= short.rank_high
    assert "an interval instead" in caplog.text


def test_the_margin_is_many_times_what_costs_are_off():
    """Over all leaves, not only those that the walk scored again."""
    model, tokens, fills, costs = case(FORMATS[0])
    for precision in ("float32", "bfloat16"):
        own = np.argsort(costs)[500]
        found = exact_rank(model, tokens, fills[own], max_steps=UNLIMITED, precision=precision)
        tree = Tree.plant(model, tokens).in_precision(precision)
        worst = np.abs(walk.score(tree, fills)[0] - costs).max()
        assert worst < rescore.SAFETY / 2 * found.error_bits


def test_too_many_near_the_canary_leave_an_interval(monkeypatch, caplog):
    monkeypatch.setattr(rescore, "MOST", 500)
    model, tokens, fills, costs = case(FORMATS[0])
    own = np.argsort(costs)[700]
    found = exact_rank(model, tokens, fills[own], max_steps=UNLIMITED, margin=1000.0)
    assert found.rescored is None
    assert (found.rank_low, found.rank_high) == (1, len(fills))
    assert "too many to score again" in caplog.text
    assert found.rank == np.count_nonzero(costs <= costs[own] + TOLERANCE)


def test_where_a_reduced_walk_settles_nothing_it_is_done_in_float32(monkeypatch, caplog):
    monkeypatch.setattr(rescore, "MOST", 5)
    model, tokens, fills, costs = case(FORMATS[0])
    own = np.argsort(costs)[200]
    found = exact_rank(model, tokens, fills[own], max_steps=UNLIMITED, precision="bfloat16")
    assert "again in float32" in caplog.text
    assert found.rank == np.count_nonzero(costs <= costs[own] + TOLERANCE)


def test_a_model_that_is_off_for_no_reason_is_not_called_exact(caplog):
    """A back end whose steps disagree with its float64 twin, differently each time: the interval stays."""
    model, tokens, fills, costs = case(FORMATS[0])
    tree, rng, scale = Tree.plant(model, tokens), np.random.default_rng(0), [1e-4]

    class Drifting:
        vocabulary = VOCABULARY
        start, concatenate, log_perplexity = model.start, model.concatenate, model.log_perplexity
        in_precision = model.in_precision

        def step(self, state, ids, columns=None):
            log2, state = model.step(state, ids, columns)
            scale[0] *= 1.5
            return log2 - scale[0] * rng.random(log2.shape), state

    found = rank_in(replace(tree, model=Drifting()), fills[np.argsort(costs)[5]], max_steps=UNLIMITED, chunk=16)
    assert found.rescored is None
    assert found.rank_low <= found.rank <= found.rank_high
    assert "off by up to" in caplog.text or "too many" in caplog.text


def test_without_a_twin_the_walk_stays_in_float32():
    model, tokens, fills, _ = case("the {d}")

    class Other:
        vocabulary = VOCABULARY
        start, step, concatenate, log_perplexity = model.start, model.step, model.concatenate, model.log_perplexity

    found = exact_rank(Other(), tokens, fills[3], max_steps=UNLIMITED)
    assert found.rescored is None
    with pytest.raises(UserError, match="cannot compute in bfloat16"):
        exact_rank(Other(), tokens, fills[3], max_steps=UNLIMITED, precision="bfloat16")


@pytest.mark.parametrize("count", [1, 7, 600, 1230])
@pytest.mark.parametrize("shared", [True, False])
def test_the_last_step_says_what_any_step_says(count, shared):
    """Whole families of siblings, parts of them, and states of their own."""
    model, tokens, _, _ = case("the {d}{d}")
    _, root = model.start(tokens.prefix)
    digits = tokens.holes[0]
    _, states = model.step(root.take(np.zeros(10, int)), digits)
    parents = np.repeat(np.arange(-(-count // 10)) % 10, 10)[:count]
    ids = np.tile(digits, len(parents))[:count] if shared else np.random.default_rng(0).choice(digits, count)
    _, many = model.step(states.take(np.arange(len(parents) // 10 + 1) % 10), np.resize(digits, len(parents) // 10 + 1))
    taken = many.take(np.arange(count) // 10 if shared else np.random.default_rng(1).permutation(count) % len(many))
    expected = model.step(taken, ids, columns=digits)[0]
    np.testing.assert_allclose(model.last_step(taken, ids, digits), expected, rtol=1e-6)


def test_steps_of_paths_are_those_that_scoring_takes():
    model, tokens, fills, _ = case("the {d}{d}{d}{d}")
    tree = Tree.plant(model, tokens)
    chosen = np.random.default_rng(0).permutation(fills)[:300]
    assert rescore.steps_of(tree.paths(chosen)) == walk.score(tree, chosen)[1]


def test_probes_come_from_all_of_a_walk():
    probes = rescore.Probes()
    for i in range(10_000):
        probes.add(np.full((10, 4), i % 256, np.uint8), np.full(10, float(i)))
    costs = np.concatenate(probes.costs)
    assert len(costs) == probes.count <= rescore.PROBES
    assert len(costs) > rescore.PROBES / 4
    assert np.histogram(costs, bins=4, range=(0, 10_000))[0].min() > 0


def test_memory_decides_how_many_states_are_stepped_at_once(monkeypatch):
    model = model_of()
    assert model.states_at_once(10, 9) == 2048
    model._device = torch.device("cuda")
    free = 4 << 30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    wide = model.states_at_once(10, 9)
    assert 2048 < wide <= 1 << 16
    free = 1 << 20
    assert model.states_at_once(10, 9) == 2048
