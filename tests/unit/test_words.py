"""Corpora of words: vocabulary, encoding, and canaries planted among word tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from memorization import cells, monitor, preflight
from memorization.backends.controls import MarkovModel, OracleModel
from memorization.canaries import NUMBERS, CanaryFormat
from memorization.configuration import ROOT
from memorization.data.corpora import build_corpora, build_corpus, canary_windows, windows
from memorization.data.planting import plant_lines, plant_windows
from memorization.data.registry import DatasetSpec, registry
from memorization.errors import UserError
from memorization.exposure import measure
from memorization.search import exact_rank, shortest_path
from memorization.specs import CanarySpec, CorpusSpec, MeasureSpec, RunSpec, TrainingSpec
from memorization.vocabulary import Vocabulary

EIGHT = " ".join(["{w}"] * 8)
WORDS = [f"w{i}" for i in range(60)]


@pytest.fixture
def dataset():
    source = {"url": "http://127.0.0.1:9/x"}
    roles = {role: f"{role}.txt" for role in ("train", "validation", "test")}
    files = {name: {"sha256": "0" * 64, "sources": [source]} for name in roles.values()}
    about = dict.fromkeys(("title", "licence", "citation"), "t")
    return DatasetSpec.model_validate(
        about | {"homepage": "http://127.0.0.1:9/", "standin": None, "roles": roles, "files": files}
    )


@pytest.fixture
def directory(tmp_path):
    """Frequencies fall with the word's number; held-out text has words of its own, and <unk> is in all."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 61)
    for role, count in (("train", 400), ("validation", 40), ("test", 40)):
        lines = [" ".join(rng.choice(WORDS, rng.integers(2, 20), p=shares / shares.sum())) for _ in range(count)]
        lines.append("w0 <unk>" if role == "train" else f"w0 only-{role} <unk>")
        (tmp_path / f"{role}.txt").write_text("".join(f" {line} \n" for line in lines), encoding="utf-8")
    return tmp_path


def spec(**parts):
    training = {"batch_size": 4, "sequence_length": 20} | parts.pop("training", {})
    canary = {"format": EIGHT, "insertions": 3} | parts.pop("canary", {})
    corpus = CorpusSpec(**({"unit": "word", "vocabulary": 40} | parts.pop("corpus", {})))
    return RunSpec(corpus=corpus, training=TrainingSpec(**training), canary=CanarySpec(**canary), **parts)


def test_most_frequent_words_with_ties_in_alphabetical_order():
    vocabulary = Vocabulary.of_words("b a b\nc a <unk>\n\nd\n", 3)
    assert vocabulary.symbols == ("\n", "<unk>", "a", "b", "c")
    assert vocabulary.words == ("a", "b", "c")
    assert Vocabulary.of_words("d c b a").words == ("a", "b", "c", "d")


def test_text_is_split_at_spaces_and_line_ends():
    vocabulary = Vocabulary.of_words("a b\n")
    assert vocabulary.encode(" a  b \n z\n\na").tolist() == [2, 3, 0, 1, 0, 0, 2]
    assert vocabulary.encode("\n").tolist() == [0]
    assert vocabulary.encode("").dtype == np.int64
    assert vocabulary.decode(vocabulary.encode(" a  b \n z\n\na")) == "a b\n<unk>\n\na"
    assert Vocabulary.of(["ab"]).words == ()


@given(st.lists(st.lists(st.sampled_from(["a", "b", "zz", "\u00e9"]), max_size=5), max_size=6))
def test_decoding_gives_back_what_was_encoded(lines):
    text = "\n".join(" ".join(line) for line in lines)
    vocabulary = Vocabulary.of_words("a b zz \u00e9\n")
    assert vocabulary.decode(vocabulary.encode(text)) == text


def test_canaries_lie_whole_in_one_window(directory, dataset):
    for position in ("uniform", "start", "window"):
        for replicate, corpus in enumerate(
            build_corpora(spec(canary={"position": position, "insertions": 7}), directory, dataset, range(3))
        ):
            ids, canary = corpus.vocabulary.encode(corpus.canary.text), corpus.canary
            assert len(ids) == 8
            assert (ids > 1).all()
            assert len(canary.positions) == 7
            inputs, targets = windows(corpus.train, 20)
            for at, k in zip(canary.positions, canary_windows(canary.positions, 20), strict=True):
                assert corpus.train[at - 1 : at + 9].tolist() == [0, *ids, 0], (position, replicate)
                seen = [inputs[k, 0], *targets[k]]
                start = at - 1 - k * 20
                assert seen[start : start + 10] == [0, *ids, 0]


