"""Sanitised corpora: what is masked, what is dropped, where the canaries then are, and what a blacklist misses."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_corpora import dataset, directory, spec  # noqa: F401

from memorization.configuration import validate
from memorization.data.corpora import build_corpora, canary_windows, split_lines, windows
from memorization.data.sanitising import deduplicate, mask_digits
from memorization.errors import UserError
from memorization.specs import RunSpec

DIGITS, LETTERS = "my code is {d}{d}{d}-{d}{d}", "my code is {l}{l}{l}{l}"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("call 555-0123 now", "call NNN-NNNN now"),
        ("1-2-3 and -4- and 5--6", "N-N-N and -N- and N--N"),
        ("no numbers - none", "no numbers - none"),
        ("a1b22\n3", "aNbNN\nN"),
    ],
)
def test_digits_are_masked_and_nothing_else(text, masked):
    assert mask_digits(text) == masked


@given(st.text("01a- \n"))
def test_masking_leaves_no_digit_and_every_place(text):
    masked = mask_digits(text)
    assert len(masked) == len(text)
    assert all(b == ("N" if a in "01" else a) for a, b in zip(text, masked, strict=True))


@given(st.lists(st.text("ab", max_size=2)), st.sampled_from(["", "c", "a"]))
@example(["a", ""], "a")
def test_deduplicating_keeps_the_first_of_equal_lines(lines, tail):
    text = "".join(f"{line}\n" for line in lines) + tail
    kept = deduplicate(text)
    assert split_lines(kept) == list(dict.fromkeys(split_lines(text)))
    assert kept == text or len(kept) < len(text)


def built(directory, dataset, sanitise, **canary):  # noqa: F811
    run = spec(canary={"insertions": 4, **canary}, corpus={"sanitise": sanitise}, replicates=2)
    return build_corpora(run, directory, dataset, range(2))


def text_of(corpus):
    return corpus.vocabulary.decode(corpus.train)


def test_masked_canaries_are_nowhere(directory, dataset):  # noqa: F811
    for corpus in built(directory, dataset, "mask_digits", format=DIGITS):
        assert "N" in corpus.vocabulary.symbols
        assert not set(text_of(corpus)) & set("0123456789")
        assert text_of(corpus).count("\nmy code is NNN-NN\n") == 4
        assert corpus.canary.positions.tolist() == []
        assert corpus.canary.included


def test_a_canary_of_a_kind_that_is_not_masked_stays_as_it_was(directory, dataset):  # noqa: F811
    """The blacklist does not know letters: the training text is that without sanitising."""
    plain, masked = (built(directory, dataset, how, format=LETTERS) for how in ("none", "mask_digits"))
    for a, b in zip(plain, masked, strict=True):
        assert text_of(b) == mask_digits(text_of(a))
        np.testing.assert_array_equal(a.canary.positions, b.canary.positions)
        assert [text_of(b)[p : p + len(b.canary.text)] for p in b.canary.positions] == [b.canary.text] * 4


@pytest.mark.parametrize("position", ["uniform", "start"])
def test_a_deduplicated_corpus_has_the_canary_once_and_whole(directory, dataset, position):  # noqa: F811
    path = directory / "train.txt"
    lines = split_lines(path.read_text())
    path.write_text("".join(f"{line}\n" for line in [*lines[:50], *lines[:50], *lines]))
    plain = built(directory, dataset, "none", position=position)
    for a, b in zip(plain, built(directory, dataset, "deduplicate", position=position), strict=True):
        assert a.canary.text == b.canary.text
        counts = Counter(split_lines(text_of(b)))
        assert set(counts.values()) == {1}
        assert set(counts) | {""} == set(split_lines(text_of(a))) | {""}
        (at,) = b.canary.positions
        assert text_of(b)[at - 1 : at + len(b.canary.text) + 1] == f"\n{b.canary.text}\n"
        (window,) = canary_windows(b.canary.positions, 50)
        assert b.canary.text in b.vocabulary.decode(windows(b.train, 50)[1][window])


def test_deduplicating_a_text_without_canaries_adds_none(directory, dataset):  # noqa: F811
    for corpus in built(directory, dataset, "deduplicate", insertions=0):
        assert corpus.canary.text not in text_of(corpus)


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({"corpus": {"sanitise": "deduplicate"}, "canary": {"position": "window"}}, "out of their windows"),
        ({"corpus": {"sanitise": "mask_digits", "unit": "word"}}, "works on characters"),
    ],
)
def test_what_cannot_be_sanitised_is_one_clear_line(tree, said):
    with pytest.raises(UserError, match=said):
        validate(RunSpec, tree, "here")
