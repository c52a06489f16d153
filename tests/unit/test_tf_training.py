"""Training in the tf back end: what it learns, private or not, and that an interrupted run ends the same."""

import numpy as np
import pandas as pd
import pytest
from interruption import interrupt

from memorization import contracts
from memorization import weights as weight_files
from memorization.backends import require_able, training
from memorization.configuration import load_config
from memorization.data.corpora import PlantedCanary, TrainingCorpus, windows
from memorization.data.images import ImageData
from memorization.dotted import shrink
from memorization.errors import UserError
from memorization.expansion import dataset_names, expand
from memorization.privacy_file import Mechanism
from memorization.sampling import epoch_order, poisson_batches
from memorization.specs import ImageRunSpec, RunSpec
from memorization.streams import stream
from memorization.vocabulary import Vocabulary

tf = pytest.importorskip("tensorflow")

from memorization.backends import tf as backend  # noqa: E402
from memorization.backends.tf.group import Group  # noqa: E402

VOCABULARY = Vocabulary(tuple("\n abcdefghijklmnopqrstuvwxyz"))
LENGTH = 10
PRIVATE = {"clip": 0.5, "noise_multiplier": 0.6}


def make_spec(replicates=1, model=None, privacy=None, **options):
    options = {"batch_size": 8, "sequence_length": LENGTH, "epochs": 2.0, "learning_rate": 0.01} | options
    if privacy:
        options |= {"gradient_clip": None}
    return RunSpec.model_validate(
        {
            "canary": {"format": "pin {l}{l}"},
            "model": {"layers": 2, "units": 9, "embedding": 5} | (model or {}),
            "training": options,
            "privacy": privacy,
            "replicates": replicates,
        }
    )


def make_corpora(spec):
    """A repetitive text; the held-out text is unlike it, so that the validation loss soon rises."""
    train = VOCABULARY.encode("\n".join(["the cat sat on the mat"] * 30))
    held_out = VOCABULARY.encode("a hat on the sea then atoms come heat the tea not me\n" * 3)
    canary = PlantedCanary(np.array([0, 1]), "pin ab", np.zeros(0, dtype=np.int64))
    corpus = TrainingCorpus(VOCABULARY, train, held_out, held_out[::-1].copy(), canary)
    return [corpus] * spec.replicates


