"""A part of the smoke scale through a real one-node SLURM: killed jobs are retried, a cancelled run resumes."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from one_node import Job, NoSlurmError, OneNode

from conftest import borrow, run

CLOSED = "http://127.0.0.1:9"
OFFLINE = {"HTTP_PROXY": CLOSED, "HTTPS_PROXY": CLOSED, "http_proxy": CLOSED, "https_proxy": CLOSED, "NO_PROXY": None}
"""No network, neither here nor in a job: every request goes to a closed port."""

FIRST, SECOND, THIRD = "fig11_extraction_threshold", "tab05_batch_units", "fig08_overtraining"


@pytest.fixture(scope="module")
def node():
    """A SLURM of one node with two CPUs; skipped, with the reason, where there can be none."""
    try:
        started = OneNode()
    except NoSlurmError as reason:
        pytest.skip(f"no SLURM here: {reason}")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def workplace(clone, built, tmp_path_factory) -> Path:
    """A fresh clone that borrows the built back ends' environments, as if built on the submitting node."""
    return borrow(clone, built, tmp_path_factory.mktemp("cluster") / "repository")


def command(figures: str, *arguments: str) -> list[str]:
    """The profile as the README has it, plus what a site without job accounting and a test in a hurry need."""
    site = ["--slurm-status-command", "squeue"]
    hurry = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"]
    config = ["--config", "scale=smoke", f"figures=[{figures}]"]
    return [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *site, *hurry, *arguments, *config]


def submit(node: OneNode, workplace: Path, figures: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**OFFLINE, **node.environment, "MEMORIZATION_DATA": None}
    return run(command(figures, *arguments), workplace, timeout=420, **environment)


def drawn(workplace: Path, figure: str) -> bool:
    return (workplace / "paper_figures" / "smoke" / "secret_sharer" / f"{figure}.png").exists()


def jobs_since(node: OneNode, before: list[Job]) -> list[Job]:
    known = {job.id for job in before}
    return [job for job in node.jobs() if job.id not in known]


def test_a_part_of_the_smoke_scale_runs_through_slurm(node, workplace):
    """Trainings and attacks as jobs of the cluster, a short training with its attacks as one; all else here."""
    ended = submit(node, workplace, FIRST)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert drawn(workplace, FIRST)
    jobs = node.jobs()
    assert {job.state for job in jobs} == {"COMPLETED"}
    trainings = list(workplace.glob("results/smoke/benchmarks/train/*.tsv"))
    attacks = list(workplace.glob("results/smoke/benchmarks/attack/*.tsv"))
    assert len(jobs) == len(trainings) > 0
    assert attacks
    assert all("cell" in job.comment for job in jobs)
    assert (workplace / "report.html").exists()


def test_no_job_of_the_cluster_uses_a_warm_interpreter(node, workplace):
    """The process that was measured is the one that imported PyTorch, not a client of one that had."""
    measured = list(workplace.glob("results/smoke/benchmarks/train/*.tsv"))
    assert measured
    for path in measured:
        with path.open() as file:
            assert float(next(csv.DictReader(file, delimiter="\t"))["max_rss"]) > 100, path


def test_a_job_that_the_scheduler_kills_is_submitted_again_with_more_memory(node, workplace):
    before = node.jobs()
    ended = submit(node, workplace, SECOND, "--set-resources", "train:mem_mb=150*attempt**3", "attack:mem_mb=150")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    killed, retried = jobs_since(node, before)
    assert killed.state in {"OUT_OF_MEMORY", "CANCELLED", "FAILED"}
    assert "memory" in slurm_logs(workplace)
    assert retried.state == "COMPLETED"
    assert (killed.memory, retried.memory) == ("150M", "1200M")
    assert drawn(workplace, SECOND)


def slurm_logs(workplace: Path) -> str:
    """What SLURM wrote for jobs that failed: the plugin removes those of jobs that did not."""
    return "".join(path.read_text(errors="replace") for path in workplace.glob(".snakemake/slurm_logs/**/*.log"))


def test_a_cancelled_run_goes_on_where_it_was(node, workplace):
    """An interrupted snakemake takes its jobs off the cluster; the same command then repeats nothing that was done."""
    before = node.jobs()
    finished = {path: path.stat().st_mtime_ns for path in workplace.glob("results/smoke/runs/**/model.npz")}
    environment = {**os.environ, **OFFLINE, **node.environment}
    environment = {name: value for name, value in environment.items() if value and name != "MEMORIZATION_DATA"}
    with (workplace / "cancelled.log").open("w") as log:
        started = subprocess.Popen(command(THIRD), cwd=workplace, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 180
        while "RUNNING" not in [job.state for job in jobs_since(node, before)] and time.monotonic() < deadline:
            assert started.poll() is None, (workplace / "cancelled.log").read_text()[-3000:]
            time.sleep(0.5)
        started.send_signal(signal.SIGINT)
        assert started.wait(timeout=120) != 0
    assert "CANCELLED" in [job.state for job in jobs_since(node, before)]
    assert not {"RUNNING", "PENDING"} & {job.state for job in jobs_since(node, before)}
    assert not drawn(workplace, THIRD)
    ended = submit(node, workplace, f"{FIRST},{THIRD}")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert drawn(workplace, THIRD)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
