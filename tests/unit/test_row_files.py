"""Tables, census records, bags of words and news stories as rows of numbers; the stand-in; one-line errors."""

import io
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from memorization.data import row_files
from memorization.data.archives import content_digest
from memorization.data.fetch import fetch
from memorization.data.registry import lookup, registry
from memorization.data.row_files import read_rows
from memorization.data.rows import read_pool
from memorization.errors import UserError

REGISTRY = Path(__file__).parents[2] / "config" / "datasets.yaml"
KNOWN = {name: dataset for name, dataset in registry(REGISTRY).items() if dataset.kind == "rows"}
ADULT, REUTERS, NEWS, LOCATION = (
    KNOWN[name] for name in ("adult", "reuters21578", "20newsgroups-bow", "location-bangkok")
)
PERSON = (
    "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, {}, 2174, 0, 40, Cuba, {}"
)


def archive(path, contents, packing="w:gz"):
    with tarfile.open(path, packing) as box:
        for name, text in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            box.addfile(info, io.BytesIO(text.encode()))


def zipped(path, contents):
    with zipfile.ZipFile(path, "w") as box:
        for name, text in contents.items():
            box.writestr(name, text)


def test_a_table_has_its_class_first_and_classes_are_numbered(tmp_path):
    archive(tmp_path / LOCATION.roles.rows, {"bangkok": '"7",0,1\n"30",1,1\n"7",1,0\n'})
    x, y, classes = read_rows(tmp_path, LOCATION, is_standin=False)
    assert x.dtype == np.float32
    assert (x.tolist(), y.tolist(), classes) == ([[0, 1], [1, 1], [1, 0]], [0, 1, 0], 2)


def test_census_records_of_both_files_with_one_feature_per_category(tmp_path):
    (tmp_path / "adult.data").write_text(
        f"{PERSON.format('Male', '<=50K')}\n{PERSON.format('Female', '>50K')}\n\n", encoding="utf-8"
    )
    (tmp_path / "adult.test").write_text(
        f"|1x3 Cross validator\n{PERSON.format('?', '>50K.').replace('39', '19', 1)}\n", encoding="utf-8"
    )
    x, y, classes = read_rows(tmp_path, ADULT, is_standin=False)
    assert (y.tolist(), classes) == ([0, 1, 1], 2)
    # Six numbers, seven categories with one value, three values of sex.
    assert x.shape == (3, 6 + 7 + 3)
    ages = np.log1p([39, 39, 19])
    np.testing.assert_allclose(x[:, 0], (ages - ages.mean()) / ages.std(), rtol=1e-6)
    np.testing.assert_allclose(x[:, 1:6], 0, atol=1e-6)
    assert (x[:, 6:].sum(axis=1) == 8).all()


def test_bags_of_words_are_logarithms_of_one_length(tmp_path):
    zipped(tmp_path / NEWS.roles.rows, {"20ng/vocab.new": "a 9\nb 3\n", "20ng/train.feat": "2 1:3 3:1\n1 2:1\n2\n"})
    x, y, classes = read_rows(tmp_path, NEWS, is_standin=False)
    assert (y.tolist(), classes) == ([1, 0, 1], 2)
    first = np.log([4, 1, 2])
    np.testing.assert_allclose(x, [8 * first / np.linalg.norm(first), [0, 8, 0], [0, 0, 0]], rtol=1e-6)


def story(topics, text, marked="YES"):
    named = "".join(f"<D>{topic}</D>" for topic in topics)
    return (
        f'<REUTERS TOPICS="{marked}" NEWID="1">\n<TOPICS>{named}</TOPICS>\n<PLACES><D>usa</D></PLACES>'
        f"<TEXT>&#2;\n<TITLE>A {text} TITLE</TITLE><BODY>The {text}, 12\nof it</BODY></TEXT>\n</REUTERS>\n"
    )


def test_stories_with_one_frequent_topic(tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "FEWEST_STORIES", 2)
    stories = [
        story(["earn"], "shares"),
        story(["earn"], "shares"),
        story(["crude"], "oil oil"),
        story(["crude"], "barrel"),
        story(["crude"], "well"),
        story(["crude"], "rig"),
        story(["rare"], "tin"),
        story(["earn", "crude"], "both"),
        story([], "none"),
        story(["earn"], "unmarked", "NO"),
    ]
    archive(tmp_path / REUTERS.roles.rows, {"r/reut2-000.sgm": "".join(stories), "r/README.txt": "x"}, "w:xz")
    x, y, classes = read_rows(tmp_path, REUTERS, is_standin=False)
    assert (y.tolist(), classes) == ([1, 1, 0, 0, 0, 0], 2)
    # "title", "the", "of", "it" are in every story. What is left, by stories, then by name: shares, barrel, oil, ...
    assert x.shape == (6, 5)
    assert np.argmax(x, axis=1).tolist() == [0, 0, 2, 1, 4, 3]
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 8, rtol=1e-6)


