"""The whole DAG for real, at smoke scale: offline on stand-ins, interrupted, published, and from the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from conftest import borrow, run, snakemake
from memorization import leaks, redaction
from memorization.expansion import known_papers, load_paper
from memorization.report import rows
from memorization.report.page import slug

FIGURES = [(paper, key) for paper in known_papers() for key in load_paper(paper).figures]
CLOSED = "http://127.0.0.1:9"
OFFLINE = {"HTTP_PROXY": CLOSED, "HTTPS_PROXY": CLOSED, "http_proxy": CLOSED, "https_proxy": CLOSED, "NO_PROXY": None}
"""No network: every request goes to a closed port."""


@pytest.fixture(scope="module")
def workplace(clone, built, tmp_path_factory) -> Path:
    """A fresh clone that borrows the built back ends' environments."""
    return borrow(clone, built, tmp_path_factory.mktemp("smoke") / "repository")


@pytest.fixture(scope="module")
def offline_run(workplace):
    """`snakemake --cores 2` at smoke scale without mirror and without network."""
    return snakemake(
        workplace, "--cores", "2", "--config", "scale=smoke", MEMORIZATION_DATA=None, **OFFLINE
    )  # fmt: skip


def test_offline_run_finishes_and_says_so(workplace, offline_run):
    assert offline_run.returncode == 0, offline_run.stdout[-4000:] + offline_run.stderr[-4000:]
    assert "STAND-IN" in offline_run.stdout
    assert "figures and tables: paper_figures/smoke/" in offline_run.stdout
    for paper, figure in FIGURES:
        for kind in ("pdf", "png"):
            drawn = workplace / "paper_figures" / "smoke" / paper / f"{figure}.{kind}"
            assert drawn.stat().st_size > 10_000, drawn
        table = pd.read_csv(workplace / "results" / "smoke" / "tables" / paper / f"{figure}.csv", low_memory=False)
        assert set(table["data_source"]) <= {"standin", "none"}


def test_no_claim_is_judged_on_a_standin(workplace, offline_run):
    claims = pd.read_csv(workplace / "results" / "smoke" / "claims.csv")
    trained = claims[claims["data_source"] != "none"]
    assert len(trained) >= 6
    assert set(trained["verdict"]) == {"not evaluated (stand-in data)"}


def test_report_is_one_page_that_holds_every_figure_and_every_claim(workplace, offline_run):
    page = (workplace / "results" / "smoke" / "report.html").read_text()
    assert all(f'id="{slug(f"figure-{paper}-{figure}")}"' in page for paper, figure in FIGURES)
    assert page.count('<img src="data:image/png;base64,') == len(FIGURES)
    claims = json.loads((workplace / "results" / "smoke" / "claims.json").read_text())
    declared = {(paper, figure, claim.id) for paper in known_papers() for figure, claim in rows.declared(paper)}
    assert {(claim["paper"], claim["figure"], claim["claim"]) for claim in claims} == declared
    assert page.count("data-verdict=") == len(claims) == len(declared)
    assert "Stand-in data." in page


def test_no_output_shows_a_number_of_the_shape_of_a_secret(workplace, offline_run):
    """Tables, records, curves, logs, figures and report; models of mail were trained, with a canary each."""
    results = workplace / "results" / "smoke"
    records = [json.loads(path.read_text()) for path in results.glob("runs/*/*/run.json")]
    assert any(r["data"]["dataset"] in redaction.mail_datasets() and r["canaries"] for r in records)
    for output in (results, workplace / "paper_figures" / "smoke"):
        assert leaks.findings(output) == []


def test_a_second_run_does_nothing(workplace, offline_run):
    ended = snakemake(
        workplace, "-n", "--cores", "2", "--workflow-profile", "none", "--config", "scale=smoke",
        MEMORIZATION_DATA=None, **OFFLINE,
    )  # fmt: skip
    assert "Nothing to be done" in ended.stdout + ended.stderr


