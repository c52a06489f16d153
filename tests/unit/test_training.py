"""Training: what it learns, what it keeps, and that replicates do not touch each other."""

import numpy as np
import pandas as pd
import pytest

from memorization import contracts
from memorization import weights as weight_files
from memorization.data.corpora import PlantedCanary, TrainingCorpus
from memorization.errors import UserError
from memorization.specs import RunSpec
from memorization.streams import stream
from memorization.vocabulary import Vocabulary

torch = pytest.importorskip("torch")

from memorization.backends import torch as backend  # noqa: E402

VOCABULARY = Vocabulary(tuple("\n 0123456789abcdefghijklmnopqrstuvwxyz"))
LENGTH = 10


def make_spec(replicates=1, measure=None, model=None, **training):
    options = {"batch_size": 8, "sequence_length": LENGTH, "epochs": 2.0, "learning_rate": 0.01} | training
    return RunSpec.model_validate(
        {
            "canary": {"format": "my pin is {d}{d}"},
            "model": {"layers": 2, "units": 9, "embedding": 5} | (model or {}),
            "training": options,
            "measure": measure or {},
            "replicates": replicates,
        }
    )


def make_corpora(spec, lines=30):
    """Repetitive text with one canary per replicate at its own place; held-out text is unlike it.

    So the validation loss soon rises, at an epoch that differs between replicates.
    """
    corpora = []
    for k in range(spec.replicates):
        fill = stream(0, k, "canary").integers(0, 10, 2)
        canary = f"my pin is {fill[0]}{fill[1]}"
        texts = ["the cat sat on the mat"] * lines
        row = int(stream(0, k, "position").integers(1, lines))
        position = row * 23
        whole = "\n".join([*texts[:row], canary, *texts[row:]])
        assert whole[position:].startswith(canary)
        held_out = VOCABULARY.encode("a hat on the sea then atoms come heat the tea not me\n" * 3)
        planted = PlantedCanary(fill, canary, np.array([position]))
        corpora.append(TrainingCorpus(VOCABULARY, VOCABULARY.encode(whole), held_out, held_out[::-1].copy(), planted))
    return corpora


def train(spec, run_dir, corpora=None):
    """Weights and curves of a run."""
    backend.train(spec, corpora or make_corpora(spec), run_dir, device="cpu")
    return weight_files.load(run_dir, spec.model, len(VOCABULARY)), contracts.read("curves", run_dir)


def assert_equal_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def fake_measure(model, fmt, fill, controls, references, *, exact_steps, bootstrap=0, rng):
    """One row with the canary's cost; needs no search."""
    ids = fmt.tokens(model.vocabulary).ids(np.concatenate([np.atleast_2d(fill), controls, references]))
    row = dict.fromkeys(contracts.columns("exposure"), 0.0) | {
        "kind": "inserted",
        "index": 0,
        "method": "sampled",
        "algorithm": "",
        "fill": fmt.fill_text(fill),
        "cost_bits": float(model.log_perplexity(ids)[0]),
        "rank": np.nan,
        "extrapolated": False,
        "model_steps": len(ids),
    }
    row.pop("replicate")
    return pd.DataFrame([row])


@pytest.fixture
def fake_exposure(monkeypatch):
    monkeypatch.setattr("memorization.exposure.measure", fake_measure)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "sgd"])
def test_loss_falls_on_a_repetitive_text(tmp_path, optimizer):
    rate = 1.0 if optimizer == "sgd" else 0.01
    _, curves = train(make_spec(epochs=8.0, optimizer=optimizer, learning_rate=rate), tmp_path)
    assert curves["validation_loss_nats"][0] == pytest.approx(np.log(len(VOCABULARY)), rel=0.1)
    losses = curves["train_loss_nats"]
    assert losses.isna().tolist() == [True] + [False] * 8
    assert losses[8] < 0.8 * losses[1]


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3, "optimizer": "adam", "weight_decay": 0.01}])
def test_a_replicate_is_bitwise_the_same_whatever_rides_along(tmp_path, options):
    alone, pair, three = (
        train(make_spec(replicates, **options), tmp_path / str(replicates)) for replicates in (1, 2, 3)
    )
    for name, array in three[0].items():
        np.testing.assert_array_equal(array[:1], alone[0][name], err_msg=name)
        np.testing.assert_array_equal(array[:2], pair[0][name], err_msg=name)
    columns = ["step", "train_loss_nats", "validation_loss_nats", "test_loss_nats"]
    first = three[1].query("replicate == 0")[columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, alone[1][columns], check_exact=True)
    assert not np.array_equal(three[0]["output.weight"][0], three[0]["output.weight"][1])


