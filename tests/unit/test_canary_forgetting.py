"""Claims on exposure after forgetting, and its figure, on synthetic federations."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from papers_paths import PAPERS

from memorization import forget_requests, plotting, tidy
from memorization.backends.details import Details
from memorization.federated_specs import RequestSpec
from memorization.gates import forget_canary as gates

FOLDER = PAPERS / "learn_to_forget"
METHODS = ("retrain", "forsaken", "ascent", "federaser", "without_user", "placebo")
ROUNDS, AGAIN, BITS = 4, 5, 20.0
FORGET = {"method": "forsaken", "seeds": 5}
UNSEEN = np.array([0.3, 0.7, 1.1, 1.8, 3.4])
"""Exposures of canaries that nobody saw."""


def table(ends=None, base=19.0, seeds=5, losses=None, pace=None, spread=1.0):
    """A figure's table. ends, losses: method -> exposure (bits, or one per seed) and test loss (nats) at the end;
    pace: method -> bits regained in a round when the text is back.
    """
    ends = {"retrain": UNSEEN, "forsaken": UNSEEN[::-1], "without_user": 15.0} | (ends or {})
    rng, details = np.random.default_rng(4), Details()
    forget_requests.record(details, [RequestSpec(method=method, rounds=ROUNDS) for method in METHODS])

    def add(measure, values, item, step, part=""):
        details.add(measure, part, values, step=step, epoch=float(step), replicate=np.arange(seeds), item=item)

    def noisy(value, scale=spread):
        return np.resize(value, seeds) + (scale * rng.standard_normal(seeds) if np.ndim(value) == 0 else 0)

    start = np.clip(noisy(base), 0.01, BITS)
    states = [(-1, 0, start, noisy(2.0, 0.01))]
    for item, method in enumerate(METHODS):
        end = np.clip(noisy(ends.get(method, 2.0)), 0.01, BITS)
        loss = noisy((losses or {}).get(method, 2.0), 0.01)
        steps = [ROUNDS] if method in ("retrain", "federaser") else range(1, ROUNDS + 1)
        states += [(item, j, start + (end - start) * j / ROUNDS, loss) for j in steps]
        for j in range(AGAIN + 1):
            add("exposure_relearned", np.clip(end + (pace or {}).get(method, 3.0) * j, 0, BITS), item, j)
    for item, step, bits, loss in states:
        add("exposure_bits", bits, item, step)
        add("canary_rank", 2 ** (BITS - bits), item, step)
        add("loss_nats", loss, item, step, "test")
    about = {"source": "details", "backend": "torch", "run": "one", "dataset": "ptb", "data_source": "download"}
    return details.frame().assign(**about, replicates=seeds, figure="canary_unlearning", scale="reduced")


def verdict(test, found, **parameters):
    return test(found, tidy.read_reference(FOLDER / "reference.csv", "canary_unlearning"), **parameters)


@pytest.mark.parametrize(
    ("changes", "rival", "expected"),
    [
        ({}, "base", True),
        ({}, "without_user", True),
        ({"ends": {"forsaken": 20.0}}, "base", False),
        ({"ends": {"forsaken": 19.0}}, "without_user", False),
        ({"ends": {"forsaken": np.array([1.0, 19.5, 18.0])}, "seeds": 3}, "base", None),
        ({"base": UNSEEN}, "base", None),
        ({"seeds": 2}, "base", None),
    ],
)
def test_exposure_lowered(changes, rival, expected):
    found = verdict(gates.canary_exposure_lowered, table(**changes), rival=rival, **FORGET)
    assert found.verdict_supported is expected
    assert found.summary


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ends": {"forsaken": UNSEEN + 0.2}}, True),
        ({"ends": {"forsaken": 12.0}}, False),
        ({"ends": {"forsaken": np.array([0.1, 9.0, 1.0, 8.0, 2.0])}}, None),
        ({"ends": {"forsaken": UNSEEN}, "base": UNSEEN}, None),
        ({"ends": {"forsaken": UNSEEN}, "seeds": 2}, None),
    ],
)
def test_exposure_as_retrained(changes, expected):
    found = verdict(gates.canary_as_retrained, table(**changes), margin=3.0, **FORGET)
    assert found.verdict_supported is expected


@pytest.mark.parametrize(
    ("retrained", "seeds", "expected"),
    [(UNSEEN, 5, True), (9.0, 5, False), (UNSEEN * 2.5, 3, None), (UNSEEN, 2, None)],
)
def test_retraining_is_null(retrained, seeds, expected):
    found = verdict(gates.retrained_is_null, table(ends={"retrain": retrained}, seeds=seeds), limit=5.0, seeds=5)
    assert found.verdict_supported is expected


def test_the_limits_of_a_null_mean_cover_it():
    """They hold 1/ln 2 in 90 % of samples of five."""
    drawn = np.random.default_rng(0).exponential(1 / np.log(2), (1000, 5))
    low, high = np.array([gates.mean_limits(row) for row in drawn]).T
    held = np.count_nonzero((low <= 1 / np.log(2)) & (1 / np.log(2) <= high))
    assert 865 <= held <= 935


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pace": {"forsaken": 9.0, "retrain": 2.5}}, True),
        ({"pace": {"forsaken": 2.0, "retrain": 9.0}}, False),
        ({"pace": {"forsaken": 0.1, "retrain": 0.1}}, None),
        ({"ends": {"forsaken": 15.0}}, None),
        ({"pace": {"forsaken": 9.0, "retrain": 2.5}, "seeds": 2}, None),
    ],
)
def test_relearned_sooner(changes, expected):
    found = verdict(gates.relearned_sooner, table(**changes), level=10.0, **FORGET)
    assert found.verdict_supported is expected


def test_rounds_to_the_level_lie_between_measurements():
    found, last = gates.rounds_to_level(
        table(ends={"retrain": 1.0, "forsaken": 4.0}, pace={"retrain": 0.0}, spread=0.0), "forsaken", 10.0
    )
    assert last == AGAIN
    np.testing.assert_allclose(found, 2.0)
    never, _ = gates.rounds_to_level(table(pace={"retrain": 0.0}), "retrain", 10.0)
    assert (never == AGAIN).all()


@pytest.mark.parametrize(("loss", "seeds", "expected"), [(2.0, 5, True), (2.3, 5, False), (2.03, 2, None)])
def test_loss_is_spared(loss, seeds, expected):
    found = verdict(
        gates.forgetting_spares_loss,
        table(losses={"forsaken": loss}, seeds=seeds),
        rival="without_user",
        margin=0.05,
        method="forsaken",
        seeds=5,
    )
    assert found.verdict_supported is expected


def drawn(found, tmp_path):
    spec = importlib.util.spec_from_file_location("learn_to_forget_plots", FOLDER / "plots.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reference = tidy.read_reference(FOLDER / "reference.csv", "canary_unlearning")
    figure = module.canary_unlearning(found, reference)
    plotting.save(figure, tmp_path / "f.pdf", tmp_path / "f.png")
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_the_figure_shows_every_method(tmp_path):
    told = drawn(table(), tmp_path)
    for name in ("Forsaken", "retraining (where it ends)", "FedEraser", "gradient ascent", "placebo", "n = 5"):
        assert name in told
    assert "relearned: 10 bits (ours)" in told
    assert "log$_2$|R| = 20.0" in told


def test_the_figure_survives_missing_rows(tmp_path):
    assert "no federation" in drawn(pd.DataFrame(columns=[*table().columns]), tmp_path)
    assert "did not come back" in drawn(table().query("measure != 'exposure_relearned'"), tmp_path)
