"""Planting canaries, cutting windows, and whole replicates' corpora."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from memorization.data.corpora import (
    build_corpora,
    build_corpus,
    canary_windows,
    leading_lines,
    read_texts,
    split_lines,
    windows,
)
from memorization.data.planting import plant_lines, plant_windows
from memorization.data.registry import DatasetSpec
from memorization.errors import UserError
from memorization.specs import CanarySpec, CorpusSpec, RunSpec, TrainingSpec
from memorization.vocabulary import Vocabulary

LINES = st.lists(st.text("ab ", max_size=30), min_size=1, max_size=60)
POSITIONS = st.sampled_from(["uniform", "start"])


@pytest.fixture
def dataset():
    source = {"url": "http://127.0.0.1:9/x"}
    files = {f"{role}.txt": {"sha256": "0" * 64, "sources": [source]} for role in ("train", "validation", "test")}
    return DatasetSpec.model_validate(
        {
            "title": "t",
            "licence": "l",
            "citation": "c",
            "homepage": "http://127.0.0.1:9/",
            "standin": None,
            "roles": {role: f"{role}.txt" for role in ("train", "validation", "test")},
            "files": files,
        }
    )


@pytest.fixture
def directory(tmp_path):
    """Texts shaped like the Penn Treebank's: lines begin and end with a space."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz      "))
    for role, count in (("train", 400), ("validation", 60), ("test", 60)):
        lines = [f" {''.join(rng.choice(letters, rng.integers(5, 90)))} \n" for _ in range(count)]
        # Only the very last line has the digits: the vocabulary must come from the whole file.
        tail = " 0123456789-\n" if role == "train" else ""
        (tmp_path / f"{role}.txt").write_text("".join(lines) + tail, encoding="utf-8")
    return tmp_path


def spec(**parts):
    training = {"batch_size": 4, "sequence_length": 50} | parts.pop("training", {})
    canary = {"format": "my code is {d}{d}{d}{d}", "insertions": 3} | parts.pop("canary", {})
    return RunSpec(training=TrainingSpec(**training), canary=CanarySpec(**canary), **parts)


def plant(text, line, insertions, position, rng, window):
    """Copies of one line; offsets ascending."""
    keep = np.ones(insertions, dtype=bool)
    planted, positions = plant_lines(text, [line] * insertions, keep, position, rng, window)
    return planted, np.sort(positions)


def check_planted(text, line, planted, positions, window):
    """Every insertion is a whole line inside one window that `windows` really yields."""
    inputs, targets = windows(np.array([ord(c) for c in planted]), window)
    for p, k in zip(positions, canary_windows(positions, window), strict=True):
        assert planted[p - 1 : p + len(line) + 1] == f"\n{line}\n"
        seen = "".join(map(chr, [inputs[k, 0], *targets[k]]))
        start = p - 1 - k * window
        assert seen[start : start + len(line) + 2] == f"\n{line}\n"
    # Taking the lines out again, last first, gives back the text.
    rest = planted
    for p in positions[::-1]:
        rest = rest[:p] + rest[p + len(line) + 1 :]
    assert rest == text


@given(LINES, st.integers(0, 12), POSITIONS, st.integers(4, 20), st.integers(0, 99), st.booleans())
def test_plant_never_cuts_and_records_offsets(lines, insertions, position, window, seed, ends):
    text = "\n".join(lines) + ("\n" if ends else "")
    line = "x1y"
    try:
        planted, positions = plant(text, line, insertions, position, np.random.default_rng(seed), window)
    except UserError as error:
        if "place" not in str(error):
            raise
        reject()
    assert positions.dtype == np.int64
    assert len(positions) == planted.count(line) == insertions
    assert (np.diff(positions) > 0).all()
    before = "\n" if position == "start" and insertions else ""
    check_planted(before + text, line, planted, positions, window)


@pytest.mark.parametrize("window", [24, 31, 100])
@pytest.mark.parametrize("position", ["uniform", "start"])
@pytest.mark.parametrize("insertions", [1, 2, 40])
def test_plant_finds_places_in_ordinary_text(window, position, insertions):
    rng = np.random.default_rng(1)
    text = "".join(" " + "ab " * rng.integers(1, 40) + "\n" for _ in range(600))
    line = "the number is 123"
    planted, positions = plant(text, line, insertions, position, rng, window)
    assert len(positions) == insertions
    check_planted(("\n" if position == "start" else "") + text, line, planted, positions, window)


def test_start_puts_the_canary_after_a_leading_newline():
    text, positions = plant("one\ntwo\nthree four five\n", "xx", 2, "start", np.random.default_rng(0), 8)
    assert text.startswith("\nxx\nxx\none\n")
    assert positions.tolist() == [1, 4]


