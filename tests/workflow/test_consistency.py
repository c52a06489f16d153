"""figures.yaml, plots.py, captions, reference values, claims and generated files agree."""

import importlib.util

import pandas as pd
import pytest

from conftest import ROOT, run
from memorization import claims, maintenance
from memorization.expansion import PAPERS, known_papers, load_paper

FIGURES = [(paper, key) for paper in known_papers() for key in load_paper(paper).figures]


def plots_of(paper):
    spec = importlib.util.spec_from_file_location(f"{paper}_plots", PAPERS / paper / "plots.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("paper", "key"), FIGURES)
def test_every_figure_has_a_drawing_a_caption_and_claims(paper, key):
    assert callable(getattr(plots_of(paper), key))
    assert len((PAPERS / paper / "captions" / f"{key}.rst").read_text()) > 80
    figure = load_paper(paper).figures[key]
    assert figure.claims
    assert {claim.test for claim in figure.claims} <= claims.TESTS.keys()


@pytest.mark.parametrize("paper", known_papers())
def test_every_figure_of_the_paper_has_reference_values(paper):
    reference = pd.read_csv(PAPERS / paper / "reference.csv")
    assert set(load_paper(paper).figures) <= set(reference["figure"])


def test_generated_files_have_not_drifted():
    drifted = [p.name for p, text in maintenance.generated().items() if p.read_text() != text]
    assert not drifted, "run: PYTHONPATH=workflow python -m memorization.maintenance"


def test_pins_are_complete():
    for project in maintenance.PROJECTS:
        text = (ROOT / project / "pyproject.toml").read_text()
        pinned = {line.split("==")[0].strip(' "') for line in text.splitlines() if "==" in line}
        named = [
            line.split(">=")[0].strip(' "') for line in text.splitlines() if line.startswith('    "') and ">=" in line
        ]
        named = [name for name in named if "==" not in name]
        assert {name.lower() for name in named} <= {name.lower() for name in pinned}, project


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["snakefmt", "--check", "Snakefile", "workflow/rules"],
    ],
    ids=["ruff-check", "ruff-format", "snakefmt"],
)
def test_style(command):
    import sys
    from pathlib import Path

    ended = run([str(Path(sys.executable).parent / command[0]), *command[1:]], ROOT)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]


def test_importing_the_package_imports_no_back_end():
    import sys

    code = "import sys, memorization.expansion, memorization.runs, memorization.tables; print(sorted(sys.modules))"
    ended = run([sys.executable, "-c", code], ROOT, PYTHONPATH="workflow")
    assert ended.returncode == 0, ended.stderr
    assert "'torch'" not in ended.stdout
    assert "'tensorflow'" not in ended.stdout


def test_no_rule_names_a_figure():
    rules = [*(ROOT / "workflow" / "rules").glob("*.smk"), ROOT / "Snakefile"]
    text = "".join(path.read_text() for path in rules)
    assert not [key for _, key in FIGURES if key in text]
