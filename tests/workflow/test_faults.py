"""What goes wrong on real machines: killed, no space, read-only, two at once, no network, damaged checkpoint. Each time
nothing that was finished is lost, one line says what to do, and the same command goes on.

Two trainings of one figure at smoke scale, on stand-in data.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from conftest import borrow, run, snakemake

FIGURE = "fig10_search_cost"
CLOSED = "http://127.0.0.1:9"
OFFLINE = {"HTTP_PROXY": CLOSED, "HTTPS_PROXY": CLOSED, "http_proxy": CLOSED, "https_proxy": CLOSED, "NO_PROXY": None}
OFFLINE |= {"MEMORIZATION_DATA": None}
WANTED = ("--cores", "1", "--rerun-incomplete", "--config", "scale=smoke", f"figures={FIGURE}")
RESULTS = Path("results") / "smoke"
DRAWN = Path("paper_figures") / "smoke" / "secret_sharer" / f"{FIGURE}.png"
STARTED = re.compile(r"started   Training run (\w{12})")
FINISHED = re.compile(r"finished  Training run (\w{12})")


@pytest.fixture
def place(clone, built, tmp_path) -> Path:
    """A fresh clone that borrows the built environments."""
    return borrow(clone, built, tmp_path / "repository")


def go_on(place: Path, *more: str) -> str:
    """Run to the end; what was said. Fails unless the figure is drawn from complete files."""
    ended = snakemake(place, *WANTED, *more, **OFFLINE)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said[-4000:]
    assert (place / DRAWN).stat().st_size > 10_000
    assert not list(place.glob("results/smoke/runs/*/*/checkpoint*"))
    return said


def models(place: Path) -> dict[str, int]:
    """Run id -> when its model was written (ns)."""
    found = (place / RESULTS / "runs" / "torch").glob("*/model.npz")
    return {path.parent.name: path.stat().st_mtime_ns for path in found}


def told(said: str) -> list[str]:
    """The lines of ours that explain."""
    return sorted({line.strip() for line in said.splitlines() if line.strip().startswith(("error: ", "results/"))})


@contextmanager
def running(place: Path, *more: str):
    """Snakemake in the background, in a process group of its own, which does not outlive the block."""
    variables = {k: v for k, v in {**os.environ, **OFFLINE}.items() if v is not None}
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *WANTED, *more], cwd=place, env=variables, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.stderr.close()
        process.wait()


def wait_for(process: subprocess.Popen, *patterns: re.Pattern) -> list[str]:
    """Read what the process says until each pattern was met, in that order; the first group of each."""
    met = []
    for line in process.stderr:
        if found := patterns[len(met)].search(line):
            met.append(found.group(1))
            if len(met) == len(patterns):
                return met
    raise AssertionError(f"ended after {met}")


def test_killed_between_two_trainings_the_first_is_kept(place):
    """As when a machine goes down: Snakemake and all it started are gone at once, in the middle of a training."""
    with running(place) as process:
        first, done, second = wait_for(process, STARTED, FINISHED, STARTED)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert first == done != second
    before = models(place)
    assert first in before
    refused = snakemake(place, *WANTED, **OFFLINE)
    assert refused.returncode != 0
    assert "--unlock" in refused.stdout + refused.stderr
    (place / RESULTS / "runs" / "torch" / second).mkdir(exist_ok=True)
    (place / RESULTS / "runs" / "torch" / second / "checkpoint.pkl").write_bytes(b"half of a checkpoint")
    unlocked = snakemake(place, "--unlock", "--config", "scale=smoke", f"figures={FIGURE}", **OFFLINE)
    assert unlocked.returncode == 0, unlocked.stderr
    said = go_on(place)
    assert STARTED.findall(said) == [second]
    assert models(place)[first] == before[first]
    log = (place / RESULTS / "logs" / "train" / f"torch-{second}.log").read_text()
    assert "checkpoint.pkl is damaged: training starts again" in log


def own_process(place: Path, words: tuple[str, ...]) -> int | None:
    """A process whose command line holds all of `words` and that runs in `place`."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if Path(os.readlink(folder / "cwd")) == place and all(word.encode() in command for word in words):
                return int(folder.name)
        except OSError:  # it has ended, or is somebody else's
            continue
    return None


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="finding the training's process needs /proc")
@pytest.mark.parametrize("warm", ["true", "false"])
def test_a_killed_training_is_one_failed_job(place, warm):
    """As by the kernel when memory runs out: the other training goes on, and only the killed one is done again."""
    wanted = ("-m", "memorization", "train") if warm == "false" else ("-m", "memorization.warm", "memorization.audit")
    with running(place, f"warm={warm}") as process:
        (first,) = wait_for(process, STARTED)
        deadline, victim = time.monotonic() + 60, None
        while victim is None and time.monotonic() < deadline:
            time.sleep(0.02)
            victim = own_process(place, wanted) if warm == "false" else worker(place, wanted)
        assert victim, "the training's process was not found"
        os.kill(victim, signal.SIGKILL)
        said = process.stderr.read()
        assert process.wait() != 0
    assert "Some jobs failed; all that finished is kept" in said or "1 failed" in said
    if warm == "true":
        assert "this job was killed (SIGKILL)" in said
    kept = models(place)
    assert first not in kept
    assert len(kept) == 1
    assert STARTED.findall(go_on(place)) == [first]
    assert kept.items() <= models(place).items()


