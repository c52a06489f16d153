"""One model.npz under every back end's own interpreter, through the command line: no environment has both libraries."""

import json
import os
import sys

import numpy as np
import pytest

from conftest import ROOT, run
from memorization import backends, contracts, environments
from memorization import weights as weight_files
from memorization.canaries import CanaryFormat
from memorization.data.registry import lookup
from memorization.specs import RunSpec
from memorization.streams import stream
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary(tuple("\n 0123456789abcdefghijklmnopqrstuvwxyz"))
FORMAT = "my pin is {d}{d}{d}"


@pytest.fixture(scope="module", params=["lstm", "gru"])
def one_model_two_runs(request, tmp_path_factory):
    """Folders of finished runs, equal but for the back end that run.json names."""
    model = {"architecture": request.param, "units": 13, "embedding": 7}
    spec = RunSpec.model_validate({"canary": {"format": FORMAT}, "model": model})
    fill = CanaryFormat.parse(FORMAT).sample(stream(0, 0, "canary"), 1)[0]
    drawn = weight_files.initial_weights(spec.model, len(VOCABULARY), stream(0, 0, "init"))
    weights = {name: 3 * array for name, array in drawn.items()}
    folders = {}
    for backend in backends.BACKENDS:
        folders[backend] = tmp_path_factory.mktemp(backend)
        weight_files.save(weight_files.stack([weights]), folders[backend])
        record = {
            "backend": backend,
            "spec": spec.model_dump(mode="json"),
            "vocabulary": list(VOCABULARY.symbols),
            "canaries": [{"replicate": 0, "fill": "".join(map(str, fill)), "text": "", "positions": []}],
        }
        (folders[backend] / "run.json").write_text(json.dumps(record))
    return folders


def command(python, *words):
    """Standard output of `python -m memorization ...`."""
    path = os.pathsep.join([str(ROOT / "workflow"), os.environ.get("PYTHONPATH", "")])
    ended = run([str(python), "-m", "memorization", *words], ROOT, PYTHONPATH=path, OMP_NUM_THREADS="1")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def ask(backend, folder, *words):
    """The command line's answer under the back end's own interpreter."""
    environments.build(backend, root=ROOT)
    python = ROOT / "envs" / backend / ".venv" / "bin" / "python"
    return json.loads(command(python, *words, "--run", str(folder), "--json"))


def test_both_interpreters_give_the_same_costs(one_model_two_runs, tmp_path):
    lines = ["my pin is 123", "the cat sat on the mat", "z9", "aaaa"]
    (tmp_path / "lines.txt").write_text("\n".join(lines) + "\n")
    answers = [
        ask(backend, folder, "score", "--file", str(tmp_path / "lines.txt"))
        for backend, folder in one_model_two_runs.items()
    ]
    costs = [[row["log_perplexity_bits"] for row in answer["lines"]] for answer in answers]
    assert len(costs[0]) == len(lines)
    np.testing.assert_allclose(costs[1], costs[0], rtol=1e-4)


def test_both_interpreters_give_the_same_exact_rank(one_model_two_runs):
    for fill in ("123", "940"):
        answers = [
            ask(backend, folder, "exposure", "--canary", fill, "--references", "200")
            for backend, folder in one_model_two_runs.items()
        ]
        torch, tf = (next(r for r in a["results"] if r["method"] == "exact") for a in answers)
        assert torch["rank"] == tf["rank"]
        assert torch["cost_bits"] == pytest.approx(tf["cost_bits"], rel=1e-4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A small text as the data set ptb, as `fetch` would have left it."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    words = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "vow"]
    roles = lookup("ptb", ROOT / "config" / "datasets.yaml").roles.model_dump()
    for role, lines in (("train", 150), ("validation", 20), ("test", 20)):
        text = "".join(" ".join(rng.choice(words, 7)) + "\n" for _ in range(lines))
        (folder / roles[role]).write_text(text)
    (folder / "provenance.json").write_text(json.dumps({"dataset": "ptb", "source": "standin"}))
    return folder


def train(backend, spec, data, folder):
    """Curves of a training under the back end's own interpreter; accounting in the driver's."""
    (folder / "spec.json").write_text(json.dumps(spec))
    arguments = ["--spec", str(folder / "spec.json"), "--data", str(data), "--run", str(folder)]
    if "privacy" in spec:
        command(sys.executable, "account", *arguments)
    environments.build(backend, root=ROOT)
    command(ROOT / "envs" / backend / ".venv" / "bin" / "python", "train", *arguments, "--backend", backend)
    return contracts.read("curves", folder)


@pytest.mark.parametrize(
    ("architecture", "privacy"),
    [("lstm", None), ("gru", None), ("lstm", {"clip": 0.05}), ("lstm", {"clip": 0.05, "sampling": "shuffle"})],
)
def test_both_interpreters_train_alike(data, tmp_path, architecture, privacy):
    """Same start, same batches, no randomness else: plainly, and with every window's gradient clipped but no noise."""
    spec = {
        "canary": {"format": "a {l}{l}"},
        "model": {"architecture": architecture, "units": 8, "embedding": 6},
        "training": {"epochs": 1.5, "batch_size": 16, "sequence_length": 20, "learning_rate": 0.003},
        "replicates": 1,
    }
    if privacy:
        spec["privacy"], spec["training"]["gradient_clip"] = privacy, None
    curves = {}
    for backend in backends.BACKENDS:
        (tmp_path / backend).mkdir()
        curves[backend] = train(backend, spec, data, tmp_path / backend)
    columns = ["step", "train_loss_nats", "validation_loss_nats", "test_loss_nats"]
    one, other = (curves[backend][columns].to_numpy() for backend in backends.BACKENDS)
    np.testing.assert_allclose(other, one, rtol=1e-3)
    assert one[-1, 2] < one[0, 2] - 0.1, "it must have learnt for this to mean anything"
