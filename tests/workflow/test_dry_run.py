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


@pytest.mark.parametrize("scale", ["smoke", "reduced", "paper", "trial"])
def test_every_scale_plans_one_training_per_distinct_run(clone, scale):
    plan = expand(load_config({"scale": scale}), dataset_names())
    counts = job_counts(clone, f"scale={scale}")
    cells = [(figure.spec, cell) for figure in plan.figures.values() for cell in figure.cells]
    trained = {(c.backend, c.run.run_id) for _, c in cells}
    private = {c.run.run_id for _, c in cells if c.run.privacy}
    of_attacks = {"exposure", "extraction", "top", "histogram", "fit", "audit"}
    assert counts["train"] == counts["specify"] == len(trained)
    assert counts["account"] == len(private)
    assert counts["attack"] == len(asked(cells, "attack", of_attacks))
    assert counts["score"] == len(asked(cells, "score", {"scores", "lines", "digits"}))
    assert counts["figure"] == counts["table"] == counts["claims"] == len(plan.figures)
    assert counts["fetch"] == len({c.run.dataset for _, c in cells})
    assert counts["summary"] == 1


def asked(cells, kind: str, sources: set[str]) -> set[tuple[str, str, str]]:
    """The distinct attacks or scores whose files some figure reads."""
    wanted = [(c, getattr(c, kind)) for spec, c in cells if sources & set(spec.sources)]
    return {(c.backend, c.run.run_id, getattr(spec, f"{kind}_id")) for c, spec in wanted if spec}


def test_table_3_trains_the_same_cells_in_both_back_ends():
    plan = expand(load_config({"figures": ["tab03_differential_privacy"]}), dataset_names())
    cells = [c for f in plan.figures.values() for c in f.cells]
    runs = {b: {c.run.run_id for c in cells if c.backend == b} for b in ("torch", "tf")}
    assert runs["torch"] == runs["tf"]
    epsilons = {c.run.privacy.epsilon for c in cells if c.run.privacy}
    assert epsilons == {0.65, 1.21, 5.26, 89.0, 2e8, 1e9, None}


def test_two_figures_share_a_run(clone):
    plan = expand(load_config({"scale": "reduced"}), dataset_names())
    asked = [c.run.run_id for f in plan.figures.values() for c in f.cells]
    assert len(plan.runs) < len(asked)


def test_published_mode_plans_no_training(clone):
    counts = job_counts(clone, "tables=published")
    plan = expand(load_config({}), dataset_names())
    assert counts["figure"] == len(plan.figures)
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
        ("scale=large", r"scale: 'large' is not allowed.*'smoke', 'reduced', 'paper' or 'trial'"),
        (
            "papers=[nobody]",
            r"unknown paper 'nobody'; known: beyond, closer_look, learn_to_forget, secret_sharer, tensorflow_privacy",
        ),
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
