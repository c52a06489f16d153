"""Seconds per training step, private and not, in PyTorch: of what compare.py runs in the torch environment.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 envs/torch/.venv/bin/python tests/benchmarks/torch_private_step.py

Prints one JSON line per way: benchmark, way, seconds (the repeats' list), sizes, items (characters). The ways take
turns, so that a busy machine slows all; those that cost many times a plain step take part in fewer turns.
"""

import argparse
import json
import time
import warnings

import numpy as np
import torch
from torch import nn

from memorization import weights as weight_files
from memorization.backends.torch.group import Group
from memorization.backends.torch.opacus_layer import CharacterLSTM
from memorization.backends.torch.private_group import PrivateGroup
from memorization.data.corpora import PlantedCanary, TrainingCorpus
from memorization.privacy_file import Mechanism
from memorization.specs import ModelSpec, PrivacySpec, RunSpec, TrainingSpec
from memorization.vocabulary import Vocabulary

VOCABULARY, RATE, CLIP, NOISE = 50, 1e-3, 1.0, 1.0
CPU = torch.device("cpu")
SLOW = ("Opacus, DPLSTM, hooks", "vmap(grad) of nn.LSTM")
"""Twenty times a plain step: these take part in `--slow-repeats` turns."""


class Plain(nn.Module):
    """Embedding, an LSTM module of `kind` and a linear layer: int64[B, T] -> logits [B, T, V]."""

    def __init__(self, model: ModelSpec, kind=nn.LSTM):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, model.embedding)
        self.lstm = kind(model.embedding, model.units, model.layers, batch_first=True)
        self.output = nn.Linear(model.units, VOCABULARY)

    def forward(self, ids):
        return self.output(self.lstm(self.embedding(ids))[0])


def characters(count: int) -> np.ndarray:
    """int64[count] with frequencies 1 / rank, so that a window repeats characters about as English does."""
    shares = 1 / np.arange(1, VOCABULARY + 1)
    return np.random.default_rng(0).choice(VOCABULARY, count, p=shares / shares.sum())


def mean_losses(logits, targets):
    return nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(1)


def own_step(model: ModelSpec, batch: int, length: int, private: bool):
    """A step of this project's groups as Trainer drives them; private ones take every window (q = 1)."""
    text = characters(batch * length + 1)
    canary = PlantedCanary(np.zeros(9, dtype=np.int64), "", np.zeros(0, dtype=np.int64))
    corpus = TrainingCorpus(Vocabulary(tuple(chr(40 + i) for i in range(VOCABULARY))), text, text, text, canary)
    training = TrainingSpec(batch_size=batch, sequence_length=length, learning_rate=RATE, gradient_clip=None)
    privacy = PrivacySpec(clip=CLIP, noise_multiplier=NOISE) if private else None
    spec = RunSpec(model=model, training=training, privacy=privacy, replicates=1)
    about = Mechanism(NOISE, CLIP, 1.0, 1, batch)
    group = PrivateGroup(spec, [0], [corpus], CPU, about) if private else Group(spec, [0], [corpus], CPU)

    def step():
        for _ in group.train_epoch(1, 1):
            pass

    return step


def plain_step(model, ids, targets):
    module = Plain(model)
    optimizer = torch.optim.RMSprop(module.parameters(), lr=RATE)

    def step():
        optimizer.zero_grad()
        mean_losses(module(ids), targets).mean().backward()
        optimizer.step()

    return step


def noisy_update(parameters, optimizer, sums, batch):
    """What every hand-written way below ends with: noise on the sum, the mean, the optimiser."""
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = (total + torch.randn_like(total) * (NOISE * CLIP)) / batch
    optimizer.step()


