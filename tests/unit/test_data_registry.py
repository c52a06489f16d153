"""config/datasets.yaml and the one-line errors about it; the embedded stand-in."""

import re
from pathlib import Path

import pytest
import yaml

from memorization.data import standins
from memorization.data.registry import lookup, registry
from memorization.errors import UserError
from memorization.vocabulary import Vocabulary

REGISTRY = Path(__file__).parents[2] / "config" / "datasets.yaml"


def changed(tmp_path, path, value):
    """A copy of the registry with one key (a list of path parts) set, or removed where `value` is None."""
    content = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))
    node = content
    for part in path[:-1]:
        node = node[part]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    copy = tmp_path / "datasets.yaml"
    copy.write_text(yaml.safe_dump(content), encoding="utf-8")
    return copy


def test_penn_treebank_is_registered_with_two_sources_each():
    ptb = registry(REGISTRY)["ptb"]
    assert ptb.roles.model_dump() == {
        "train": "ptb.train.txt",
        "validation": "ptb.valid.txt",
        "test": "ptb.test.txt",
    }
    # Character counts of the brief, §5; the text is ASCII.
    assert [ptb.files[name].bytes for name in ptb.roles.model_dump().values()] == [5101618, 399782, 449945]
    assert all(len(file.sources) == 2 for file in ptb.files.values())


def test_mnist_is_registered_with_three_sources_each():
    mnist = registry(REGISTRY)["mnist"]
    assert mnist.kind == "images"
    assert registry(REGISTRY)["ptb"].kind == "text"
    assert set(mnist.roles.model_dump().values()) == set(mnist.files)
    assert all(len(file.sources) == 3 for file in mnist.files.values())


def test_unknown_data_set_lists_the_known_ones():
    with pytest.raises(UserError, match=r"'ptx' is not in .*datasets\.yaml; known: .*ptb"):
        lookup("ptx", REGISTRY)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["ptb", "colour"], "red", r"ptb\.colour: unknown key; allowed: title, licence"),
        (["ptb", "licence"], None, r"ptb\.licence: missing"),
        (
            ["ptb", "standin"],
            "images",
            r"ptb\.standin: .* 'text', .* or 'table', but it is 'images'",
        ),
        (["ptb", "standin"], "digits", r"ptb: standin of text must be text or null, not digits"),
        (["mnist", "roles", "dev"], "x", r"mnist\.roles\.dev: unknown key; allowed: train_images, train_labels"),
        (["mnist", "roles", "test_labels"], None, r"mnist\.roles\.test_labels: missing"),
        (["ptb", "roles", "dev"], "x", r"ptb\.roles\.dev: unknown key; allowed: train, validation, test"),
        (["ptb", "roles", "train"], "x.txt", r"ptb: roles name \['x\.txt'\], which files lacks"),
        (
            ["ptb", "files", "ptb.train.txt", "sha256"],
            "12",
            r"files\.ptb\.train\.txt\.sha256: .*pattern.*'12'",
        ),
        (["ptb", "files", "ptb.train.txt", "bytes"], "5101618", r"bytes: .*integer.*'5101618'"),
        (["ptb", "files", "ptb.train.txt", "sources"], [], r"sources: .*at least 1"),
        (
            ["ptb", "files", "ptb.train.txt", "sources", 0, "url"],
            "ftp://x/y",
            r"sources\.0\.url: .*'ftp://x/y'",
        ),
        (
            ["ptb", "files", "ptb.train.txt", "sources", 0, "uri"],
            "x",
            r"sources\.0\.uri: unknown key; allowed: url",
        ),
        (
            ["ptb", "files", "ptb.train.txt", "sources", 0, "member"],
            "x",
            r"sources\.0: an archive needs both",
        ),
        (["ptb", "files", "../x"], {"sha256": "0" * 64, "sources": [{"url": "http://x/y"}]}, r"'\.\./x'"),
    ],
)
def test_errors_name_file_key_value_and_what_is_allowed(tmp_path, path, value, message):
    copy = changed(tmp_path, path, value)
    with pytest.raises(UserError, match=message) as caught:
        registry(copy)
    assert str(caught.value).startswith(f"{copy}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["ptb: [", "- a", "", "ptb: 3"])
def test_files_that_are_no_registry_are_one_line_errors(tmp_path, content):
    path = tmp_path / "datasets.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(str(path))) as caught:
        registry(path)
    assert "\n" not in str(caught.value)


def test_missing_registry(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        registry(tmp_path / "none.yaml")


def test_standin_looks_like_the_penn_treebank():
    texts = standins.text()
    lines = {role: text.splitlines() for role, text in texts.items()}
    total = sum(map(len, lines.values()))
    assert len(lines["train"]) / total == pytest.approx(0.9, abs=0.01)
    assert len(lines["validation"]) / total == pytest.approx(0.05, abs=0.01)
    for text in texts.values():
        assert set(text) <= set("\n #$&'*-./0123456789<>\\abcdefghijklmnopqrstuvwxyz")
        assert text.endswith("\n")
        assert all(re.fullmatch(r" \S.*\S ", line) and len(line) <= 500 for line in text.splitlines())
    assert len(texts["train"]) > 200_000


def test_standin_vocabulary_comes_from_train():
    texts = standins.text()
    vocabulary = set(Vocabulary.of([texts["train"]]).symbols)
    assert set("0123456789\n abcdefghijklmnopqrstuvwxyz") <= vocabulary
    assert set(texts["validation"]) | set(texts["test"]) <= vocabulary


def test_standin_is_fixed_and_its_splits_share_no_line():
    texts = standins.text()
    assert texts == standins.text()
    lines = [line for text in texts.values() for line in text.splitlines()]
    assert len(set(lines)) == len(lines)
