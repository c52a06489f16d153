"""Classifiers in the torch back end: logits and steps against PyTorch's modules, replicates, resuming, records."""

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from interruption import interrupt  # noqa: E402
from torch import nn  # noqa: E402

from memorization import classifier_models, contracts  # noqa: E402
from memorization.backends import torch as backend  # noqa: E402
from memorization.backends import training  # noqa: E402
from memorization.backends.recorder import log_spaced  # noqa: E402
from memorization.backends.torch import classifier_group  # noqa: E402
from memorization.backends.torch.classifier_group import ClassifierGroup, DeviceData  # noqa: E402
from memorization.backends.torch.classifiers import Regularisers, forward, forward_training  # noqa: E402
from memorization.classifier_specs import ClassifierRunSpec, ClassifierSpec  # noqa: E402
from memorization.data.labelled import LabelledData, own_examples  # noqa: E402
from memorization.noise import GaussianImages, corrupt  # noqa: E402
from memorization.vocabulary import Vocabulary  # noqa: E402

CPU = torch.device("cpu")
CNN = {"architecture": "cnn", "filters": 3, "dense": [8, 6]}
MLP = {"units": 12}
NOISE = {"kind": "labels", "level": 0.3}


def make_spec(model=MLP, replicates=2, data=None, measure=None, **options):
    settings = {"learning_rate": 0.1, "batch_size": 8, "epochs": 2.0} | options
    return ClassifierRunSpec.model_validate(
        {
            "task": "classification",
            "replicates": replicates,
            "data": data or {},
            "model": model,
            "training": settings,
            "measure": measure or {},
        }
    )


def make_data(spec, shape=(1, 6, 6), count=30):
    """Images of four classes that differ by the place of a bright column, with the noise that `spec` asks for."""
    rng = np.random.default_rng(0)
    labels = np.arange(count + 12) % 4
    images = rng.random((count + 12, *shape), dtype=np.float32) * 0.3
    images[np.arange(len(images)), :, :, labels + 1] += 1
    train, given, corrupted = corrupt(spec.data.noise, images[:count], labels[:count], 4)
    return LabelledData(
        train, given, labels[:count], corrupted, images[count:], labels[count:], 4, 1 / 255,
        GaussianImages.like(images, "scalar"),
    )  # fmt: skip


def data_for(spec):
    return make_data(spec, (3, 32, 32) if spec.model.architecture == "cnn" else (1, 6, 6))


def train(spec, data, run_dir):
    backend.train(spec, data, run_dir, device="cpu")
    return contracts.read("details", run_dir)


def random_weights(model, shape, classes=4, replicates=2):
    """Also of what starts as constants."""
    rng = np.random.default_rng(1)
    sizes = classifier_models.shapes(model, shape, classes)
    return {
        name: torch.from_numpy(rng.uniform(0.1, 0.5, (replicates, *size)).astype(np.float32)
                               * (1 if "variance" in name else rng.choice([-1, 1], (replicates, *size)))).float()
        for name, size in sizes.items()
    }  # fmt: skip