def worker(place: Path, words: tuple[str, ...]) -> int | None:
    """The fork that does a warm server's job: the child of a child of the server."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            if all(word.encode() in command for word in words) and Path(os.readlink(folder / "cwd")) == place:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return next((pid for pid, parent in parents.items() if parents.get(parent) in parents), None)


def test_a_second_snakemake_is_refused_and_the_first_not_disturbed(place):
    with running(place) as process:
        wait_for(process, STARTED)
        second = snakemake(place, *WANTED, **OFFLINE)
        said = process.stderr.read()
        assert process.wait() == 0, said[-3000:]
    assert second.returncode != 0
    assert "cannot be locked" in second.stdout + second.stderr
    assert len(models(place)) == 2
    assert (place / DRAWN).exists()


@contextmanager
def mounted(*options: str, at: Path):
    """A mount for the length of the block; skips the test where there is no right to mount."""
    at.mkdir(parents=True, exist_ok=True)
    try:
        done = run(["mount", *options, str(at)], at.parent)
    except FileNotFoundError:
        pytest.skip("no mount command: a full or read-only file system cannot be made here")
    if done.returncode:
        pytest.skip(f"a full or read-only file system cannot be made here: {done.stderr.strip()}")
    try:
        yield
    finally:
        run(["umount", "-l", str(at)], at.parent)


def test_a_full_disk_is_one_line_and_costs_what_did_not_fit(place):
    with mounted("-t", "tmpfs", "-o", "size=48k", "none", at=place / RESULTS / "runs"):
        ended = snakemake(place, *WANTED, **OFFLINE)
        said = ended.stdout + ended.stderr
        assert ended.returncode != 0
        assert re.search(r"error: \S*model\.npz: the disk is full or its quota used up: free some space", said), said[
            -4000:
        ]
        assert "Traceback" not in said
    assert (place / RESULTS / "data" / "ptb" / "provenance.json").exists()
    assert len(STARTED.findall(go_on(place))) == 2


def test_a_file_size_limit_is_one_line(place, torch_environment, tmp_path):
    """`ulimit -f`, which needs no rights; by hand, where no other file is too large."""
    spec = {"corpus": {"fraction": 0.02}, "model": {"units": 32, "embedding": 16}, "replicates": 2}
    (tmp_path / "spec.json").write_text(json.dumps({**spec, "training": {"epochs": 0.2, "batch_size": 8}}))
    got = run(
        [sys.executable, "-m", "memorization", "fetch", "--dataset", "ptb", "--to", str(tmp_path / "data")],
        place, PYTHONPATH="workflow", **OFFLINE,
    )  # fmt: skip
    assert got.returncode == 0, got.stderr
    command = [str(torch_environment), "-m", "memorization", "train", "--spec", str(tmp_path / "spec.json")]
    command += ["--data", str(tmp_path / "data"), "--run", str(tmp_path / "run")]
    ended = subprocess.run(
        command, cwd=place, env={**os.environ, "PYTHONPATH": "workflow", "OMP_NUM_THREADS": "1"}, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)), capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 1
    assert re.search(r"error: \S*model\.npz: larger than files may be here: raise `ulimit -f`", ended.stderr)
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "run" / "model.npz").exists()


@contextmanager
def read_only(folder: Path):
    """`folder` as on a file system that may only be read; root can only be kept out by a mount."""
    if os.geteuid():
        inside = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        modes = {path: path.stat().st_mode for path in inside}
        for path in inside:
            path.chmod(0o555)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    with mounted("--bind", str(folder), at=folder):
        done = run(["mount", "-o", "remount,ro,bind", str(folder)], folder.parent)
        if done.returncode:
            pytest.skip(f"a read-only file system cannot be made here: {done.stderr.strip()}")
        yield


def refused(place: Path) -> str:
    """What is said where the results may only be read; fails if anything was run."""
    with read_only(place / "results"):
        ended = snakemake(place, *WANTED, **OFFLINE)
        said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    assert "Traceback" not in said
    assert not STARTED.findall(said)
    return said


def test_read_only_results_are_refused_before_anything_is_run(place):
    """In our words, or in Snakemake's where a file that it would write again is there already."""
    (place / "results").mkdir()
    said = refused(place)
    assert re.search(r"results/smoke: may not be written \(.+\): make the folder writable", said), said[-3000:]
    go_on(place)
    before = models(place)
    (place / DRAWN).unlink()
    assert "Write-protected output files" in refused(place)
    assert not STARTED.findall(go_on(place))
    assert models(place) == before


def test_no_network_and_no_standin_wanted_is_one_line_and_a_later_run_goes_on(place):
    ended = snakemake(place, *WANTED, "data={on_missing: error}", **OFFLINE)
    said = ended.stdout + ended.stderr
    assert ended.returncode != 0
    lines = [line for line in told(said) if "ptb" in line]
    assert len(lines) == 1, said[-3000:]
    assert "MEMORIZATION_DATA" in lines[0]
    assert not STARTED.findall(said)
    assert "Traceback" not in said
    assert len(STARTED.findall(go_on(place))) == 2
