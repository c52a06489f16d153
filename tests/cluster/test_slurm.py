"""The smoke scale through a real one-node SLURM: killed jobs are retried, a cancelled run goes on, all of it ends.

One story in this order, in one folder: each test goes on where the one before it stopped.
"""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from one_node import Job, NoSlurmError, OneNode

from conftest import borrow, missing, run
from memorization.expansion import known_papers, load_paper

CLOSED = "http://127.0.0.1:9"
OFFLINE = {"HTTP_PROXY": CLOSED, "HTTPS_PROXY": CLOSED, "http_proxy": CLOSED, "https_proxy": CLOSED, "NO_PROXY": None}
"""No network, neither here nor in a job: every request goes to a closed port."""

SMALL = "tab05_batch_units"
"""A figure with few jobs."""

ALL = [(paper, key) for paper in known_papers() for key in load_paper(paper).figures]


@pytest.fixture(scope="module")
def node():
    """A SLURM of one node with two CPUs; skipped, with the reason, where there can be none."""
    try:
        started = OneNode()
    except NoSlurmError as reason:
        missing("SLURM", str(reason))
    yield started
    started.stop()


@pytest.fixture(scope="module")
def workplace(clone, built, tmp_path_factory) -> Path:
    """A fresh clone that borrows the built back ends' environments, as if built on the submitting node."""
    return borrow(clone, built, tmp_path_factory.mktemp("cluster") / "repository")


def command(figures: str | None, *arguments: str) -> list[str]:
    """The profile as the README has it, plus what a site without job accounting and a test in a hurry need."""
    site = ["--slurm-status-command", "squeue"]
    hurry = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"]
    config = ["--config", "scale=smoke", *([f"figures={figures}"] if figures else [])]
    return [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *site, *hurry, *arguments, *config]


@pytest.fixture(scope="module")
def variables(node) -> dict[str, str | None]:
    """What differs from this shell's variables on the submitting node: offline, on stand-ins; None unsets."""
    return {**OFFLINE, **node.environment, "MEMORIZATION_DATA": None}


def submit(workplace: Path, variables: dict[str, str | None], figures: str | None, *arguments: str, timeout=420):
    return run(command(figures, *arguments), workplace, timeout=timeout, **variables)


def drawn(workplace: Path) -> set[tuple[str, str]]:
    return {(path.parent.name, path.stem) for path in (workplace / "paper_figures" / "smoke").glob("*/*.png")}


def trained(workplace: Path) -> dict[Path, int]:
    """Models and when they were written."""
    return {path: path.stat().st_mtime_ns for path in workplace.glob("results/smoke/runs/**/model.npz")}


def jobs_since(node: OneNode, before: list[Job]) -> list[Job]:
    known = {job.id for job in before}
    return [job for job in node.jobs() if job.id not in known]


def slurm_logs(workplace: Path) -> str:
    """What SLURM wrote for jobs that failed: the plugin removes those of jobs that did not."""
    return "".join(path.read_text(errors="replace") for path in workplace.glob(".snakemake/slurm_logs/**/*.log"))


def test_a_job_that_the_scheduler_kills_is_submitted_again_with_more_memory(node, workplace, variables):
    grows = ["--set-resources", "train:mem_mb=150*attempt**3", "attack:mem_mb=150"]
    ended = submit(workplace, variables, SMALL, *grows)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    killed, retried = node.jobs()
    assert killed.state in {"OUT_OF_MEMORY", "CANCELLED", "FAILED"}
    assert "exceeded memory limit" in slurm_logs(workplace)
    assert retried.state == "COMPLETED"
    assert (killed.memory, retried.memory) == ("150M", "1200M")
    assert drawn(workplace) == {("secret_sharer", SMALL)}


def test_an_interrupted_run_takes_its_jobs_off_the_cluster(node, workplace, variables):
    before = node.jobs()
    shell = {name: value for name, value in {**os.environ, **variables}.items() if value is not None}
    with (workplace / "interrupted.log").open("w") as log:
        started = subprocess.Popen(command(None), cwd=workplace, env=shell, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 300
            # Something has ended, something is running, something waits.
            while not {"COMPLETED", "RUNNING", "PENDING"} <= {job.state for job in jobs_since(node, before)}:
                assert started.poll() is None, (workplace / "interrupted.log").read_text()[-3000:]
                assert time.monotonic() < deadline, node.jobs()
                time.sleep(0.5)
            started.send_signal(signal.SIGINT)
            assert started.wait(timeout=180) != 0
        finally:
            started.kill()
    ended = jobs_since(node, before)
    assert "CANCELLED" in [job.state for job in ended]
    assert not {"RUNNING", "PENDING"} & {job.state for job in ended}
    assert drawn(workplace) < set(ALL)


def test_the_same_command_then_runs_the_whole_smoke_scale(node, workplace, variables, capsys):
    """Trainings, attacks and scores as jobs of the cluster, all else here; nothing that had ended is repeated."""
    before, finished = node.jobs(), trained(workplace)
    assert finished
    ended = submit(workplace, variables, None, timeout=3000)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    jobs = jobs_since(node, before)
    assert {job.state for job in jobs} == {"COMPLETED"}
    assert all("cell" in job.comment for job in jobs)
    after = trained(workplace)
    assert {path: after[path] for path in finished} == finished
    assert len(after) - len(finished) <= len(jobs) <= len(after)
    assert drawn(workplace) == set(ALL)
    assert (workplace / "results" / "smoke" / "report.html").exists()
    with capsys.disabled():
        lines = [line for line in (ended.stdout + ended.stderr).splitlines() if "jobs done" in line]
        print(
            f"\nSLURM: {len(jobs)} jobs COMPLETED after {len(before)} before, {len(after)} models, {len(ALL)} figures"
        )
        print(*lines[-2:], sep="\n")


def test_no_job_of_the_cluster_uses_a_warm_interpreter(workplace):
    """The process that was measured is the one that imported PyTorch, not a client of one that had."""
    measured = list(workplace.glob("results/smoke/benchmarks/train/*.tsv"))
    assert len(measured) == len(trained(workplace))
    for path in measured:
        with path.open() as file:
            assert float(next(csv.DictReader(file, delimiter="\t"))["max_rss"]) > 100, path
