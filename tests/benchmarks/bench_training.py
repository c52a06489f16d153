"""Training and stepping speed of the PyTorch back end against what a user would write: nn.LSTM and torch.optim.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 envs/torch/.venv/bin/python tests/benchmarks/bench_training.py
    PYTHONPATH=workflow OMP_NUM_THREADS=1 envs/torch/.venv/bin/python tests/benchmarks/bench_training.py --growth --json

Prints characters (states) per second and, in the last column, the ratio to the plain loop measured in the same run.
What is compared is timed in turns, so that a busy machine slows all. With `--growth`: how a step grows with replicates
(at the first of `--units`) and with units (at the first of `--replicates`), `--cross` for every pair; with `--json` a
line per measurement: name, variant, seconds (of one step of all replicates, the best), median_seconds, and what was
measured.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import numpy as np
import torch
from matrix_rate import training_flops
from torch import nn

from memorization import weights as weight_files
from memorization.backends.torch import TorchLanguageModel, choose_device
from memorization.backends.torch.group import Group, blocks
from memorization.data.corpora import PlantedCanary, TrainingCorpus
from memorization.specs import ModelSpec, RunSpec, TrainingSpec
from memorization.vocabulary import Vocabulary

VOCABULARY, LENGTH = 50, 100
STEPS = {"cpu": 1, "cuda": 20}
"""Mini-batches per measurement; on a GPU the end of an epoch, which waits for it, must not count much."""
Loop = Callable[[], None]


class Plain(nn.Module):
    """The same model with nn.LSTM."""

    def __init__(self, model: ModelSpec):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, model.embedding)
        self.lstm = nn.LSTM(model.embedding, model.units, model.layers)
        self.output = nn.Linear(model.units, VOCABULARY)

    def forward(self, ids):
        return self.output(self.lstm(self.embedding(ids))[0])


@contextmanager
def plain_precision(precision: str, device: torch.device) -> Iterator[None]:
    """nn.LSTM in float32, tf32 (cuDNN's own default on a GPU) or bfloat16 (autocast)."""
    if device.type != "cuda":
        yield
        return
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.rnn)
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    with torch.autocast("cuda", torch.bfloat16) if precision == "bfloat16" else nullcontext():
        yield
    for switch, value in zip(switches, before, strict=True):
        switch.fp32_precision = value


def plain_loop(model, batch, device, replicates=1, precision="float32", steps=1) -> Loop:
    """Steps of as many models, one after the other."""
    modules = [Plain(model).to(device) for _ in range(replicates)]
    optimizers = [torch.optim.RMSprop(module.parameters(), lr=1e-3) for module in modules]
    ids = torch.randint(VOCABULARY, (2, LENGTH, batch), device=device)

    def one(module, optimizer):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(ids[0]).flatten(0, 1), ids[1].flatten()).backward()
        nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimizer.step()

    def step():
        with plain_precision(precision, device):
            for module, optimizer in zip(modules, optimizers, strict=True):
                for _ in range(steps):
                    one(module, optimizer)

    return step


def our_loop(model, batch, replicates, device, precision="float32", steps=1, together=None, recorded=True) -> Loop:
    """Replicates' mini-batch steps as Trainer runs them: one group each on a CPU, one for all on a GPU, or as
    `together` says. Not `recorded`: a GPU is asked for every kernel.
    """
    rng = np.random.default_rng(0)
    size = replicates * (steps * batch * LENGTH + 1)
    texts = rng.integers(0, VOCABULARY, size).reshape(replicates, -1)
    vocabulary = Vocabulary(tuple(chr(40 + i) for i in range(VOCABULARY)))
    canary = PlantedCanary(np.zeros(9, dtype=np.int64), "", np.zeros(0, dtype=np.int64))
    corpora = [TrainingCorpus(vocabulary, text, text, text, canary) for text in texts]
    training = TrainingSpec(batch_size=batch, sequence_length=LENGTH, precision=precision)
    everyone = list(range(replicates))
    members = blocks(replicates, device) if together is None else [everyone] if together else [[k] for k in everyone]
    spec = RunSpec(model=model, training=training)
    as_it_is = nullcontext() if recorded else patch("memorization.backends.torch.group.recorder_for", lambda _: None)
    with as_it_is:
        groups = [Group(spec, block, [corpora[k] for k in block], device) for block in members]

    def step():
        for group in groups:
            for _ in group.train_epoch(1, steps):
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


def in_turns(work: dict[str, Loop], device, repeats) -> dict[str, list[float]]:
    """Seconds of every call of each loop, called in turns."""
    taken = {name: [] for name in work}
    for _ in range(repeats):
        for name, function in work.items():
            began = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize()
            taken[name].append(time.perf_counter() - began)
    return taken


