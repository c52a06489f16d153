"""Private training in the PyTorch back end: batches, noise, resuming, and that the mechanism of privacy.csv is used."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from interruption import interrupt

from memorization import contracts
from memorization import weights as weight_files
from memorization.privacy_file import Mechanism
from memorization.sampling import poisson_batches, shuffled_batches
from memorization.streams import stream

torch = pytest.importorskip("torch")
pytest.importorskip("opacus")

from test_training import VOCABULARY, assert_equal_weights, fake_measure, make_corpora, make_spec  # noqa: E402

from memorization.backends import checkpoint, training  # noqa: E402
from memorization.backends import torch as backend  # noqa: E402
from memorization.backends.torch.group import Group, blocks  # noqa: E402
from memorization.backends.torch.private_group import PrivateGroup  # noqa: E402
from memorization.errors import UserError  # noqa: E402
from memorization.specs import RunSpec  # noqa: E402

CPU = torch.device("cpu")


def private_spec(replicates=1, privacy=None, **options):
    spec = make_spec(replicates, gradient_clip=None, **options)
    return RunSpec.model_validate(
        {**spec.model_dump(), "privacy": {"clip": 0.5, "noise_multiplier": 0.8, **(privacy or {})}}
    )


def examples(spec):
    return (len(make_corpora(spec)[0].train) - 1) // spec.training.sequence_length


def mechanism(spec, noise=0.8, clip=0.5):
    count, batch = examples(spec), spec.training.batch_size
    return Mechanism(noise, clip, batch / count, max(1, count // batch), batch)


def write_privacy(run_dir, spec, noise=0.8):
    """The file that the `account` command leaves; epsilons play no part in training."""
    about = mechanism(spec, noise)
    row = dict.fromkeys(contracts.columns("privacy"), 1.0) | {
        "noise_multiplier": about.noise_multiplier,
        "clip": about.clip,
        "sample_rate": about.sample_rate,
        "examples": examples(spec),
        "batch_size": about.batch_size,
        "steps": 10,
        "sampling": spec.privacy.sampling,
        "convention": "rdp",
        "unit": "window",
    }
    run_dir.mkdir(parents=True, exist_ok=True)
    contracts.write("privacy", pd.DataFrame([row]), run_dir)


def train(spec, run_dir, noise=0.8):
    write_privacy(run_dir, spec, noise)
    backend.train(spec, make_corpora(spec), run_dir, device="cpu")
    return weight_files.load(run_dir, spec.model, len(VOCABULARY)), contracts.read("curves", run_dir)


def one_group(spec, about=None):
    return PrivateGroup(spec, [0], make_corpora(spec)[:1], CPU, about or mechanism(spec))


def test_poisson_batches_are_those_of_the_shared_stream():
    spec = private_spec()
    group = one_group(spec)
    for epoch in (1, 2):
        expected = poisson_batches(
            stream(spec.seed, 0, f"poisson-{epoch}"), examples(spec), group.mechanism.sample_rate, group.batches
        )
        for batch, rows in zip(group.train_epoch(epoch, group.batches), expected, strict=True):
            assert batch[0].tolist() == rows.tolist()


def test_shuffled_batches_are_full_ones_of_the_epochs_order():
    spec = private_spec(privacy={"sampling": "shuffle"})
    group = one_group(spec)
    order = stream(spec.seed, 0, "shuffle-1").permutation(examples(spec))
    seen = [batch[0].tolist() for batch in group.train_epoch(1, group.batches)]
    assert seen == [rows.tolist() for rows in shuffled_batches(order, 8)]
    assert len(seen) == group.batches == examples(spec) // 8


def test_an_epoch_cut_short_takes_the_first_batches():
    spec = private_spec()
    whole, part = ([b[0].tolist() for b in one_group(spec).train_epoch(1, n)] for n in (8, 3))
    assert part == whole[:3]


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "sgd"])
def test_without_noise_and_clipping_it_is_ordinary_training(optimizer):
    """A bound that no gradient reaches: the steps of a non-private group, but for rounding."""
    options = {"optimizer": optimizer, "weight_decay": 0.01, "learning_rate": 0.01}
    private = private_spec(privacy={"sampling": "shuffle"}, **options)
    plain = make_spec(gradient_clip=None, **options)
    ours = one_group(private, mechanism(private, noise=0.0, clip=1e6))
    reference = Group(plain, [0], make_corpora(plain), CPU)
    for group in (ours, reference):
        for epoch in (1, 2):
            list(group.train_epoch(epoch, ours.batches))
    np.testing.assert_allclose(ours.epoch_loss, reference.epoch_loss, rtol=1e-4)
    for name, array in reference.weights_of(0).items():
        np.testing.assert_allclose(ours.weights_of(0)[name], array, rtol=1e-2, atol=1e-3, err_msg=name)


def test_clipping_limits_a_step():
    """Plain SGD moves the weights by at most rate * (records * clip) / batch size."""
    spec = private_spec(optimizer="sgd", learning_rate=1.0)
    group = one_group(spec, mechanism(spec, noise=0.0, clip=1e-3))
    before = group.weights_of(0)
    rows = next(group.train_epoch(1, 1))
    moved = sum(float(((group.weights_of(0)[n] - a) ** 2).sum()) for n, a in before.items()) ** 0.5
    assert 0 < moved <= rows.shape[1] * 1e-3 / 8 * 1.001


def test_a_step_without_windows_adds_noise_only():
    """s.d. rate * clip * noise / batch size on every trained array, none on bias_hh; the epoch's loss is unknown."""
    spec = private_spec(optimizer="sgd", learning_rate=1.0, epochs=1.0)
    about = Mechanism(2.0, 0.5, 1e-9, 1, 8)
    group = one_group(spec, about)
    before = group.weights_of(0)
    assert [b.shape for b in group.train_epoch(1, 1)] == [(1, 0)]
    assert np.isnan(group.epoch_loss).all()
    moved = {name: group.weights_of(0)[name] - array for name, array in before.items()}
    assert not any(moved[name].any() for name in moved if not weight_files.trained(name))
    flat = np.concatenate([moved[name].ravel() for name in moved if weight_files.trained(name)])
    assert flat.std() == pytest.approx(2.0 * 0.5 / 8, rel=5 / np.sqrt(2 * flat.size))


