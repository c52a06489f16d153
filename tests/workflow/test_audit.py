"""`snakemake audit --config corpus=...` for real at smoke scale, and what it says of a text that will not do."""

import json
import re

import pandas as pd
import pytest

from conftest import borrow, snakemake

CONFIG = ("scale=smoke", "backends=torch")
SENTENCE = "Quaggas and okapis, {} of them, were never seen beside the canal.\n"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "my text.txt"
    path.write_text("".join(SENTENCE.format(i) for i in range(600)))
    return path


@pytest.fixture(scope="module")
def workplace(clone, torch_environment, tmp_path_factory):
    return borrow(clone, {"torch": torch_environment}, tmp_path_factory.mktemp("audit") / "repository")


@pytest.fixture(scope="module")
def audited(workplace, corpus):
    """The finished audit: what Snakemake printed, and the folder of its page."""
    ended = snakemake(workplace, "--cores", "2", "--config", f"corpus={corpus}", *CONFIG, "--", "audit")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-4000:]
    return ended, workplace / "results" / "smoke" / "audit"


def test_an_audit_is_one_page_and_one_table(audited):
    ended, folder = audited
    (page,), (table,) = folder.glob("*.html"), folder.glob("*.csv")
    assert page.name in ended.stdout
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 2
    assert not re.search(r"(src|href)=(?![\"']?data:)|https?://|url\(", text)
    arms = pd.read_csv(table)
    assert arms["arm"].tolist() == ["without privacy", "private, ε ≤ 8"]
    assert (arms["planted"] + arms["left_out"] == arms["models"] * arms["canaries"]).all()
    assert (arms["unfinished"] == 0).all()
    assert arms.loc[1, ["classic_rdp", "rdp", "pld"]].between(0, 20).all()
    assert arms.loc[1, "rdp"] == pytest.approx(8, rel=0.02)


def test_nothing_of_the_text_and_no_path_is_shown(audited, corpus, workplace):
    _, folder = audited
    shown = "".join(path.read_text() for path in folder.iterdir())
    provenance = next((workplace / "results" / "smoke" / "data").glob("own_*/provenance.json")).read_text()
    for word in ("Quagga", "okapi", "canal", "my text", str(corpus.parent), str(workplace)):
        assert word not in shown + provenance
    assert json.loads(provenance)["files"]["corpus"]["sha256"] in shown


def test_no_fill_but_the_planted_ones_is_kept(audited, workplace):
    for run in (workplace / "results" / "smoke" / "runs" / "torch").iterdir():
        canaries = {c["fill"] for c in json.loads((run / "run.json").read_text())["canaries"]}
        tables = list(run.glob("attacks/*/ex*.csv"))
        assert tables
        for path in tables:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
            for column in {"fill", "best_fill"} & set(frame):
                assert set(frame[column]) <= {*canaries, ""}


def test_a_finished_audit_is_not_repeated_even_when_the_file_is_touched(audited, workplace, corpus):
    corpus.touch()
    arguments = ["-n", "--cores", "1", "--workflow-profile", "none", "--config", f"corpus={corpus}", *CONFIG]
    ended = snakemake(workplace, *arguments, "--", "audit")
    assert "Nothing to be done" in ended.stdout + ended.stderr
    # Without a target it is the same: a plan is the papers or an audit.
    whole = snakemake(workplace, *arguments)
    assert "Nothing to be done" in whole.stdout + whole.stderr


def test_reduced_plans_three_trainings_on_one_back_end(workplace, corpus):
    ended = snakemake(
        workplace, "-n", "--cores", "1", "--workflow-profile", "none", "--config", f"corpus={corpus}", "--", "audit"
    )
    counts = dict(re.findall(r"^(\w+) +(\d+)$", ended.stdout + ended.stderr, flags=re.MULTILINE))
    assert (counts["train"], counts["attack"], counts["account"], counts["audit_page"]) == ("3", "3", "2", "1")
    assert "fetch" not in counts


@pytest.mark.parametrize(
    ("content", "config", "said"),
    [
        (None, (), "no such file"),
        (b"\x89PNG\r\n\x1a\n\0\0", (), "not UTF-8 text"),
        (b"short\n", (), "too short"),
        (b"it is said: the code of abcd is 12345\n" * 900, (), "line 1 holds the canary"),
        (b"Some words of a text.\n" * 2000, ("canary='the code is {d}{d}'",), "needs words of its own"),
    ],
)
def test_a_text_that_will_not_do_is_one_line_before_anything_runs(workplace, tmp_path, content, config, said):
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    ended = snakemake(workplace, "--cores", "1", "--config", f"corpus={path}", *CONFIG, *config, "--", "audit")
    assert ended.returncode != 0
    lines = [line for line in (ended.stderr + ended.stdout).splitlines() if said in line]
    assert len(lines) == 1
    assert "Traceback" not in ended.stderr
    assert "started" not in ended.stderr


def test_an_audit_of_nothing_asks_for_a_text(workplace):
    ended = snakemake(workplace, "-n", "--cores", "1", "--workflow-profile", "none", "--config", *CONFIG, "--", "audit")
    assert ended.returncode != 0
    assert "snakemake audit --config corpus=my.txt" in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
