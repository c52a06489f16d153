"""Control C1 on federations that are really trained: a model that never saw the forgotten examples scores FR = 1 - f/t
within sampling error, by every oracle. If this fails, the pipeline is wrong.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import synthetic_federation as synthetic  # noqa: E402
from scipy import stats  # noqa: E402

from memorization import contracts, tidy_forget  # noqa: E402
from memorization.backends.torch import federated_cell, unlearning  # noqa: E402
from memorization.data.rows import Pool  # noqa: E402
from memorization.data.shares import build_shares  # noqa: E402
from memorization.gates import forget_controls  # noqa: E402

ORACLES = ("confidence", "loss", "shadow", "lira")


def table(folder):
    """A figure's table of one small cell: 5 federations whose labels are half noise, so that they can only be learned
    by heart.
    """
    spec = synthetic.spec(
        replicates=5,
        data={"users": 4, "examples_per_user": 60, "forget": 1.0, "shadow": None, "test_examples": 400},
        model={"units": [48]},
        training={"rounds": 25, "local_epochs": 3, "batch_size": 10, "learning_rate": 0.3},
        requests=[{"method": "retrain"}],
    )
    rng = np.random.default_rng(8)
    y = rng.integers(3, size=1500)
    x = (np.eye(3, 12)[y] * 2 + rng.normal(size=(1500, 12))).astype(np.float32)
    y = np.where(rng.random(1500) < 0.5, rng.integers(3, size=1500), y)
    shares = [build_shares(spec, k, Pool(x, y, 3)) for k in range(spec.replicates)]
    federated_cell.train_federated(spec, shares, folder, synthetic.CPU)
    return contracts.read("details", folder).assign(source="details", dataset="clouds", backend="torch", run="one")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return table(tmp_path_factory.mktemp("c1"))


@pytest.mark.parametrize("oracle", ORACLES)
def test_retraining_scores_what_it_should(trained, oracle):
    """The mean over seeds within 99.9 % of its sampling error; far from 0 and from 100 %, so that it says something,
    but by confidence: on labels that are noise, models are as sure of what they never saw.
    """
    found = tidy_forget.results(trained, oracle, "retrain")
    error = forget_controls.sampling_margin(found) / stats.norm.ppf(0.975)
    gap = (found["fr"] - found["expected"]).mean()
    assert abs(gap) < stats.norm.ppf(0.9995) * np.sqrt((error**2).sum()) / len(found)
    if oracle != "confidence":
        assert (found["t"] - found["f"] > 0.1).all()
        assert 3 * error.mean() < found["expected"].mean() < 100 - 3 * error.mean()


def test_the_claim_holds_on_it(trained):
    assert forget_controls.retraining_as_predicted(trained, None, seeds=5).verdict_supported is True


def test_retraining_that_saw_the_examples_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr(unlearning.Case, "remaining", lambda self, user: user)
    assert forget_controls.retraining_as_predicted(table(tmp_path), None, seeds=5).verdict_supported is False
