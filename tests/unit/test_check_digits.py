"""Formats with a check digit: R holds valid fills only, in everything that walks, searches, samples or scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memorization import luhn
from memorization.attack import attack
from memorization.backends.controls import MarkovModel, OracleModel
from memorization.canaries import CHECK, CONTEXT, CanaryFormat
from memorization.errors import UserError
from memorization.importance import plan
from memorization.search import Tree, beam, brute_force, exact_rank, fill_costs, greedy, sampling, shortest_path
from memorization.specs import AttackSpec
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of(["\nthe random number is 0123456789-ab"])
FORMATS = ["the {d}{d}{d}{k}", "{d}{d}-{d}{k} is", "{d}{k}{d}{d}", "4{d}-{d}{k}{d}{k}", "{d}{d}{k}-"]
MIXED = "{d}-{k}{l}{d}"
UNLIMITED = 10**9


def by_hand(digits: str) -> int:
    """The digit that makes the sum of Luhn's algorithm divisible by ten, tried out."""
    for check in range(10):
        doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits + str(check)))]
        if sum(d // 10 + d % 10 for d in doubled) % 10 == 0:
            return check
    raise AssertionError


@given(st.text("0123456789", min_size=1, max_size=19))
def test_machine_is_luhns_algorithm(digits):
    assert luhn.check_digit(digits) == str(by_hand(digits))
    assert luhn.check_digit(f"no. {digits[:3]}-{digits[3:]}") == str(by_hand(digits))


def test_a_known_number():
    card = CanaryFormat.parse("{d}" * 10 + "{k}")
    assert card.render(card.parse_fill("7992739871")) == "79927398713"


def test_the_check_digit_is_not_free():
    card = CanaryFormat.parse("my card is {d}{d}{d}{d}-" + "{d}" * 11 + "{k}")
    assert card.size == 10**15
    assert len(card.holes) == 15
    rendered = [card.render(fill) for fill in card.sample(np.random.default_rng(0), 50)]
    assert all(by_hand("".join(filter(str.isdigit, t))[:15]) == int(t[-1]) for t in rendered)


def test_a_whole_canary_with_a_wrong_check_digit_does_not_fill_the_format():
    fmt = CanaryFormat.parse("no. {d}{d}{d}{k}")
    right = fmt.render(np.array([1, 2, 3]))
    assert fmt.parse_fill(right).tolist() == [1, 2, 3]
    assert fmt.parse_fill("123").tolist() == [1, 2, 3]
    with pytest.raises(UserError, match="does not fill"):
        fmt.parse_fill(right[:-1] + str((int(right[-1]) + 1) % 10))


@pytest.mark.parametrize("text", ["{k}{d}", "12{k}{d}", "{w}{k}"])
def test_a_check_digit_without_holes_of_digits_before_it_is_refused(text):
    with pytest.raises(UserError, match="checks the digits of holes before it"):
        CanaryFormat.parse(text, words=("a", "b"))


@pytest.mark.parametrize("text", FORMATS)
def test_tokens_spell_the_rendered_canary(text):
    fmt = CanaryFormat.parse(text)
    tokens = fmt.tokens(VOCABULARY)
    assert any(CHECK in part for part in tokens.after)
    fills = fmt.enumerate()[::17]
    assert [VOCABULARY.decode(row) for row in tokens.ids(fills)] == [CONTEXT + fmt.render(fill) for fill in fills]


def case(text: str, seed: int, ties: bool = False, vocabulary: Vocabulary = VOCABULARY):
    """Costs of all valid fills come from whole rendered lines, not through the tree."""
    fmt, model = CanaryFormat.parse(text), MarkovModel(vocabulary, seed, ties=ties)
    tokens, fills = fmt.tokens(vocabulary), fmt.enumerate()
    lines = np.array([vocabulary.encode(CONTEXT + fmt.render(fill)) for fill in fills])
    prefix = model.log_perplexity(tokens.prefix[None])[0] if len(tokens.prefix) > 1 else 0.0
    return model, tokens, fills, model.log_perplexity(lines) - prefix


@pytest.mark.parametrize("text", FORMATS)
@pytest.mark.parametrize("chunk", [5, 2048])
def test_costs_include_the_check_digit(text, chunk):
    model, tokens, fills, costs = case(text, 0)
    np.testing.assert_allclose(fill_costs(model, tokens, fills, chunk=chunk)[1], costs, rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    text=st.sampled_from(FORMATS),
    seed=st.integers(0, 10**6),
    ties=st.booleans(),
    prune=st.booleans(),
    chunk=st.sampled_from([3, 2048]),
)
def test_rank_equals_brute_force_over_valid_fills(text, seed, ties, prune, chunk):
    model, tokens, fills, costs = case(text, seed, ties)
    own = seed % len(fills)
    rank = exact_rank(model, tokens, fills[own], max_steps=UNLIMITED, chunk=chunk, prune=prune)
    assert rank.rank == np.count_nonzero(costs <= costs[own] + 1e-6)
    assert rank.space == len(fills)


def test_a_full_walk_counts_valid_leaves_only():
    model, tokens, fills, costs = case("{d}{d}{k}{d}", 1)
    edges = np.linspace(costs.min() + 1, costs.max() - 1, 5)
    rank = exact_rank(model, tokens, fills[7], max_steps=UNLIMITED, prune=False, edges=edges)
    assert rank.histogram.tolist() == np.histogram(costs, bins=[-np.inf, *edges, np.inf])[0].tolist()
    tree = Tree.plant(model, tokens)
    assert tree.full_steps == 1 + 10 + 100 + 100
    assert rank.model_steps == tree.full_steps + tree.depth - 1


@settings(max_examples=30, deadline=None)
@given(
    text=st.sampled_from(FORMATS),
    seed=st.integers(0, 10**6),
    k=st.sampled_from([1, 9]),
    batch=st.sampled_from([4, 512]),
    cached=st.sampled_from([1, 10_000]),
)
def test_top_k_equals_brute_force_over_valid_fills(text, seed, k, batch, cached):
    model, tokens, fills, costs = case(text, seed)
    best = np.argsort(costs, kind="stable")[:k]
    found = shortest_path(model, tokens, k=k, batch=batch, max_steps=UNLIMITED, cached_states=cached)
    assert found.provable
    np.testing.assert_array_equal(found.fills, fills[best])
    np.testing.assert_allclose(found.costs_bits, costs[best], rtol=1e-9)
    np.testing.assert_array_equal(brute_force(model, tokens, max_steps=UNLIMITED, k=k).fills, fills[best])
    np.testing.assert_array_equal(beam(model, tokens, width=2000, k=k).fills, fills[best])


def test_baselines_return_valid_fills_at_their_true_cost():
    model, tokens, fills, costs = case("4{d}-{d}{k}{d}{k}", 3)
    for found in (
        greedy(model, tokens),
        beam(model, tokens, width=3),
        sampling(model, tokens, samples=50, rng=np.random.default_rng(0)),
    ):
        (row,) = np.flatnonzero((fills == found.fills[0]).all(axis=1))
        assert found.costs_bits[0] == pytest.approx(costs[row])


def test_importance_sampling_is_unbiased_over_valid_fills():
    model, tokens, fills, costs = case("{d}{d}-{d}{k} is", 5)
    own = int(np.argsort(costs)[200])
    rank = exact_rank(model, tokens, fills[own], max_steps=UNLIMITED)
    plans = [plan(model, tokens, fills[own], np.random.default_rng(s), samples=90) for s in range(200)]
    steps = rank.model_steps - (Tree.plant(model, tokens).depth - 1)
    for values, true in (([p.rank.value for p in plans], rank.rank), ([p.pruned_steps.value for p in plans], steps)):
        assert abs(np.mean(values) - true) < 4 * np.std(values) / np.sqrt(len(values))


def test_holes_of_other_sizes_beside_a_check_digit():
    vocabulary = Vocabulary.of(["\n-0123456789abcdefghijklmnopqrstuvwxyz"])
    model, tokens, fills, costs = case(MIXED, 2, vocabulary=vocabulary)
    assert len(fills) == 2600
    own = int(np.argsort(costs)[40])
    assert exact_rank(model, tokens, fills[own], max_steps=UNLIMITED).rank == 41
    assert shortest_path(model, tokens, max_steps=UNLIMITED).fills[0].tolist() == fills[np.argmin(costs)].tolist()


def test_letters_or_digits_before_a_check_digit():
    """Which digits are doubled then depends on the fill."""
    fmt = CanaryFormat.parse("{p}{p}{k}")
    vocabulary = Vocabulary.of(["\n0123456789abcdefghijklmnopqrstuvwxyz"])
    fills = fmt.enumerate()
    rendered = [fmt.render(fill) for fill in fills]
    assert all(t[-1] == str(by_hand("".join(filter(str.isdigit, t[:-1])))) for t in rendered)
    assert [vocabulary.decode(r)[1:] for r in fmt.tokens(vocabulary).ids(fills)] == rendered


def test_a_memorised_card_number_is_ranked_first_and_extracted():
    fmt = CanaryFormat.parse("the number is " + "{d}" * 15 + "{k}")
    fill = fmt.parse_fill("453201511283036")
    model = OracleModel(VOCABULARY, fmt.render(fill), 0.8)
    spec = AttackSpec(references=300, controls=5, bootstrap=5, extraction=("shortest_path", "beam", "sampling"))
    tables = attack([model], fmt, fill[None], spec, seed=0)
    assert tables["extraction"]["extracted"].all()
    assert tables["extraction"]["provable"].tolist()[0]
    exact = tables["exposure"].query("method == 'exact'")
    assert exact["rank"].tolist() == [1.0]
    assert exact["exposure_bits"].iloc[0] == pytest.approx(np.log2(1e15))
