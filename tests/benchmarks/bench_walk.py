"""How fast the exact walk is, against scoring whole lines, in one run on one machine.

    python tests/benchmarks/bench_walk.py                 # a fresh 2 x 200 LSTM with sharpened outputs
    python tests/benchmarks/bench_walk.py --run results/reduced/runs/torch/<run> --out walk.csv

Needs the torch environment's Python with workflow/ on PYTHONPATH. Rows of the CSV: measurement, value, unit. The slice
of the full walk is measured by giving an unpruned walk `--steps` model steps; candidates per second follow from the
number of fills per step of a full walk (10**9 / 111,111,111 for nine digits).
"""

import argparse
import csv
import os
import platform
import time
from pathlib import Path

import numpy as np

from memorization import contracts
from memorization.backends.base import LanguageModel
from memorization.canaries import CanaryFormat
from memorization.search import Tree, exact_rank, fill_costs, shortest_path
from memorization.specs import ModelSpec
from memorization.text_specs import NINE_DIGITS
from memorization.vocabulary import Vocabulary

SYMBOLS = "\n abcdefghijklmnopqrstuvwxyz0123456789#$&'*-./<>N\\"


def fresh_model(sharpen: float) -> LanguageModel:
    """An untrained LSTM of the paper's base size; outputs times `sharpen`, so that some fills stand out."""
    import torch

    from memorization.backends.torch.model import TorchLanguageModel
    from memorization.weights import initial_weights

    vocabulary = Vocabulary.of([SYMBOLS])
    weights = initial_weights(ModelSpec(), len(vocabulary), np.random.default_rng(0))
    weights["output.weight"] *= sharpen
    return TorchLanguageModel({k: torch.from_numpy(v) for k, v in weights.items()}, vocabulary)


def trained_model(run: Path) -> LanguageModel:
    """Replicate 0 of a finished run."""
    from memorization.runs import Run

    return Run.open(run).models()[0]


def hardware() -> dict[str, str]:
    """CPU model, cores usable here, and the threads that PyTorch takes."""
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "torch_threads": str(torch.get_num_threads()),
    }


def best_of(repeats: int, work, *arguments) -> tuple[float, object]:
    """Shortest wall-clock time of `repeats` calls, and the last result."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        result = work(*arguments)
        seconds.append(time.perf_counter() - began)
    return min(seconds), result


def measure(model: LanguageModel, fmt: CanaryFormat, steps: int, lines: int, repeats: int) -> list[tuple]:
    """(measurement, value, unit) rows."""
    tokens, rng = fmt.tokens(model.vocabulary), np.random.default_rng(0)
    fills = fmt.sample(rng, lines)
    tree = Tree.plant(model, tokens)
    per_step = tree.size / tree.full_steps

    def slice_of_the_walk():
        return exact_rank(model, tokens, fills[0], max_steps=steps, prune=False)

    walk_s, walked = best_of(repeats, slice_of_the_walk)
    whole_s, whole = best_of(
        repeats, lambda: np.concatenate([model.log_perplexity(i) for i in scrambled(tokens, fills)])
    )
    plain_s, _ = best_of(repeats, model.log_perplexity, tokens.ids(fills))
    cached_s, (prefix, costs) = best_of(repeats, fill_costs, model, tokens, fills)
    np.testing.assert_allclose(prefix + costs, model.log_perplexity(tokens.ids(fills)), atol=1e-2)
    states = walked.model_steps / walk_s
    candidates = states * per_step
    return [
        ("walk_states", states, "1/s"),
        ("walk_candidates", candidates, "1/s"),
        ("whole_lines", len(whole) / whole_s, "1/s"),
        ("log_perplexity", lines / plain_s, "1/s"),
        ("shared_prefixes", lines / cached_s, "1/s"),
        ("walk_over_whole_lines", candidates * whole_s / len(whole), "ratio"),
        ("walk_over_log_perplexity", candidates * plain_s / lines, "ratio"),
        ("walk_over_shared_prefixes", candidates * cached_s / lines, "ratio"),
        ("full_walk_estimate", tree.full_steps / states / 3600, "h"),
    ]


def scrambled(tokens, fills: np.ndarray) -> list[np.ndarray]:
    """A quarter of the lines, in batches with one line that differs from the start: no prefix can be shared."""
    ids = tokens.ids(fills[: max(len(fills) // 4, 2)])
    odd = np.roll(ids[:1], 1, axis=1)
    return [np.concatenate([odd, batch]) for batch in np.array_split(ids, -(-len(ids) // 4000))]


def search_and_rank(model: LanguageModel, fmt: CanaryFormat, budget: int) -> list[tuple]:
    """The most likely fill by shortest-path search, then its exact rank by the pruned walk."""
    tokens = fmt.tokens(model.vocabulary)
    found = shortest_path(model, tokens, max_steps=budget)
    rows = [
        ("search_seconds", found.seconds, "s"),
        ("search_steps", found.model_steps, "steps"),
        ("search_provable", int(found.provable), "bool"),
    ]
    if not len(found.fills):
        return rows
    rank = exact_rank(model, tokens, found.fills[0], max_steps=budget)
    print(f"most likely fill found: {fmt.fill_text(found.fills[0])}, {rank.cost_bits:.2f} bits, {rank.algorithm}")
    return [
        *rows,
        ("rank_low", rank.rank_low, "rank"),
        ("rank_high", rank.rank_high, "rank"),
        ("rank_seconds", rank.seconds, "s"),
        ("rank_steps", rank.model_steps, "steps"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a finished run (default: a fresh model)")
    parser.add_argument("--format", default=NINE_DIGITS, help="text with holes {d}, {l}")
    parser.add_argument("--sharpen", type=float, default=40.0, help="factor on a fresh model's output weights")
    parser.add_argument("--steps", type=int, default=100_000, help="model steps of the slice of the full walk")
    parser.add_argument("--lines", type=int, default=20_000, help="lines to score for comparison")
    parser.add_argument("--budget", type=int, default=500_000, help="model steps for search and rank")
    parser.add_argument("--repeats", type=int, default=3, help="best of")
    parser.add_argument("--out", type=Path, help="CSV to write")
    options = parser.parse_args()
    model = trained_model(options.run) if options.run else fresh_model(options.sharpen)
    fmt = CanaryFormat.parse(options.format)
    machine = hardware()
    print(", ".join(f"{k}: {v}" for k, v in machine.items()))
    rows = measure(model, fmt, options.steps, options.lines, options.repeats)
    rows += search_and_rank(model, fmt, options.budget)
    for name, value, unit in rows:
        print(f"{name:28s} {value:14.6g} {unit}")
    if options.out:
        with contracts.atomic(options.out) as path, path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["measurement", "value", "unit", *machine])
            writer.writerows([*row, *machine.values()] for row in rows)


if __name__ == "__main__":
    main()
