"""Warm interpreters: the same job, forked; what happens when a server, a client or a job dies."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memorization import warm

PACKAGE = Path(warm.__file__).parents[1]

JOBS = """
import os, signal, sys, time

PREPARED = os.getpid()

def tell(path, status=0):
    print("to standard output")
    print("to standard error", file=sys.stderr)
    with open(path, "w") as file:
        file.write(f"{os.getpid() == PREPARED} {os.getcwd()} {os.environ.get('MARK')}")
    return status

def fail():
    raise RuntimeError("this job fails")

def leave():
    sys.exit(3)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def complain():
    from memorization.errors import UserError
    raise UserError("mend this")

def wait(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(60)
"""


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """A folder with module `jobs`, where sockets and clients are."""
    (tmp_path / "jobs.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", f"{PACKAGE}:{tmp_path}")
    monkeypatch.delenv(warm.FOLDER, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(jobs, monkeypatch):
    folder = jobs / "sockets"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "memorization.warm", folder, "jobs", "no_such"], stdin=subprocess.PIPE
    )
    monkeypatch.setenv(warm.FOLDER, str(folder))
    until(warm.socket_path(folder, sys.prefix).exists)
    yield process
    process.stdin.close()
    assert process.wait(10) == 0
    assert not folder.exists()


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def client(target, **arguments):
    """A process that calls `target`."""
    code = f"import sys; from memorization import warm; sys.exit(warm.call({target!r}, {arguments!r}))"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


@pytest.mark.parametrize("status", [0, 5])
def test_a_job_runs_in_a_fork_as_its_client_would_have(server, jobs, monkeypatch, status):
    monkeypatch.setenv("MARK", "client's")
    process = client("jobs:tell", path="told", status=status)
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, out, errors) == (status, "to standard output\n", "to standard error\n")
    assert (jobs / "told").read_text() == f"False {jobs} client's"


def test_without_a_server_the_client_does_it(jobs):
    process = client("jobs:tell", path="told")
    assert process.wait(20) == 0
    assert (jobs / "told").read_text().startswith("True")


def test_with_a_server_that_went_away_the_client_does_it(jobs, monkeypatch):
    monkeypatch.setenv(warm.FOLDER, str(jobs / "nowhere"))
    process = client("jobs:tell", path="told")
    assert process.wait(20) == 0
    assert (jobs / "told").read_text().startswith("True")


@pytest.mark.parametrize(("target", "status"), [("jobs:fail", 1), ("jobs:leave", 3), ("jobs:die", 128 + 9)])
def test_how_a_job_ends_is_how_its_client_ends(server, target, status):
    process = client(target)
    errors = process.communicate(timeout=20)[1]
    assert process.returncode == status
    assert ("this job fails" in errors) == (target == "jobs:fail")
    assert ("error: this job was killed (SIGKILL)" in errors) == (target == "jobs:die")


@pytest.mark.parametrize("warmed", [True, False])
def test_what_a_user_can_mend_is_one_line(request, jobs, warmed):
    if warmed:
        request.getfixturevalue("server")
    process = client("jobs:complain")
    errors = process.communicate(timeout=20)[1]
    assert process.returncode == 1
    assert errors == "error: mend this\n"


def test_a_job_ends_with_its_client(server, jobs):
    process = client("jobs:wait", path="pid")
    until((jobs / "pid").exists)
    until(lambda: (jobs / "pid").read_text())
    process.kill()
    until(lambda: gone(int((jobs / "pid").read_text())))
    process.wait(10)


def test_jobs_run_side_by_side(server, jobs):
    waiting = [client("jobs:wait", path=f"pid{i}") for i in range(3)]
    for i, process in enumerate(waiting):
        until((jobs / f"pid{i}").exists)
        process.kill()
        process.wait(10)


def test_a_large_request_arrives_whole(server, jobs):
    process = client("jobs:tell", path="told", status=len(json.dumps("x" * 10)))
    assert process.wait(20) == 12
    long = subprocess.Popen(
        [sys.executable, "-c", "from memorization import warm; warm.call('jobs:tell', {'path': 'x' * 1000000})"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "File name too long" in long.communicate(timeout=20)[1]


def test_a_process_with_threads_serves_nobody(jobs, monkeypatch):
    (jobs / "threads.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()"
    )
    process = subprocess.Popen([sys.executable, "-m", "memorization.warm", jobs, "threads"], stdin=subprocess.PIPE)
    assert process.wait(10) == 0
    assert not warm.socket_path(jobs, sys.prefix).exists()
