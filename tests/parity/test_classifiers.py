"""Classifiers that fit data or noise: both back ends, each in its own environment, train them to the same numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classifier_cases import MODELS

from conftest import ROOT, run

TOLERANCE = 1e-4
"""Relative, of float32 arithmetic in another order over four steps."""


@pytest.fixture(scope="module")
def trained(built, tmp_path_factory) -> dict[str, Path]:
    """Back end -> the folder that classifier_cases.py filled."""
    folders = {}
    for backend, python in built.items():
        folders[backend] = tmp_path_factory.mktemp(backend)
        command = [str(python), str(ROOT / "tests" / "parity" / "classifier_cases.py"), backend, str(folders[backend])]
        ended = run(command, ROOT, PYTHONPATH="workflow", OMP_NUM_THREADS="1")
        assert ended.returncode == 0, ended.stderr[-3000:]
    return folders


@pytest.mark.parametrize("model", MODELS)
def test_weights_after_training_agree(trained, model):
    ours, theirs = (np.load(trained[backend] / model / "model.npz") for backend in ("torch", "tf"))
    assert list(ours) == list(theirs)
    for name in ours:
        # By norms: where two maxima tie rounding decides which one is followed. Biases before a normalisation have no
        # gradient but rounding's.
        apart, size = np.linalg.norm(theirs[name] - ours[name]), np.linalg.norm(ours[name])
        assert apart < max(TOLERANCE * size, 1e-5), name


@pytest.mark.parametrize("model", MODELS)
def test_losses_of_the_same_weights_agree(trained, model):
    ours, theirs = (np.load(trained[backend] / f"{model}.npz")["losses"] for backend in ("torch", "tf"))
    np.testing.assert_allclose(theirs, ours, rtol=TOLERANCE)


@pytest.mark.parametrize("model", MODELS)
def test_what_is_recorded_agrees(trained, model):
    """Training losses of every epoch, accuracies and losses by subset, the same rows in the same order."""
    keys = ["replicate", "step", "epoch", "measure", "part", "item", "other"]
    ours, theirs = (pd.read_csv(trained[backend] / model / "details.csv") for backend in ("torch", "tf"))
    pd.testing.assert_frame_equal(*(frame[keys].sort_values(keys, ignore_index=True) for frame in (ours, theirs)))
    both = ours.merge(theirs, on=keys)
    np.testing.assert_allclose(both["value_x"], both["value_y"], rtol=TOLERANCE)
    curves = [pd.read_csv(trained[backend] / model / "curves.csv") for backend in ("torch", "tf")]
    np.testing.assert_allclose(*(frame["train_loss_nats"] for frame in curves), rtol=TOLERANCE)
