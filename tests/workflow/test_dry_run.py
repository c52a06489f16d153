"""What Snakemake plans, in a fresh copy of the repository."""

import re

import pytest

from conftest import snakemake
from memorization.configuration import load_config
from memorization.expansion import dataset_names, expand


def job_counts(clone, *config: str) -> dict[str, int]:
    """Rule -> planned jobs."""
    ended = snakemake(clone, "-n", "--cores", "2", "--workflow-profile", "none", "--config", *config)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    stats = re.findall(r"^(\w+) +(\d+)$", ended.stdout + ended.stderr, flags=re.MULTILINE)
    return {rule: int(count) for rule, count in stats}


@pytest.mark.parametrize(("scale", "trainings", "attacked"), [("smoke", 5, 3), ("reduced", 15, 13), ("paper", 15, 13)])
def test_every_scale_plans_one_training_per_distinct_run(clone, scale, trainings, attacked):
    plan = expand(load_config({"scale": scale}), dataset_names())
    counts = job_counts(clone, f"scale={scale}")
    attacks = {
        (c.backend, c.run.run_id, c.attack.attack_id) for f in plan.figures.values() for c in f.cells if c.attack
    }
    assert counts["train"] == len(plan.runs) == counts["specify"] == trainings
    assert counts["attack"] == len(attacks) == attacked
    assert counts["figure"] == counts["table"] == counts["claims"] == len(plan.figures) == 7
    assert counts["fetch"] == counts["summary"] == 1


def test_two_figures_share_a_run(clone):
    plan = expand(load_config({"scale": "reduced"}), dataset_names())
    asked = [c.run.run_id for f in plan.figures.values() for c in f.cells]
    assert len(plan.runs) < len(asked)


def test_published_mode_plans_no_training(clone):
    counts = job_counts(clone, "tables=published")
    assert counts["figure"] == 7
    assert not {"train", "attack", "fetch", "table"} & counts.keys()


def test_one_figure_can_be_asked_for(clone):
    counts = job_counts(clone, "scale=smoke", "figures=fig08_overtraining")
    assert counts["train"] == counts["figure"] == 1


def test_lint_is_clean(clone):
    ended = snakemake(clone, "--lint", "--workflow-profile", "none")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("scale=large", r"scale: 'large' is not allowed.*'smoke', 'reduced' or 'paper'"),
        ("papers=[nobody]", r"unknown paper 'nobody'; known: secret_sharer"),
        ("figures=fig99", r"figures: unknown \['fig99'\]; known: .*fig08_overtraining"),
        ("backends=[jax]", r"unknown back end 'jax'; known: torch"),
        ("sclae=smoke", r"unknown key 'sclae'; allowed here: scale, papers"),
    ],
)
def test_bad_configuration_is_one_clear_line_before_anything_runs(clone, config, said):
    ended = snakemake(clone, "-n", "--cores", "1", "--workflow-profile", "none", "--config", config)
    assert ended.returncode != 0
    assert re.search(said, ended.stderr + ended.stdout), ended.stderr
    assert "Traceback" not in ended.stderr
