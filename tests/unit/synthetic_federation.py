"""Small federations on made-up rows of numbers, for tests. Needs PyTorch."""

import numpy as np
import torch

from memorization.backends.torch.federated import Server
from memorization.backends.torch.holdings import Holdings
from memorization.backends.torch.unlearning import Case, History
from memorization.data.rows import Pool
from memorization.data.shares import Shares, build_shares
from memorization.federated_specs import FederatedRunSpec

CPU = torch.device("cpu")


def spec(**changes) -> FederatedRunSpec:
    """3 users x 12 examples of 6 features and 3 classes, a third of user 0's to be forgotten; changes by part."""
    tree = {
        "task": "federated",
        "replicates": 2,
        "data": {
            "users": 3,
            "examples_per_user": 12,
            "forget": 1 / 3,
            "third_party": 15,
            "shadow": 20,
            "test_examples": 18,
        },
        "model": {"units": [5]},
        "training": {"rounds": 4, "local_epochs": 2, "batch_size": 5, "learning_rate": 0.2},
        "oracle": {"shadow_models": 4, "bootstrap": 20},
        "requests": [{"method": "retrain"}, {"method": "forsaken", "rounds": 3}],
    }
    for part, new in changes.items():
        tree[part] = tree[part] | new if isinstance(new, dict) else new
    return FederatedRunSpec.model_validate(tree)


def shares(wanted: FederatedRunSpec) -> list[Shares]:
    """One per replicate, of three noisy clouds."""
    rng = np.random.default_rng(5)
    y = rng.integers(3, size=200)
    x = (np.eye(3, 6)[y] * 2 + rng.normal(size=(200, 6))).astype(np.float32)
    return [build_shares(wanted, k, Pool(x, y, 3)) for k in range(wanted.replicates)]


def holdings(wanted: FederatedRunSpec) -> Holdings:
    return Holdings(wanted, shares(wanted), CPU)


def case(wanted: FederatedRunSpec) -> Case:
    """Trained, and ready for requests."""
    held, history, server = holdings(wanted), History(), Server()
    federations, models = held.federations(held.users, "train"), held.initial()
    for round_ in range(1, wanted.training.rounds + 1):
        uploads = federations.uploads(models, round_)
        models = server.aggregate(models, uploads, federations.owners, federations.weights)
        history.add(held.models, uploads, wanted.replicates)
    parts = {name: held.parts[name] for name in ("forget", "kept", "third_party")}
    return Case(
        wanted, held.models, held.examples, held.users, held.forgotten, **parts,
        initial=held.initial(), base=models, history=history,
    )  # fmt: skip
