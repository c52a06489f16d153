"""A text of the user's own: what is refused and how, what is kept of it, and what an audit of it plans."""

import hashlib
import json
import os
import string
from pathlib import Path

import numpy as np
import pytest

from memorization import own_audit, preflight
from memorization.backends.controls import UniformModel
from memorization.canaries import CanaryFormat
from memorization.configuration import load_config
from memorization.data import own
from memorization.data.corpora import build_corpus
from memorization.data.registry import lookup
from memorization.errors import UserError
from memorization.redaction import confidential
from memorization.search import Tree
from memorization.vocabulary import Vocabulary

LINE = "Nobody planted anything in these words, which go on for a while.\n"
TEXT = "".join(f"{i} {LINE}" for i in range(600))


@pytest.fixture
def corpus(tmp_path) -> Path:
    path = tmp_path / "my.txt"
    path.write_text(TEXT)
    return path


def plan_of(path, **more):
    return own_audit.plan(load_config({"corpus": str(path), "scale": "smoke", **more}))


def bad(tmp_path, content: bytes) -> Path:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    return path


def test_parts_are_the_leading_lines_one_after_the_other(corpus):
    text = own.read(corpus, 30_000)
    assert TEXT.startswith("".join(text.parts[role] for role in ("train", "validation", "test")))
    assert all(part.endswith("\n") for part in text.parts.values())
    assert 29_900 < text.used <= 30_000
    assert len(text.parts["train"]) == pytest.approx(24_000, abs=70)
    assert (text.sha256, text.bytes) == (hashlib.sha256(TEXT.encode()).hexdigest(), len(TEXT))
    assert text.characters == len(TEXT)
    assert text.replaced == 0


def test_the_name_is_that_of_the_content_and_of_how_much_is_used(corpus, tmp_path):
    name = own.read(corpus, 30_000).name
    copy = tmp_path / "copy.txt"
    copy.write_text(TEXT)
    assert own.read(copy, 30_000).name == name
    assert own.read(copy, 25_000).name != name
    copy.write_text(TEXT + "one more line\n")
    assert own.read(copy, 30_000).name != name


def test_line_ends_and_byte_order_marks_of_other_systems_make_no_difference(corpus, tmp_path):
    other = bad(tmp_path, b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    assert own.read(other, 30_000).parts == own.read(corpus, 30_000).parts


def test_rare_characters_are_replaced_and_counted(tmp_path):
    late = TEXT + "".join(f"é{LINE}" for _ in range(100))  # only in what follows the training part
    text = own.read(bad(tmp_path, late.encode()), 10**6)
    assert text.replaced == 100
    assert own.RARE in text.parts["test"]
    assert "é" not in "".join(text.parts.values())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe" + "text".encode("utf-16-le"), "not UTF-8 text"),
        (TEXT.encode() + b"\0", "zero bytes"),
        (b"A few words.\n", "too short"),
        (b"", "too short"),
        (b"word " * 20_000, "too few"),
        ("".join(chr(0x4E00 + i % 3000) + "\n" * (i % 9 == 0) for i in range(40_000)).encode(), "kinds of characters"),
    ],
)
def test_what_is_no_fitting_text_is_refused_in_one_line(tmp_path, content, said):
    with pytest.raises(UserError, match=said) as refused:
        own.read(bad(tmp_path, content), 60_000)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, corpus, monkeypatch):
    with pytest.raises(UserError, match="no such file"):
        own.read(tmp_path / "missing.txt", 60_000)
    with pytest.raises(UserError, match="is a folder"):
        own.read(tmp_path, 60_000)
    monkeypatch.setattr(own, "LARGEST", 1000)
    with pytest.raises(UserError, match="reads at most"):
        own.read(corpus, 60_000)

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(own, "LARGEST", 10**9)
    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(UserError, match="Permission denied"):
        own.read(corpus, 60_000)


def test_what_is_no_file_is_refused_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"^corpus: ~nosuchuser/x\.txt: there is no such home folder"):
        plan_of("~nosuchuser/x.txt")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(Path, "read_bytes", lambda path: TEXT.encode())  # a real one would wait for a writer
    with pytest.raises(UserError, match="is a pipe or a device"):
        own.read(pipe, 30_000)


def test_an_empty_corpus_is_refused_and_not_taken_for_none():
    with pytest.raises(UserError, match=r"^config/config.yaml \(or --config\): corpus: is empty; give it a value"):
        load_config({"corpus": ""})
    with pytest.raises(UserError, match=r"^--config corpus= is empty; give it a value"):
        load_config({"corpus": None}, told={"corpus": None})  # as Snakemake reads `--config corpus=`
    assert load_config({"corpus": None}, told={"scale": "smoke"}).corpus is None


def test_a_text_that_holds_a_canary_is_refused_without_showing_it(tmp_path):
    lines = TEXT.splitlines(keepends=True)
    secret = "so he said: the code of abcd is 12345, and left\n"
    path = bad(tmp_path, "".join([*lines[:300], secret, *lines[300:]]).encode())
    with pytest.raises(UserError, match="line 301 holds the canary") as refused:
        plan_of(path)
    assert "12345" not in str(refused.value)
    plan_of(path, canary="my pin for {x}{x}{x}{x} is {d}{d}{d}")