def test_one_block_of_replicates_gives_the_same_training_up_to_rounding(tmp_path, monkeypatch):
    """The path that a GPU takes, on a CPU: all replicates in one group, one of them stopping early."""
    spec = make_spec(3, epochs=4.0, optimizer="adam", patience=1, learning_rate=0.03, dropout=0.2)
    apart, apart_curves = train(spec, tmp_path / "apart")
    monkeypatch.setattr("memorization.backends.torch.blocks", lambda count, device, private=False: [list(range(count))])
    together, together_curves = train(spec, tmp_path / "together")
    stopped = apart_curves.groupby("replicate")["step"].max()
    assert stopped.nunique() > 1, "one replicate must stop before another for this test to mean anything"
    assert stopped.equals(together_curves.groupby("replicate")["step"].max())
    for name in apart:
        np.testing.assert_allclose(together[name], apart[name], rtol=2e-2, atol=2e-3, err_msg=name)


def test_every_window_is_used_once_per_epoch_and_in_another_order(tmp_path):
    from memorization.backends.torch.group import Group

    spec = make_spec(2)
    group = Group(spec, [0, 1], make_corpora(spec), torch.device("cpu"))
    count = group.data["train"].count
    assert count % spec.training.batch_size
    epochs = [np.concatenate(list(group.train_epoch(e, group.batches)), axis=1) for e in (1, 2)]
    for order in (*epochs[0], *epochs[1]):
        assert sorted(order) == list(range(count))
    assert len({order.tobytes() for order in (*epochs[0], *epochs[1])}) == 4


def test_without_shuffling_windows_come_in_order(tmp_path):
    from memorization.backends.torch.group import Group

    spec = make_spec(shuffle=False)
    group = Group(spec, [0], make_corpora(spec), torch.device("cpu"))
    assert next(group.train_epoch(1, group.batches)).tolist() == [list(range(8))]


def test_fractional_epochs_stop_after_that_many_batches(tmp_path):
    spec = make_spec(epochs=1.5)
    _, curves = train(spec, tmp_path)
    batches = curves["step"][1]
    assert curves["epoch"][1] == 1
    assert curves["step"].tolist() == [0, batches, round(1.5 * batches)]


def test_best_validation_keeps_the_best_epoch(tmp_path):
    spec = make_spec(epochs=4.0, learning_rate=0.03)
    weights, curves = train(spec, tmp_path / "best")
    kept = curves[curves["kept"]]
    trained = curves[curves["step"] > 0]
    assert len(kept) == 1
    assert kept.index[0] == trained["validation_loss_nats"].idxmin()
    assert kept.index[0] != curves.index[-1], "the last epoch is the best one: this test shows nothing"
    shorter = make_spec(epochs=float(kept["epoch"].iloc[0]), learning_rate=0.03, keep="final")
    assert_equal_weights(train(shorter, tmp_path / "final")[0], weights)


def test_patience_stops_a_replicate(tmp_path):
    spec = make_spec(epochs=30.0, learning_rate=0.03, patience=2)
    _, curves = train(spec, tmp_path)
    best = curves.loc[curves["kept"], "epoch"].iloc[0]
    assert curves["epoch"].max() == best + 2 < 30


def test_final_keeps_the_last_epoch(tmp_path):
    _, curves = train(make_spec(keep="final"), tmp_path)
    assert curves["kept"].tolist() == [False, False, True]


