"""Canary formats, the randomness space, and fills."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from memorization.canaries import CONTEXT, HOLES, NUMBERS, CanaryFormat, resolve, resolve_each
from memorization.errors import UserError
from memorization.vocabulary import Vocabulary

NINE = "the random number is " + "{d}" * 9
formats = st.lists(st.sampled_from(["{d}", "{l}", "-", " ", "ab"]), min_size=1, max_size=6).map("".join)


def test_parse_splits_parts_and_holes():
    parsed = CanaryFormat.parse("id {d}{d}-{l} <e>")
    assert parsed.parts == ("id ", "", "-", " <e>")
    assert parsed.holes == ("0123456789", "0123456789", "abcdefghijklmnopqrstuvwxyz")


@pytest.mark.parametrize("text", ["no hole", "", "{x}", "{d}{dd}", "{d", "d}{d}", "{d}\n", "{}"])
def test_parse_rejects(text):
    with pytest.raises(UserError, match="canary format") as caught:
        CanaryFormat.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "size"), [(NINE, 10**9), ("{l}{l}", 676), ("{d}-{l}", 260), ("a{d}b", 10)])
def test_size_and_bits(text, size):
    parsed = CanaryFormat.parse(text)
    assert parsed.size == size
    assert parsed.bits == pytest.approx(np.log2(size))


def test_size_of_nine_digits_in_bits_as_in_the_paper():
    assert CanaryFormat.parse(NINE).bits == pytest.approx(29.90, abs=0.005)


def test_parse_fill_takes_symbols_or_the_whole_canary():
    parsed = CanaryFormat.parse(NINE)
    expected = [2, 8, 1, 2, 6, 5, 0, 1, 7]
    assert parsed.parse_fill("281265017").tolist() == expected
    assert parsed.parse_fill("the random number is 281265017").tolist() == expected
    assert parsed.render(np.array(expected)) == "the random number is 281265017"
    assert parsed.fill_text(np.array(expected)) == "281265017"


@pytest.mark.parametrize("text", ["28126501", "2812650177", "28126501x", "the random number is 28126501", ""])
def test_parse_fill_rejects(text):
    with pytest.raises(UserError, match="does not fill"):
        CanaryFormat.parse(NINE).parse_fill(text)


@given(formats, st.integers(0, 2**32 - 1))
def test_render_and_parse_fill_are_inverse(text, seed):
    if "{" not in text:
        return
    parsed = CanaryFormat.parse(text)
    fill = parsed.sample(np.random.default_rng(seed), 1)[0]
    assert parsed.parse_fill(parsed.render(fill)).tolist() == fill.tolist()
    assert parsed.parse_fill(parsed.fill_text(fill)).tolist() == fill.tolist()


@pytest.mark.parametrize("text", ["{d}", "{d}{l}", "a{d}-{d}{d}!"])
def test_enumerate_lists_every_fill_once_in_order(text):
    parsed = CanaryFormat.parse(text)
    every = [tuple(row) for row in parsed.enumerate()]
    assert len(set(every)) == parsed.size
    assert every == sorted(every)


def test_enumerate_refuses_large_spaces():
    with pytest.raises(UserError, match="too many"):
        CanaryFormat.parse(NINE).enumerate()


@pytest.mark.parametrize("text", ["{d}{d}", NINE])
def test_sample_is_distinct_and_excludes(text):
    parsed = CanaryFormat.parse(text)
    banned = parsed.sample(np.random.default_rng(1), 20)
    drawn = parsed.sample(np.random.default_rng(2), 60, exclude=banned)
    rows = {tuple(row) for row in drawn}
    assert drawn.shape == (60, len(parsed.holes))
    assert len(rows) == 60
    assert not rows & {tuple(row) for row in banned}


def test_sample_of_more_than_there_is_gives_the_rest_of_the_space():
    parsed = CanaryFormat.parse("{d}{d}")
    drawn = parsed.sample(np.random.default_rng(0), 1000, exclude=np.array([4, 2]))
    assert {tuple(row) for row in drawn} == {tuple(row) for row in parsed.enumerate()} - {(4, 2)}


@pytest.mark.parametrize(("text", "count"), [("{d}{d}", 1), ("{d}" * 6, 1)])
def test_single_draws_are_uniform(text, count):
    """Chi-square of the leading two digits over 1,000 draws, on the enumerating and on the drawing branch."""
    parsed = CanaryFormat.parse(text)
    rng = np.random.default_rng(3)
    rows = np.array([parsed.sample(rng, count)[0] for _ in range(1000)])
    counts = np.bincount(rows[:, 0] * 10 + rows[:, 1], minlength=100)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_many_draws_are_uniform_in_every_hole():
    rows = CanaryFormat.parse(NINE).sample(np.random.default_rng(4), 20_000)
    pvalues = [stats.chisquare(np.bincount(column, minlength=10)).pvalue for column in rows.T]
    assert min(pvalues) > 1e-4


def test_tokens_spell_the_scored_sequence():
    parsed = CanaryFormat.parse("n {d}-{l} e")
    vocabulary = Vocabulary.of(["\n -0123456789abcdefghijklmnopqrstuvwxyz"])
    fills = parsed.sample(np.random.default_rng(5), 7)
    spelled = [vocabulary.decode(row) for row in parsed.tokens(vocabulary).ids(fills)]
    assert spelled == [CONTEXT + parsed.render(fill) for fill in fills]


def test_tokens_reject_characters_outside_the_vocabulary():
    with pytest.raises(UserError, match=r"outside the vocabulary: \['T'\]"):
        CanaryFormat.parse("The {d}").tokens(Vocabulary.of(["\n 0123456789he"]))


def test_contexts_are_drawn_once_per_canary_and_no_part_of_the_space():
    parsed = CanaryFormat.parse("{x}{x} {d}{d} {x}")
    assert parsed.size == 100
    text = resolve(parsed.text, np.random.default_rng(0))
    assert re.fullmatch(r"[a-z]{2} \{d\}\{d\} [a-z]", text)
    assert resolve("no {d}", np.random.default_rng(0)) == "no {d}"
    with pytest.raises(UserError, match="must be resolved"):
        parsed.tokens(Vocabulary.of(["\n 0123456789abcdefghijklmnopqrstuvwxyz"]))


def test_every_canary_has_a_context_of_its_own():
    some = resolve_each("{x}{d}", 20, np.random.default_rng(1))
    assert len(set(some)) == 20
    assert resolve_each("{x}{d}", 26, np.random.default_rng(1))[:20] == some
    assert resolve_each("a{d}", 3, np.random.default_rng(1)) == ["a{d}"] * 3
    with pytest.raises(UserError, match="only 26 contexts"):
        resolve_each("{x}{d}", 27, np.random.default_rng(1))


def test_letters_of_a_context_are_uniform():
    letters = "".join(resolve("{x}" * 5 + "{d}", np.random.default_rng(s))[:5] for s in range(2000))
    assert stats.chisquare([letters.count(c) for c in HOLES["l"]]).pvalue > 1e-4


def test_passwords_take_letters_and_digits():
    parsed = CanaryFormat.parse("{p}" * 8)
    assert parsed.size == 36**8
    assert parsed.fill_text(parsed.parse_fill("ab12cd34")) == "ab12cd34"


def test_words_fill_holes_and_are_separated_by_spaces():
    vocabulary = Vocabulary(("\n", "<unk>", "the", "code", "is", "red", "green"), "word")
    parsed = CanaryFormat.parse("the code is {w} {w}", words=vocabulary.words)
    assert parsed.size == 25
    fill = parsed.parse_fill("green red")
    assert parsed.render(fill) == "the code is green red"
    assert parsed.fill_text(fill) == "green red"
    assert parsed.parse_fill("the code is green red").tolist() == fill.tolist()
    assert vocabulary.decode(parsed.tokens(vocabulary).ids(fill)[0]) == "\nthe code is green red"
    with pytest.raises(UserError, match="does not fill"):
        parsed.parse_fill("green blue")
    with pytest.raises(UserError, match="off by spaces"):
        CanaryFormat.parse("code{w}", words=vocabulary.words).tokens(vocabulary)
    assert not CanaryFormat.parse("{w}").complete


def test_number_words_are_drawn_as_digits_are():
    words = Vocabulary(("\n", "<unk>", *NUMBERS, *"0123456789", "no"), "word")
    spelled, digits = (CanaryFormat.parse("no " + " ".join([f"{{{hole}}}"] * 9)) for hole in "nd")
    assert spelled.size == digits.size == 10**9
    one, other = (fmt.sample(np.random.default_rng(3), 1)[0] for fmt in (spelled, digits))
    assert one.tolist() == other.tolist()
    text = spelled.render(one)
    assert text == "no " + " ".join(NUMBERS[int(c)] for c in digits.fill_text(one))
    assert spelled.parse_fill(text).tolist() == spelled.parse_fill(spelled.fill_text(one)).tolist() == one.tolist()
    assert words.decode(spelled.tokens(words).ids(one)[0]) == "\n" + text
    assert words.decode(digits.tokens(words).ids(one)[0]) == "\n" + digits.render(one)
    assert len(spelled.tokens(words).ids(one)[0]) == len(digits.tokens(words).ids(one)[0])


def test_number_words_are_whole_words_and_have_no_check_digit():
    with pytest.raises(UserError, match="off by spaces"):
        CanaryFormat.parse("{n}").tokens(Vocabulary.of(["\n", *NUMBERS]))
    with pytest.raises(UserError, match="no words"):
        CanaryFormat.parse("{n} {k}")
    with pytest.raises(UserError, match="does not fill"):
        CanaryFormat.parse("{n} {n}").parse_fill("one ten")
