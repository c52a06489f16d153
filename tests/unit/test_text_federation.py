"""Federations of language models: averaging, gradients, and a whole cell of forgetting and relearning."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import synthetic_text_federation as synthetic  # noqa: E402

from memorization import contracts, exposure, weights  # noqa: E402
from memorization.backends.torch import phases, text_cell  # noqa: E402
from memorization.backends.torch.federated import Server, local_batches  # noqa: E402
from memorization.backends.torch.flat_models import divergence, target_gradient, training_gradient  # noqa: E402
from memorization.backends.torch.optimizers import make_optimizer  # noqa: E402
from memorization.backends.torch.text_federation import TextHoldings  # noqa: E402
from memorization.backends.torch.text_models import Passage, TextModels  # noqa: E402
from memorization.canaries import CanaryFormat  # noqa: E402

CPU = torch.device("cpu")
EVERY = [
    {"method": "placebo", "rounds": 2, "inner_steps": 2},
    {"method": "forsaken", "rounds": 2, "inner_steps": 2},
    {"method": "ascent", "rounds": 2, "step": 0.05},
    {"method": "without_user", "rounds": 2},
    {"method": "federaser"},
    {"method": "retrain"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    synthetic.write(place)
    return place


@pytest.fixture(scope="module")
def held(folder):
    spec = synthetic.spec()
    return TextHoldings(spec, synthetic.shares(spec, folder), CPU)


def reference(models, row):
    """PyTorch's own modules with the arrays of one row; bias_hh stays 0."""
    units = models.spec.units
    parts = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(models.classes, models.spec.embedding),
            "lstm": torch.nn.LSTM(models.spec.embedding, units, models.spec.layers, batch_first=True),
            "output": torch.nn.Linear(units, models.classes),
        }
    ).to(row.dtype)
    parts.load_state_dict({name: array[0] for name, array in models.arrays(row).items()})
    for name, parameter in parts.named_parameters():
        parameter.requires_grad_(weights.trained(name))
    return parts


def answered(parts, ids):
    return parts["output"](parts["lstm"](parts["embedding"](ids))[0])


def trained_arrays(parts):
    return [parameter for name, parameter in parts.named_parameters() if weights.trained(name)]


OPTIMIZERS = [("sgd", 0.5, 1e-5), ("adam", 0.003, 3e-4)]
"""Name, rate, tolerance: Adam's first steps have the size of the rate however small a gradient is."""


def with_optimizer(folder, name, rate, **training):
    spec = synthetic.spec(training={"optimizer": name, "learning_rate": rate, **training})
    return TextHoldings(spec, synthetic.shares(spec, folder), CPU)


@pytest.mark.parametrize(("name", "rate", "tolerance"), OPTIMIZERS)
def test_a_federation_of_one_user_is_plain_training(folder, name, rate, tolerance):
    """By PyTorch's own LSTM, with the project's optimisers (themselves tested against PyTorch's)."""
    held = with_optimizer(folder, name, rate)
    user, start = held.users[1], held.initial()
    federation = held.federations([user], "train")
    found = federation.round(start, 1, Server())
    parts = reference(held.models, start[:1])
    parameters = trained_arrays(parts)
    optimizer = make_optimizer(parameters, federation._optimisation)
    training = held.spec.training
    for rows, shares in zip(*local_batches(0, user, "train", 1, 1, training.batch_size), strict=True):
        picked = (array[rows[shares > 0]] for array in (held.examples.inputs, held.examples.labels))
        inputs, labels = picked
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(answered(parts, inputs).flatten(0, 1), labels.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, training.gradient_clip)
        optimizer.step()
    state = parts.state_dict()
    expected = torch.cat([state[name].flatten() for name, _, _ in held.models.places])
    assert (expected - start[0]).abs().max() > 10 * tolerance
    torch.testing.assert_close(found[0], expected, rtol=0, atol=tolerance)
    assert torch.equal(found[1], start[1])  # the other replicate's federation has no user here


