"""Whether a built environment fits its pins, and what is said when it cannot be built."""

import hashlib

import pytest

from memorization import environments
from memorization.errors import UserError


@pytest.fixture
def root(tmp_path):
    (tmp_path / "envs" / "torch" / ".venv").mkdir(parents=True)
    (tmp_path / "envs" / "torch" / "pyproject.toml").write_text("[project]")
    return tmp_path


def test_an_environment_fits_until_its_pins_change(root):
    assert not environments.is_built("torch", root)
    pins = hashlib.sha256(b"[project]").hexdigest()[:12]
    (root / "envs" / "torch" / environments.VERSIONS).write_text(f"# pins {pins}\nnumpy==2\n")
    assert environments.is_built("torch", root)
    environments.build("torch", root=root)  # nothing to do: there is no script here to run
    (root / "envs" / "torch" / "pyproject.toml").write_text("[project] # changed")
    assert not environments.is_built("torch", root)


def test_a_failed_build_says_why_and_where(root):
    script = root / environments.SCRIPT
    script.parent.mkdir(parents=True)
    script.write_text("echo solving; echo 'no such wheel' >&2; exit 3\n")
    with pytest.raises(UserError, match=r"envs/torch could not be built: no such wheel \(all of it: results/logs"):
        environments.build("torch", root=root)
    assert not environments.is_built("torch", root)