def test_a_drawn_place_that_would_be_cut_moves_to_the_next_line_start():
    # Line starts at 5, 10, ..., 30. A window of 6 sees 7 characters, the line and its two newlines are 6, so
    # only starts with (start - 1) % 6 <= 1 fit: 20 and 25.
    text = "aaaa\n" * 6
    drawn = {plant(text, "xxxx", 1, "uniform", np.random.default_rng(seed), 6)[1][0] for seed in range(40)}
    assert drawn == {20, 25}


def test_uniform_positions_are_uniform():
    text = "ab\n" * 2000
    rng = np.random.default_rng(2)
    positions = np.concatenate([plant(text, "x", 20, "uniform", rng, 50)[1] for _ in range(40)])
    counts, _ = np.histogram(positions, bins=10, range=(0, len(text) + 40))
    assert stats.chisquare(counts).pvalue > 1e-3


def test_no_insertion_leaves_the_text_alone():
    text, positions = plant("a\nb\n", "x", 0, "start", np.random.default_rng(0), 2)
    assert text == "a\nb\n"
    assert positions.shape == (0,)


def test_canary_longer_than_a_window_is_refused():
    plant("aa\n" * 100, "x" * 9, 1, "uniform", np.random.default_rng(0), 10)
    with pytest.raises(UserError, match="training window of 10"):
        plant("aa\n" * 100, "x" * 10, 1, "uniform", np.random.default_rng(0), 10)


@pytest.mark.parametrize("text", ["no line end", "a\n"])
def test_text_without_a_place_is_refused(text):
    with pytest.raises(UserError, match="place"):
        plant(text, "xx", 1, "uniform", np.random.default_rng(0), 50)


def test_windows_cover_the_text_once():
    ids = np.arange(23)
    inputs, targets = windows(ids, 5)
    assert inputs.ravel().tolist() == list(range(20))
    assert (targets == inputs + 1).all()
    assert len(windows(np.arange(20), 5)[0]) == 3


def test_leading_lines_cuts_at_a_line_end():
    assert leading_lines("ab\ncd\nef", 5) == "ab\n"
    assert leading_lines("ab\ncd\nef", 6) == "ab\ncd\n"
    assert leading_lines("ab\ncd\nef", 8) == "ab\ncd\nef"
    assert leading_lines("abcdef\n", 3) == ""


def test_split_lines_knows_only_newlines():
    assert split_lines("a\n\nb\u2028c\r\n") == ["a", "", "b\u2028c\r"]
    assert split_lines("a\nb") == ["a", "b"]
    assert split_lines("") == []


def test_read_texts_keeps_every_character(directory, dataset):
    raw = " a \r\n b \n"
    (directory / "test.txt").write_bytes(raw.encode())
    assert read_texts(directory, dataset)["test"] == raw


