"""Oddness of lines: against plain loops over the other lines, and what it says of odd ones."""

from collections import Counter
from math import isnan, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memorization import contracts
from memorization import oddness as module
from memorization.oddness import ORDER, line_oddness, oddness

LINES = [" the cat sat on the mat ", "a dog", "", "the cat ", "zzz", "the mat sat on the cat", "ab ab ab ab"]


def by_hand(lines, index, order):
    """Mean nats per character of one line under Witten-Bell counts of the others, character by character."""
    counts = {}
    for i, line in enumerate(lines):
        for k in range(1, order + 1):
            padded = "\0" * (k - 1) + line
            for j in range(len(line) if i != index else 0):
                counts.setdefault(padded[j : j + k - 1], Counter())[line[j]] += 1
    size = len(set("".join(lines)))

    def probability(context, c):
        lower = probability(context[1:], c) if context else 1 / size
        seen = counts.get(context, Counter())
        return (seen[c] + len(seen) * lower) / (seen.total() + len(seen)) if seen else lower

    padded = "\0" * (order - 1) + lines[index]
    nats = [-log(probability(padded[j : j + order - 1], c)) for j, c in enumerate(lines[index])]
    return sum(nats) / len(nats) if nats else float("nan")


@given(st.lists(st.text("ab c", max_size=12), min_size=1, max_size=8))
def test_losses_are_those_of_models_of_the_other_lines(lines):
    frame = line_oddness(lines, [])
    contracts.check("lines", frame)
    assert frame["characters"].tolist() == [len(line) for line in lines]
    for i in range(len(lines)):
        for column, order in (("unigram_nats", 1), ("fivegram_nats", ORDER)):
            assert frame[column][i] == pytest.approx(by_hand(lines, i, order), nan_ok=True)


def test_losses_of_words():
    frame = line_oddness(LINES, [])
    for i in range(len(LINES)):
        assert frame["unigram_nats"][i] == pytest.approx(by_hand(LINES, i, 1), nan_ok=True)
        assert frame["fivegram_nats"][i] == pytest.approx(by_hand(LINES, i, 5), nan_ok=True)
    assert frame["fivegram_nats"].idxmax() == 4
    assert isnan(frame["fivegram_nats"][2])


def test_probabilities_sum_to_one():
    """A last line of one character: the same others, every possible character."""
    for order, column in ((1, "unigram_nats"), (5, "fivegram_nats")):
        others = ["abc", "bca ", "cc"]
        total = sum(np.exp(-line_oddness([*others, c], [])[column].iloc[-1]) for c in "abc ")
        assert total == pytest.approx(1), order


def test_shares_of_words():
    frame = line_oddness(["the <unk> cat N 1980s <unk>", "", "the cat"], ["the dog <unk>", "N"])
    assert frame["words"].tolist() == [6, 0, 2]
    assert frame["unk_share"].tolist() == pytest.approx([2 / 6, np.nan, 0], nan_ok=True)
    assert frame["number_share"].tolist() == pytest.approx([2 / 6, np.nan, 0], nan_ok=True)
    assert frame["rare_share"].tolist() == pytest.approx([2 / 6, np.nan, 1 / 2], nan_ok=True)


def test_a_repeated_line_vouches_for_its_twin_but_not_for_itself():
    common = ["the market rose today", "the market fell today", "the market was closed today"]
    once = line_oddness([*common, "qx wvz jq"], [])["fivegram_nats"].iloc[-1]
    twice = line_oddness([*common, "qx wvz jq", "qx wvz jq"], [])["fivegram_nats"].iloc[-1]
    assert once > np.log(10) > 1 > twice


def test_few_lines_are_measured_by_counts_of_more(monkeypatch):
    monkeypatch.setattr(module, "COUNTED", 5)
    texts = {"train": "\n".join(LINES) + "\n", "test": "the cat\n"}
    frame = oddness(texts, 2)
    assert frame["index"].tolist() == [1, 2]
    assert frame.equals(line_oddness(LINES[:5], ["the cat"])[:2])
    assert oddness(texts, 100).equals(line_oddness(LINES, ["the cat"]))


def test_no_line_at_all():
    assert line_oddness([], ["a"]).empty