def test_taking_the_canaries_out_gives_back_the_text(directory, dataset):
    corpus = build_corpus(spec(), directory, dataset, 0)
    plain = build_corpus(spec(canary={"insertions": 0}), directory, dataset, 0)
    drop = (corpus.canary.positions[:, None] + np.arange(9)).ravel()
    assert np.array_equal(np.delete(corpus.train, drop), plain.train)
    assert plain.canary.text == corpus.canary.text


def test_places_are_the_same_in_characters_and_in_words():
    """One token per character: both kinds of text go through the same planting."""
    text = "".join("abc"[: n % 3 + 1] + "\n" for n in range(300))
    as_ids = np.array(["\nabcx".index(c) for c in text])
    lines, keep = ["xx", "xa", "ax"], np.array([True, False, True])
    for plant in (
        lambda t, own: plant_lines(t, own, keep, "uniform", np.random.default_rng(0), 12),
        lambda t, own: plant_lines(t, own, keep, "start", np.random.default_rng(0), 12),
        lambda t, own: plant_windows(t, own, keep, np.random.default_rng(0), np.random.default_rng(1), 12),
    ):
        planted, places = plant(text, lines)
        ids, same = plant(as_ids, [np.array(["\nabcx".index(c) for c in line]) for line in lines])
        assert "".join("\nabcx"[i] for i in ids) == planted
        assert same.tolist() == places.tolist()


def test_vocabulary_is_that_of_the_whole_file_and_held_out_words_become_unknown(directory, dataset):
    whole = build_corpus(spec(), directory, dataset, 0)
    part = build_corpus(spec(corpus={"fraction": 0.3}), directory, dataset, 0)
    assert part.vocabulary == whole.vocabulary
    assert len(whole.vocabulary) == 42
    assert len(part.train) < 0.4 * len(whole.train)
    assert whole.canary.text == part.canary.text
    everything = build_corpus(spec(corpus={"vocabulary": None}), directory, dataset, 0)
    assert set(everything.vocabulary.words) == set(WORDS)
    assert everything.vocabulary.decode(everything.test).endswith("w0 <unk> <unk>\n")


def test_named_words_come_after_the_frequent_ones(directory, dataset):
    plain = build_corpus(spec(), directory, dataset, 0).vocabulary
    named = build_corpus(spec(corpus={"words": ["7", "w0", "w59", "7"]}), directory, dataset, 0).vocabulary
    assert named.symbols == (*plain.symbols, "7", "w59")
    assert Vocabulary.of_words("b a b\n", None, ("z", "a")).symbols == ("\n", "<unk>", "b", "a", "z")
    assert spec(corpus={"words": []}).run_id == spec().run_id != spec(corpus={"words": ["7"]}).run_id


def test_digits_and_number_words_hide_the_same_numbers_at_the_same_places(directory, dataset):
    corpora = [
        build_corpus(
            spec(corpus={"words": [*"0123456789", *NUMBERS]}, canary={"format": " ".join(["w0", *[hole] * 9])}),
            directory, dataset, 1,
        )
        for hole in ("{d}", "{n}")
    ]  # fmt: skip
    digits, spelled = (corpus.canary for corpus in corpora)
    assert corpora[0].vocabulary == corpora[1].vocabulary
    assert digits.fill.tolist() == spelled.fill.tolist()
    assert digits.positions.tolist() == spelled.positions.tolist()
    assert len(corpora[0].train) == len(corpora[1].train)
    assert spelled.text == "w0 " + " ".join(NUMBERS[i] for i in spelled.fill)


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ({"words": ["a b"]}, "one word"),
        ({"words": ["<unk>"]}, "one word"),
        ({"words": [""]}, "one word"),
        ({"words": ["7"], "unit": "character", "vocabulary": None}, "for corpus.unit word"),
    ],
)
def test_words_that_are_none_are_refused(corpus, message):
    with pytest.raises(ValidationError, match=message):
        spec(corpus=corpus)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"canary": {"format": "w0 {d} {d}"}}, r"outside the vocabulary of 42.*corpus\.words"),
        ({"canary": {"format": "w0 {n} {n}"}}, r"outside the vocabulary of 42.*corpus\.words"),
        ({"canary": {"format": "w0 nobody {w}"}}, "nobody.*outside the vocabulary of 42"),
        ({"canary": {"format": "w0{w}"}}, "one token"),
        ({"training": {"sequence_length": 8}}, "8 words and a newline do not fit a training window of 8"),
        ({"training": {"batch_size": 10_000}}, "words are .* windows"),
        ({"corpus": {"evaluation_characters": 1}}, "0 words are 0 windows"),
    ],
)
def test_what_cannot_be_built_is_refused(directory, dataset, parts, message):
    with pytest.raises(UserError, match=message) as caught:
        build_corpus(spec(**parts), directory, dataset, 0)
    assert "\n" not in str(caught.value)


