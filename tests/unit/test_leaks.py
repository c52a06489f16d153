"""No number of the shape of a card or social-security number leaves the pipeline, but those of synthetic canaries."""

import importlib.util
import json
import zlib
from base64 import b64encode
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from papers_paths import PAPERS

from memorization import leaks, plotting, redaction, tables, tidy

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "paper_figures" / "published"
CARD, SECURITY = "4539 1488 0343 6467", "078-05-1120"
"""A card number and a social-security number that are known from advertisements and test suites."""


@pytest.mark.parametrize(
    "text",
    [
        CARD,
        CARD.replace(" ", ""),
        CARD.replace(" ", "-"),
        "3782-822463-10005",
        f"it is {SECURITY}.",
        SECURITY.replace("-", " "),
        f"in 2001 {CARD} and 12",
        f"ssn:{SECURITY}x",
        f"a{CARD.replace(' ', '')}b",
    ],
)
def test_shapes_are_seen(text):
    assert list(leaks.shapes(text))


@pytest.mark.parametrize(
    "text",
    [
        "0.4539148803436467",
        "-123456789.1234567890123456",
        "281265017",
        "2026-11-22 01:39:13",
        "4f2f86d9316724e0bc78473a37243fe129d16cad2b7cd4285a7f715b3090743e",
        "1 2 3 4 5 6 7 8 9 10 11 12 13",
        "12.5 078 1.5",
        "10^16 fills, 999999999999 of them",
    ],
)
def test_other_numbers_are_not(text):
    assert not list(leaks.shapes(text))


def test_under_mail_nine_bare_digits_count():
    assert list(leaks.shapes("the fill 078051120", strict=True))
    assert not list(leaks.shapes("run 12345678, 0.123456789", strict=True))


@pytest.fixture
def run(tmp_path):
    """A finished run on mail with one planted canary, and an attack's tables as they must be."""
    folder = tmp_path / "runs" / "torch" / "0123456789ab"
    canary = {"fill": "111223333", "text": "my social security number is 111-22-3333", "positions": [1234567890123]}
    record = {"data": {"dataset": "enron"}, "canaries": [canary], "wall_s": 1.234567890123456}
    attacks = folder / "attacks" / "x"
    attacks.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({**record, "canaries": [canary | {"positions": [123]}]}))
    frame = pd.DataFrame({"fill": ["111223333", ""], "rank": [10**16, 1], "exposure_bits": [1 / 3, 0.1]})
    frame.to_csv(attacks / "exposure.csv", index=False)
    return tmp_path, folder


def test_a_runs_own_canary_is_no_leak(run):
    assert leaks.findings(run[0]) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("logs/train.log", f"epoch 1\nthe text was {CARD}\n"),
        ("claims.csv", f"claim,ours\na,found {SECURITY}\n"),
        ("tables/t.csv", "dataset,fill\nenron,078051120\n"),
        ("tables/t.csv", f"dataset,label\nptb,{SECURITY}\n"),
        ("tables/t.csv", "fill\n4539148803436467\n"),
        ("report.html", f"<p>{SECURITY}</p>"),
        ("report.html", f'<script id="results">{{"caption": "{SECURITY}"}}</script>'),
        ("report.html", f'<a href="data:text/html;charset=utf8;base64,{b64encode(CARD.encode()).decode()}">'),
        ("about.json", json.dumps({"a": [{"b": SECURITY}]})),
        ("about.json", json.dumps({"a": 4539148803436467})),
        ("runs/torch/0123456789ab/attacks/x/extraction.csv", "fill,best_fill\n111223333,078051120\n"),
        ("runs/torch/0123456789ab/attacks/x/extraction.csv", "fill,best_fill\n111223333,444556666\n"),
    ],
)
def test_a_planted_leak_is_found_and_not_repeated(run, name, content):
    path = run[0] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    (found,) = leaks.findings(run[0])
    assert found.startswith(name)
    assert not list(leaks.shapes(found, strict=True))


