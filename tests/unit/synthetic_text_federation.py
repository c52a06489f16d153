"""Small federations of language models on made-up text, for tests."""

import numpy as np

from memorization.configuration import ROOT
from memorization.data.registry import lookup
from memorization.data.text_shares import TextShares, build_text_shares
from memorization.federated_text_specs import FederatedTextRunSpec

WORDS = ("the", "old", "random", "cat", "number", "sat", "is", "on", "a", "mat", "0", "12", "345", "6789")
ROLES = {"ptb.train.txt": 300, "ptb.valid.txt": 40, "ptb.test.txt": 40}


def spec(**changes) -> FederatedTextRunSpec:
    """3 users, of whom user 0's text holds 3 copies of a canary of three digits; changes by part."""
    tree = {
        "task": "federated_text",
        "replicates": 2,
        "data": {"users": 3, "third_party_characters": 400, "evaluation_characters": 400},
        "canary": {"digits": 3, "insertions": 3},
        "model": {"units": 6, "embedding": 4},
        "training": {"rounds": 2, "batch_size": 8, "sequence_length": 30},
        "requests": [{"method": "retrain"}, {"method": "forsaken", "rounds": 2, "inner_steps": 2}],
        "relearn_rounds": 2,
    }
    for part, new in changes.items():
        tree[part] = tree[part] | new if isinstance(new, dict) else new
    return FederatedTextRunSpec.model_validate(tree)


def write(folder) -> None:
    """Lines of random words, as files of the Penn Treebank's names."""
    rng = np.random.default_rng(3)
    for name, lines in ROLES.items():
        text = "".join(" ".join(rng.choice(WORDS, size=rng.integers(3, 8))) + "\n" for _ in range(lines))
        (folder / name).write_text(text)


def shares(wanted: FederatedTextRunSpec, folder) -> list[TextShares]:
    return build_text_shares(wanted, folder, lookup("ptb", ROOT / "config" / "datasets.yaml"), range(wanted.replicates))
