"""DropConnect, drops of the learning rate and the further optimisers: what they do, and that an interrupted run ends
the same.
"""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from interruption import interrupt  # noqa: E402
from test_training import VOCABULARY, assert_equal_weights, make_corpora, make_spec, train  # noqa: E402

from memorization import backends, contracts  # noqa: E402
from memorization import weights as weight_files  # noqa: E402
from memorization.backends import checkpoint, training  # noqa: E402
from memorization.backends.torch.group import Group  # noqa: E402
from memorization.configuration import validate  # noqa: E402
from memorization.errors import UserError  # noqa: E402
from memorization.sampling import epoch_order  # noqa: E402
from memorization.specs import RunSpec  # noqa: E402

RATES = {"momentum": 0.2, "adagrad": 0.05, "adadelta": 3.0}


@pytest.mark.parametrize("optimizer", RATES)
def test_loss_falls_on_a_repetitive_text(tmp_path, optimizer):
    _, curves = train(make_spec(epochs=8.0, optimizer=optimizer, learning_rate=RATES[optimizer]), tmp_path)
    losses = curves["train_loss_nats"]
    assert losses[8] < 0.8 * losses[1]


def make_group(**options):
    spec = make_spec(2, **options)
    return Group(spec, [0, 1], make_corpora(spec), torch.device("cpu"))


def masked_share(group, before):
    """Share of recurrent weights that one step of plain SGD left as they were: their gradient was zero."""
    return {
        name: float((group.weights[name].detach() == before[name]).float().mean())
        for name in before
        if weight_files.trained(name)
    }


def one_step(**options):
    group = make_group(optimizer="sgd", learning_rate=1.0, **options)
    before = {name: w.detach().clone() for name, w in group.weights.items()}
    next(group.train_epoch(1, 1))
    return group, before


def test_dropconnect_masks_that_share_of_the_recurrent_weights_only():
    shares = masked_share(*one_step(weight_dropout=0.4))
    for name, share in shares.items():
        if "weight_hh" in name:
            assert 0.3 < share < 0.5, name
        elif name.startswith("lstm.weight_ih_l1"):
            assert share < 0.1, name


def test_dropconnect_scales_what_is_left():
    """A batch's loss is that of the weights with a mask of zeros and 1 / (1 - p)."""
    group = make_group(weight_dropout=0.4)
    batches = group.train_epoch(1, 1)
    original, seen = group._connected, []
    group._connected = lambda: seen.append(original()) or seen[-1]
    next(batches)
    for name in ("lstm.weight_hh_l0", "lstm.weight_hh_l1"):
        fresh = weight_files.initial_weights(group.spec.model, len(VOCABULARY), np.random.default_rng(0))
        assert fresh[name].shape == seen[0][name].shape[1:]
        start = make_group().weights[name].detach()
        ratio = (seen[0][name] / start).detach()
        assert torch.isclose(ratio, torch.zeros(())).logical_or(torch.isclose(ratio, torch.tensor(1 / 0.6))).all()
        assert not torch.equal(seen[0][name][0], seen[0][name][1])


def test_dropconnect_draws_a_new_mask_for_every_batch_and_none_for_evaluation(tmp_path):
    group = make_group(weight_dropout=0.4)
    original, seen = group._connected, []
    group._connected = lambda: seen.append(original()) or seen[-1]
    list(group.train_epoch(1, 3))
    zero = [(drawn["lstm.weight_hh_l0"] == 0) for drawn in seen]
    assert not torch.equal(zero[0], zero[1])
    assert not torch.equal(zero[1], zero[2])
    _, without = train(make_spec(epochs=1.0), tmp_path / "a")
    _, with_it = train(make_spec(epochs=1.0, weight_dropout=0.5), tmp_path / "b")
    assert with_it["validation_loss_nats"][0] == without["validation_loss_nats"][0]
    assert with_it["train_loss_nats"][1] != without["train_loss_nats"][1]


def test_a_replicate_is_bitwise_the_same_whatever_rides_along(tmp_path):
    alone, pair = (train(make_spec(n, weight_dropout=0.3, dropout=0.2), tmp_path / str(n)) for n in (1, 2))
    for name, array in pair[0].items():
        np.testing.assert_array_equal(array[:1], alone[0][name], err_msg=name)