def test_read_texts_names_the_file(directory, dataset):
    (directory / "test.txt").unlink()
    with pytest.raises(UserError, match=r"test\.txt.*cannot be read"):
        read_texts(directory, dataset)
    (directory / "test.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"test\.txt: not UTF-8"):
        read_texts(directory, dataset)


def test_build_corpus_plants_only_in_train(directory, dataset):
    corpus = build_corpus(spec(), directory, dataset, 0)
    canary, decode = corpus.canary, corpus.vocabulary.decode
    train = decode(corpus.train)
    assert train.count(f"\n{canary.text}\n") == 3
    for p in canary.positions:
        assert train[p : p + len(canary.text)] == canary.text
    assert canary.text.removeprefix("my code is ") == "".join(map(str, canary.fill))
    for role in ("validation", "test"):
        ids = getattr(corpus, role)
        assert ids.dtype == np.int64
        assert decode(ids) == (directory / f"{role}.txt").read_text(encoding="utf-8")


def test_fraction_cuts_the_text_but_not_the_vocabulary(directory, dataset):
    whole = (directory / "train.txt").read_text(encoding="utf-8")
    corpus = build_corpus(spec(corpus=CorpusSpec(fraction=0.3), canary={"insertions": 0}), directory, dataset, 0)
    kept = corpus.vocabulary.decode(corpus.train)
    assert whole.startswith(kept)
    assert kept.endswith("\n")
    assert 0.3 * len(whole) - 95 < len(kept) <= 0.3 * len(whole)
    assert corpus.vocabulary.symbols == tuple(sorted(set(whole)))
    assert not set(kept) & set("0123456789")


def test_evaluation_text_is_capped_at_a_line_end(directory, dataset):
    corpus = build_corpus(spec(corpus=CorpusSpec(evaluation_characters=500)), directory, dataset, 0)
    for role in ("validation", "test"):
        text = corpus.vocabulary.decode(getattr(corpus, role))
        assert (directory / f"{role}.txt").read_text(encoding="utf-8").startswith(text)
        assert text.endswith("\n")
        assert 400 < len(text) <= 500


def test_replicates_are_reproducible_and_independent_of_company(directory, dataset):
    together = build_corpora(spec(), directory, dataset, range(4))
    alone = [build_corpus(spec(), directory, dataset, k) for k in range(4)]
    for a, b in zip(together, alone, strict=True):
        assert a.canary.text == b.canary.text
        assert np.array_equal(a.canary.positions, b.canary.positions)
        assert np.array_equal(a.train, b.train)
    assert len({c.canary.text for c in together}) == 4
    assert len({tuple(c.canary.positions) for c in together}) == 4
    other = build_corpus(spec(seed=1), directory, dataset, 0)
    assert other.canary.text != together[0].canary.text


def test_fill_and_positions_come_from_streams_of_their_own(directory, dataset):
    """Changing how often a canary is inserted changes no fill; fixing the fill moves no position."""
    free = build_corpus(spec(), directory, dataset, 2).canary
    more = build_corpus(spec(canary={"insertions": 9}), directory, dataset, 2).canary
    fixed = build_corpus(spec(canary={"fill": "0042"}), directory, dataset, 2).canary
    assert more.text == free.text
    assert fixed.text == "my code is 0042"
    assert fixed.positions.tolist() == free.positions.tolist()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"training": {"batch_size": 10_000}}, "training text.*10000 are needed for one batch"),
        ({"training": {"sequence_length": 100_000}}, "validation text.*100000"),
        ({"corpus": CorpusSpec(fraction=1e-4)}, "training text"),
        ({"corpus": CorpusSpec(evaluation_characters=1)}, "evaluation_characters: 1"),
        ({"canary": {"format": "My code is {d}"}}, "outside the vocabulary"),
        ({"training": {"sequence_length": 10}}, "training window of 10"),
    ],
)
def test_build_corpus_refuses(directory, dataset, parts, message):
    with pytest.raises(UserError, match=message) as caught:
        build_corpus(spec(**parts), directory, dataset, 0)
    assert "\n" not in str(caught.value)


def test_held_out_characters_must_be_in_the_training_file(directory, dataset):
    path = directory / "validation.txt"
    path.write_text(path.read_text(encoding="utf-8") + " é \n", encoding="utf-8")
    with pytest.raises(UserError, match=r"validation\.txt.*\['é'\]"):
        build_corpus(spec(), directory, dataset, 0)


def records(corpus, length):
    """The multiset of training records: (inputs, targets) of every window."""
    return Counter(zip(*(map(bytes, part) for part in windows(corpus.train, length)), strict=True))


def test_a_window_canary_is_one_record_more_and_changes_no_other(directory, dataset):
    """Also where several blocks share a boundary: 30 copies, fewer boundaries."""
    for insertions in (1, 2, 30):
        parts = {"position": "window", "insertions": insertions}
        with_canary = build_corpus(spec(canary=parts), directory, dataset, 0)
        without = build_corpus(spec(canary=parts | {"insertions": 0}), directory, dataset, 0)
        more, fewer = records(with_canary, 50), records(without, 50)
        assert not fewer - more
        assert (more - fewer).total() == insertions
        numbers = canary_windows(with_canary.canary.positions, 50)
        inputs, targets = windows(with_canary.train, 50)
        assert Counter((bytes(inputs[k]), bytes(targets[k])) for k in numbers) == more - fewer
        text = with_canary.canary.text
        for k in numbers:
            assert with_canary.vocabulary.decode(inputs[k]).startswith(f"\n{text}\n")
        rest = np.delete(inputs, numbers, axis=0)
        assert np.array_equal(rest, windows(without.train, 50)[0])
    assert 1 in np.diff(numbers)
    assert len(set(np.diff(numbers))) > 1


def test_a_window_canarys_filler_is_text_of_the_corpus_and_has_a_stream_of_its_own(directory, dataset):
    parts = {"position": "window", "insertions": 5}
    whole = (directory / "train.txt").read_text(encoding="utf-8")
    found = []
    for fill in (None, "0042"):
        corpus = build_corpus(spec(canary=parts | {"fill": fill}), directory, dataset, 1)
        text = corpus.vocabulary.decode(corpus.train)
        ends = corpus.canary.positions + len(corpus.canary.text)
        found.append([text[end : end - 1 + 50 - len(corpus.canary.text)] for end in ends])
        assert all(filler in whole for filler in found[-1])
    assert found[0] == found[1]
    assert len(set(found[0])) > 1


