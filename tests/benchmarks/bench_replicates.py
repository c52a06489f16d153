"""Figure 1's replicates trained together against as many separate runs of the same code, in one process.

    PYTHONPATH=workflow OMP_NUM_THREADS=1 envs/torch/.venv/bin/python tests/benchmarks/bench_replicates.py --data DIR

DIR holds MNIST as `python -m memorization fetch --dataset mnist --to DIR` leaves it. A run reads its data, trains one
epoch at Figure 1's reduced size, evaluates and writes its files. `processes` are runs as a user starts them, with the
interpreter and its imports; of the separate ones a tenth is run and counted tenfold. Separate runs and rounds of the
common one take turns, so that a busy machine slows both; `steps` is the training alone. Every replicate's weights are
compared. With --json: one JSON line per way (compare.py reads them) instead of the table.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from memorization import classifier_models, runs
from memorization.backends import torch as backend
from memorization.backends.torch.classifier_group import ClassifierGroup, DeviceData, blocks
from memorization.classifier_specs import ClassifierRunSpec
from memorization.data.labelled import build_labelled
from memorization.data.registry import lookup

PART = 10
"""One of so many separate runs is also run as a process."""


def make_spec(replicates: int, seed: int = 0, examples: int = 5000) -> ClassifierRunSpec:
    """Figure 1 at the reduced scale."""
    return ClassifierRunSpec.model_validate(
        {
            "task": "classification",
            "replicates": replicates,
            "seed": seed,
            "data": {"dataset": "mnist", "train_examples": examples, "validation_examples": examples // 5},
            "model": {"units": 128},
            "training": {"learning_rate": 0.1, "batch_size": 32, "epochs": 1.0},
            "measure": {"examples": examples // 5, "evaluations": 1},
        }
    )


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def one_run(spec: ClassifierRunSpec, data: Path, directory: Path) -> None:
    """Everything that a job does after its imports."""
    dataset = lookup("mnist", runs.ROOT / "config" / "datasets.yaml")
    backend.train(spec, build_labelled(spec, data, dataset), directory, device="cpu")


def one_process(spec: ClassifierRunSpec, data: Path, directory: Path) -> None:
    """The same in a process of its own."""
    directory.mkdir()
    (directory / "asked.json").write_text(json.dumps(spec.model_dump(mode="json")))
    command = [sys.executable, "-m", "memorization", "train", "--spec", str(directory / "asked.json")]
    subprocess.run([*command, "--data", str(data), "--run", str(directory / "run")], check=True, capture_output=True)


def steps(spec: ClassifierRunSpec, wanted: list[int], shown: DeviceData) -> ClassifierGroup:
    """One epoch of some replicates, without evaluation and files; the last block of them."""
    device = torch.device("cpu")
    for block in blocks(spec, shown.data, device):
        if members := [k for k in block if k in wanted]:
            group = ClassifierGroup(spec, members, shown, device)
            list(group.train_epoch(1, group.batches))
    return group


def largest_difference(group: ClassifierGroup, stacked: dict[str, np.ndarray], member: int) -> float:
    """Between one replicate trained alone and together, relative to the array's largest weight."""
    alone = group.weights_of(member)
    return max(np.abs(alone[n] - a[member]).max() / np.abs(a[member]).max() for n, a in stacked.items())


Timings = dict[str, tuple[float, list[float]]]
"""What is timed -> seconds of all separate ones, and of every common one."""


def measure(data: Path, replicates: int, examples: int, turns: int, processes: bool) -> tuple[Timings, float]:
    """Timings, and the largest relative difference of a weight."""
    torch.set_num_threads(1)
    of = partial(make_spec, examples=examples)
    spec = of(replicates)
    shown = DeviceData(build_labelled(spec, data, lookup("mnist", runs.ROOT / "config" / "datasets.yaml")),
                       torch.device("cpu"))  # fmt: skip
    steps(of(1), [0], shown)  # what is done once per process
    together, together_steps, together_processes, differences = [], [], [], []
    alone, alone_steps, alone_processes = 0.0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns):
            together.append(seconds(lambda: one_run(spec, data, Path(folder) / "together")))
            together_steps.append(seconds(lambda: steps(spec, list(range(replicates)), shown)))
            joint = Path(folder) / f"processes-{turn}"
            together_processes += [seconds(partial(one_process, spec, data, joint))] if processes else []
            stacked = classifier_models.load(Path(folder) / "together", spec.model)
            for k in range(turn, replicates, turns):
                alone += seconds(lambda k=k: one_run(of(1, seed=k), data, Path(folder) / f"{k}"))
                began = time.perf_counter()
                group = steps(spec, [k], shown)
                alone_steps += time.perf_counter() - began
                differences.append(largest_difference(group, stacked, k))
                if processes and k % PART == 0:
                    own = Path(folder) / f"process-{k}"
                    alone_processes += PART * seconds(partial(one_process, of(1, seed=k), data, own))
    timings = {"processes": (alone_processes, together_processes)} if processes else {}
    timings |= {
        "whole runs": (alone, together),
        "steps alone": (alone_steps, together_steps),
    }
    return timings, float(max(differences))


def show(timings: Timings, difference: float, replicates: int) -> None:
    """Print the table."""
    print(f"{replicates} replicates   separate (s)   together (s)   ratio")
    for name, (apart, joint) in timings.items():
        print(f"{name:<14} {apart:>14.2f} {np.median(joint):>14.2f} {apart / np.median(joint):>7.1f}")
    print(f"largest difference of a weight, relative to its array's largest: {difference:.1e}")


def json_lines(timings: Timings, difference: float, replicates: int) -> None:
    """Print what compare.py reads."""
    for part, (apart, joint) in timings.items():
        line = {"benchmark": "classifiers", "part": part, "replicates": replicates, "items": replicates}
        print(json.dumps(line | {"way": "ours, together", "seconds": joint, "weights_difference": difference}))
        print(json.dumps(line | {"way": "one at a time", "seconds": [apart]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--replicates", type=int, default=100, help="a multiple of ten")
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--turns", type=int, default=4, help="parts of the separate runs, each after a common run")
    parser.add_argument("--no-processes", dest="processes", action="store_false", help="in this process only")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.data, options.replicates, options.examples, options.turns, options.processes)
    (json_lines if options.json else show)(*found, options.replicates)