def test_the_learning_rate_drops_after_the_named_epochs():
    group, rates = make_group(learning_rate_drops=[1, 3], learning_rate=0.5), []
    for epoch in (1, 2, 3, 4):
        next(group.train_epoch(epoch, 1))
        rates.append(group.optimizer.rate)
    assert rates == pytest.approx([0.5, 0.05, 0.05, 0.005])


def test_a_drop_slows_training(tmp_path):
    """SGD with a rate a thousandth of it hardly moves."""
    options = {"optimizer": "sgd", "learning_rate": 1.0, "keep": "final"}
    first, _ = train(make_spec(epochs=1.0, **options), tmp_path / "one")
    dropped, _ = train(make_spec(epochs=2.0, learning_rate_drops=[1, 1, 1], **options), tmp_path / "dropped")
    kept, _ = train(make_spec(epochs=2.0, **options), tmp_path / "kept")
    moved, free = (np.abs(w["output.weight"] - first["output.weight"]).max() for w in (dropped, kept))
    assert 0 < moved < 0.01 * free


@pytest.mark.parametrize("optimizer", RATES)
def test_resuming_is_bitwise_the_same(tmp_path, monkeypatch, optimizer):
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    spec = make_spec(
        2, epochs=4.0, optimizer=optimizer, learning_rate=RATES[optimizer], learning_rate_drops=[2],
        weight_dropout=0.3, weight_decay=1e-3,
    )  # fmt: skip
    whole = train(spec, tmp_path / "whole")
    part = tmp_path / "part"
    interrupt(monkeypatch, lambda: train(spec, part))
    assert (part / checkpoint.FILE).exists()
    resumed = train(spec, part)
    assert_equal_weights(whole[0], resumed[0])
    columns = ["step", "train_loss_nats", "validation_loss_nats"]
    assert contracts.read("curves", part)[columns].equals(contracts.read("curves", tmp_path / "whole")[columns])


PRIVATE = {"privacy": {"clip": 1.0, "noise_multiplier": 1.0}}


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        ({**PRIVATE, "training": {"gradient_clip": None, "weight_dropout": 0.5}}, "not in private training"),
        ({**PRIVATE, "training": {"gradient_clip": None, "learning_rate_drops": [2]}}, "not in private training"),
        (
            {**PRIVATE, "training": {"gradient_clip": None, "optimizer": "adagrad"}},
            "training has rmsprop, adam",
        ),
        ({"training": {"weight_dropout": 0.5}, "model": {"architecture": "cnn"}}, "only for model.architecture lstm"),
    ],
)
def test_what_does_not_go_together_is_one_clear_line(tree, said):
    with pytest.raises(UserError, match=said):
        validate(RunSpec, tree, "here")


def test_tensorflow_refuses_dropconnect_and_nothing_else_of_this():
    with pytest.raises(UserError, match=r"here: training\.weight_dropout: back end 'tf' has no 0\.5; .* torch"):
        backends.require_able("tf", make_spec(weight_dropout=0.5), "here")
    for optimizer in RATES:
        for name in ("torch", "tf"):
            backends.require_able(name, make_spec(optimizer=optimizer, learning_rate_drops=[1]), "here")


def test_bagging_draws_windows_with_replacement_in_every_epoch(tmp_path):
    group = make_group(sampling="with_replacement")
    for epoch in (1, 2):
        seen = list(group.train_epoch(epoch, group.batches))
        for row, member in enumerate(group.members):
            windows = np.concatenate([batch[row] for batch in seen])
            assert windows.tolist() == epoch_order(group.spec.training, 0, member, epoch, len(windows)).tolist()
            assert len(set(windows.tolist())) < len(windows) == group.data["train"].count


def test_bagging_is_deterministic_whatever_rides_along_and_not_shuffling(tmp_path):
    alone, pair = (train(make_spec(n, sampling="with_replacement"), tmp_path / str(n)) for n in (1, 2))
    for name, array in pair[0].items():
        np.testing.assert_array_equal(array[:1], alone[0][name], err_msg=name)
    _, shuffled = train(make_spec(1), tmp_path / "shuffled")
    assert shuffled["train_loss_nats"][1] != alone[1]["train_loss_nats"][1]
    assert shuffled["validation_loss_nats"][0] == alone[1]["validation_loss_nats"][0]


def test_an_interrupted_bagging_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    spec = make_spec(2, epochs=3.0, sampling="with_replacement")
    whole, part = train(spec, tmp_path / "whole"), tmp_path / "part"
    interrupt(monkeypatch, lambda: train(spec, part))
    assert_equal_weights(whole[0], train(spec, part)[0])