def test_measuring_at_the_end_needs_the_last_weights():
    ends = {"measure": MeasureSpec(every="end")}
    spec(training={"keep": "final"}, **ends)
    for wrong in ({}, {"keep": "final", "patience": 3}):
        with pytest.raises(ValidationError, match=r"measure\.every end"):
            spec(training=wrong, **ends)


@pytest.fixture
def random_model():
    """A random model of 2,000 words, and a format of eight."""
    vocabulary = Vocabulary(("\n", "<unk>", *(f"w{i}" for i in range(2000))), "word")
    return MarkovModel(vocabulary, seed=0, order=1), CanaryFormat.parse(EIGHT, vocabulary.words)


def test_a_space_beyond_64_bits_is_measured_without_overflow(random_model):
    model, fmt = random_model
    assert fmt.size == 2000**8
    rng = np.random.default_rng(0)
    rows = measure(
        model, fmt, fmt.sample(rng, 1)[0], fmt.sample(rng, 3), fmt.sample(rng, 200), exact_steps=50, rng=rng
    ).set_index("method")
    assert rows["space_bits"].unique().tolist() == [pytest.approx(8 * np.log2(2000))]
    inserted = rows[rows["kind"] == "inserted"]
    assert np.isfinite(inserted.loc[["sampled", "skew_normal", "importance"], "exposure_bits"]).all()
    assert 0 <= inserted.loc["importance", "exposure_bits"] <= fmt.bits
    found = exact_rank(model, fmt.tokens(model.vocabulary), fmt.sample(rng, 1)[0], max_steps=20)
    low, high = found.exposure_interval_bits
    assert (found.algorithm, 1 <= found.rank_low <= found.rank_high <= fmt.size) == ("bounds", True)
    assert 0 <= low <= high <= fmt.bits


def test_eight_memorised_words_rank_first_and_are_found(random_model):
    fmt, vocabulary = random_model[1], random_model[0].vocabulary
    fill = fmt.sample(np.random.default_rng(1), 1)[0]
    model, tokens = OracleModel(vocabulary, fmt.render(fill), 0.9), fmt.tokens(vocabulary)
    found = shortest_path(model, tokens, max_steps=2_000, batch=64)
    assert found.provable
    assert np.array_equal(found.fills[0], fill)
    rank = exact_rank(model, tokens, fill, max_steps=2_000)
    assert (rank.rank, rank.rank_high) == (1, 1)
    assert rank.exposure_bits == pytest.approx(8 * np.log2(2000))
    other = fill.copy()
    other[-1] = (other[-1] + 1) % 2000  # after seven known words a likely place for any last one
    assert exact_rank(model, tokens, other, max_steps=20_000).rank > 1


def test_sizes_are_counted_in_words():
    datasets = registry(ROOT / "config" / "datasets.yaml")
    ptb, own = datasets["ptb"], spec(corpus={"fraction": 0.5})
    assert preflight.expected_examples(own, ptb) == 929_589 // 2 // 20
    assert preflight.expected_examples(RunSpec(training=own.training), ptb) == 5_101_618 // 20
    small, large = (monitor.assumed_seconds(spec(corpus={"vocabulary": v}), datasets) for v in (1_000, 100_000))
    assert 0 < small < large
    assert datasets["wikitext-103"].words == 103_227_021
    assert {f.checksum for f in datasets["wikitext-103"].files.values()} == {None}


def test_factors_scale_numbers_and_name_what_they_do_not_know():
    cell = spec(training={"learning_rate": 3e-4, "batch_size": 10})
    scaled = cells.scaled(cell, {"training.learning_rate": 10.0, "training.batch_size": 0.04}, "here")
    assert (scaled.training.learning_rate, scaled.training.batch_size) == (0.003, 1)
    assert cells.scaled(cell, {}, "here") is cell
    with pytest.raises(UserError, match=r"here: scales: factors: unknown key 'training\.batch'"):
        cells.scaled(cell, {"training.batch": 0.5}, "here")
