"""The page workflow/audit/own_models.md: its blocks run, where each says, and find what they planted."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, run

PAGE = ROOT / "workflow" / "audit" / "own_models.md"
TRANSFORMERS = "transformers==5.17.0"
ENDING = """
found = audit.summary()
assert found["planted"] + found["left_out"] == len(planted) + len(left_out)
assert found["without_exact_rank"] == 0
assert found["planted_mean_bits"] > found["left_out_mean_bits"] + 3, found
assert found["extracted"] > found["planted"] / 2, found
"""
"""Appended to the page's code: the example must show what it is an example of."""


def blocks(environment: str) -> str:
    """The page's code for one environment, in order."""
    found = re.findall(r"^```python ([^\n]+)\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    return "\n".join(code for environments, code in found if environment in environments.split())


@pytest.fixture(scope="module")
def transformers_python(torch_environment, tmp_path_factory) -> Path:
    """The interpreter of an environment on top of envs/torch that has transformers; skipped where it cannot be had."""
    folder = tmp_path_factory.mktemp("transformers") / "venv"
    uv = str(Path(sys.executable).parent / "uv")
    python = folder / "bin" / "python"
    made = run([uv, "venv", "--python", str(torch_environment), str(folder)], ROOT, VIRTUAL_ENV=None)
    assert made.returncode == 0, made.stderr
    got = run([uv, "pip", "install", "--python", str(python), TRANSFORMERS], ROOT, timeout=300, VIRTUAL_ENV=None)
    if got.returncode:
        pytest.skip(f"{TRANSFORMERS} cannot be installed here: {got.stderr.strip().splitlines()[-1]}")
    version = run([str(torch_environment), "-c", "import site; print(site.getsitepackages()[0])"], ROOT)
    site = run([str(python), "-c", "import site; print(site.getsitepackages()[0])"], ROOT).stdout.strip()
    # What envs/torch has, behind what was installed here.
    (Path(site) / "torch_environment.pth").write_text(version.stdout)
    return python


def execute(code: str, python: Path, tmp_path: Path) -> subprocess.CompletedProcess:
    (tmp_path / "page.py").write_text(code)
    environment = {"PYTHONPATH": str(ROOT / "workflow"), "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    return run([str(python), str(tmp_path / "page.py")], tmp_path, **environment)


@pytest.mark.parametrize("environment", ["torch", "tf"])
def test_the_pages_example_finds_what_it_planted(environment, built, tmp_path):
    code = blocks(environment)
    assert "audit_model(" in code
    ended = execute(code + ENDING, built[environment], tmp_path)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    assert "epsilon_low" in ended.stdout


def test_the_stepping_protocol_of_the_page_gives_the_same_ranks(built, tmp_path):
    check = """
import pandas as pd
pd.testing.assert_frame_equal(audit.exact(), again.exact())
"""
    ended = execute(blocks("torch") + check, built["torch"], tmp_path)
    assert ended.returncode == 0, ended.stderr[-4000:]


def test_the_pages_transformer_finds_what_it_planted(transformers_python, tmp_path):
    ended = execute(blocks("transformers") + ENDING, transformers_python, tmp_path)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]


def test_the_transformers_adapter_keeps_the_protocol(transformers_python):
    module = ROOT / "tests" / "unit" / "test_transformers_adapter.py"
    command = [str(transformers_python), "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", str(module)]
    ended = run(command, ROOT, OMP_NUM_THREADS="1")
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    assert " passed" in ended.stdout
    assert "skipped" not in ended.stdout


def test_every_block_says_where_it_runs():
    fences = re.findall(r"^```(\S.*)$", PAGE.read_text(), flags=re.MULTILINE)
    assert fences
    known = {"torch", "tf", "transformers"}
    assert all(f.split()[0] == "python" and f.split()[1:] and set(f.split()[1:]) <= known for f in fences)
