"""When exposure is measured while training, and in whose context: every canary has its own."""

import numpy as np
import pytest

from memorization import contracts
from memorization.canaries import CanaryFormat
from memorization.data.corpora import PlantedCanary, TrainingCorpus
from memorization.search import fill_costs
from memorization.specs import RunSpec
from memorization.vocabulary import Vocabulary

torch = pytest.importorskip("torch")

from memorization.backends import torch as backend  # noqa: E402

VOCABULARY = Vocabulary(tuple("\n 0123456789abcdefghijklmnopqrstuvwxyz"))
CONTEXTS = ("ab {d}{d}", "zq {d}{d}")


def corpus(text: str) -> TrainingCorpus:
    line = CanaryFormat.parse(text).render(np.array([1, 2]))
    ids = VOCABULARY.encode("\n".join(["the cat sat on the mat", line, *["the cat sat on the mat"] * 20]))
    canary = PlantedCanary(np.array([1, 2]), line, np.array([23]), format=text)
    return TrainingCorpus(VOCABULARY, ids, ids[:60], ids[60:120], canary)


def trained(run_dir, measure, epochs):
    spec = RunSpec.model_validate(
        {
            "canary": {"format": "{x}{x} {d}{d}"},
            "model": {"layers": 1, "units": 8, "embedding": 5},
            "training": {"batch_size": 8, "sequence_length": 10, "epochs": epochs, "keep": "final"},
            "measure": {"references": 50, "controls": 2, "exact_steps": 1000} | measure,
            "replicates": 2,
        }
    )
    backend.train(spec, [corpus(text) for text in CONTEXTS], run_dir, device="cpu")
    return spec, contracts.read("measures", run_dir)


@pytest.mark.parametrize(
    ("measure", "epochs", "expected"),
    [
        ({"every": "epoch"}, 3.0, [0, 1, 2, 3]),
        ({"every": "epoch", "epochs": [2]}, 4.0, [2, 4]),
        ({"every": "epoch", "epochs": [2, 4]}, 4.0, [2, 4]),
        ({"every": "epoch", "epochs": [5]}, 2.0, [2]),
        ({"every": "none"}, 2.0, []),
    ],
)
def test_measured_after_the_epochs_that_were_asked_for(tmp_path, measure, epochs, expected):
    measures = trained(tmp_path, measure, epochs)[1]
    assert sorted(measures["epoch"].unique()) == expected


def test_a_canary_is_measured_in_its_own_context(tmp_path):
    spec, measures = trained(tmp_path, {"every": "epoch", "epochs": [3]}, 3.0)
    exact = measures[(measures["method"] == "exact") & (measures["kind"] == "inserted")].set_index("replicate")
    models = backend.load(tmp_path, spec, VOCABULARY)
    for k, (model, own) in enumerate(zip(models, CONTEXTS, strict=True)):
        costs = {text: fill_costs(model, CanaryFormat.parse(text).tokens(VOCABULARY), np.array([[1, 2]]))[1][0]
                 for text in CONTEXTS}  # fmt: skip
        assert exact.loc[k, "cost_bits"] == pytest.approx(costs[own], abs=1e-3)
        assert abs(costs[CONTEXTS[0]] - costs[CONTEXTS[1]]) > 0.01