def test_a_text_without_such_a_boundary_is_closed_after_its_last_window():
    """With and without copies, so that they still differ in one record each."""
    base, symbols = "aaaa\n" + "abcabcabc\n" * 9, Vocabulary(tuple("\nabcx"))
    counts = []
    for kept in ([False, False], [True, False], [True, True]):
        rngs = np.random.default_rng(0), np.random.default_rng(1)
        text, positions = plant_windows(base, ["xx", "xa"], np.array(kept), *rngs, 10)
        assert [text[p - 1 : p + 3] for p in np.sort(positions)] == ["\nxx\n", "\nxa\n"][: sum(kept)]
        ids = symbols.encode(text, "text")
        counts.append(Counter(zip(*(map(bytes, part) for part in windows(ids, 10)), strict=True)))
    assert counts[0].total() == 9
    for fewer, more in pairwise(counts):
        assert not fewer - more
        assert (more - fewer).total() == 1


def test_window_canaries_stand_at_line_ends():
    keep, rng = np.ones(1, dtype=bool), np.random.default_rng(0)
    text, positions = plant_windows("aaaa\n" + "aaaaaaaaa\n" * 9, ["xx"], keep, rng, rng, 9)
    assert text[positions[0] - 1 : positions[0] + 3] == "\nxx\n"
    assert positions[0] % 9 == 1
    with pytest.raises(UserError, match="no line end with 10 characters after it"):
        plant_windows("a" * 40, ["xx"], keep, rng, rng, 10)
    with pytest.raises(UserError, match="training window of 3"):
        plant_windows("\n\n\n\n\n\n\n\n", ["xxx"], keep, rng, rng, 3)


def test_a_canary_may_fill_its_window_to_the_end():
    keep, rng = np.ones(1, dtype=bool), np.random.default_rng(0)
    text, _ = plant_windows("\n\n\n\n\n\n\n\n", ["xx"], keep, rng, rng, 3)
    assert "\nxx\n" in text
    assert len(text) == 11


@pytest.mark.parametrize("position", ["uniform", "start", "window"])
def test_many_canaries_are_distinct_lines_each_where_its_positions_say(directory, dataset, position):
    one = build_corpus(spec(canary={"position": position}), directory, dataset, 3).canary
    corpus = build_corpus(spec(canary={"position": position, "count": 6, "insertions": 2}), directory, dataset, 3)
    text = corpus.vocabulary.decode(corpus.train)
    assert len({c.text for c in corpus.canaries}) == len(corpus.canaries) == 6
    assert corpus.canary is corpus.canaries[0]
    assert corpus.canary.text == one.text
    for canary in corpus.canaries:
        assert canary.included
        assert text.count(f"{canary.text}\n") == 2
        assert (np.diff(canary.positions) > 0).all()
        for p in canary.positions:
            assert text[p - 1 : p + len(canary.text) + 1] == f"\n{canary.text}\n"


def test_canaries_are_as_many_as_the_format_allows(directory, dataset):
    pair = build_corpus(spec(canary={"fill": "0042", "count": 2}), directory, dataset, 0)
    assert pair.canary.text == "my code is 0042" != pair.canaries[1].text
    everything = build_corpus(spec(canary={"format": "{d}{d}", "count": 100, "insertions": 0}), directory, dataset, 0)
    assert len({c.text for c in everything.canaries}) == 100
    with pytest.raises(ValidationError, match="count 101: the format has only 100 fills"):
        spec(canary={"format": "{d}{d}", "count": 101})


def test_a_coin_leaves_canaries_out_without_moving_the_others(directory, dataset):
    parts = {"position": "window", "insertions": 1, "count": 20}
    every = build_corpus(spec(canary=parts), directory, dataset, 0)
    some = build_corpus(spec(canary=parts | {"inclusion": "coin"}), directory, dataset, 0)
    text = some.vocabulary.decode(some.train)
    assert [c.text for c in some.canaries] == [c.text for c in every.canaries]
    assert {c.included for c in some.canaries} == {True, False}
    for canary in some.canaries:
        assert text.count(canary.text) == len(canary.positions) == canary.included
    left_out = sum(not c.included for c in some.canaries)
    assert not records(some, 50) - records(every, 50)
    assert (records(every, 50) - records(some, 50)).total() == left_out


def test_the_coin_is_fair_and_differs_between_replicates(directory, dataset):
    parts = {"count": 100, "inclusion": "coin", "position": "window", "insertions": 1}
    corpora = build_corpora(spec(canary=parts), directory, dataset, range(10))
    coins = np.array([[c.included for c in corpus.canaries] for corpus in corpora])
    assert stats.binomtest(int(coins.sum()), coins.size).pvalue > 1e-3
    assert len({row.tobytes() for row in coins}) == 10
