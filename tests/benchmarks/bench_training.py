"""Training and stepping speed of the PyTorch back end against what a user would write: nn.LSTM and torch.optim.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 envs/torch/.venv/bin/python tests/benchmarks/bench_training.py

Prints characters (states) per second and, in the last column, the ratio to the plain loop measured in the same run.
Both are timed in turns, so that a busy machine slows both.
"""

import argparse
import time

import numpy as np
import torch
from torch import nn

from memorization import weights as weight_files
from memorization.backends.torch import TorchLanguageModel, choose_device
from memorization.backends.torch.group import Group, blocks
from memorization.data.corpora import PlantedCanary, TrainingCorpus
from memorization.specs import ModelSpec, RunSpec, TrainingSpec
from memorization.vocabulary import Vocabulary

VOCABULARY, LENGTH = 50, 100


class Plain(nn.Module):
    """The same model with nn.LSTM."""

    def __init__(self, model: ModelSpec):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, model.embedding)
        self.lstm = nn.LSTM(model.embedding, model.units, model.layers)
        self.output = nn.Linear(model.units, VOCABULARY)

    def forward(self, ids):
        return self.output(self.lstm(self.embedding(ids))[0])


def plain_loop(model, batch, device):
    module = Plain(model).to(device)
    optimizer = torch.optim.RMSprop(module.parameters(), lr=1e-3)
    ids = torch.randint(VOCABULARY, (2, LENGTH, batch), device=device)

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(ids[0]).flatten(0, 1), ids[1].flatten()).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step()

    return step


def our_loop(model, batch, replicates, device):
    """Replicates of one mini-batch step as Trainer runs them: one group each on a CPU, one for all on a GPU."""
    rng = np.random.default_rng(0)
    size = replicates * (batch * LENGTH + 1)
    texts = rng.integers(0, VOCABULARY, size).reshape(replicates, -1)
    vocabulary = Vocabulary(tuple(chr(40 + i) for i in range(VOCABULARY)))
    canary = PlantedCanary(np.zeros(9, dtype=np.int64), "", np.zeros(0, dtype=np.int64))
    corpora = [TrainingCorpus(vocabulary, text, text, text, canary) for text in texts]
    spec = RunSpec(model=model, training=TrainingSpec(batch_size=batch, sequence_length=LENGTH))
    members = blocks(replicates, device)
    groups = [Group(spec, block, [corpora[k] for k in block], device) for block in members]

    def step():
        for group in groups:
            for _ in group.train_epoch(1, 1):
                pass

    return step


def stepping(model, states, device):
    """One call of `step` for many states, ten columns wanted (the digits)."""
    arrays = weight_files.initial_weights(model, VOCABULARY, np.random.default_rng(0))
    vocabulary = Vocabulary(tuple(chr(40 + i) for i in range(VOCABULARY)))
    weights = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    network = TorchLanguageModel(weights, vocabulary)
    state = network.start(np.array([0]))[1].take(np.zeros(states, dtype=np.int64))
    ids = np.random.default_rng(0).integers(0, VOCABULARY, states)
    return lambda: network.step(state, ids, np.arange(10))


def plain_stepping(model, states, device):
    """The same with nn.LSTM and a state of its own."""
    module = Plain(model).to(device)
    ids = torch.randint(VOCABULARY, (1, states), device=device)
    zero = torch.zeros(model.layers, states, model.units, device=device)

    @torch.inference_mode()
    def step():
        out, _ = module.lstm(module.embedding(ids), (zero, zero))
        return module.output(out[0]).log_softmax(1)[:, :10].double().cpu().numpy()

    return step


def compare(title, work, device, repeats):
    """Time the loops in turns and print the best of each. `work`: name -> (function, items per call)."""
    best = dict.fromkeys(work, float("inf"))
    for _ in range(repeats):
        for name, (function, _) in work.items():
            began = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize()
            best[name] = min(best[name], time.perf_counter() - began)
    reference = None
    for name, (_, items) in work.items():
        rate = items / best[name]
        reference = reference or rate
        print(f"{title:24s} {name:24s} {rate:12,.0f} /s {rate / reference:6.2f}x", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[20, 64, 128])
    parser.add_argument("--replicates", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--states", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device, model = choose_device(arguments.device), ModelSpec()
    for batch in arguments.batches:
        work = {"nn.LSTM + torch.optim": (plain_loop(model, batch, device), batch * LENGTH)}
        for count in arguments.replicates:
            work[f"ours, R = {count}"] = (our_loop(model, batch, count, device), count * batch * LENGTH)
        compare(f"characters, batch {batch}", work, device, arguments.repeats)
    work = {
        "nn.LSTM": (plain_stepping(model, arguments.states, device), arguments.states),
        "ours": (stepping(model, arguments.states, device), arguments.states),
    }
    compare(f"states, n = {arguments.states}", work, device, 3 * arguments.repeats)


if __name__ == "__main__":
    main()
