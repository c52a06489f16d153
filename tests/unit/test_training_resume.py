"""An interrupted training continues to the very same numbers."""

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from test_training import assert_equal_weights, fake_measure, make_corpora, make_spec, train  # noqa: E402

from memorization import contracts  # noqa: E402
from memorization import weights as weight_files  # noqa: E402
from memorization.backends import checkpoint, training  # noqa: E402
from memorization.data.corpora import training_data  # noqa: E402
from memorization.errors import UserError  # noqa: E402

MEASURE = {"every": "epoch", "references": 20, "controls": 2}


@pytest.fixture(autouse=True)
def _checkpoint_every_epoch(monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr("memorization.exposure.measure", fake_measure)


@pytest.fixture
def spec():
    """Optimiser state, dropout, early stopping, a partial last epoch: everything that must survive."""
    return make_spec(
        3, measure=MEASURE, epochs=5.5, optimizer="adam", dropout=0.2, patience=1, learning_rate=0.03, weight_decay=1e-3
    )


@pytest.fixture
def whole(spec, tmp_path):
    """An uninterrupted run."""
    train(spec, tmp_path / "whole")
    return tmp_path / "whole"


def interrupt(spec, run_dir, monkeypatch, epochs):
    """Train, with a measuring hook that fails once that many epochs of all three replicates are measured."""
    calls = []

    def failing(model, fmt, *args, **options):
        calls.append(1)
        if len(calls) > 3 * (epochs + 1):
            raise KeyboardInterrupt
        return fake_measure(model, fmt, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr("memorization.exposure.measure", failing)
        with pytest.raises(KeyboardInterrupt):
            train(spec, run_dir)


def assert_same_run(one, other, spec):
    size = len(make_corpora(spec)[0].vocabulary)
    assert_equal_weights(*(weight_files.load(d, spec.model, size) for d in (one, other)))
    for name, timing in (("curves", ["wall_s"]), ("measures", [])):
        frames = [contracts.read(name, d).drop(columns=timing) for d in (one, other)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert not (other / checkpoint.FILE).exists()


@pytest.mark.parametrize("epochs", [1, 2])
def test_resuming_after_an_exception_is_bitwise_the_same(spec, whole, tmp_path, monkeypatch, epochs):
    interrupt(spec, tmp_path / "part", monkeypatch, epochs)
    assert (tmp_path / "part" / checkpoint.FILE).exists()
    assert not (tmp_path / "part" / weight_files.FILE).exists()
    first_steps = []
    original = training.Trainer._run_epoch
    monkeypatch.setattr(
        training.Trainer, "_run_epoch", lambda self: (first_steps.append(self.epoch), original(self))[1]
    )
    train(spec, tmp_path / "part")
    assert first_steps[0] == epochs
    assert_same_run(whole, tmp_path / "part", spec)


def test_early_stopping_happens_in_the_resumed_run(spec, whole):
    """Otherwise the tests above would not cover it."""
    assert contracts.read("curves", whole).groupby("replicate")["step"].max().nunique() > 1


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from memorization.backends import checkpoint, training
import memorization.exposure
from memorization.specs import RunSpec
from test_training import fake_measure, make_corpora, train
memorization.exposure.measure = fake_measure
training.CHECKPOINT_S = 0.0
original = training.Trainer._train_group
def killing(self, group, batches):
    if self.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, group, batches)
training.Trainer._train_group = killing
spec = RunSpec.model_validate_json(Path(sys.argv[1]).read_text())
train(spec, Path(sys.argv[2]))
"""


def test_resuming_after_sigkill_is_bitwise_the_same(spec, whole, tmp_path):
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[1] / "workflow")]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "spec.json"), str(tmp_path / "part"), *paths]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert (tmp_path / "part" / checkpoint.FILE).exists()
    train(spec, tmp_path / "part")
    assert_same_run(whole, tmp_path / "part", spec)


@pytest.mark.parametrize("damage", [lambda b: b[:-50], lambda b: b[:200] + b"\0\1\2" + b[203:], lambda b: b""])
def test_a_damaged_checkpoint_is_reported_and_training_starts_again(spec, whole, tmp_path, monkeypatch, caplog, damage):
    part = tmp_path / "part"
    interrupt(spec, part, monkeypatch, 1)
    path = part / checkpoint.FILE
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        train(spec, part)
    assert [r.message for r in caplog.records if "damaged" in r.message] == [
        f"{path} is damaged: training starts again"
    ]
    assert_same_run(whole, part, spec)


def test_a_checkpoint_of_another_spec_is_not_used(spec, tmp_path, monkeypatch, caplog):
    part = tmp_path / "part"
    interrupt(spec, part, monkeypatch, 1)
    other = spec.model_copy(update={"seed": 1})
    with caplog.at_level(logging.WARNING):
        train(other, part)
    assert any("belongs to another spec" in r.message for r in caplog.records)
    train(other, tmp_path / "fresh")
    assert_same_run(tmp_path / "fresh", part, other)


def test_a_full_disk_is_one_clear_line_and_keeps_the_last_checkpoint(spec, whole, tmp_path, monkeypatch):
    part, saves, replace = tmp_path / "part", [], os.replace

    def full(source, target):
        saves.append(target)
        if len(saves) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(UserError, match=r"checkpoint\.pkl: the disk is full"):
            train(spec, part)
    assert [path.name for path in part.iterdir()] == [checkpoint.FILE]
    content = checkpoint.load(
        part, checkpoint.fingerprint(spec, training_data(make_corpora(spec)), f"torch {torch.__version__} cpu")
    )
    assert content["epoch"] == 1
    train(spec, part)
    assert_same_run(whole, part, spec)


def test_a_one_block_group_resumes_after_a_replicate_stopped(spec, tmp_path, monkeypatch):
    """The GPU's arrangement: a checkpoint holds fewer replicates than the run began with."""
    monkeypatch.setattr("memorization.backends.torch.blocks", lambda count, device, private=False: [list(range(count))])
    train(spec, tmp_path / "whole")
    counts, original = [], training.Trainer._run_epoch

    def failing(self):
        counts.append(len(self.groups[0].members))
        if counts[-1] < counts[0]:
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "_run_epoch", failing)
        with pytest.raises(KeyboardInterrupt):
            train(spec, tmp_path / "part")
    assert (tmp_path / "part" / checkpoint.FILE).exists()
    train(spec, tmp_path / "part")
    assert_same_run(tmp_path / "whole", tmp_path / "part", spec)
    assert np.isfinite(contracts.read("curves", tmp_path / "part")["validation_loss_nats"]).all()