@pytest.mark.parametrize(("name", "rate", "tolerance"), OPTIMIZERS)
def test_users_side_by_side_are_users_one_by_one(folder, name, rate, tolerance):
    """Though they have different numbers of batches."""
    held = with_optimizer(folder, name, rate, batch_size=2)
    everyone = held.federations(held.users, "train")
    together = everyone.uploads(held.initial(), 1)
    assert len({-(-len(user.rows) // held.spec.training.batch_size) for user in held.users}) > 1
    for row, user in enumerate(everyone.users):
        alone = held.federations([user], "train").uploads(held.initial(), 1)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=0, atol=tolerance)


def test_forsakens_gradient_is_that_of_the_divergence(held):
    """By PyTorch's own LSTM, in double precision; only the canary's characters count."""
    rows, models = held.initial().double(), TextModels(held.spec.model, held.models.classes)
    wanted = torch.softmax(torch.randn(2, 1, held.models.classes, dtype=torch.float64), 2)
    passage = held.forget.inputs
    found = models.gradient(rows, passage, target_gradient(wanted))
    for k in range(2):
        parts = reference(models, rows[k : k + 1])
        logits = answered(parts, passage.ids[k]).flatten(0, 1)[passage.chosen[k]]
        divergence_k = (wanted[k] * (wanted[k].log() - torch.log_softmax(logits, 1))).sum(1).mean()
        torch.testing.assert_close(divergence(models.logits(rows, passage), wanted)[k], divergence_k.detach())
        divergence_k.backward()
        places = dict(parts.named_parameters())
        expected = torch.cat([places[name].grad.flatten() for name, _, _ in models.places])
        torch.testing.assert_close(found[k], expected)


def test_the_forgotten_characters_are_the_canarys(held):
    for k, own in enumerate(held.shares):
        text = own.vocabulary.decode(held.forget.labels[k].numpy())
        assert text == own.line * len(own.copies)


def test_absolute_gradients_are_those_of_single_windows(held):
    rows, passage = held.initial(), held.kept.inputs
    each = torch.ones_like(held.kept.labels, dtype=rows.dtype)
    found = held.models.absolute_gradients(rows, passage, training_gradient(held.models.spec, held.kept.labels, each))
    labels = held.kept.labels.unflatten(1, passage.ids.shape[1:])
    expected = torch.zeros_like(rows)
    for n in range(passage.ids.shape[1]):
        single = labels[:, n]
        by_logits = training_gradient(held.models.spec, single, torch.ones_like(single, dtype=rows.dtype))
        expected += held.models.gradient(rows, Passage(passage.ids[:, n : n + 1]), by_logits).abs()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_who_is_left_has_no_window_with_the_canary(folder, held):
    case = text_cell.TextCell(held.spec, held.shares, CPU)
    case._train()
    remaining = case._case().remaining(held.users[0])
    assert len(remaining.rows) == len(held.users[0].rows) - held.shares[0].holding.sum()
    own = held.shares[0]
    shown = held.examples.labels[remaining.rows].numpy()
    assert not any(own.line in own.vocabulary.decode(window) for window in shown)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    spec, place = synthetic.spec(requests=EVERY), tmp_path_factory.mktemp("run")
    text_cell.train_federated_text(spec, synthetic.shares(spec, folder), place, CPU)
    return spec, place, contracts.check("details", contracts.read("details", place))


def values(table, measure, item, step):
    chosen = (table["measure"] == measure) & (table["item"] == item) & (table["step"] == step)
    return table[chosen].sort_values("replicate")["value"].to_numpy()


def test_every_way_of_forgetting_is_measured_and_relearned(run):
    spec, _, table = run
    for item, request in enumerate(spec.requests):
        for measure in ("exposure_bits", "canary_rank", "canary_log_perplexity_bits", "loss_nats"):
            assert np.isfinite(values(table, measure, item, 2)).all()
            assert len(values(table, measure, item, 2)) == 2
        again = [values(table, "exposure_relearned", item, step) for step in (0, 1, 2)]
        assert np.array_equal(again[0], values(table, "exposure_bits", item, 2))
        assert all(len(found) == 2 for found in again)
        assert len(values(table, "kl_to_target", item, 1)) == (2 if request.method == "forsaken" else 0)


def test_exposure_is_the_searchs(run, folder):
    """The stored model's exposure, by the code that attacks every other model."""
    spec, place, table = run
    own = synthetic.shares(spec, folder)
    models = text_cell.load_federated_text(place, spec, own[0].vocabulary, CPU)
    form, rng = CanaryFormat.parse(spec.canary.format), np.random.default_rng(0)
    for k, model in enumerate(models):
        others = form.sample(rng, 100, exclude=own[k].fill)
        rows = exposure.measure(model, form, own[k].fill, others[:1], others, exact_steps=10_000, rng=rng)
        exact = rows[rows["method"] == "exact"].iloc[0]
        assert values(table, "exposure_bits", -1, 0)[k] == pytest.approx(exact["exposure_bits"])
        assert values(table, "canary_rank", -1, 0)[k] == exact["rank"]
        bits = exact["cost_bits"] + exact["prefix_cost_bits"]
        assert values(table, "canary_log_perplexity_bits", -1, 0)[k] == pytest.approx(bits, rel=1e-5)


def test_interrupted_it_continues_to_the_same_numbers(run, folder, tmp_path, monkeypatch):
    spec, _, table = run
    monkeypatch.setattr(phases, "CHECKPOINT_S", 0.0)
    original = text_cell.TextCell._relearn

    def stopping(cell, item):
        if item == 3:
            raise KeyboardInterrupt
        original(cell, item)

    with monkeypatch.context() as patch:
        patch.setattr(text_cell.TextCell, "_relearn", stopping)
        with pytest.raises(KeyboardInterrupt):
            text_cell.train_federated_text(spec, synthetic.shares(spec, folder), tmp_path, CPU)
    assert (tmp_path / "checkpoint.pkl").exists()
    text_cell.train_federated_text(spec, synthetic.shares(spec, folder), tmp_path, CPU)
    again = contracts.read("details", tmp_path)
    one, other = (t[~t["measure"].str.startswith("seconds")].reset_index(drop=True) for t in (table, again))
    assert one.equals(other)


def test_copies_make_the_canary_exposed(folder):
    """A federation that sees the canary often ranks it first; retraining does not."""
    spec = synthetic.spec(
        canary={"insertions": 12},
        model={"units": 16},
        training={"rounds": 12, "learning_rate": 0.03},
        requests=[{"method": "retrain"}],
        relearn_rounds=0,
    )
    cell = text_cell.TextCell(spec, synthetic.shares(spec, folder), CPU)
    for _, work in cell.phases():
        work()
    table = cell.details.frame()
    assert (values(table, "exposure_bits", -1, 0) > 6).all()
    assert (values(table, "exposure_bits", 0, 12) < values(table, "exposure_bits", -1, 0)).all()
