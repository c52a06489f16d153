"""Generated files that are committed: config/schema.json, envs/*.yaml (conda), envs/*.def (Apptainer), version pins.

python -m memorization.maintenance          rewrite what has drifted
python -m memorization.maintenance --check  list it, exit 1 if anything has
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from memorization.configuration import ROOT, Config
from memorization.contracts import atomic
from memorization.figure_specs import FigureSpec, ScaleSpec
from memorization.specs import TASKS, AttackSpec, ScoreSpec

PROJECTS = (".", "envs/torch", "envs/tf")
"""Folders with a pyproject.toml whose versions are pinned."""

MODULES = {"torch": "torch, opacus", "tf": "tensorflow, tensorflow_privacy"}
"""Back end -> what must import in its container."""


def schema() -> str:
    """JSON Schema of config.yaml; the specifications of figures.yaml and the scales under $defs."""
    text = Config.model_json_schema()
    definitions = text.setdefault("$defs", {})
    for model in (*TASKS.values(), AttackSpec, ScoreSpec, FigureSpec, ScaleSpec):
        nested = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= nested.pop("$defs", {})
        definitions[model.__name__] = nested
    return json.dumps(text, indent=1, sort_keys=True) + "\n"


def versions(project: str) -> list[str]:
    """What makes the environment of envs/<project>/pyproject.toml: name==version (; marker), direct ones first."""
    about = tomllib.loads((ROOT / project / "pyproject.toml").read_text())
    direct = [name for name in about["project"]["dependencies"] if "==" in name]
    return list(dict.fromkeys([*direct, *about["tool"]["uv"].get("constraint-dependencies", [])]))


def conda_view(project: str) -> str:
    """A conda environment file with these versions, for `--sdm conda`."""
    lines = [
        "# Generated from pyproject.toml by python -m memorization.maintenance",
        "channels: [conda-forge, nodefaults]",
    ]
    lines += ["dependencies:", "  - python=3.11", "  - pip", "  - pip:"]
    return "\n".join([*lines, *(f"      - {json.dumps(pin)}" for pin in versions(project))]) + "\n"


def container_view(project: str) -> str:
    """An Apptainer definition file with these versions, for `--sdm apptainer`. Its `python` is the back end's."""
    lines = [
        f"# Generated from {project}/pyproject.toml by python -m memorization.maintenance",
        f"#   apptainer build {project}.sif {project}.def",
        "Bootstrap: docker",
        "From: python:3.11-slim-bookworm",
        "",
        "%post",
        "    cat > /versions.txt <<'VERSIONS'",
        *versions(project),
        "VERSIONS",
        "    python -m pip install --no-cache-dir -r /versions.txt",
        "    python -m pip check",
        "",
        "%test",
        f"    python -c 'import {MODULES[Path(project).name]}, numpy, pandas, pydantic, scipy, yaml'",
    ]
    return "\n".join(lines) + "\n"


def pins(project: str) -> list[str]:
    """name==version (; marker) of every package that uv resolves for a project, transitive too, without addresses."""
    exported = subprocess.run(
        ["uv", "export", "--quiet", "--project", str(ROOT / project), "--all-groups", "--no-hashes", "--no-header",
         "--no-annotate", "--no-emit-project"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = (re.match(r"^([A-Za-z0-9._-]+)==([^ ;+]+)[^ ;]*(\s*;.*)?$", line) for line in exported.splitlines())
    # torch is pinned by the project, and what it links against (CUDA, triton) by torch itself.
    own = re.compile(r"^(torch|triton|nvidia-.*|cuda-.*)$")
    kept = (match for match in found if match and not own.match(match[1].lower()))
    return sorted({f"{match[1].lower()}=={match[2]}{match[3] or ''}" for match in kept})


def with_pins(project: str, wanted: list[str]) -> str:
    """The project's pyproject.toml with its constraint-dependencies replaced."""
    text = (ROOT / project / "pyproject.toml").read_text()
    block = "constraint-dependencies = [\n" + "".join(f'    "{pin}",\n' for pin in wanted) + "]\n"
    pattern = re.compile(r"^constraint-dependencies = \[\n.*?^\]\n", re.MULTILINE | re.DOTALL)
    if pattern.search(text):
        return pattern.sub(lambda _: block, text)
    return text.replace("[tool.uv]\n", f"[tool.uv]\n{block}")


def generated() -> dict[Path, str]:
    """Path -> what it should hold (pins excepted: they need the network)."""
    files: dict[Path, str] = {ROOT / "config" / "schema.json": schema()}
    for project in PROJECTS[1:]:
        files[ROOT / "envs" / f"{Path(project).name}.yaml"] = conda_view(project)
        files[ROOT / "envs" / f"{Path(project).name}.def"] = container_view(project)
    return files


def main(arguments: list[str]) -> int:
    """Rewrite or check; `--pins` also refreshes the pinned versions."""
    if "--pins" in arguments:
        for project in PROJECTS:
            (ROOT / project / "pyproject.toml").write_text(with_pins(project, pins(project)))
    drifted: list[Any] = [p for p, text in generated().items() if not p.exists() or p.read_text() != text]
    for path in drifted:
        print(path.relative_to(ROOT), "has drifted" if "--check" in arguments else "rewritten")
        if "--check" not in arguments:
            with atomic(path) as temporary:
                temporary.write_text(generated()[path])
    return 1 if drifted and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