def test_a_pairs_canary_has_no_text_but_a_source_and_a_target(tmp_path):
    pair = {"fill": SECURITY.replace("-", ""), "source": f"my number is {SECURITY}", "target": SECURITY}
    (tmp_path / "run.json").write_text(json.dumps({"data": {"dataset": "multi30k"}, "canaries": [pair]}))
    assert leaks.findings(tmp_path) == []
    (tmp_path / "log.txt").write_text(CARD)
    assert len(leaks.findings(tmp_path)) == 1


def test_fills_of_public_text_may_stand_in_tables(tmp_path):
    (tmp_path / "t.csv").write_text("dataset,fill\nptb,4539148803436467\n")
    assert leaks.findings(tmp_path) == []


def test_a_reports_libraries_and_images_may_have_any_number(tmp_path):
    image = "data:image/png;base64,4539148803436467"
    (tmp_path / "report.html").write_text(f"<script>x = 9007199254740991;\n</script>\n<img src='{image}'>")
    assert leaks.findings(tmp_path) == []


def test_inputs_and_binaries_are_not_looked_at(tmp_path):
    for name in ("data/enron/mail.txt", "downloads/x.txt", "runs/model.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(CARD)
    assert leaks.findings(tmp_path) == []


@pytest.mark.parametrize("shown", [CARD, SECURITY])
def test_a_leak_in_a_figure_is_found(tmp_path, shown):
    figure = Figure()
    figure.text(0.1, 0.5, f"secret {shown}")
    plotting.save(figure, tmp_path / "a.pdf", tmp_path / "a.png")
    assert leaks.findings(tmp_path)
    figure = Figure()
    figure.text(0.1, 0.5, "exposure 29.9 bits, 12 users")
    plotting.save(figure, tmp_path / "a.pdf", tmp_path / "a.png")
    assert leaks.findings(tmp_path) == []
    assert "exposure 29.9" in leaks.pdf_text((tmp_path / "a.pdf").read_bytes())
    assert leaks.pdf_text(b"stream\n" + zlib.compress(b"BT (\\(1\\)) Tj ET") + b"\nendstream")


def test_attacks_on_mail_keep_planted_fills_only():
    columns = {"fill": ["111", "222"], "best_fill": ["333", "222"], "extracted": [False, True]}
    made = {"extraction": pd.DataFrame(columns)}
    kept = redaction.only_planted(made, "enron", ["111", "222"])["extraction"]
    assert kept.to_dict("list") == columns | {"best_fill": ["", "222"]}
    assert redaction.only_planted(made, "ptb", []) is made


def test_tables_of_mail_have_no_fills():
    rows = pd.DataFrame({"fill": ["111"], "best_fill": ["1"], "exposure_bits": [1.0]})
    assert list(redaction.without_fills(rows, "enron_cmu")) == ["exposure_bits"]
    assert redaction.without_fills(rows, "ptb") is rows
    assert redaction.mail_datasets() == {"enron", "enron_cmu"}


def test_what_is_published_has_no_leak():
    assert leaks.findings(PUBLISHED) == []
    assert leaks.findings(ROOT / "README.md") == []


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*/*.csv")), ids=lambda p: p.stem)
def test_published_figures_show_no_leak(path):
    """What is written on them, as drawn from the published tables: the files themselves are not committed."""
    plots = PAPERS / path.parent.name / "plots.py"
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_plots", plots)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reference = tidy.read_reference(plots.with_name("reference.csv"), path.stem)
    drawn = getattr(module, path.stem)(tables.read(path), reference)
    cells = [cell.get_text() for axes in drawn.axes for table in axes.tables for cell in table.get_celld().values()]
    shown = [text.get_text() for text in [*drawn.findobj(Text), *cells]]
    assert any(shown)
    assert not [shape for text in shown for shape, _ in leaks.shapes(text)]