def set_mechanism(monkeypatch, noise_multiplier):
    """What privacy.csv would have."""
    count = len(windows(make_corpora(make_spec())[0].train, LENGTH)[0])
    mechanism = Mechanism(noise_multiplier, PRIVATE["clip"], 8 / count, count // 8, 8)
    monkeypatch.setattr("memorization.privacy_file.read", lambda directory: mechanism)


@pytest.fixture(autouse=True)
def _mechanism(monkeypatch):
    set_mechanism(monkeypatch, PRIVATE["noise_multiplier"])


def train(spec, run_dir):
    """Weights and curves of a run."""
    backend.train(spec, make_corpora(spec), run_dir, device="cpu")
    return weight_files.load(run_dir, spec.model, len(VOCABULARY)), contracts.read("curves", run_dir)


def assert_same_run(one, other):
    for name in one[0]:
        np.testing.assert_array_equal(one[0][name], other[0][name], err_msg=name)
    pd.testing.assert_frame_equal(one[1].drop(columns="wall_s"), other[1].drop(columns="wall_s"), check_exact=True)


@pytest.mark.parametrize("privacy", [None, {"clip": 0.5}])
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam", "sgd"])
def test_loss_falls_on_a_repetitive_text(tmp_path, monkeypatch, optimizer, privacy):
    """Plainly, and with clipping only."""
    set_mechanism(monkeypatch, 0.0)
    rate = 2.0 if optimizer == "sgd" else 0.02
    _, curves = train(make_spec(epochs=8.0, optimizer=optimizer, learning_rate=rate, privacy=privacy), tmp_path)
    assert curves["validation_loss_nats"][0] == pytest.approx(np.log(len(VOCABULARY)), rel=0.1)
    losses = curves["train_loss_nats"]
    assert losses.isna().tolist() == [True] + [False] * 8
    assert losses[8] < 0.8 * losses[1]


def test_one_hot_input_has_no_embedding_and_learns(tmp_path):
    weights, curves = train(make_spec(epochs=8.0, model={"embedding": None}), tmp_path)
    assert "embedding.weight" not in weights
    assert weights["lstm.weight_ih_l0"].shape == (1, 36, len(VOCABULARY))
    assert curves["train_loss_nats"][8] < 0.8 * curves["train_loss_nats"][1]


@pytest.mark.parametrize("embedding", [5, None])
def test_a_gru_learns(tmp_path, embedding):
    model = {"architecture": "gru", "embedding": embedding}
    weights, curves = train(make_spec(epochs=8.0, model=model, dropout=0.1, weight_decay=1e-4), tmp_path)
    assert weights["gru.weight_hh_l1"].shape == (1, 27, 9)
    assert not weights["gru.bias_hh_l1"].any()
    assert curves["train_loss_nats"][8] < 0.8 * curves["train_loss_nats"][1]


@pytest.mark.parametrize("architecture", ["lstm", "gru"])
def test_cells_of_table_4_run_here(tmp_path, architecture):
    """The cells that figures.yaml trains with torch, on a small text and with few units."""
    plan = expand(load_config({"scale": "reduced", "figures": ["tab04_architectures"]}), dataset_names())
    cells = plan.figures["secret_sharer", "tab04_architectures"].cells
    specs = {cell.run.model.layers: cell.run for cell in cells if cell.run.model.architecture == architecture}
    assert sorted(specs) == [1, 2]
    caps = {"model.units": 9, "model.embedding": 5, "training.sequence_length": LENGTH, "training.batch_size": 8}
    for layers, spec in specs.items():
        require_able("tf", spec, "figures.yaml")
        small = shrink(spec, caps | {"training.epochs": 1, "replicates": 1}, "test")
        _, curves = train(small, tmp_path / str(layers))
        assert curves["test_loss_nats"].iloc[-1] < curves["test_loss_nats"].iloc[0]


@pytest.mark.parametrize("privacy", [None, PRIVATE])
def test_a_replicate_is_bitwise_the_same_whatever_rides_along(tmp_path, privacy):
    alone, pair = (train(make_spec(n, dropout=0.2, privacy=privacy), tmp_path / str(n)) for n in (1, 2))
    for name in alone[0]:
        np.testing.assert_array_equal(pair[0][name][:1], alone[0][name], err_msg=name)
    assert not np.array_equal(pair[0]["output.weight"][0], pair[0]["output.weight"][1])


def test_every_window_is_used_once_per_epoch_and_in_another_order():
    spec = make_spec()
    group = Group(spec, 0, make_corpora(spec)[0], "/CPU:0")
    count = group.data["train"].count
    assert count % spec.training.batch_size
    orders = [np.concatenate([rows for [rows] in group.train_epoch(e, group.batches)]) for e in (1, 2)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    np.testing.assert_array_equal(orders[0], stream(spec.seed, 0, "shuffle-1").permutation(count))
    assert not np.array_equal(*orders)


@pytest.mark.parametrize("sampling", ["poisson", "shuffle"])
def test_private_batches_are_those_of_every_back_end(sampling):
    from memorization import privacy_file

    spec = make_spec(privacy=PRIVATE | {"sampling": sampling})
    mechanism = privacy_file.read(None)
    group = Group(spec, 0, make_corpora(spec)[0], "/CPU:0", mechanism)
    count, steps = group.data["train"].count, mechanism.steps_per_epoch
    assert group.batches == steps == count // 8
    taken = [rows.tolist() for [rows] in group.train_epoch(1, group.batches)]
    if sampling == "poisson":
        drawn = poisson_batches(stream(spec.seed, 0, "poisson-1"), count, mechanism.sample_rate, steps)
        assert taken == [rows.tolist() for rows in drawn]
        assert len({len(rows) for rows in taken}) > 1
    else:
        order = stream(spec.seed, 0, "shuffle-1").permutation(count)
        assert taken == order[: steps * 8].reshape(steps, 8).tolist()


@pytest.mark.parametrize("privacy", [None, PRIVATE])
def test_resuming_is_bitwise_the_same(tmp_path, monkeypatch, privacy):
    """Optimiser state, dropout, noise, early stopping, a partial last epoch: everything that must survive."""
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    spec = make_spec(
        2, epochs=4.5, optimizer="adam", dropout=0.2, patience=2, learning_rate=0.03, weight_decay=1e-3, privacy=privacy
    )
    whole, original = train(spec, tmp_path / "whole"), training.Trainer._run_epoch
    interrupt(monkeypatch, lambda: train(spec, tmp_path / "part"))
    assert (tmp_path / "part" / "checkpoint.pkl").exists()
    epochs = []
    monkeypatch.setattr(training.Trainer, "_run_epoch", lambda self: (epochs.append(self.epoch), original(self)))
    assert_same_run(whole, train(spec, tmp_path / "part"))
    assert epochs[0] == 2


def test_dropout_changes_training_but_not_evaluation(tmp_path):
    _, without = train(make_spec(epochs=1.0), tmp_path / "a")
    _, with_dropout = train(make_spec(epochs=1.0, dropout=0.5), tmp_path / "b")
    assert with_dropout["validation_loss_nats"][0] == without["validation_loss_nats"][0]
    assert with_dropout["train_loss_nats"][1] != without["train_loss_nats"][1]


def test_validation_loss_is_that_of_the_loaded_model(tmp_path):
    spec = make_spec(keep="final")
    _, curves = train(spec, tmp_path)
    model = backend.load(tmp_path, spec, VOCABULARY, device="cpu")[0]
    inputs, targets = windows(make_corpora(spec)[0].validation, LENGTH)
    bits = model.log_perplexity(np.concatenate([inputs, targets[:, -1:]], axis=1))
    assert curves["validation_loss_nats"].iloc[-1] == pytest.approx(bits.mean() / LENGTH * np.log(2), rel=1e-5)


def test_measuring_uses_the_model_as_it_is_now(tmp_path):
    spec = make_spec(epochs=1.0).model_copy(
        update={"measure": make_spec().measure.model_copy(update={"every": "epoch", "references": 50, "controls": 2})}
    )
    train(spec, tmp_path)
    measures = contracts.read("measures", tmp_path)
    assert set(measures["moment"]) == {"start", "epoch"}
    assert measures.query("kind == 'inserted'").groupby("moment")["cost_bits"].first().nunique() == 2


def test_bad_input_is_one_clear_line(tmp_path):
    spec = make_spec(sequence_length=5000)
    with pytest.raises(UserError, match=r"training\.sequence_length"):
        backend.train(spec, make_corpora(spec), tmp_path, device="cpu")
    with pytest.raises(UserError, match="choose auto or one of cpu"):
        backend.train(make_spec(), make_corpora(make_spec()), tmp_path, device="tpu")
    with pytest.raises(UserError, match="no trained model"):
        backend.load(tmp_path, make_spec(), VOCABULARY)


def make_images():
    """Ten classes that a linear model could tell apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 10
    images = rng.random((80, 28, 28), dtype=np.float32) * 0.2
    images[np.arange(80), 2 * labels + 3] += 0.8
    return ImageData(images[:64], labels[:64], images[64:], labels[64:], 10)


def image_spec(privacy=None, **options):
    options = {"batch_size": 16, "epochs": 6.0, "optimizer": "sgd", "learning_rate": 0.2} | options
    options |= {"keep": "final", "gradient_clip": None}
    return ImageRunSpec.model_validate(
        {"task": "image", "training": options, "privacy": privacy, "replicates": 2, "seed": 1}
    )


@pytest.mark.parametrize("privacy", [None, PRIVATE])
def test_image_classifiers_learn_and_load(tmp_path, monkeypatch, privacy):
    mechanism = Mechanism(0.1, 1.0, 0.25, 4, 16)
    monkeypatch.setattr("memorization.privacy_file.read", lambda directory: mechanism)
    spec, data = image_spec(privacy, epochs=20.0), make_images()
    backend.train(spec, data, tmp_path, device="cpu")
    curves = contracts.read("curves", tmp_path)
    assert curves["validation_loss_nats"].isna().all()
    last = curves.groupby("replicate").last()
    assert (last["test_loss_nats"] < 1.5).all()
    assert (last["test_accuracy"] > 0.5).all()
    models = backend.load(tmp_path, spec, Vocabulary(()), device="cpu")
    losses, right = models[1].losses(data.test, data.test_labels)
    assert losses.mean() == pytest.approx(last["test_loss_nats"][1], rel=1e-6)
    assert right.mean() == last["test_accuracy"][1]


def test_private_image_training_resumes_bitwise(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr("memorization.privacy_file.read", lambda directory: Mechanism(0.5, 1.0, 0.25, 4, 16))
    spec, data = image_spec(PRIVATE, optimizer="adam", learning_rate=0.01), make_images()
    backend.train(spec, data, tmp_path / "whole", device="cpu")
    interrupt(monkeypatch, lambda: backend.train(spec, data, tmp_path / "part", device="cpu"))
    backend.train(spec, data, tmp_path / "part", device="cpu")
    whole, part = (np.load(tmp_path / name / "model.npz") for name in ("whole", "part"))
    for name in whole.files:
        np.testing.assert_array_equal(part[name], whole[name], err_msg=name)


def test_bagging_draws_the_windows_that_every_back_end_draws():
    spec = make_spec(sampling="with_replacement")
    group = Group(spec, 0, make_corpora(spec)[0], "/CPU:0")
    windows = np.concatenate([batch[0] for batch in group.train_epoch(2, group.batches)])
    assert windows.tolist() == epoch_order(spec.training, spec.seed, 0, 2, group.data["train"].count).tolist()
    assert len(set(windows.tolist())) < len(windows)
    require_able("tf", spec, "here")
