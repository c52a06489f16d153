"""How fast the exact walk is, against other ways to score fills, in one run on one machine.

    python tests/benchmarks/bench_walk.py                 # a fresh 2 x 200 LSTM with sharpened outputs
    python tests/benchmarks/bench_walk.py --run results/reduced/runs/torch/<run> --out walk.csv
    python tests/benchmarks/bench_walk.py --run results/reduced/runs/torch/<run> --full full_walk     # all of it

Needs the torch environment's Python with workflow/ on PYTHONPATH. Rows: measurement, x (what the measurement grows
with; empty where nothing does), value, unit. `--json` prints them as JSON, one per line. The full walk is measured on
its first `--steps` states (1 % of those of nine digits), in quarters between which the other ways take their turns, so
that all see the same machine; candidates per state are those of the whole tree (10**9 / 111,111,111 for nine digits).

`--full NAME` walks the whole space, and writes NAME.json (rates, exact rank of the canary: float64) and NAME.csv (how
many fills cost how much).
"""

import argparse
import csv
import json
import time
from pathlib import Path

import numpy as np
import walk_cases as cases
from matrix_rate import peak_rate
from walk_cases import fresh_model

from memorization import contracts
from memorization.backends.base import LanguageModel
from memorization.canaries import CanaryFormat
from memorization.progress import Progress
from memorization.runs import Run
from memorization.search import Tree, beam, exact_rank, shortest_path
from memorization.text_specs import NINE_DIGITS

__all__ = ["fresh_model"]

BIN_BITS = 0.25
ROUNDS = 4


def race(model, weights, fmt: CanaryFormat, steps: int, lines: int) -> list[tuple]:
    """The walk of `steps` states against every way to score lines; medians over the pauses."""
    tokens, rng = fmt.tokens(model.vocabulary), np.random.default_rng(0)
    fills, tree = fmt.sample(rng, lines), Tree.plant(model, tokens)
    cases.agree(model, weights, tokens, fills[:200])
    others = cases.rivals(model, weights, tokens, fills)
    seconds = {name: [] for name in (*others, "product")}
    paused, laps, mark = 0.0, [], [time.perf_counter(), 1]

    def watch(done: int) -> None:
        nonlocal paused
        if done < min(steps, tree.full_steps) * (len(laps) + 1) / ROUNDS - 1 or len(laps) == ROUNDS:
            return
        now = time.perf_counter()
        laps.append((done - mark[1]) / (now - mark[0]))
        for name, (_, work) in others.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
        seconds["product"].append(peak_rate("cpu", repeats=1))
        mark[:] = time.perf_counter(), done
        paused += mark[0] - now

    began = time.perf_counter()
    walked = exact_rank(model, tokens, fills[0], max_steps=steps, prune=False, watch=watch)
    states = walked.model_steps / (time.perf_counter() - began - paused)
    rates = {name: count / float(np.median(seconds[name])) for name, (count, _) in others.items()}
    return report(tree, weights, states, laps, rates, float(np.median(seconds["product"])), walked.model_steps)


def report(tree: Tree, weights, states: float, laps, rates: dict, product: float, steps: int) -> list[tuple]:
    """Rows of the race."""
    candidates, operations = states * tree.size / tree.full_steps, cases.operations(weights, tree.widest)
    return [
        ("walk_states_walked", "", steps, "states"),
        ("walk_share_of_all_states", "", steps / tree.full_steps, "share"),
        ("walk_states", "", states, "1/s"),
        *[("walk_states_of_quarter", i + 1, lap, "1/s") for i, lap in enumerate(laps)],
        ("walk_candidates", "", candidates, "1/s"),
        *[(name, "", rate, "1/s") for name, rate in rates.items()],
        *[(f"walk_over_{name}", "", candidates / rate, "ratio") for name, rate in rates.items()],
        ("operations_per_state", "", operations["done"], "FLOP"),
        ("operations_per_state_unshared", "", operations["unshared"], "FLOP"),
        ("product_rate", "", product / 1e9, "GFLOP/s"),
        ("fraction_of_product_rate", "", states * operations["done"] / product, "share"),
        ("fraction_counting_what_sharing_saves", "", states * operations["unshared"] / product, "share"),
        ("full_walk_estimate", "", tree.full_steps / states / 3600, "h"),
    ]


def growth(model: LanguageModel, budget: int, largest_full: int) -> list[tuple]:
    """Full walks of 3 to 7 digits, pruned ranks of 3 to 12, and full walks by chunk size."""
    rows = []
    for digits in range(3, 13):
        fmt = CanaryFormat.parse("the random number is " + "{d}" * digits)
        tokens = fmt.tokens(model.vocabulary)
        likely = beam(model, tokens, width=64).fills[0]
        if digits <= largest_full:
            full = exact_rank(model, tokens, likely, max_steps=10**12, prune=False)
            rows += [
                ("full_walk_seconds", digits, full.seconds, "s"),
                ("full_walk_steps", digits, full.model_steps, "1"),
            ]
        pruned = exact_rank(model, tokens, likely, max_steps=budget)
        rows += [
            ("pruned_rank_seconds", digits, pruned.seconds, "s"),
            ("pruned_rank_steps", digits, pruned.model_steps, "1"),
            ("pruned_rank", digits, pruned.rank, "rank"),
        ]
    return rows


def chunks(model: LanguageModel, fmt: CanaryFormat, steps: int) -> list[tuple]:
    """The walk's rate by the number of states that are stepped at once."""
    tokens = fmt.tokens(model.vocabulary)
    fill, sizes = fmt.sample(np.random.default_rng(0), 1)[0], [250, 500, 1000, 2040, 4000, 8000]
    rates = {size: [] for size in sizes}
    for _ in range(3):
        for size in sizes:
            walked = exact_rank(model, tokens, fill, max_steps=steps, prune=False, chunk=size)
            rates[size].append(walked.model_steps / walked.seconds)
    return [("walk_states_by_chunk", size, max(found), "1/s") for size, found in rates.items()]


