"""A real SLURM on this machine: one controller, one node, nothing installed, nothing left behind.

Debian's packages are downloaded and unpacked into a temporary folder, where munge, slurmctld and slurmd keep all they
write. No systemd, no cgroups, no accounting database: the plugin then asks squeue.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
CPUS, MEMORY_MB = 2, 6_000

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
PluginDir={plugins}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=7200
KillWait=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class NoSlurmError(Exception):
    """Why there can be none here: one line. What is there and does not start is another error."""


class Job(NamedTuple):
    """One line of squeue: state in capitals, memory and time asked for as SLURM writes them, comment: rule or group."""

    id: str
    state: str
    memory: str
    limit: str
    comment: str


class OneNode:
    """A running SLURM. `environment` lets commands of this machine find it; `stop` ends it and removes its folder."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise NoSlurmError("slurmd and munged are started as root, and this is not root")
        if not shutil.which("apt-get"):
            raise NoSlurmError("no apt-get: SLURM is taken from Debian's packages")
        # Not pytest's folder: munge wants a path that others may traverse, and a socket's path is short.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.servers: list[subprocess.Popen] = []
        try:
            self.environment = unpack(self.folder / "debian")
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        host = socket.gethostname().split(".")[0]
        self.folder.chmod(0o755)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        configuration = self.folder / "slurm.conf"
        configuration.write_text(
            CONFIGURATION.format(
                host=host, folder=self.folder, controller_port=free_port(), node_port=free_port(), cpus=CPUS,
                memory=MEMORY_MB, plugins=plugins(self.folder / "debian"),
            )
        )  # fmt: skip
        self.environment["SLURM_CONF"] = str(configuration)
        self._wrap("srun")
        places = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
        options = [f"--{name}={self.folder / place}" for name, place in places.items()]
        self._serve("munged", "--foreground", "--force", "--origin=127.0.0.1", f"--key-file={key}", *options)
        self._await(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._serve("slurmctld", "-D")
        step = self._find("slurmstepd")
        self._serve("slurmd", "-D", "-d", step)
        self._await(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"), "slurmd")

    def _wrap(self, program: str) -> None:
        """A program that knows its configuration by itself: the plugin takes SLURM's variables from a job's srun."""
        real = self._find(program)
        wrapper = self.folder / "bin" / program
        wrapper.parent.mkdir()
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.environment["SLURM_CONF"]} exec {real} "$@"\n')
        wrapper.chmod(0o755)
        self.environment["PATH"] = f"{wrapper.parent}{os.pathsep}{self.environment['PATH']}"

    def _find(self, program: str) -> str:
        found = shutil.which(program, path=self.environment["PATH"])
        if found is None:
            raise RuntimeError(f"Debian's packages {', '.join(PACKAGES)} have no {program}")
        return found

    def _serve(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.out").open("w") as stream:
            self.servers.append(
                subprocess.Popen(
                    [self._find(program), *arguments],
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                )
            )

    def _await(self, ready, what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            ended = [server for server in self.servers if server.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise RuntimeError(f"{what} did not start: {self.said(what)}")
            time.sleep(0.2)

    def said(self, program: str) -> str:
        """The last lines of a server's output and log."""
        files = (self.folder / f"{program}.out", self.folder / f"{program}.log")
        lines = [line for file in files if file.exists() for line in file.read_text(errors="replace").splitlines()]
        return " | ".join(lines[-5:]) or "it said nothing"

    def ask(self, program: str, *arguments: str) -> str:
        """Output of one of SLURM's commands; empty where it fails."""
        ended = subprocess.run(
            [self._find(program), *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return ended.stdout if ended.returncode == 0 else ""

    def jobs(self) -> list[Job]:
        """Every job since the start, in their order."""
        listed = self.ask("squeue", "--states=all", "--noheader", "--format=%i|%T|%m|%l|%k", "--sort=i")
        return [Job(*line.split("|", 4)) for line in listed.splitlines()]

    def stop(self) -> None:
        """End jobs and servers, and remove everything, whatever state they are in."""
        try:
            with suppress(subprocess.TimeoutExpired, RuntimeError):
                self._end_jobs()
        finally:
            for server in reversed(self.servers):
                server.terminate()
            for server in self.servers:
                try:
                    server.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end_jobs(self, seconds: float = 10) -> None:
        """Kill what runs, and wait until the node has cleaned up: the jobs' processes outlive slurmd."""
        ended = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"}
        if len(self.servers) < 3:
            return
        if going := [job.id for job in self.jobs() if job.state not in ended]:
            self.ask("scancel", "--full", "--signal=KILL", *going)
            self.ask("scancel", *going)
        deadline = time.monotonic() + seconds
        while {job.state for job in self.jobs()} - ended and time.monotonic() < deadline:
            time.sleep(0.5)


def unpack(folder: Path) -> dict[str, str]:
    """Debian's packages and what they need, unpacked into `folder`: the environment their programs want.

    What is installed already is used as it is. Raises NoSlurmError with apt's last line.
    """
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True)
    fetch = ["apt-get", "install", "--yes", "--quiet", "--download-only", "--no-install-recommends"]
    # Nothing of the system is changed, so no lock is needed, and another apt may run.
    lists = folder / "lists"
    (lists / "partial").mkdir(parents=True)
    places = [f"Dir::Cache::archives={archives}", f"Dir::State::lists={lists}"]
    options = [*places, "APT::Sandbox::User=root", "Debug::NoLocking=true"]
    own = [word for option in options for word in ("-o", option)]
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["apt-get", "update", "--quiet", *own], [*fetch, *own, *PACKAGES]):
        try:
            ended = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300, check=False)
        except subprocess.TimeoutExpired:
            raise NoSlurmError(f"{' '.join(command[:2])} took more than five minutes") from None
        if ended.returncode:
            said = (ended.stderr or ended.stdout).strip().splitlines() or ["no output"]
            raise NoSlurmError(f"{' '.join(command[:2])}: {said[-1]}")
    for archive in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "--extract", str(archive), str(folder)], check=True)
    programs = [folder / "usr" / name for name in ("bin", "sbin")]
    # What the packages' own scripts would link: Debian calls the programs sbatch-wlm, slurmd-wlm, ...
    for program in (path for place in programs for path in place.glob("*-wlm")):
        program.with_name(program.name.removesuffix("-wlm")).symlink_to(program.name)
    libraries = sorted({path.parent for path in folder.rglob("*.so*")}, key=lambda path: len(path.parts))
    return {
        "PATH": os.pathsep.join([*map(str, programs), os.environ.get("PATH", ""), "/usr/sbin"]),
        "LD_LIBRARY_PATH": os.pathsep.join([*map(str, libraries), os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(":"),
    }


def plugins(folder: Path) -> Path:
    """Where SLURM's plugins are: unpacked, or installed."""
    for root in (folder, Path("/")):
        for path in root.glob("usr/lib/*/slurm*/auth_munge.so"):
            return path.parent
    raise RuntimeError("Debian's packages have no SLURM plugin auth_munge")


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