def test_dropout_changes_training_but_not_evaluation(tmp_path):
    _, without = train(make_spec(epochs=1.0), tmp_path / "a")
    _, with_dropout = train(make_spec(epochs=1.0, dropout=0.5), tmp_path / "b")
    assert with_dropout["validation_loss_nats"][0] == without["validation_loss_nats"][0]
    assert with_dropout["train_loss_nats"][1] != without["train_loss_nats"][1]


def test_validation_loss_is_that_of_the_loaded_model(tmp_path):
    """The curve against log_perplexity of every held-out window, scored through the model's interface."""
    from memorization.data.corpora import windows

    spec = make_spec(keep="final")
    corpora = make_corpora(spec)
    _, curves = train(spec, tmp_path, corpora)
    model = backend.load(tmp_path, spec, VOCABULARY, device="cpu")[0]
    inputs, targets = windows(corpora[0].validation, LENGTH)
    bits = model.log_perplexity(np.concatenate([inputs, targets[:, -1:]], axis=1))
    assert curves["validation_loss_nats"].iloc[-1] == pytest.approx(bits.mean() / LENGTH * np.log(2), rel=1e-5)


@pytest.mark.parametrize("every", ["batch", "epoch"])
def test_measures_follow_training(tmp_path, fake_exposure, every):
    spec = make_spec(2, measure={"every": every, "references": 20, "controls": 3}, epochs=2.0)
    corpora = make_corpora(spec)
    _, curves = train(spec, tmp_path, corpora)
    measures = contracts.read("measures", tmp_path)
    for replicate, rows in measures.groupby("replicate"):
        batches = curves["step"][1]
        steps = range(2 * batches + 1) if every == "batch" else (0, batches, 2 * batches)
        assert rows["step"].tolist() == list(steps)
        assert rows["moment"].tolist() == ["start"] + [every] * (len(steps) - 1)
        assert rows["holds_canary"].sum() == 2, "the canary lies in one window, seen once per epoch"
        assert rows["cost_bits"].nunique() == len(rows)
        model = backend.load(tmp_path, spec, VOCABULARY, device="cpu")[replicate]
        if curves.query("replicate == @replicate and kept")["epoch"].iloc[0] == 2:
            ids = VOCABULARY.encode("\n" + corpora[replicate].canary.text)[None]
            assert rows["cost_bits"].iloc[-1] == pytest.approx(model.log_perplexity(ids)[0], rel=1e-5)


def test_real_exposure_fits_the_contract(tmp_path):
    spec = make_spec(measure={"every": "epoch", "references": 50, "controls": 2}, epochs=1.0)
    train(spec, tmp_path)
    measures = contracts.read("measures", tmp_path)
    assert set(measures["method"]) >= {"sampled", "skew_normal"}
    assert set(measures["kind"]) == {"inserted", "control"}


def test_no_measuring_gives_an_empty_table(tmp_path):
    train(make_spec(epochs=1.0), tmp_path)
    assert contracts.read("measures", tmp_path).empty


def test_too_little_text_is_one_clear_line(tmp_path):
    spec = make_spec(sequence_length=5000)
    with pytest.raises(UserError, match=r"training\.sequence_length"):
        backend.train(spec, make_corpora(spec), tmp_path, device="cpu")


def test_unknown_device_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="choose auto or one of cpu"):
        backend.train(make_spec(), make_corpora(make_spec()), tmp_path, device="tpu")


def test_loading_without_a_model_or_with_another_spec(tmp_path):
    spec = make_spec(epochs=0.2)
    with pytest.raises(UserError, match="no trained model"):
        backend.load(tmp_path, spec, VOCABULARY)
    train(spec, tmp_path)
    with pytest.raises(UserError, match="do not fit"):
        backend.load(tmp_path, make_spec(model={"units": 10}), VOCABULARY)
    (tmp_path / "model.npz").write_bytes(b"PK not really")
    with pytest.raises(UserError, match="damaged"):
        backend.load(tmp_path, spec, VOCABULARY)