def module_of(model, weights, row):
    """The same network of PyTorch's modules."""

    def filled(layer, name):
        for part, attribute in (
            ("weight", "weight"), ("bias", "bias"), ("mean", "running_mean"), ("variance", "running_var")
        ):  # fmt: skip
            if f"{name}.{part}" in weights:
                getattr(layer, attribute).data.copy_(weights[f"{name}.{part}"][row])
        return layer

    if model.architecture == "mlp":
        one, two = weights["hidden1.weight"][row], weights["hidden2.weight"][row]
        return nn.Sequential(
            nn.Flatten(), filled(nn.Linear(*one.shape[::-1]), "hidden1"), nn.ReLU(),
            filled(nn.Linear(*two.shape[::-1]), "hidden2"), nn.ReLU(),
            filled(nn.Linear(*weights["output.weight"][row].shape[::-1]), "output"),
        )  # fmt: skip
    same = 2 if model.padding.startswith("same") else 0
    stride = int(model.padding[-1])
    # Keras's "same" of 28 pixels and stride 2: one zero, or here minus infinity, after the last pixel.
    pool = nn.Sequential(nn.ConstantPad2d((0, 1, 0, 1), -torch.inf), nn.MaxPool2d(3, stride))
    pool = pool if model.padding == "same_stride2" else nn.MaxPool2d(3, stride)
    filters, (first, second) = model.filters, model.dense
    flat = weights["dense1.weight"].shape[2]

    def norm(name, kind, width):
        return filled(kind(width, eps=1e-3, momentum=0.1), name)

    return nn.Sequential(
        nn.ZeroPad2d(-2),
        filled(nn.Conv2d(3, filters, 5, padding=same), "conv1"), norm("norm1", nn.BatchNorm2d, filters),
        nn.ReLU(), pool,
        filled(nn.Conv2d(filters, filters, 5, padding=same), "conv2"), norm("norm2", nn.BatchNorm2d, filters),
        nn.ReLU(), pool, nn.Flatten(),
        filled(nn.Linear(flat, first), "dense1"), norm("norm3", nn.BatchNorm1d, first), nn.ReLU(),
        filled(nn.Linear(first, second), "dense2"), norm("norm4", nn.BatchNorm1d, second), nn.ReLU(),
        filled(nn.Linear(second, 4), "output"),
    )  # fmt: skip


PADDINGS = ["valid_stride3", "same_stride3", "valid_stride2", "same_stride2"]
MODELS = [ClassifierSpec(**MLP)] + [ClassifierSpec(**CNN, padding=padding) for padding in PADDINGS]


