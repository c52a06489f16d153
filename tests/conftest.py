"""Shared fixtures. Tests run in the driver's environment, those that need a back end in its own (test_backends.py)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from memorization import environments
from memorization.backends import BACKENDS

ROOT = Path(__file__).parents[1]

# The same examples every time: what passed for its author passes in CI. `--hypothesis-profile default` draws others.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


def run(command: list[str], cwd: Path, timeout: float = 600, **environment: str | None) -> subprocess.CompletedProcess:
    """A command's result, output as text; environment values of None are unset."""
    variables = {**os.environ, **environment}
    variables = {k: v for k, v in variables.items() if v is not None}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=timeout, check=False)


def missing(what: str, why: str) -> None:
    """Skip for want of a tool; where REQUIRE (as CI sets it: "SLURM,Chromium") names it, its absence is a failure."""
    if what in os.environ.get("REQUIRE", "").split(","):
        pytest.fail(f"{what} is required here: {why}")
    pytest.skip(f"no {what} here: {why}")


def snakemake(cwd: Path, *arguments: str, **environment: str | None) -> subprocess.CompletedProcess:
    """Snakemake in `cwd`, under this interpreter."""
    return run([sys.executable, "-m", "snakemake", *arguments], cwd, **environment)


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh copy of what the repository tracks (and would track), without any result. Files get new mtimes."""
    target = tmp_path_factory.mktemp("clone") / "repository"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
    for setup in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *setup], cwd=target, check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, "commit", "-q", "-m", "clone"], cwd=target, check=True)
    return target


@pytest.fixture(scope="session")
def built() -> dict[str, Path]:
    """Back end -> the interpreter of its environment, built if it is not there (as Snakemake's onstart does)."""
    for backend in BACKENDS:
        environments.build(backend, root=ROOT)
    return {backend: ROOT / "envs" / backend / ".venv" / "bin" / "python" for backend in BACKENDS}


@pytest.fixture(scope="session")
def torch_environment(built) -> Path:
    """The interpreter of envs/torch."""
    return built["torch"]


def borrow(clone: Path, built: dict[str, Path], target: Path) -> Path:
    """A copy of `clone` at `target` that uses the built environments."""
    shutil.copytree(clone, target)
    for backend, python in built.items():
        (target / "envs" / backend / ".venv").symlink_to(python.parents[1])
    return target
