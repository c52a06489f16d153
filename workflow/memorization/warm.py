"""Warm interpreters: processes that have paid for their imports and fork for every job.

Importing PyTorch and SciPy takes seconds of every job, and a scale has hundreds of jobs. Where jobs run on the machine
of the driver itself, it starts one server per environment (rule-independent: Snakefile, onstart); a job's command then
asks the server to do it in a fork and waits. Without a server, on another machine, or when the server has gone, the job
imports what it needs itself and does the same thing.

A server dies with its driver (its standard input closes), a job's fork with the job. A process with threads must not be
forked; PyTorch and TensorFlow start theirs with the first computation, and a server only imports. Where an import did
start one, there is no server.
"""

import gc
import hashlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from memorization.errors import UserError

FOLDER = "MEMORIZATION_WARM"
"""Environment variable: where the servers' sockets are."""

ACCEPTED = b"+"
LENGTH = 8
"""Bytes of a request's length, sent before it."""

PRELOAD = {
    "torch": (
        "audit",
        "attack",
        "oddness",
        "scoring",
        "image_scoring",
        "backends.torch",
        "backends.torch.private_group",
    ),
    "tf": ("attack", "audit", "backends.tf", "image_scoring", "oddness", "scoring"),
    "driver": ("accounting_cli", "claims", "drawing", "tables"),
}
"""Server -> modules of this package that it imports."""


SERVERS: list[subprocess.Popen] = []
"""Started by this process. Each ends when its standard input does, at the latest with this process."""


def socket_path(folder: Path, prefix: str) -> Path:
    """Where the server of the environment at `prefix` (sys.prefix) listens."""
    return Path(folder) / f"{hashlib.sha256(prefix.encode()).hexdigest()[:12]}.sock"


def start(pythons: dict[str, str]) -> None:
    """Start a server for every entry of `pythons`, server (a key of PRELOAD) -> interpreter, and tell later processes.

    They live until this process ends.
    """
    folder = tempfile.mkdtemp(prefix="memorization-")
    for name, python in pythons.items():
        command = [python, "-m", "memorization.warm", folder, *(f"memorization.{module}" for module in PRELOAD[name])]
        package = str(Path(__file__).parents[1])
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": package}
        SERVERS.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment))
    os.environ[FOLDER] = folder


def call(target: str, arguments: dict[str, Any], stderr: int = 2) -> int:
    """Exit status of `target`, a "module:function", called with keyword `arguments`: in a fork of this environment's
    server if there is one, else here.

    arguments: plain JSON values. The function returns None or an exit status. stderr: the fork's standard error.
    """
    status = _ask(target, arguments, stderr)
    return _do(target, arguments) if status is None else status


def _do(target: str, arguments: dict[str, Any]) -> int:
    module, _, function = target.partition(":")
    try:
        return getattr(importlib.import_module(module), function)(**arguments) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _ask(target: str, arguments: dict[str, Any], stderr: int) -> int | None:
    """The server's answer, or None without a server."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return None
    request = {"target": target, "arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    content = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(socket_path(Path(folder), sys.prefix)))
            socket.send_fds(connection, [len(content).to_bytes(LENGTH, "big")], [1, stderr])
            connection.sendall(content)
            if connection.recv(1) != ACCEPTED:
                return None
        except OSError:  # no server, or one that ended before it began
            return None
        answer = connection.recv(16)
    if not answer:
        print("the warm interpreter of this job was killed", file=sys.stderr)
        return 1
    return int(answer)


def serve(folder: Path, modules: Iterable[str]) -> None:
    """Import `modules`, then fork for every request until standard input ends. Jobs asked for meanwhile wait."""
    path = socket_path(folder, sys.prefix)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(512)
        for module in modules:
            with suppress(ImportError):  # an optional part: who needs it will say so
                importlib.import_module(module)
        if _has_threads():
            path.unlink()
            return
        gc.collect()
        gc.freeze()  # what is imported stays shared between forks
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides; its end is the server's
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _in_fork(_supervise, connection)
            connection.close()
    path.unlink(missing_ok=True)
    with suppress(OSError):  # another server is still there
        folder.rmdir()


def _has_threads() -> bool:
    tasks = Path("/proc/self/task")
    return (len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()) > 1


def _supervise(connection: socket.socket) -> int:
    """Do what is asked in another fork; end it when its client goes, tell the client when it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    header, (stdout, stderr), _, _ = socket.recv_fds(connection, LENGTH, 2)
    content = b""
    while len(content) < int.from_bytes(header, "big"):
        part = connection.recv(1 << 20)
        if not part:
            return 1
        content += part
    connection.sendall(ACCEPTED)
    ended, alive = os.pipe()
    worker = os.fork()
    if worker == 0:
        connection.close()
        _in_fork(_work, json.loads(content), stdout, stderr)
    os.close(alive)  # now only the worker holds it
    if ended not in select.select([connection, ended], [], [])[0]:
        os.kill(worker, signal.SIGTERM)
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    if code == -signal.SIGKILL:  # it could not say so itself
        with suppress(OSError):
            os.write(
                stderr,
                b"error: this job was killed (SIGKILL), perhaps for want of memory: run the same command again\n",
            )
    with suppress(OSError):
        connection.sendall(str(code if code >= 0 else 128 - code).encode())
    return 0


def _work(request: dict[str, Any], stdout: int, stderr: int) -> int:
    """The job itself, with its client's folder, environment and streams."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    return _do(request["target"], request["arguments"])


def _in_fork(function: Callable[..., int], *arguments: Any) -> None:
    """Run `function` and end this process with its exit status: never return into the server's code."""
    status = 1
    try:
        status = function(*arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2:])
