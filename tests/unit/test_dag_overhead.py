"""Where a finished run's time went, from invented records of Snakemake."""

import base64
import json
import os
from datetime import datetime

import dag_overhead
import pytest

from memorization.errors import UserError

START = datetime(2026, 1, 1, 12, 0, 0).timestamp()
JOBS = (
    ("train", "torch-aaaaaaaaaaaa", 10, 40, ("model.npz", "run.json")),
    ("train", "torch-bbbbbbbbbbbb", 20, 60, ("model.npz",)),
    ("attack", "torch-aaaaaaaaaaaa-cccccccccccc", 60, 65, ("exposure.csv",)),
    ("figure", "paper-fig", 70, 80, ("fig.png",)),
)


@pytest.fixture
def results(tmp_path):
    """A folder results/smoke of one invocation of 100 s on 2 cores; a record of another scale beside it."""
    metadata, log = tmp_path / ".snakemake" / "metadata", tmp_path / ".snakemake" / "log"
    metadata.mkdir(parents=True)
    log.mkdir()
    for rule, job, began, ended, outputs in (*JOBS, ("train", "torch-other", 0, 99, ("model.npz",))):
        scale = "paper" if job == "torch-other" else "smoke"
        for output in outputs:
            name = f"results/{scale}/runs/{job}/{output}"
            record = {"rule": rule, "log": [f"results/{scale}/logs/{rule}/{job}.log"],
                      "starttime": START + began, "endtime": START + ended}  # fmt: skip
            (metadata / base64.b64encode(name.encode()).decode()).write_text(json.dumps(record))
    path = log / "2026-01-01T120000.123456.snakemake.log"
    path.write_text("Provided cores: 2\n")
    os.utime(path, (START + 100, START + 100))
    folder = tmp_path / "results" / "smoke"
    folder.mkdir(parents=True)
    return folder


def test_jobs_are_read_once_each_and_only_of_this_scale(results):
    frame = dag_overhead.jobs(results)
    spent = {(r.rule, r.job): round(r.ended - r.began) for r in frame.itertuples()}
    assert spent == {(rule, job): ended - began for rule, job, began, ended, _ in JOBS}


def test_shares_of_slots_and_of_wall_time(results):
    _, seen = dag_overhead.finished(results)
    assert (seen.cores, seen.invocations, round(seen.wall_s)) == (2, 1, 100)
    assert seen.work_s == pytest.approx(75)  # 30 + 40 + 5
    assert seen.outside == pytest.approx(1 - 75 / 200)
    assert seen.idle == pytest.approx(1 - 85 / 200)
    assert seen.beside_s == pytest.approx(45)  # all but 10 to 65: the two trainings overlap
    assert "62.5% outside them (idle 57.5%, other rules 5.0%)" in dag_overhead.told(seen)


def test_rows_for_the_table_add_up(results):
    rows = dag_overhead.lines(dag_overhead.finished(results)[1], "smoke")
    seconds = {row["way"]: row["seconds"][0] for row in rows}
    assert seconds == pytest.approx(
        {"all slots": 200, "trainings, attacks, scores": 75, "other rules": 10, "no job": 115}
    )


def test_wall_time_and_cores_may_be_told(results):
    _, seen = dag_overhead.finished(results, wall_s=150, cores=1)
    assert (seen.wall_s, seen.cores, seen.invocations) == (150, 1, 0)
    with pytest.raises(UserError, match="60 s on 1 cores are less than the jobs' 85 s"):
        dag_overhead.finished(results, wall_s=60, cores=1)


def test_rules_are_summed(results):
    table = dag_overhead.by_rule(dag_overhead.jobs(results)).set_index("rule")
    assert list(table.index) == ["train", "figure", "attack"]
    assert table.loc["train", ["jobs", "seconds", "longest_s"]].tolist() == pytest.approx([2, 70, 40])


def test_a_folder_without_records_is_one_clear_line(tmp_path):
    (tmp_path / "results" / "smoke").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no jobs in .*name a folder results/<scale> of a run"):
        dag_overhead.jobs(tmp_path / "results" / "smoke")
