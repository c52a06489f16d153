"""The test modules that need a back end, run in that back end's environment (in the driver's they are skipped)."""

import re

import pytest

from conftest import ROOT, run
from memorization import environments

LIBRARIES = {"torch": "torch", "tf": "tensorflow"}
"""Back end -> the module that its tests ask for with pytest.importorskip."""

OPTIONAL = ("flwr", "transformers")
"""Libraries in no environment of the workflow: the modules that need one say so and are skipped."""

FEWEST = {"torch": 5, "tf": 4}
"""Test modules that need it, at least: a search that found none would prove nothing."""


def needs(path, backend):
    return f'importorskip("{LIBRARIES[backend]}")' in path.read_text()


@pytest.mark.parametrize("backend", LIBRARIES)
def test_modules_that_need_a_back_end_pass_in_its_environment(backend):
    """In a module for several back ends what another library would need is skipped, and what only a GPU can show."""
    environments.build(backend, root=ROOT)
    python = ROOT / "envs" / backend / ".venv" / "bin" / "python"
    modules = [p for p in sorted((ROOT / "tests").rglob("test_*.py")) if needs(p, backend)]
    assert len(modules) >= FEWEST[backend]
    command = [str(python), "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *map(str, modules)]
    ended = run(command, ROOT, timeout=1800, OMP_NUM_THREADS="1")
    print(ended.stdout[-3000:])
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    assert " passed" in ended.stdout
    skipped = [line for line in ended.stdout.splitlines() if line.startswith("SKIPPED")]
    others = "|".join(library for name, library in LIBRARIES.items() if name != backend)
    explained = rf"could not import '({others})[.']|({'|'.join(OPTIONAL)}) is not installed|: needs a GPU$"
    unexplained = [line for line in skipped if not re.search(explained, line)]
    assert not unexplained
