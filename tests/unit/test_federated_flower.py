"""The in-process engine and Flower give the same global model for the same seeds."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("flwr", reason="flwr is not installed: envs/flower says how (optional)")

import synthetic_federation as synthetic  # noqa: E402

from memorization.backends.torch import federated_flower as flower  # noqa: E402
from memorization.backends.torch import unlearning  # noqa: E402
from memorization.backends.torch.federated import Server  # noqa: E402
from memorization.backends.torch.forsaken import Generator, Part, importance, targets  # noqa: E402
from memorization.federated_specs import RequestSpec  # noqa: E402

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
"""Both compute in float32; Flower averages models in random order, this engine sums differences."""


def own_users(users):
    return [user for user in users if user.replicate == 1]


@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
def test_training_gives_the_same_model(partition):
    spec = synthetic.spec(data={"partition": partition})
    held = synthetic.holdings(spec)
    wanted = held.federations(held.users, "train").train(held.initial(), Server())[1].numpy()
    nodes = {user.number + 1: flower.ordinary(held, user, "train") for user in own_users(held.users)}
    start = held.initial()[1].numpy()
    found = flower.train_in_process(nodes, start, spec.training.rounds)
    np.testing.assert_allclose(found, wanted, **TOLERANCE)
    assert not np.allclose(found, start, **TOLERANCE)


def test_unequal_users_are_weighted_alike():
    held = synthetic.holdings(synthetic.spec())
    users = [unlearning.User(u.rows[: 12 - 4 * u.number], u.federation, u.replicate, u.number) for u in held.users]
    wanted = held.federations(users, "train").train(held.initial(), Server())[1].numpy()
    nodes = {user.number + 1: flower.ordinary(held, user, "train") for user in own_users(users)}
    np.testing.assert_allclose(flower.train_in_process(nodes, held.initial()[1].numpy(), 4), wanted, **TOLERANCE)


def test_forgetting_gives_the_same_model():
    case, asked = synthetic.case(synthetic.spec()), RequestSpec(rounds=3)
    wanted = list(unlearning.forsaken(case, asked))[-1].members[1, 0].numpy()
    one = {name: Part(p.inputs[1:], p.labels[1:]) for name, p in
           (("forget", case.forget), ("kept", case.kept), ("third", case.third_party))}  # fmt: skip
    base = case.base[1:]
    generator = Generator(
        asked, case.models, one["forget"], targets("mean", case.models, base, one["third"], one["forget"]),
        importance("gradient", case.models, base, one["kept"]),
    )  # fmt: skip
    held = synthetic.holdings(synthetic.spec())
    nodes = {user.number + 1: flower.ordinary(held, user, "unlearn") for user in own_users(case.users)}
    nodes[1] = flower.forgetting(generator, 12, synthetic.CPU)
    np.testing.assert_allclose(flower.train_in_process(nodes, base[0].numpy(), 3), wanted, **TOLERANCE)