def test_noise_differs_between_epochs_and_replicates_and_repeats():
    spec = private_spec(2, optimizer="sgd", learning_rate=1.0)
    about = Mechanism(2.0, 0.5, 1e-9, 1, 8)

    def moved(member, epoch):
        group = PrivateGroup(spec, [member], make_corpora(spec)[member : member + 1], CPU, about)
        before = group.weights_of(member)["output.weight"]
        list(group.train_epoch(epoch, 1))
        return group.weights_of(member)["output.weight"] - before

    first = moved(0, 1)
    np.testing.assert_array_equal(first, moved(0, 1))
    for other in (moved(0, 2), moved(1, 1)):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(first.size)


def test_private_replicates_are_groups_of_their_own_on_every_device():
    for device in ("cpu", "cuda"):
        assert blocks(3, torch.device(device), private=True) == [[0], [1], [2]]
    with pytest.raises(ValueError, match="each needs its own"):
        PrivateGroup(private_spec(2), [0, 1], make_corpora(private_spec(2)), CPU, mechanism(private_spec(2)))


@pytest.mark.parametrize("embedding", [5, None])
def test_training_uses_privacy_csv(tmp_path, embedding):
    """The noise multiplier is the file's, not the specification's; curves count the mechanism's steps."""
    spec = private_spec(2, privacy={"noise_multiplier": 0.8}, model={"embedding": embedding})
    quiet, curves = train(spec, tmp_path / "quiet", noise=0.0)
    loud, _ = train(spec, tmp_path / "loud", noise=5.0)
    assert not np.array_equal(quiet["output.weight"], loud["output.weight"])
    steps = mechanism(spec).steps_per_epoch
    assert curves.query("replicate == 1")["step"].tolist() == [0, steps, 2 * steps]
    again, _ = train(spec, tmp_path / "again", noise=0.0)
    assert_equal_weights(quiet, again)


def test_it_learns_with_little_noise(tmp_path):
    spec = private_spec(privacy={"clip": 5.0}, epochs=8.0)
    _, curves = train(spec, tmp_path, noise=0.01)
    assert curves["train_loss_nats"].iloc[-1] < 0.8 * curves["train_loss_nats"].iloc[1]


def test_without_privacy_csv_there_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match=r"privacy\.csv: missing"):
        backend.train(private_spec(), make_corpora(private_spec()), tmp_path, device="cpu")


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "sgd"])
def test_resuming_is_bitwise_the_same(tmp_path, monkeypatch, optimizer):
    """Dropout, early stopping, a partial last epoch, noise: stopped after two epochs and continued."""
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr("memorization.exposure.measure", fake_measure)
    rate = 1.0 if optimizer == "sgd" else 0.02
    spec = private_spec(
        2, optimizer=optimizer, learning_rate=rate, epochs=5.5, dropout=0.2, patience=2, weight_decay=1e-3,
        measure={"every": "epoch", "references": 20, "controls": 2},
    )  # fmt: skip
    whole = train(spec, tmp_path / "whole")
    interrupt(monkeypatch, lambda: train(spec, tmp_path / "part"))
    assert (tmp_path / "part" / checkpoint.FILE).exists()
    part = train(spec, tmp_path / "part")
    assert_equal_weights(whole[0], part[0])
    pd.testing.assert_frame_equal(*(c.drop(columns="wall_s") for _, c in (whole, part)), check_exact=True)


def test_a_checkpoint_under_another_noise_is_not_used(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    spec = private_spec(epochs=3.0)
    original = training.Trainer._run_epoch

    def stops(self):
        if self.epoch == 1:
            raise KeyboardInterrupt
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(training.Trainer, "_run_epoch", stops)
        with pytest.raises(KeyboardInterrupt):
            train(spec, tmp_path / "part", noise=0.5)
    other, _ = train(spec, tmp_path / "part", noise=0.0)
    assert "belongs to another" in caplog.text
    assert_equal_weights(other, train(spec, tmp_path / "whole", noise=0.0)[0])


def test_the_accountant_survives_a_checkpoint():
    spec = private_spec()
    group = one_group(spec)
    list(group.train_epoch(1, group.batches))
    state = group.state()
    other = one_group(spec)
    other.restore(state)
    assert other.optimizer.accountant.history == group.optimizer.accountant.history
    assert sum(steps for _, _, steps in other.optimizer.accountant.history) == group.batches


def test_only_private_training_imports_opacus():
    """It takes seconds, as does torch's compiler, which torch.optim brings along."""
    code = "import sys, memorization.backends.torch as b; print({'opacus', 'torch._dynamo'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"
