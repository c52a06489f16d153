"""What the papers' sizes would cost, from a trial's batches."""

import math

import pytest

from conftest import ROOT
from memorization import costs
from memorization.configuration import load_config
from memorization.data.registry import registry
from memorization.expansion import dataset_names, expand
from memorization.monitor import assumed_seconds

FIGURE = ("secret_sharer", "tab07_interference")


@pytest.fixture(scope="module")
def plans():
    return [
        expand(load_config({"scale": scale, "figures": FIGURE[1], "backends": "torch"}), dataset_names())
        for scale in ("paper", "trial")
    ]


@pytest.fixture(scope="module")
def datasets():
    return registry(ROOT / "config" / "datasets.yaml")


def hours(plans, datasets, seconds):
    (row,) = costs.estimate(*plans, seconds, datasets).to_dict("records")
    return row


def test_a_trial_as_fast_as_assumed_confirms_the_assumption(plans, datasets):
    paper, trial = plans
    (cell,) = trial.figures[FIGURE].cells
    size = datasets["ptb"].files["ptb.train.txt"].bytes * cell.run.corpus.fraction
    windows = int(size) // cell.run.training.sequence_length
    batches = windows * cell.run.training.epochs / cell.run.training.batch_size
    seconds = {("torch", cell.run.run_id): assumed_seconds(cell.run, datasets) / batches}
    row = hours(plans, datasets, seconds)
    cells = paper.figures[FIGURE].cells
    assumed = sum(c.run.replicates * assumed_seconds(c.run, datasets) for c in cells)
    assert row["training_h"] == pytest.approx(assumed / 3600)
    assert row["runs"] == len({c.run.run_id for c in cells})
    assert row["models"] >= row["runs"]
    slower = {key: 3 * value for key, value in seconds.items()}
    assert hours(plans, datasets, slower)["training_h"] == pytest.approx(3 * row["training_h"])


def test_a_figure_that_was_not_tried_has_no_cost(plans, datasets):
    row = hours(plans, datasets, {})
    assert math.isnan(row["training_h"])
    assert row["tried"] == "0 of 1"
    assert row["exact_h"] > 0