def search_and_rank(model: LanguageModel, fmt: CanaryFormat, budget: int) -> list[tuple]:
    """The most likely fill by shortest-path search, then its exact rank by the pruned walk."""
    tokens = fmt.tokens(model.vocabulary)
    found = shortest_path(model, tokens, max_steps=budget)
    rows = [
        ("search_seconds", "", found.seconds, "s"),
        ("search_steps", "", found.model_steps, "1"),
        ("search_provable", "", int(found.provable), "bool"),
    ]
    if not len(found.fills):
        return rows
    rank = exact_rank(model, tokens, found.fills[0], max_steps=budget)
    return [
        *rows,
        ("rank_low", "", rank.rank_low, "rank"),
        ("rank_high", "", rank.rank_high, "rank"),
        ("rank_seconds", "", rank.seconds, "s"),
        ("rank_steps", "", rank.model_steps, "1"),
    ]


def full(model: LanguageModel, fmt: CanaryFormat, fill: np.ndarray, name: Path) -> dict:
    """Every fill of the format: the canary's exact rank, the exact histogram of costs, and the rate."""
    tree = Tree.plant(model, fmt.tokens(model.vocabulary))
    edges, done = np.arange(0, 1000, BIN_BITS), 1
    with Progress(tree.full_steps, f"full walk of {tree.size:,} fills", done=1) as progress:

        def watch(steps: int) -> None:
            nonlocal done
            progress.advance(steps - done)
            done = steps

        rank = exact_rank(
            model, fmt.tokens(model.vocabulary), fill, max_steps=10**15, prune=False, edges=edges, watch=watch
        )
    pruned = exact_rank(model, fmt.tokens(model.vocabulary), fill, max_steps=tree.full_steps)
    found = {
        "fills": tree.size,
        "states": rank.model_steps,
        "seconds": rank.seconds,
        "states_per_second": rank.model_steps / rank.seconds,
        "candidates_per_second": tree.size / rank.seconds,
        "rank": rank.rank,
        "exact_in_float64": rank.rescored is not None,
        "rescored_fills": rank.rescored,
        "largest_error_bits": rank.error_bits,
        "exposure_bits": rank.exposure_bits,
        "cost_bits": rank.cost_bits,
        "pruned_rank": pruned.rank,
        "pruned_states": pruned.model_steps,
        "pruned_seconds": pruned.seconds,
        "histogram_counts": int(rank.histogram.sum()),
        **cases.about(),
    }
    with contracts.atomic(name.with_suffix(".csv")) as path, path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["low_bits", "high_bits", "count"])
        bounds = zip([-np.inf, *edges], [*edges, np.inf], rank.histogram, strict=True)
        writer.writerows(row for row in bounds if row[2])
    with contracts.atomic(name.with_suffix(".json")) as path:
        path.write_text(json.dumps(found, indent=2) + "\n")
    return found


def options_of() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a finished run (default: a fresh model)")
    parser.add_argument("--replicate", type=int, default=0, help="of the run")
    parser.add_argument("--format", help="text with holes {d}, {l} (default: nine digits, or the run's)")
    parser.add_argument("--sharpen", type=float, default=40.0, help="factor on a fresh model's output weights")
    parser.add_argument("--steps", type=int, default=1_111_112, help="model steps of the slice of the full walk")
    parser.add_argument("--lines", type=int, default=20_000, help="lines to score for comparison")
    parser.add_argument("--budget", type=int, default=500_000, help="model steps for search and rank")
    parser.add_argument("--digits", type=int, default=7, help="largest space of digits that is walked in full")
    parser.add_argument("--chunk-steps", type=int, default=60_000, help="model steps per chunk size")
    parser.add_argument("--json", action="store_true", help="print rows as JSON, one per line")
    parser.add_argument("--out", type=Path, help="CSV to write")
    parser.add_argument("--full", type=Path, metavar="NAME", help="walk everything; write NAME.json and NAME.csv")
    return parser.parse_args()


def main() -> None:
    options = options_of()
    model, weights = cases.trained(options.run, options.replicate) if options.run else cases.fresh(options.sharpen)
    text = options.format or (Run.open(options.run).format.text if options.run else NINE_DIGITS)
    fmt, machine = CanaryFormat.parse(text), cases.about()
    if options.full:
        own = Run.open(options.run).canaries[options.replicate] if options.run and not options.format else None
        fill = fmt.parse_fill(own) if own else beam(model, fmt.tokens(model.vocabulary), width=64).fills[0]
        print(json.dumps(full(model, fmt, fill, options.full), indent=2))
        return
    if not options.json:
        print(", ".join(f"{k}: {v}" for k, v in machine.items()))
    rows = race(model, weights, fmt, options.steps, options.lines)
    rows += search_and_rank(model, fmt, options.budget)
    rows += chunks(model, fmt, options.chunk_steps) + growth(model, options.budget, options.digits)
    for name, x, value, unit in rows:
        if options.json:
            print(
                json.dumps({"benchmark": "walk", "measurement": name, "x": x, "value": value, "unit": unit, **machine})
            )
        else:
            print(f"{name:38s} {x!s:>5s} {value:14.6g} {unit}")
    if options.out:
        with contracts.atomic(options.out) as path, path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["measurement", "x", "value", "unit", *machine])
            writer.writerows([*row, *machine.values()] for row in rows)


if __name__ == "__main__":
    main()