def test_publish_then_draw_from_the_published_tables(workplace, offline_run):
    ended = snakemake(workplace, "--cores", "1", "--config", "scale=smoke", "--", "publish", MEMORIZATION_DATA=None)
    assert ended.returncode == 0, ended.stderr[-3000:]
    published = workplace / "paper_figures" / "published"
    about = json.loads((published / "published.json").read_text())
    assert about["figures"]["secret_sharer/fig08_overtraining"]["scale"] == "smoke"
    environments = about["figures"]["secret_sharer/fig08_overtraining"]["environments"]
    assert all(e["packages"]["torch"] and e["cpu"] and e["commit"] and e["date"] for e in environments)
    assert not any(str(workplace) in path.read_text() for path in published.rglob("*.csv"))
    before = pd.read_csv(published / "claims.csv")
    only = snakemake(
        workplace, "--cores", "1", "--config", "scale=smoke", "figures=fig09_search_tree", "--", "publish",
        MEMORIZATION_DATA=None,
    )  # fmt: skip
    assert only.returncode == 0, only.stderr[-3000:]
    pd.testing.assert_frame_equal(pd.read_csv(published / "claims.csv"), before)
    assert json.loads((published / "published.json").read_text())["figures"].keys() == about["figures"].keys()
    shutil.rmtree(workplace / "results")
    drawn = snakemake(workplace, "--cores", "2", "--config", "tables=published", MEMORIZATION_DATA=None)
    assert drawn.returncode == 0, drawn.stderr[-3000:]
    assert all((published / paper / f"{figure}.pdf").exists() for paper, figure in FIGURES)
    assert not (workplace / "results" / "published" / "runs").exists()


@pytest.mark.skipif("MEMORIZATION_DATA" not in os.environ, reason="no local data mirror (MEMORIZATION_DATA)")
def test_real_data_from_a_mirror_is_used_and_recorded(workplace, torch_environment):
    ended = snakemake(workplace, "--cores", "2", "--config", "scale=smoke", "figures=fig08_overtraining", **OFFLINE)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert "STAND-IN" not in ended.stdout
    table = pd.read_csv(workplace / "results" / "smoke" / "tables" / "secret_sharer" / "fig08_overtraining.csv")
    assert set(table["data_source"]) == {"mirror"}
    claims = pd.read_csv(workplace / "results" / "smoke" / "claims.csv")
    assert set(claims["verdict"]) == {"not testable at this scale"}
    assert os.environ["MEMORIZATION_DATA"] not in (workplace / "results/smoke/data/ptb/provenance.json").read_text()


def test_a_truncated_mirror_stops_the_run_before_training(clone, built, tmp_path):
    (tmp_path / "mirror" / "ptb").mkdir(parents=True)
    for part in ("train", "valid", "test"):
        (tmp_path / "mirror" / "ptb" / f"ptb.{part}.txt").write_text(" cut off in the mid")
    workplace = borrow(clone, built, tmp_path / "repository")
    ended = snakemake(
        workplace, "--cores", "1", "--config", "scale=smoke", "figures=fig08_overtraining",
        MEMORIZATION_DATA=str(tmp_path / "mirror"), **OFFLINE,
    )  # fmt: skip
    assert ended.returncode != 0
    assert "ptb.train.txt" in ended.stdout + ended.stderr
    assert "truncated" in ended.stdout + ended.stderr
    assert not list(workplace.glob("results/smoke/runs/**/model.npz"))


def test_a_failed_cell_is_explained_and_does_not_stop_the_rest(clone, built, tmp_path):
    workplace = borrow(clone, built, tmp_path / "repository")
    figures = workplace / "workflow" / "papers" / "secret_sharer" / "figures.yaml"
    content = yaml.safe_load(figures.read_text())
    content["figures"]["fig08_overtraining"]["base"]["canary"] = {"format": "Ünlikely {d}{d}"}
    figures.write_text(yaml.safe_dump(content))
    ended = snakemake(
        workplace, "--cores", "1", "--config", "scale=smoke", "figures=[fig08_overtraining,fig09_search_tree]",
        MEMORIZATION_DATA=None, **OFFLINE,
    )  # fmt: skip
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert "error: canary format 'Ünlikely {d}{d}'" in said
    assert "characters outside the vocabulary" in said
    assert (workplace / "paper_figures" / "smoke" / "secret_sharer" / "fig09_search_tree.png").exists()
    assert "Run the same command again to go on" in said


def command(python: Path, folder: Path, *arguments: str, **environment: str | None) -> subprocess.CompletedProcess:
    """`python -m memorization …` in the back end's environment."""
    environment = {
        "PYTHONPATH": "workflow",
        "OMP_NUM_THREADS": "1",
        "MEMORIZATION_DATA": None,
        **OFFLINE,
        **environment,
    }
    return run([str(python), "-m", "memorization", *arguments], folder, **environment)


SPEC = {
    "corpus": {"fraction": 0.02, "evaluation_characters": 1000},
    "model": {"units": 24, "embedding": 8},
    "training": {"epochs": 30.0, "batch_size": 4, "learning_rate": 0.01},
    "replicates": 2,
}


