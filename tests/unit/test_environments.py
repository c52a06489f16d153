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


def test_environments_are_built_side_by_side(root):
    """Each waits until the other has begun: one after the other they would never end."""
    (root / "envs" / "tf" / ".venv").mkdir(parents=True)
    (root / "envs" / "tf" / "pyproject.toml").write_text("[project]")
    script = root / environments.SCRIPT
    script.parent.mkdir(parents=True)
    script.write_text(
        'touch "$1/begun"; both() { [ -e envs/torch/begun ] && [ -e envs/tf/begun ]; }\n'
        "for i in $(seq 200); do both && break; sleep 0.05; done\n"
        "both || { echo alone; exit 1; }\n"
        f'echo "# pins {hashlib.sha256(b"[project]").hexdigest()[:12]}" > "$1/$2"\n'
    )
    environments.build_all(["torch", "tf"], root=root)
    assert all(environments.is_built(name, root) for name in ("torch", "tf"))
    script.write_text("echo broken; exit 1\n")
    environments.build_all(["torch", "tf"], root=root)  # nothing to do
    (root / "envs" / "tf" / "pyproject.toml").write_text("[project] # changed")
    with pytest.raises(UserError, match="envs/tf could not be built: broken"):
        environments.build_all(["torch", "tf"], root=root)