def loop_step(model, ids, targets):
    """One backward pass of nn.LSTM per example."""
    module = Plain(model)
    parameters = list(module.parameters())
    optimizer = torch.optim.RMSprop(parameters, lr=RATE)

    def step():
        sums = [torch.zeros_like(p) for p in parameters]
        for x, y in zip(ids, targets, strict=True):
            gradients = torch.autograd.grad(mean_losses(module(x[None]), y[None])[0], parameters)
            norm = torch.stack([g.norm() for g in gradients]).norm()
            factor = (CLIP / norm).clamp(max=1)
            for total, gradient in zip(sums, gradients, strict=True):
                total.addcmul_(gradient, factor)
        noisy_update(parameters, optimizer, sums, len(ids))

    return step


def vmap_step(model, ids, targets):
    module = Plain(model)
    parameters = dict(module.named_parameters())
    optimizer = torch.optim.RMSprop(module.parameters(), lr=RATE)

    def loss(values, x, y):
        return mean_losses(torch.func.functional_call(module, values, (x[None],)), y[None])[0]

    of_examples = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))

    def step():
        gradients = of_examples({n: p.detach() for n, p in parameters.items()}, ids, targets)
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients.values()]).norm(dim=0)
        factor = (CLIP / norms).clamp(max=1)
        sums = [torch.einsum("b,b...->...", factor, gradients[name]) for name in parameters]
        noisy_update(parameters.values(), optimizer, sums, len(ids))

    return step


def engine_step(module, mode, ids, targets):
    """Opacus' engine over `module`."""
    import opacus

    optimizer = torch.optim.RMSprop(module.parameters(), lr=RATE)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ids, targets), batch_size=len(ids))
    criterion = nn.CrossEntropyLoss()
    options = {"noise_multiplier": NOISE, "max_grad_norm": CLIP, "grad_sample_mode": mode}
    parts = opacus.PrivacyEngine(accountant="rdp").make_private(
        module=module, optimizer=optimizer, data_loader=loader, criterion=criterion, poisson_sampling=False, **options
    )
    module, optimizer = parts[:2]
    criterion = parts[2] if mode == "ghost" else criterion

    def step():
        optimizer.zero_grad()
        logits = module(ids)
        shape = {"shape": logits.shape} if mode == "ghost" else {}
        criterion(logits.reshape(-1, VOCABULARY), targets.reshape(-1), **shape).backward()
        optimizer.step()

    return step


def ways(model: ModelSpec, batch: int, length: int) -> dict:
    """Name -> function of one step."""
    from opacus.layers import DPLSTM

    text = characters(batch * length + 1)
    ids, targets = (torch.from_numpy(text[k : k + batch * length].reshape(batch, length).copy()) for k in (0, 1))
    module = CharacterLSTM.of(weight_files.initial_weights(model, VOCABULARY, np.random.default_rng(0)))
    twin = CharacterLSTM.of(weight_files.initial_weights(model, VOCABULARY, np.random.default_rng(0)))
    return {
        "ours, not private": own_step(model, batch, length, private=False),
        "ours, private": own_step(model, batch, length, private=True),
        "nn.LSTM + torch.optim, not private": plain_step(model, ids, targets),
        "Opacus, our layer, ghost": engine_step(module, "ghost", ids, targets),
        "Opacus, our layer, hooks": engine_step(twin, "hooks", ids, targets),
        "loop over examples, nn.LSTM": loop_step(model, ids, targets),
        "Opacus, DPLSTM, hooks": engine_step(Plain(model, DPLSTM), "hooks", ids, targets),
        "vmap(grad) of nn.LSTM": vmap_step(model, ids, targets),
    }


def measure(work: dict, repeats: int, slow_repeats: int) -> dict[str, list[float]]:
    """Seconds of every turn, after one that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(-1, repeats):
        for name, step in work.items():
            if name in SLOW and not -1 < turn < slow_repeats:
                continue
            began = time.perf_counter()
            step()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--length", type=int, default=100, help="characters per window")
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--slow-repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.filterwarnings("ignore")
    work = ways(ModelSpec(units=options.units), options.batch, options.length)
    for name, seconds in measure(work, options.repeats, options.slow_repeats).items():
        sizes = {"units": options.units, "batch": options.batch, "length": options.length}
        line = {"benchmark": "private_step", "way": name, **sizes, "items": options.batch * options.length}
        print(json.dumps(line | {"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