def test_the_vocabulary_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "FEWEST_STORIES", 1)
    monkeypatch.setattr(row_files, "WORDS", 2)
    stories = [story([topic], text) for topic, text in (("a", "xx"), ("b", "yy"), ("b", "zz"), ("b", "zz"))]
    stories += [story(["a"], f"only{letter}") for letter in "pqrs"]
    archive(tmp_path / REUTERS.roles.rows, {"r/reut2-000.sgm": "".join(stories)}, "w:xz")
    x, _, _ = read_rows(tmp_path, REUTERS, is_standin=False)
    assert x.shape == (8, 2)
    assert (x[2:4] > 0).any(axis=0).tolist() == [True, False]  # zz is in two stories


@pytest.mark.parametrize(
    ("dataset", "content", "message"),
    [
        (LOCATION, b"", "damaged|not a zip or tar"),
        (LOCATION, b"1,a\n2,b\n", r"not laid out as table"),
        (LOCATION, b"1,0.5\n1,0.25\n", "2 rows of 1 classes"),
        (LOCATION, b"1,0.5\n2,\n", "no numbers"),
        (NEWS, b"PK", "not a zip or tar"),
        (ADULT, b"1, 2, 3\n", "not laid out as census .2 records without all 15 columns"),
    ],
)
def test_damaged_files_are_one_line_errors(tmp_path, dataset, content, message):
    (tmp_path / dataset.roles.rows).write_bytes(content)
    if dataset.roles.more_rows:
        (tmp_path / dataset.roles.more_rows).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_rows(tmp_path, dataset, is_standin=False)
    assert "\n" not in str(caught.value)
    assert dataset.roles.rows in str(caught.value)


def test_archives_with_the_wrong_files(tmp_path):
    zipped(tmp_path / NEWS.roles.rows, {"a/readme": "1 1:1"})
    with pytest.raises(UserError, match=r"no \*\.feat file in it"):
        read_rows(tmp_path, NEWS, is_standin=False)
    archive(tmp_path / LOCATION.roles.rows, {"a": "1,2\n", "b": "1,2\n"})
    with pytest.raises(UserError, match="2 files in it, not one"):
        read_rows(tmp_path, LOCATION, is_standin=False)
    with pytest.raises(UserError, match=re.escape("fetch it first")):
        read_rows(tmp_path, ADULT, is_standin=False)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_the_stand_in_serves_every_data_set_of_rows(tmp_path, name):
    folder, nothing = tmp_path / "data", tmp_path / "mirror"
    nothing.mkdir()
    closed = REGISTRY.read_text(encoding="utf-8")
    copy = tmp_path / "datasets.yaml"
    copy.write_text(re.sub(r"https?://[^\s/]+", "http://127.0.0.1:9", closed), encoding="utf-8")
    provenance = fetch(name, folder, registry_path=copy, on_missing="standin", mirror=nothing, cache=tmp_path / "cache")
    assert provenance.is_standin
    pool = read_pool(folder, lookup(name, REGISTRY))
    assert pool.is_standin
    assert (len(pool), pool.classes, pool.raw.shape[1]) == (569, 2, 30)
    np.testing.assert_allclose(pool.raw.std(axis=0), 1, atol=1e-4)


def test_every_data_set_of_rows_says_how_many_and_how():
    assert set(KNOWN) == {"adult", "reuters21578", "20newsgroups-bow", "location-bangkok", "purchase-100"}
    assert all(dataset.examples and dataset.layout in row_files.READERS for dataset in KNOWN.values())


def test_a_repacked_archive_without_a_top_folder_has_the_same_content(tmp_path):
    archive(tmp_path / "a.tar.xz", {"top/x": "1", "top/y": "2"}, "w:xz")
    archive(tmp_path / "b.tar.gz", {"y": "2", "x": "1"})
    archive(tmp_path / "c.tar.gz", {"y": "3", "x": "1"})
    first, second, third = (content_digest(tmp_path / name) for name in ("a.tar.xz", "b.tar.gz", "c.tar.gz"))
    assert first == second != third