def test_provenance_has_checksums_and_counts_and_no_path(corpus, tmp_path):
    folder = tmp_path / own.read(corpus, 30_000).name
    own.adopt(corpus, 30_000, folder)
    written = (folder / "provenance.json").read_text()
    known = json.loads(written)
    assert known["files"]["corpus"] == {
        "sha256": hashlib.sha256(TEXT.encode()).hexdigest(), "bytes": len(TEXT), "url": "own text",
    }  # fmt: skip
    for name in ("train.txt", "validation.txt", "test.txt"):
        assert known["files"][name]["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert str(tmp_path) not in written
    assert "my.txt" not in written
    assert f"of {len(TEXT):,} characters" in known["note"]
    assert not known["is_standin"]


def test_a_text_that_changed_since_the_plan_is_refused(corpus, tmp_path):
    folder = tmp_path / own.read(corpus, 30_000).name
    corpus.write_text(TEXT + "one more line\n")
    with pytest.raises(UserError, match="the file changed while the audit was starting; run the same command again"):
        own.adopt(corpus, 30_000, folder)
    assert not folder.exists()


def test_the_plan_is_the_block_of_audit_yaml_on_the_text(corpus):
    plan, text = plan_of(corpus)
    ((key, figure),) = plan.figures.items()
    assert key == ("audit", text.name)
    assert {cell.backend for cell in figure.cells} == {"torch"}
    assert {cell.run.dataset for cell in figure.cells} == {text.name}
    assert sorted(cell.run.privacy is not None for cell in figure.cells) == [False, True]
    assert {cell.run.corpus.fraction for cell in figure.cells} == {1.0}
    assert all(cell.attack.every and cell.attack.ranked for cell in figure.cells)
    preflight.check(plan, own_audit.datasets(text))
    full, _ = plan_of(corpus, scale="reduced")
    epsilons = [c.run.privacy and c.run.privacy.epsilon for f in full.figures.values() for c in f.cells]
    assert epsilons == [8.0, None, 1.0]


def test_the_back_end_is_the_first_that_is_configured(corpus):
    plan, _ = plan_of(corpus, backends=["tf"])
    assert plan.backends == ["tf"]


def test_other_texts_are_other_runs(corpus, tmp_path):
    other = bad(tmp_path, TEXT.replace("Nobody", "Somebody").encode())
    assert not plan_of(corpus)[0].runs.keys() & plan_of(other)[0].runs.keys()


def test_a_text_without_digits_takes_canaries_of_digits(tmp_path):
    path = bad(tmp_path, (LINE * 600).encode())
    plan, text = plan_of(path)
    own.adopt(path, own_audit.characters("smoke"), tmp_path / text.name)
    run = next(iter(plan.runs.values()))
    corpus = build_corpus(run, tmp_path / text.name, lookup(text.name, Path("none")), 0)
    assert set(string.digits + own.RARE) <= set(corpus.vocabulary.symbols)
    planted = [c for c in corpus.canaries if c.included]
    assert planted
    told = corpus.vocabulary.decode(corpus.train)
    assert all(told.count(c.text) == c.included for c in corpus.canaries)


@pytest.mark.parametrize(
    ("canary", "said"),
    [
        ("the code is {d}{d}{d}{d}", "needs words of its own"),
        ("the code of {x} is {d}{d}{d}", "only 26 contexts"),
        ("{x}{x}{x}: {w}", "read characters"),
        ("{x}{x}{x}: " + "{d}" * 9, "use fewer or smaller holes"),
        ("{x}{x}{x}: " + "very " * 20 + "{d}{d}{d}", "do not fit a window of"),
        ("no hole", "one or more holes"),
    ],
)
def test_canaries_that_will_not_do_are_refused(corpus, canary, said):
    with pytest.raises(UserError, match=said) as refused:
        plan_of(corpus, canary=canary)
    assert "\n" not in str(refused.value)


def test_the_mended_canary_that_is_shown_can_be_typed(corpus):
    with pytest.raises(UserError) as refused:
        plan_of(corpus, canary="the code is {d}{d}{d}{d}")
    assert str(refused.value) == (
        "canary 'the code is {d}{d}{d}{d}': 16 different secrets are planted, each needs words of its own: put "
        "{x}{x}{x}{x} where they may differ"
    )


def test_published_tables_have_no_audit(corpus):
    with pytest.raises(UserError, match="tables=published"):
        plan_of(corpus, tables="published")


def test_trying_all_secrets_takes_one_walk(corpus):
    assert own_audit.queries_to_try_all(plan_of(corpus)[0]) == 1 + 10 + 100 + 1000
    assert own_audit.queries_to_try_all(plan_of(corpus, canary="{x}{x}{x}{x}: {d}{d}")[0]) == 1 + 10


@pytest.mark.parametrize("text", ["a {d}{d}", "{l}-{d}{d}-{p}!", "the {d} of {d}{k} it", "{x}{d}{x}{d}"])
def test_full_steps_are_those_of_the_tree(text):
    canary = CanaryFormat.parse(text)
    resolved = CanaryFormat.parse(text.replace("{x}", "q"))
    vocabulary = Vocabulary.of([own_audit.symbols(canary) + "\n"])
    tree = Tree.plant(UniformModel(vocabulary), resolved.tokens(vocabulary))
    assert own_audit.full_steps(canary) == tree.full_steps
    assert set(canary.render(np.zeros(len(canary.holes), dtype=int)).replace("{x}", "z")) <= set(vocabulary.symbols)


def test_fills_that_a_search_found_in_a_users_text_are_kept_back(corpus):
    assert confidential(own.read(corpus, 30_000).name)
    assert not confidential("ptb")
