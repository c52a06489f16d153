"""Container recipes: parsed as Apptainer reads them, with the versions of the projects they are made from."""

import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement

from conftest import ROOT
from memorization import environments, maintenance
from memorization.backends import BACKENDS

SECTIONS = {"help", "setup", "files", "labels", "environment", "post", "runscript", "startscript", "test", "arguments"}
HEADERS = {"bootstrap", "from", "stage", "include"}


def parse(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Header and sections of a definition file. Raises ValueError for what Apptainer would not read."""
    header: dict[str, str] = {}
    sections: dict[str, list[str]] = {}
    current = None
    for line in text.splitlines():
        if line.startswith("%"):
            current = line[1:].split()[0]
            if current not in SECTIONS or current in sections:
                raise ValueError(f"section {line}")
            sections[current] = []
        elif current:
            sections[current].append(line)
        elif line.strip() and not line.startswith("#"):
            key, separator, value = line.partition(":")
            if not separator or key.strip().lower() not in HEADERS:
                raise ValueError(f"header {line}")
            header[key.strip().lower()] = value.strip()
    return header, {name: "\n".join(lines) for name, lines in sections.items()}


@pytest.mark.parametrize("project", maintenance.PROJECTS[1:])
def test_a_recipe_installs_exactly_the_pinned_versions(project):
    header, sections = parse((ROOT / f"{project}.def").read_text())
    assert header["bootstrap"] == "docker"
    python = re.fullmatch(r"python:(\d+\.\d+)-slim-bookworm", header["from"])[1]
    about = tomllib.loads((ROOT / project / "pyproject.toml").read_text())
    assert about["project"]["requires-python"].startswith(f">={python}")
    listed = re.search(r"<<'VERSIONS'\n(.*?)\nVERSIONS\n", sections["post"], flags=re.DOTALL)[1].splitlines()
    assert set(about["tool"]["uv"]["constraint-dependencies"]) <= set(listed)
    named = {re.split(r"[=<>~ ;\[]", entry)[0].lower() for entry in about["project"]["dependencies"]}
    assert named <= {entry.split("==")[0].lower() for entry in listed}
    assert all("==" in entry for entry in listed)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_built_environment_has_the_versions_that_the_recipe_lists(built, backend):
    """The recipe cannot be built without Apptainer; the environment that the tests use comes from the same pins."""
    lines = (ROOT / "envs" / backend / environments.VERSIONS).read_text().splitlines()[1:]
    installed = {name.lower(): version.split("+")[0] for name, version in (line.split("==") for line in lines)}
    listed = [Requirement(entry) for entry in maintenance.versions(f"envs/{backend}")]
    wanted = {r.name.lower(): str(r.specifier)[2:] for r in listed if not r.marker or r.marker.evaluate()}
    ours = {name: version for name, version in installed.items() if not re.match(r"(triton|nvidia|cuda)\b", name)}
    assert ours.items() <= wanted.items()


@pytest.mark.parametrize("project", maintenance.PROJECTS[1:])
@pytest.mark.parametrize("section", ["post", "test"])
def test_a_recipes_sections_are_shell(project, section):
    _, sections = parse((ROOT / f"{project}.def").read_text())
    ended = subprocess.run(["sh", "-n"], input=sections[section], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("text", ["Bootstrap docker\n", "%pots\n", "%post\n%post\n", "Image: x\n"])
def test_a_broken_recipe_is_found(text):
    with pytest.raises(ValueError, match=r"header|section"):
        parse(text)
