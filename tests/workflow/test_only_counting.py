"""`snakemake costs` in a fresh copy of the repository: a table, and nothing is built, trained or drawn for it."""

import shutil

import pytest

from conftest import snakemake

ONE = ("papers=[secret_sharer]", "figures=fig08_overtraining", "scale=smoke")
"""One figure: what is tried here is what is built beforehand, not the numbers."""


@pytest.fixture
def bare(clone, tmp_path):
    """A copy of the repository in which building an environment fails and says so."""
    target = tmp_path / "repository"
    shutil.copytree(clone, target)
    (target / "workflow" / "scripts" / "environment.sh").write_text("echo built after all; exit 3\n")
    return target


def test_costs_alone_print_a_table_and_build_no_environment(bare):
    """Nor does the rule name one, which `--sdm conda` would create before it is run."""
    assert "conda:" not in (bare / "workflow" / "rules" / "costs.smk").read_text()
    ended = snakemake(bare, "--cores", "1", "costs", "--workflow-profile", "none", "--config", *ONE)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    first = [line.split()[0] for line in ended.stdout.splitlines() if line.strip()]
    assert {"figure", "fig08_overtraining", "all"} <= set(first), ended.stdout
    assert "job slot of the recorded machine" in ended.stdout
    assert not list(bare.glob("envs/*/.venv"))
    assert not list(bare.glob(".snakemake/conda/*"))
    assert not (bare / "results" / "logs").exists()
    assert not list(bare.glob("results/*/report.html"))


def test_costs_beside_other_targets_are_not_all(bare):
    ended = snakemake(
        bare, "--cores", "1", "costs", "all", "--workflow-profile", "none", "--config", "backends=[torch]", *ONE
    )
    assert ended.returncode != 0
    assert "envs/torch could not be built: built after all" in ended.stdout + ended.stderr