@pytest.fixture(scope="module")
def finished(workplace, torch_environment, tmp_path_factory):
    """A small run trained by hand: (folder, arguments that trained it)."""
    folder = tmp_path_factory.mktemp("by_hand")
    (folder / "spec.json").write_text(json.dumps(SPEC))
    got = run(
        [sys.executable, "-m", "memorization", "fetch", "--dataset", "ptb", "--to", str(folder / "data")],
        workplace, PYTHONPATH="workflow", MEMORIZATION_DATA=None, **OFFLINE,
    )  # fmt: skip
    assert got.returncode == 0, got.stderr
    arguments = ["train", "--spec", str(folder / "spec.json"), "--data", str(folder / "data"), "--run"]
    ended = command(torch_environment, workplace, *arguments, str(folder / "run"))
    assert ended.returncode == 0, ended.stderr
    return folder / "run", arguments


def test_a_killed_training_resumes_to_the_same_weights(workplace, torch_environment, finished, tmp_path):
    import numpy as np

    whole, arguments = finished
    environment = {**os.environ, "PYTHONPATH": "workflow", "OMP_NUM_THREADS": "1"}
    # The same command, told to write a checkpoint after every epoch rather than once a minute.
    eager = (
        "import sys, memorization.backends.training as training, memorization.__main__ as cli;"
        " training.CHECKPOINT_S = 0.0; sys.exit(cli.main(sys.argv[1:]))"
    )
    started = subprocess.Popen(
        [str(torch_environment), "-c", eager, *arguments, str(tmp_path)],
        cwd=workplace,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("checkpoint*")) and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert not (tmp_path / "model.npz").exists(), "killed too late to test anything"
    assert list(tmp_path.glob("checkpoint*"))
    ended = command(torch_environment, workplace, *arguments, str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    with np.load(whole / "model.npz") as want, np.load(tmp_path / "model.npz") as got:
        for name in want.files:
            np.testing.assert_array_equal(want[name], got[name])
    assert not list(tmp_path.glob("checkpoint*"))


def test_exposure_extract_and_score_by_hand(workplace, torch_environment, finished, tmp_path):
    run_dir = str(finished[0])
    canary = json.loads((finished[0] / "run.json").read_text())["canaries"][1]["text"]
    asked = command(
        torch_environment, workplace, "exposure", "--run", run_dir, "--replicate", "1", "--canary", canary,
        "--references", "500", "--max-steps", "20000", "--json",
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    shown = json.loads(asked.stdout)
    assert shown["inserted"] is True
    methods = {row["method"]: row for row in shown["results"]}
    assert {"importance", "sampled", "skew_normal"} <= methods.keys()
    assert 0 <= methods["sampled"]["exposure_bits"] <= shown["space_bits"]

    small = ["--format", "the random number is {d}{d}"]
    found = command(torch_environment, workplace, "extract", "--run", run_dir, *small, "--top", "100", "--json")
    listed = json.loads(found.stdout)
    assert listed["provable"] is True
    assert [row["position"] for row in listed["fills"]] == list(range(1, 101))
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"the random number is {row['fill']}\n" for row in listed["fills"]))
    scored = command(torch_environment, workplace, "score", "--run", run_dir, "--file", str(lines), "--json")
    bits = [row["log_perplexity_bits"] for row in json.loads(scored.stdout)["lines"]]
    prefix = bits[0] - listed["fills"][0]["cost_bits"]
    assert bits == sorted(bits)
    assert [row["cost_bits"] + prefix for row in listed["fills"]] == pytest.approx(bits, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["exposure", "--canary", "the random number is 12"], "does not fill the format"),
        (["exposure", "--canary", "THE 1", "--format", "THE {d}"], "characters outside the vocabulary"),
        (["extract", "--replicate", "9"], "has replicates 0 to 1"),
        (["extract", "--format", "no hole"], "needs one or more holes"),
        (["score", "--file", "nowhere.txt"], "nowhere.txt"),
    ],
)
def test_bad_questions_get_one_line(workplace, torch_environment, finished, arguments, said):
    ended = command(torch_environment, workplace, *arguments, "--run", str(finished[0]))
    assert ended.returncode != 0
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len([line for line in ended.stderr.splitlines() if line.startswith("error:")]) == 1


def test_a_canary_outside_the_vocabulary_is_refused_before_training(workplace, torch_environment, finished, tmp_path):
    spec = {**SPEC, "canary": {"format": "The Random Number Is {d}€"}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    data = finished[1][4]
    ended = command(
        torch_environment, workplace, "train", "--spec", str(tmp_path / "spec.json"), "--data", data,
        "--run", str(tmp_path / "run"),
    )  # fmt: skip
    assert ended.returncode == 1
    assert "characters outside the vocabulary" in ended.stderr
    assert not (tmp_path / "run" / "model.npz").exists()
