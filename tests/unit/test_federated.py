"""Federated averaging in one process: gradients, side-by-side training against one by one, weights, order of users."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import synthetic_federation as synthetic  # noqa: E402
from torch.nn import functional  # noqa: E402

from memorization.backends.torch import federated  # noqa: E402
from memorization.backends.torch.federated import Examples, Federations, Server, User, local_batches  # noqa: E402
from memorization.backends.torch.flat_models import (  # noqa: E402
    FlatModels,
    divergence,
    target_gradient,
    training_gradient,
)
from memorization.federated_specs import FederationSpec, NetworkSpec  # noqa: E402

MODELS = [NetworkSpec(units=(7, 4)), NetworkSpec(units=(5,)), NetworkSpec(architecture="linear")]
SVM = NetworkSpec(architecture="svm")


def drawn(spec: NetworkSpec, count: int = 3, batch: int = 6):
    """Random models of 5 features and 4 classes, and inputs and labels for them."""
    generator = torch.Generator().manual_seed(1)
    models = FlatModels(spec, 5, 4)
    rows = torch.randn(count, models.size, generator=generator)
    inputs = torch.randn(count, batch, 5, generator=generator)
    labels = torch.randint(4, (count, batch), generator=generator)
    return models, rows, inputs, labels


def by_autograd(models: FlatModels, rows, inputs, objective):
    """Gradient of the sum over models of `objective(logits)`."""
    rows = rows.clone().requires_grad_(True)
    objective(models.logits(rows, inputs)).sum().backward()
    return rows.grad


def even(labels):
    return torch.full(labels.shape, 1 / labels.shape[1])


@pytest.mark.parametrize("spec", MODELS)
def test_gradients_of_cross_entropy_are_autograds(spec):
    models, rows, inputs, labels = drawn(spec)
    wanted = by_autograd(
        models,
        rows,
        inputs,
        lambda z: functional.cross_entropy(z.flatten(0, 1), labels.flatten(), reduction="none") / 6,
    )
    found = models.gradient(rows, inputs, training_gradient(spec, labels, even(labels)))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_gradients_of_the_hinge_are_autograds():
    models, rows, inputs, labels = drawn(SVM)
    signs = 2 * functional.one_hot(labels, 4) - 1
    wanted = by_autograd(models, rows, inputs, lambda z: (1 - signs * z).clamp(min=0).sum(2) / 6)
    found = models.gradient(rows, inputs, training_gradient(SVM, labels, even(labels)))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_gradient_of_the_divergence_is_softmax_minus_target(shared):
    models, rows, inputs, _ = drawn(MODELS[0])
    targets = torch.softmax(torch.randn(3, 1 if shared else 6, 4), 2)
    logits = models.logits(rows, inputs).requires_grad_(True)
    divergence(logits, targets).sum().backward()
    torch.testing.assert_close(target_gradient(targets)(logits.detach()), logits.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logits.grad, (torch.softmax(logits.detach(), 2) - targets) / 6, rtol=1e-4, atol=1e-6)
    assert (divergence(torch.log(targets.expand(3, 6, 4)), targets).abs() < 1e-6).all()


def test_gradient_towards_a_target_is_autograds():
    models, rows, inputs, _ = drawn(MODELS[0])
    targets = torch.softmax(torch.randn(3, 1, 4), 2)
    wanted = by_autograd(models, rows, inputs, lambda z: divergence(z, targets))
    torch.testing.assert_close(models.gradient(rows, inputs, target_gradient(targets)), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spec", [MODELS[0], SVM])
def test_absolute_gradients_are_those_of_single_examples(spec):
    models, rows, inputs, labels = drawn(spec)
    ones = torch.ones(labels.shape)
    found = models.absolute_gradients(rows, inputs, training_gradient(spec, labels, ones))
    each = [
        models.gradient(rows, inputs[:, [n]], training_gradient(spec, labels[:, [n]], ones[:, [n]])).abs()
        for n in range(inputs.shape[1])
    ]
    torch.testing.assert_close(found, torch.stack(each).sum(0), rtol=1e-4, atol=1e-5)


def test_inputs_shown_to_all_models_give_the_same_logits():
    models, rows, inputs, _ = drawn(MODELS[0])
    torch.testing.assert_close(models.logits(rows, inputs[0]), models.logits(rows, inputs[:1].expand(3, -1, -1)))


def test_one_user_alone_is_plain_sgd():
    """FedAvg of one user, whatever the rounds, is SGD over its batches (torch.optim)."""
    wanted = synthetic.spec(data={"users": 1, "forget": 0.5}, replicates=1)
    held = synthetic.holdings(wanted)
    found = held.federations(held.users, "train").train(held.initial(), Server())
    rows = held.initial().requires_grad_(True)
    optimizer = torch.optim.SGD([rows], lr=wanted.training.learning_rate)
    for round_ in range(1, wanted.training.rounds + 1):
        for places, weights in zip(*local_batches(wanted.seed, held.users[0], "train", round_, 2, 5), strict=True):
            batch = places[weights > 0]
            optimizer.zero_grad()
            logits = held.models.logits(rows, held.examples.inputs[batch])[0]
            functional.cross_entropy(logits, held.examples.labels[batch]).backward()
            optimizer.step()
    torch.testing.assert_close(found, rows.detach(), rtol=1e-4, atol=1e-6)


def uneven():
    """Two federations of users that hold 3 to 11 examples."""
    generator = torch.Generator().manual_seed(2)
    examples = Examples(torch.randn(60, 5, generator=generator), torch.randint(4, (60,), generator=generator))
    sizes, users, first = [3, 11, 7, 5, 8, 4], [], 0
    for number, size in enumerate(sizes):
        users.append(User(np.arange(first, first + size), number % 2, 0, number))
        first += size
    return examples, users


def make(users, examples, purpose="train"):
    models, rows, _, _ = drawn(MODELS[1], count=2)
    training = FederationSpec(rounds=3, local_epochs=2, batch_size=4, learning_rate=0.1)
    return Federations(models, examples, users, training, 0, purpose), rows


def test_users_side_by_side_are_users_one_by_one():
    examples, users = uneven()
    together, rows = make(users, examples)
    found = together.uploads(rows, 1)
    alone = torch.cat([make([user], examples)[0].uploads(rows, 1) for user in users])
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-6)
    assert (found.norm(dim=1) > 0).all()


def test_blocks_change_nothing(monkeypatch):
    examples, users = uneven()
    together, rows = make(users, examples)
    found = together.uploads(rows, 2)
    monkeypatch.setitem(federated.BLOCK_NUMBERS, "cpu", 2 * together.models.size)
    torch.testing.assert_close(together.uploads(rows, 2), found, rtol=1e-4, atol=1e-6)


def test_order_of_users_does_not_matter():
    examples, users = uneven()
    (first, rows), (second, _) = make(users, examples), make(users[::-1], examples)
    torch.testing.assert_close(first.train(rows, Server()), second.train(rows, Server()), rtol=1e-4, atol=1e-6)


def test_averages_are_weighted_by_examples():
    examples, users = uneven()
    federations, rows = make(users, examples)
    assert federations.weights.tolist() == pytest.approx([3 / 18, 11 / 20, 7 / 18, 5 / 20, 8 / 18, 4 / 20])
    uploads = federations.uploads(rows, 1)
    server = Server()
    found = server.aggregate(rows, uploads, federations.owners, federations.weights)
    for federation in (0, 1):
        own = [n for n, user in enumerate(users) if user.federation == federation]
        sizes = np.array([len(users[n].rows) for n in own])
        locals_ = (rows[federation] - uploads[own]).numpy()
        np.testing.assert_allclose(found[federation].numpy(), np.average(locals_, 0, sizes), rtol=1e-4, atol=1e-6)
    assert (server.received.messages, server.received.bytes) == (6, 6 * federations.models.size * 4)


def test_a_user_without_examples_takes_no_part():
    examples, users = uneven()
    nobody = User(np.array([], dtype=np.int64), 0, 0, 9)
    (with_it, rows), (without, _) = make([*users, nobody], examples), make(users, examples)
    assert torch.equal(with_it.train(rows, Server()), without.train(rows, Server()))


def test_another_purpose_shuffles_otherwise():
    examples, users = uneven()
    (first, rows), (second, _) = make(users, examples), make(users, examples, "retrain")
    assert torch.equal(first.uploads(rows, 1), make(users, examples)[0].uploads(rows, 1))
    assert not torch.allclose(first.uploads(rows, 1), second.uploads(rows, 1))


def test_a_replicate_depends_on_no_other():
    one, two = (synthetic.holdings(synthetic.spec(replicates=count)) for count in (1, 2))
    found = [held.federations(held.users, "train").train(held.initial(), Server()) for held in (one, two)]
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(found[1][0], found[1][1])


def test_an_epoch_shows_every_example_once_in_batches_that_differ_by_one():
    user = User(np.arange(100, 117), 0, 0, 0)
    rows, weights = local_batches(0, user, "train", 1, 2, 5)
    assert rows.shape == weights.shape == (8, 5)
    for epoch in (0, 1):
        own = slice(4 * epoch, 4 * epoch + 4)
        assert sorted(rows[own][weights[own] > 0]) == list(range(100, 117))
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert sorted((weights > 0).sum(1)) == [4, 4, 4, 4, 4, 4, 5, 5]
    assert not np.array_equal(rows[:4], rows[4:])
