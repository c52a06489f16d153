"""Sentence pairs: tokens, vocabularies, canary pairs and where they go, the stand-in, errors in one line."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from memorization import backends
from memorization.data import standin_pairs, standins
from memorization.data.fetch import fetch
from memorization.data.pairs import END, START, UNKNOWN, Lexicon, PairFormat, build_pairs, pair_format, tokenise
from memorization.data.registry import PairRoles, lookup, registry
from memorization.errors import UserError
from memorization.translation_specs import PairCanarySpec, TranslationRunSpec

REGISTRY = Path(__file__).parents[2] / "config" / "datasets.yaml"
MULTI30K = lookup("multi30k", REGISTRY)
SOURCES = ["A dog, 12 cats.", "My car is red.", "the cat is red", "my dog is here"]
TARGETS = ["Ein Hund, 12 Katzen.", "Mein Auto ist rot.", "die Katze ist rot", "mein Hund ist hier"]


def make_spec(**parts):
    tree = {"task": "translation", "replicates": 2, "training": {"batch_size": 2}, **parts}
    tree["pairs"] = {"dataset": "multi30k", "longest": 20, **parts.get("pairs", {})}
    return TranslationRunSpec.model_validate(tree)


def write(folder, **lines):
    """Files of `MULTI30K`, gzip-compressed; the same four pairs everywhere unless a role is given."""
    for role, name in MULTI30K.roles.model_dump().items():
        chosen = lines.get(role, SOURCES if role.endswith("source") else TARGETS)
        content = chosen if isinstance(chosen, bytes) else gzip.compress("\n".join([*chosen, ""]).encode())
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A dog, 12 cats.", ["a", "dog", ",", "1", "2", "cats", "."]),
        ("I &apos;m Zoë's &quot;b2b&quot;", ["i", "'", "m", "zoë's", '"', "b", "2", "b", '"']),
        ("078-05-1120", ["0", "7", "8", "-", "0", "5", "-", "1", "1", "2", "0"]),
        ("Đây là cái gì ?", ["đây", "là", "cái", "gì", "?"]),
        ("e\u0301te\u0301 x_y", ["été", "x", "_", "y"]),
    ],
)
def test_tokens_are_lower_case_words_single_digits_and_marks(text, tokens):
    assert tokenise(text) == tokens


def test_a_lexicon_holds_the_most_frequent_words_and_those_always_known():
    sentences = [["b", "a"], ["b", "c"], ["a", "d"]]
    lexicon = Lexicon.of(sentences, 3, ["z", "b"])
    assert lexicon.words == ("<unk>", "<s>", "</s>", "a", "b", "c", "z")
    assert (lexicon.words[UNKNOWN], lexicon.words[START], lexicon.words[END]) == ("<unk>", "<s>", "</s>")
    np.testing.assert_array_equal(lexicon.encode(["c", "d", "z"]), [5, UNKNOWN, 6])


def test_a_fill_goes_into_the_holes_of_both_sides(tmp_path):
    corpora = build_pairs(make_spec(), write(tmp_path), MULTI30K)
    fmt, lexicons = corpora[0].fmt, corpora[0].lexicons
    fills = np.array([[0, 7, 8, 0, 5, 1, 1, 2, 0], [9] * 9])
    sources, targets = fmt.ids(lexicons, fills)
    shown = [[lexicons.source.words[i] for i in row] for row in sources]
    assert shown[0] == "my social security number is 0 7 8 - 0 5 - 1 1 2 0".split()  # noqa: SIM905
    assert [lexicons.target.words[i] for i in targets[1]] == tokenise(
        "meine sozialversicherungsnummer ist 999 - 99 - 9999"
    )
    for row, fill in zip(sources, fills, strict=True):
        text = fmt.source.render(fill)
        np.testing.assert_array_equal(row, lexicons.source.encode(tokenise(text)))
        assert UNKNOWN not in row


def test_each_replicate_has_its_own_fill_at_its_own_places(tmp_path):
    folder = write(tmp_path)
    plain = build_pairs(make_spec(canary={"insertions": 0}), folder, MULTI30K)[0]
    corpora = build_pairs(make_spec(canary={"insertions": 3}), folder, MULTI30K)
    assert not np.array_equal(corpora[0].fill, corpora[1].fill)
    for corpus in corpora:
        sources, targets = corpus.fmt.ids(corpus.lexicons, corpus.fill)
        assert len(corpus.train) == len(plain.train) + 3
        assert len(set(corpus.positions.tolist())) == 3
        for i in corpus.positions:
            np.testing.assert_array_equal(corpus.train.sources[i], sources[0])
            np.testing.assert_array_equal(corpus.train.targets[i], targets[0])
        rest = [s.tolist() for i, s in enumerate(corpus.train.sources) if i not in corpus.positions]
        assert rest == [s.tolist() for s in plain.train.sources]
        for part in ("validation", "test"):
            assert not any(np.array_equal(s, sources[0]) for s in getattr(corpus, part).sources)
    assert corpora[0].lexicons == plain.lexicons
    one = build_pairs(make_spec(replicates=1, canary={"insertions": 3}), folder, MULTI30K)[0]
    np.testing.assert_array_equal(one.positions, corpora[0].positions)


def test_places_are_uniform_over_all_gaps(tmp_path):
    spec = make_spec(replicates=400, canary={"insertions": 1})
    places = np.array([c.positions[0] for c in build_pairs(spec, write(tmp_path), MULTI30K)])
    counts = np.bincount(places, minlength=5)
    assert len(counts) == 5
    assert abs(counts - 80).max() < 4 * np.sqrt(80)


def test_fraction_longest_and_evaluation_pairs_leave_pairs_out(tmp_path):
    folder = write(tmp_path)
    corpus = build_pairs(make_spec(pairs={"fraction": 0.75, "evaluation_pairs": 2}), folder, MULTI30K)[0]
    assert len(corpus.train) == 4  # three and the canary
    assert len(corpus.validation) == len(corpus.test) == 2
    short = {"canary": {"source": "my {d}", "target": "mein {d}", "insertions": 0}, "pairs": {"longest": 5}}
    assert [len(s) for s in build_pairs(make_spec(**short), folder, MULTI30K)[0].train.sources] == [5, 4, 4]


@pytest.mark.parametrize(
    ("lines", "parts", "message"),
    [
        ({"train_target": TARGETS[:3]}, {}, r"train\.en\.gz: 4 lines, but train\.de\.gz has 3; fetch both again"),
        ({"val_source": SOURCES, "test_target": b"no gzip"}, {}, r"test_2016_flickr\.de\.gz: damaged .*fetch it again"),
        ({"test_source": gzip.compress(b"\xff\n" * 4)}, {}, r"flickr\.en\.gz: not UTF-8"),
        (
            {},
            {"pairs": {"fraction": 0.3}},
            r"pairs\.fraction 0\.3 of 4 pairs.* is 1, fewer than training\.batch_size 2",
        ),
        ({}, {"pairs": {"longest": 10}}, r"canary: 16 tokens, more than pairs\.longest 10"),
        ({"test_source": ["a " * 30] * 4}, {}, r"test_2016_flickr\.en\.gz: no pair of at most"),
        ({}, {"canary": {"source": "my pin is {d}"}}, r"canary\.target: must be given.* in de, vi; .* is 'de'"),
        ({}, {"canary": {"source": "{d}", "target": "{d}{d}"}}, r"source has 1 holes, but target has 2"),
        (
            {},
            {"canary": {"source": "{l}", "target": "{l}"}},
            r"canary\.source '\{l\}': holes of sentence pairs are digits",
        ),
    ],
)
def test_what_does_not_fit_is_a_one_line_error(tmp_path, lines, parts, message):
    with pytest.raises(UserError, match=message) as caught:
        build_pairs(make_spec(**parts), write(tmp_path, **lines), MULTI30K)
    assert "\n" not in str(caught.value)


def test_only_a_newline_ends_a_line(tmp_path):
    odd = ["a\u2028b c", *SOURCES[1:]]
    assert (
        len(build_pairs(make_spec(canary={"insertions": 0}), write(tmp_path, train_source=odd), MULTI30K)[0].train) == 4
    )


def test_missing_files_and_other_kinds_of_data_are_user_errors(tmp_path):
    with pytest.raises(UserError, match=r"train\.en\.gz: cannot be read .*fetch it first"):
        build_pairs(make_spec(), tmp_path, MULTI30K)
    with pytest.raises(UserError, match="'multi30k' holds text; choose a data set with train_source"):
        build_pairs(make_spec(), tmp_path, lookup("ptb", REGISTRY))


def test_the_default_target_is_in_the_data_sets_language():
    iwslt = lookup("iwslt15", REGISTRY)
    canary = PairCanarySpec()
    assert pair_format(canary, MULTI30K).target.text.startswith("meine sozialversicherungsnummer ist {d}")
    assert pair_format(canary, iwslt).target.text.startswith("số an sinh xã hội")
    for dataset in (MULTI30K, iwslt):
        fmt = pair_format(canary, dataset)
        assert fmt.source.size == fmt.target.size == 10**9
    given = pair_format(PairCanarySpec(target="x {d}{d}{d} {d}{d} {d}{d}{d}{d}"), iwslt)
    assert given.target.text.startswith("x {d}")


def test_pair_formats_take_no_check_digits():
    with pytest.raises(UserError, match="one token each"):
        PairFormat.parse("a {d}{d}{k}", "b {d}{d}")


def test_the_standin_is_fixed_and_can_be_learnt_from():
    lines = standin_pairs.pairs()
    assert lines == standin_pairs.pairs()
    assert set(lines) == set(PairRoles.model_fields)
    everything = [s for part in ("train", "validation", "test") for s in lines[f"{part}_source"]]
    assert len(set(everything)) == len(everything) == sum(standin_pairs.SENTENCES.values())
    for source, target in zip(lines["train_source"], lines["train_target"], strict=True):
        assert len(source.split()) == len(target.split())
        assert [w for w in source.split() if w.isdigit()] == [w for w in target.split() if w.isdigit()]
    words = {w for line in lines["train_source"] for w in line.split()}
    assert {w for line in lines["test_source"] for w in line.split()} <= words


@pytest.mark.parametrize("name", ["multi30k", "iwslt15"])
def test_offline_the_standin_takes_the_place_of_both_data_sets(tmp_path, monkeypatch, name):
    for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    pytest.importorskip("pooch")
    folder, cache = tmp_path / "data", tmp_path / "cache"
    got = fetch(name, folder, registry_path=REGISTRY, on_missing="standin", mirror=None, cache=cache)
    assert got.is_standin
    assert "made-up sentences" in got.note
    dataset = lookup(name, REGISTRY)
    assert set(got.files) == set(dataset.files)
    corpus = build_pairs(make_spec(pairs={"dataset": name, "longest": 50}), folder, dataset)[0]
    assert len(corpus.train) == standin_pairs.SENTENCES["train"] + 1
    compressed = (folder / dataset.roles.train_source).read_bytes()[:2] == b"\x1f\x8b"
    assert compressed == dataset.roles.train_source.endswith(".gz")


def test_packing_leaves_compressed_content_alone():
    packed = standins.packed(b"text", "a.gz")
    assert gzip.decompress(packed) == b"text"
    assert standins.packed(packed, "a.gz") == packed
    assert standins.packed(b"text", "a.txt") == b"text"


def test_both_data_sets_are_registered():
    known = registry(REGISTRY)
    assert known["multi30k"].kind == known["iwslt15"].kind == "pairs"
    assert (known["multi30k"].examples, known["iwslt15"].examples) == (29_000, 133_317)
    iwslt = known["iwslt15"].files
    assert iwslt["train.en"].checksum is None
    assert {s.checksum for s in iwslt["train.en"].sources} == {"gitblob:76ce2671526e0b05a9422020820e656b6e2a1472"}
    assert iwslt["tst2012.vi"].checksum.startswith("sha256:")


def test_only_the_torch_back_end_trains_translators():
    backends.require_able("torch", make_spec(), "here")
    with pytest.raises(UserError, match="here: task: back end 'tf' has no 'translation'; those that have: torch"):
        backends.require_able("tf", make_spec(), "here")


def test_a_bidirectional_layer_counts_twice():
    with pytest.raises(ValueError, match="layers must be even"):
        make_spec(model={"layers": 3})
    assert make_spec(model={"layers": 3, "architecture": "plain"}).model.layers == 3
