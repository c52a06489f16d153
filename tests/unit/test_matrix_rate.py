"""Counted operations against torch's own counter, and the table that explains a step."""

import sys
from pathlib import Path

import numpy as np
import pytest

from memorization.specs import ModelSpec

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import bench_training  # noqa: E402
import matrix_rate  # noqa: E402


@pytest.mark.parametrize("model", [ModelSpec(units=6, embedding=5), ModelSpec(layers=3, units=7, embedding=None)])
def test_counted_operations_are_those_that_a_step_performs(model):
    batch, replicates = 4, 2
    step = bench_training.our_loop(model, batch, replicates, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        step()
    counted = matrix_rate.training_flops(model, bench_training.VOCABULARY, batch, bench_training.LENGTH)
    assert counter.get_total_flops() == replicates * counted


def test_operations_are_six_times_the_recurrent_parameters_per_token():
    """2 for a product, 3 for forward, inputs and weights; the first step has no state, the first layer a table."""
    model, vocabulary, batch, length = ModelSpec(), 50, 20, 100
    parameters = 3 * 4 * 200 * 200 + 50 * 200
    counted = matrix_rate.training_flops(model, vocabulary, batch, length)
    assert counted == pytest.approx(6 * parameters * batch * length, rel=0.02)


def test_rates_and_shares_add_up():
    model = ModelSpec(layers=1, units=4, embedding=3)
    products = matrix_rate.step_products(model, 5, 2, 3)
    rows = matrix_rate.shape_rate(products, "cpu", replicates=2, repeats=1)
    assert sum(row["flops"] for row in rows) == 2 * matrix_rate.training_flops(model, 5, 2, 3)
    explained = matrix_rate.explain(2.0, rows, peak=1e12)
    assert sum(row["share"] for row in explained[:-1]) == pytest.approx(1)
    assert explained[-1]["of_peak"] == pytest.approx(explained[-1]["flops"] / 2e12)
    assert all(np.isfinite(row["rate"]) and row["rate"] > 0 for row in rows)


def test_every_way_to_train_does_the_same_number_of_operations():
    """As far as they are ours: what is compared is the same work."""
    model, device = ModelSpec(units=5, embedding=4), torch.device("cpu")
    found = {}
    for name, loop in bench_training.variants(model, 3, 2, device).items():
        with FlopCounterMode(display=False) as counter:
            loop()
        found[name] = counter.get_total_flops()
    assert set(found) == {"nn.LSTM, one after the other", "ours", "ours, in one group"}
    assert found["ours"] == found["ours, in one group"]