@pytest.mark.parametrize("model", MODELS, ids=["mlp", *PADDINGS])
def test_logits_are_those_of_pytorchs_modules(model):
    shape = (1, 6, 6) if model.architecture == "mlp" else (3, 32, 32)
    weights = random_weights(model, shape)
    images = torch.randn(2, 7, *shape, generator=torch.Generator().manual_seed(0))
    evaluated = forward(model, weights, images)
    trained, statistics = forward_training(model, weights, images, None)
    shared = forward(model, weights, images[:1])
    for row in range(2):
        module = module_of(model, weights, row)
        torch.testing.assert_close(shared[row], module.eval()(images[0]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(evaluated[row], module(images[row]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(trained[row], module.train()(images[row]), rtol=1e-4, atol=1e-4)
        found = [m for m in module if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
        for number, layer in enumerate(found, 1):
            torch.testing.assert_close(statistics[f"norm{number}.mean"][row], layer.running_mean)
            torch.testing.assert_close(statistics[f"norm{number}.variance"][row], layer.running_var)
    assert len(statistics) == 2 * len(found)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
@pytest.mark.parametrize("model", [MLP, CNN], ids=["mlp", "cnn"])
def test_steps_are_those_of_torch_optim(model, optimizer):
    """Three steps with weight decay on what a Keras kernel is, against modules and torch.optim."""
    decay = 0.02
    spec = make_spec(model, optimizer=optimizer, weight_decay=decay)
    data = data_for(spec)
    group = ClassifierGroup(spec, [0, 1], DeviceData(data, CPU), CPU)
    copies = {name: array.detach().clone() for name, array in group.weights.items()}
    modules = [module_of(spec.model, copies, row).train() for row in range(2)]
    optimizers = []
    for module in modules:
        kernels = [p for p in module.parameters() if p.dim() > 1]
        others = [p for p in module.parameters() if p.dim() == 1]
        groups = [{"params": kernels, "weight_decay": decay}, {"params": others}]
        optimizers.append(torch.optim.SGD(groups, lr=0.1, momentum=0.9 * (optimizer == "momentum")))
    total, seen = np.zeros(2), 0
    for rows in group.train_epoch(1, 3):
        seen += rows.shape[1]
        for row, (module, optimiser) in enumerate(zip(modules, optimizers, strict=True)):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(
                module(torch.from_numpy(data.train[rows[row]])), torch.from_numpy(data.given[rows[row]])
            )
            loss.backward()
            optimiser.step()
            total[row] += loss.item() * rows.shape[1]
    assert group.epoch_loss == pytest.approx(total / seen, rel=1e-4)
    for row, module in enumerate(modules):
        wanted = forward_of(module, data)
        found = forward(spec.model, group.weights, torch.from_numpy(data.train).unsqueeze(0))[row]
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def forward_of(module, data):
    return module.eval()(torch.from_numpy(data.train))


def test_the_learning_rate_is_halved_at_equal_intervals():
    spec = make_spec(halve_every=2.0, learning_rate=0.4)
    group = ClassifierGroup(spec, [0], DeviceData(data_for(spec), CPU), CPU)
    rates = []
    for epoch in range(1, 7):
        list(group.train_epoch(epoch, 1))
        rates.append(group.optimizer.rate)
    assert rates == [0.4, 0.4, 0.2, 0.2, 0.1, 0.1]


def test_regularisers_noise_has_the_specified_size_and_a_stream_per_replicate():
    spec = make_spec(input_dropout=0.4, input_noise=0.5, dropout=0.25, hidden_noise=0.2).training
    ones = torch.ones(2, 300, 1, 6, 6)
    noise = Regularisers(spec, 0, [0, 1], 1, CPU)
    shown, hidden = noise.inputs(ones), noise.hidden(torch.zeros(2, 300, 36))
    # 1 / 0.6 with probability 0.6, then Gaussian noise.
    assert shown.mean().item() == pytest.approx(1, abs=0.03)
    assert shown.var().item() == pytest.approx(0.4 / 0.6 + 0.25, rel=0.05)
    assert hidden.std().item() == pytest.approx(0.2, rel=0.05)
    assert not torch.equal(shown[0], shown[1])
    alone = Regularisers(spec, 0, [1], 1, CPU).inputs(ones[:1])
    torch.testing.assert_close(alone[0], shown[1], rtol=0, atol=0)
    assert not torch.equal(Regularisers(spec, 0, [1], 2, CPU).inputs(ones[:1])[0], shown[1])
    nothing = Regularisers(make_spec().training, 0, [0, 1], 1, CPU)
    assert nothing.inputs(ones) is ones


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3, "input_noise": 0.2}, {"model": CNN, "dropout": 0.3}])
def test_a_replicate_does_not_depend_on_the_others(tmp_path, settings):
    for replicates in (1, 3):
        spec = make_spec(replicates=replicates, **settings)
        train(spec, data_for(spec), tmp_path / str(replicates))
    one, three = (classifier_models.load(tmp_path / n, spec.model) for n in ("1", "3"))
    for name, array in one.items():
        np.testing.assert_allclose(three[name][0], array[0], rtol=1e-4, atol=1e-6)
        assert name.startswith("output.bias") or not np.array_equal(three[name][1], three[name][2])


def assert_same_run(one, other):
    for name in ("curves", "details"):
        frames = [contracts.read(name, d).drop(columns="wall_s", errors="ignore") for d in (one, other)]
        pd.testing.assert_frame_equal(*frames, check_exact=True)
    with np.load(one / "model.npz") as first, np.load(other / "model.npz") as second:
        for name in first.files:
            np.testing.assert_array_equal(first[name], second[name])


RESUMED = {
    "mlp": {"dropout": 0.2, "input_noise": 0.1, "weight_decay": 0.01},
    "cnn": {
        "model": CNN,
        "optimizer": "momentum",
        "learning_rate": 0.02,
        "halve_every": 1.0,
        "measure": {"filters": 2},
    },
    "subset": {"data": {"subset": 0.6, "noise": NOISE}, "measure": {"examples": 9, "evaluations": 2}},
    "stopping": {"stop_when_fit": True, "learning_rate": 0.8, "epochs": 30.0, "measure": {"examples": 9}},
}


@pytest.mark.parametrize("settings", RESUMED.values(), ids=RESUMED)
def test_resuming_is_bitwise_the_same(tmp_path, monkeypatch, settings):
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    # Blocks of two and one, so that a checkpoint has more than one group.
    monkeypatch.setattr(classifier_group, "blocks", lambda *_: [[0, 1], [2]])
    spec = make_spec(**{"replicates": 3, "epochs": 4.0} | settings)
    data = data_for(spec)
    train(spec, data, tmp_path / "whole")
    interrupt(monkeypatch, lambda: train(spec, data, tmp_path / "part"))
    train(spec, data, tmp_path / "part")
    assert_same_run(tmp_path / "whole", tmp_path / "part")


def test_what_is_recorded_is_what_the_loaded_models_do(tmp_path):
    spec = make_spec(data={"noise": NOISE}, epochs=3.0)
    data = data_for(spec)
    details = train(spec, data, tmp_path)
    models = backend.load(tmp_path, spec, Vocabulary(()), device="cpu")
    last = details[details["epoch"] == 3]
    for k, model in enumerate(models):
        losses, right = model.losses(data.train, data.given)
        _, true = model.losses(data.train, data.true)
        validation, valid = model.losses(data.validation, data.validation_labels)
        own = last[last["replicate"] == k].set_index(["measure", "part"])["value"]
        noise = data.corrupted
        for part, loss, hits in (
            ("train", losses, right),
            ("clean", losses[~noise], right[~noise]),
            ("corrupted", losses[noise], right[noise]),
            ("validation", validation, valid),
        ):
            assert own["loss_nats", part] == pytest.approx(loss.mean(), rel=1e-5)
            assert own["accuracy", part] == hits.mean()
        assert own["accuracy", "corrupted_true"] == true[noise].mean()
        assert ("loss_nats", "corrupted_true") not in own.index


def test_a_replicate_stops_after_the_first_epoch_in_which_it_fits(tmp_path):
    spec = make_spec(stop_when_fit=True, learning_rate=0.5, epochs=60.0, replicates=3)
    details = train(spec, data_for(spec), tmp_path)
    fitted = details[details["measure"] == "fitted_epoch"].set_index("replicate")["value"]
    assert fitted.notna().all()
    assert fitted.nunique() > 1
    accuracy = details[(details["measure"] == "accuracy") & (details["part"] == "train")]
    for k, value in fitted.items():
        own = accuracy[accuracy["replicate"] == k]
        assert own["epoch"].max() == value
        assert (own.loc[own["epoch"] < value, "value"] < 1).all()
        assert own.loc[own["epoch"] == value, "value"].item() == 1


def test_what_never_fits_is_censored(tmp_path):
    details = train(make_spec(learning_rate=1e-9), data_for(make_spec()), tmp_path)
    assert details.loc[details["measure"] == "fitted_epoch", "value"].isna().all()


@pytest.mark.parametrize("subset", [1.0, 0.5])
def test_fitting_is_looked_for_among_the_own_examples_only(monkeypatch, subset):
    monkeypatch.setattr(classifier_group, "EVALUATION_IMAGES", {"mlp": 4, "cnn": 4})
    spec = make_spec(replicates=6, data={"subset": subset}, learning_rate=0.5)
    group = ClassifierGroup(spec, list(range(6)), DeviceData(data_for(spec), CPU), CPU)
    seen = set()
    for epoch in range(1, 25):
        list(group.train_epoch(epoch, group.batches))
        _, predicted = group.outcomes()
        right = predicted == group.shown.data.given
        wanted = [right[k, own_examples(spec, k, 30)].all() for k in range(6)]
        np.testing.assert_array_equal(group.fits(np.ones(6, dtype=bool)), wanted)
        np.testing.assert_array_equal(group.fits(np.arange(6) < 2), wanted[:2] + [False] * 4)
        seen |= set(wanted)
    assert seen == {True, False}


def test_evaluations_are_log_spaced_and_end_with_the_last(tmp_path):
    assert log_spaced(4, 27) == {1, 3, 9, 27}
    assert log_spaced(50, 5) == {1, 2, 3, 4, 5}
    details = train(make_spec(epochs=27.0, measure={"evaluations": 4}), data_for(make_spec()), tmp_path)
    assert set(details.loc[details["measure"] == "accuracy", "epoch"]) == {0, 1, 3, 9, 27}
    curves = contracts.read("curves", tmp_path)
    assert set(curves.loc[curves["validation_loss_nats"].notna(), "epoch"]) == {0, 1, 3, 9, 27}
    assert curves.loc[curves["epoch"] > 0, "train_loss_nats"].notna().all()


def test_examples_are_followed_from_epoch_to_epoch(tmp_path, monkeypatch):
    """Learned epoch and forgetting events, against all epochs' answers."""
    answers = []
    original = ClassifierGroup.outcomes

    def outcomes(self, examples=None):
        losses, predicted = original(self, examples)
        answers.append(predicted[:, :9])
        return losses, predicted

    monkeypatch.setattr(ClassifierGroup, "outcomes", outcomes)
    spec = make_spec(learning_rate=0.7, epochs=8.0, measure={"examples": 9, "evaluations": 2}, data={"noise": NOISE})
    data = data_for(spec)
    details = train(spec, data, tmp_path)
    right = np.stack(answers)[1:] == data.given[:9]
    found = {name: part.set_index(["replicate", "item"])["value"] for name, part in details.groupby("measure")}
    assert right.any()
    assert not right.all()
    for k in range(2):
        for i in range(9):
            own = right[:, k, i]
            first = own.argmax() + 1 if own.any() else np.nan
            assert found["learned_epoch"][k, i] == pytest.approx(first, nan_ok=True)
            assert found["forgetting_events"][k, i] == (own[:-1] & ~own[1:]).sum()
            assert found["correct"][k, i] == own[-1]
            assert found["p_correct"][-1, i] == right[-1, :, i].mean()


def test_memorisation_is_the_gain_from_having_seen_an_example(tmp_path):
    """Against the definition, by models loaded again; random labels are learned only where they were seen."""
    data_spec = {"subset": 0.5, "noise": {"kind": "labels", "level": 0.5}}
    spec = make_spec({"units": 40}, 12, data_spec, {"examples": 30}, learning_rate=0.5, epochs=150.0)
    data = data_for(spec)
    details = train(spec, data, tmp_path)
    models = backend.load(tmp_path, spec, Vocabulary(()), device="cpu")
    right = np.stack([model.losses(data.train, data.given)[1] for model in models])
    held = np.stack([np.isin(np.arange(30), own_examples(spec, k, 30)) for k in range(12)])
    found = details[details["measure"] == "memorisation"].sort_values("item")
    np.testing.assert_array_equal(found["other"], held.sum(0))
    wanted = [right[held[:, i], i].mean() - right[~held[:, i], i].mean() for i in range(30)]
    np.testing.assert_allclose(found["value"], wanted)
    wrong = data.given != data.true
    assert found["value"].to_numpy()[wrong].mean() > found["value"].to_numpy()[~wrong].mean()
    assert set(details["measure"]) >= {"variance_ratio", "variance_ratio_within", "p_correct"}
    assert (details.loc[details["measure"].isin(["learned_epoch", "forgetting_events"]), "replicate"] == -1).all()
    assert "correct" not in set(details["measure"])


def test_filters_are_recorded_before_and_after(tmp_path):
    spec = make_spec(CNN, measure={"filters": 2}, learning_rate=0.05)
    details = train(spec, data_for(spec), tmp_path)
    models = backend.load(tmp_path, spec, Vocabulary(()), device="cpu")
    rows = details[(details["measure"] == "filter") & (details["replicate"] == 1)]
    for part in ("init", "trained"):
        assert set(rows.loc[rows["part"] == part, "item"]) == {0, 1}
    shown = rows[(rows["part"] == "trained") & (rows["item"] == 1)].sort_values("other")["value"].to_numpy()
    weight = models[1].weights["conv1.weight"][1].permute(1, 2, 0).flatten()
    np.testing.assert_allclose(shown, weight.numpy(), rtol=1e-6)
    before = rows[(rows["part"] == "init") & (rows["item"] == 1)].sort_values("other")["value"].to_numpy()
    assert not np.allclose(before, shown)
    assert len(details[details["measure"] == "filter_tv"]) == 4


def test_a_damaged_model_is_a_one_line_error(tmp_path):
    from memorization.errors import UserError

    spec = make_spec()
    train(spec, data_for(spec), tmp_path)
    with pytest.raises(UserError, match="does not fit the run's spec"):
        backend.load(tmp_path, make_spec(CNN), Vocabulary(()), device="cpu")