def report(name: str, variant: str, taken: list[float], reference: list[float], items: int, options, **about) -> None:
    """Print one measurement: `items` (characters, states) in `taken` seconds per call, against `reference`'s rate."""
    best, ratio = min(taken), about.pop("reference_items", items) / min(reference)
    if options.json:
        rates = {"items_per_s": items / best, "ratio": items / best / ratio}
        line = {"name": name, "variant": variant, "seconds": best, "median_seconds": statistics.median(taken)}
        print(json.dumps(line | rates | {"device": options.device, "repeats": len(taken)} | about), flush=True)
    else:
        what = " ".join(f"{key} {value}" for key, value in about.items())
        print(f"{name:9s} {what:44s} {variant:32s} {items / best:12,.0f} /s {items / best / ratio:6.2f}x", flush=True)


def variants(model, batch, replicates, device, precision="float32") -> dict[str, Loop]:
    """Ways to train `replicates` models; the first one is what they are compared with."""
    shared = {"precision": precision, "steps": STEPS[device.type]}
    work = {"nn.LSTM, one after the other": plain_loop(model, batch, device, replicates, **shared)}
    work["ours"] = our_loop(model, batch, replicates, device, **shared)
    if device.type == "cuda":
        work["ours, not recorded"] = our_loop(model, batch, replicates, device, recorded=False, **shared)
        if replicates > 1:
            work["ours, one group each"] = our_loop(model, batch, replicates, device, together=False, **shared)
    elif replicates > 1:
        work["ours, in one group"] = our_loop(model, batch, replicates, device, together=True, **shared)
    return work


def growth(device, options) -> None:
    """A step's cost by replicates and units, and on a GPU by precision.

    A cell is left out, and said to be, where the one before it says that a turn of it would exceed `--limit` seconds.
    """
    first_units, first_count = options.units[0], options.replicates[0]
    cells = [(r, u) for u in options.units for r in options.replicates]
    chosen = [(r, u) for r, u in cells if options.cross or u == first_units or r == first_count]
    precisions = ["float32", "tf32", "bfloat16"] if device.type == "cuda" else ["float32"]
    second_per_flop, steps = 0.0, STEPS[device.type]
    for precision in precisions:
        for count, units in chosen:
            model = ModelSpec(units=units)
            flops = count * training_flops(model, VOCABULARY, options.batches[0], LENGTH)
            if second_per_flop * flops > options.limit:
                print(f"left out: {count} replicates of {units} units", file=sys.stderr)
                continue
            work = variants(model, options.batches[0], count, device, precision)
            in_turns(work, device, 1)
            taken = in_turns(work, device, options.repeats)
            taken = {variant: [s / steps for s in seconds] for variant, seconds in taken.items()}
            second_per_flop = sum(map(min, taken.values())) * steps / flops
            reference = next(iter(taken.values()))
            for variant, seconds in taken.items():
                about = {"replicates": count, "units": units, "batch": options.batches[0], "precision": precision}
                report("growth", variant, seconds, reference, count * options.batches[0] * LENGTH, options,
                       **about, flops=flops)  # fmt: skip


def speed(device, options) -> None:
    """Characters trained and states stepped per second at the default size."""
    model, steps = ModelSpec(), STEPS[device.type]
    for batch in options.batches:
        work = {"nn.LSTM + torch.optim": plain_loop(model, batch, device, steps=steps)}
        work |= {f"ours, R = {r}": our_loop(model, batch, r, device, steps=steps) for r in options.replicates}
        in_turns(work, device, 1)
        taken = in_turns(work, device, options.repeats)
        reference = taken["nn.LSTM + torch.optim"]
        items = steps * batch * LENGTH
        for variant, count in zip(work, [1, *options.replicates], strict=True):
            flops = steps * count * training_flops(model, VOCABULARY, batch, LENGTH)
            report("training", variant, taken[variant], reference, count * items, options, reference_items=items,
                   batch=batch, units=model.units, replicates=count, flops=flops)  # fmt: skip
    work = {"nn.LSTM": plain_stepping(model, options.states, device), "ours": stepping(model, options.states, device)}
    taken = in_turns(work, device, 3 * options.repeats)
    for variant, seconds in taken.items():
        report("stepping", variant, seconds, taken["nn.LSTM"], options.states, options, states=options.states)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, nargs="+", help="20 64 128; with --growth only the first, 20")
    parser.add_argument("--replicates", type=int, nargs="+", help="1 2 5; with --growth 1 2 4 8 16 32")
    parser.add_argument("--units", type=int, nargs="+", default=[200, 100, 400, 800], help="with --growth")
    parser.add_argument("--states", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--cross", action="store_true", help="with --growth: every pair")
    parser.add_argument("--limit", type=float, default=30.0, help="with --growth: seconds of a turn")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.batches = options.batches or ([20] if options.growth else [20, 64, 128])
    options.replicates = options.replicates or ([1, 2, 4, 8, 16, 32] if options.growth else [1, 2, 5])
    device = choose_device(options.device)
    options.device = device.type
    (growth if options.growth else speed)(device, options)


if __name__ == "__main__":
    main()
