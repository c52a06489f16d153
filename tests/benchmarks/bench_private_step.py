"""What a private training step costs, ours and what a user would run instead, in PyTorch and TensorFlow, in one run.

    PYTHONPATH=workflow .venv/bin/python tests/benchmarks/bench_private_step.py            # measure, table, plot
    PYTHONPATH=workflow .venv/bin/python tests/benchmarks/bench_private_step.py --plot     # the plot from the table

Character LSTM of 2 x 200 units (embedding 154, 50 characters), batch of 50 windows of 100 characters, RMSprop, clip 1,
noise 1, one thread. torch_private_step.py and tf_private_step.py measure in their own environments, in turns
(--rounds); an environment that is not built is left out, and said to be. Writes private_step.csv and .png.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from memorization import contracts, plotting
from memorization.configuration import ROOT

FOLDER = ROOT / "paper_figures" / "benchmarks"
WORKERS = {"torch": "torch_private_step.py", "tf": "tf_private_step.py"}
"""Environment -> script beside this one, that prints JSON lines: name, seconds (one number or a list), repeats."""

BASE = ("torch", "ours, not private")
"""What every ratio is to."""


def measured(backend: str, arguments: list[str]) -> list[dict]:
    """Rows of one worker's run; none, with a line on stderr, where it cannot run."""
    python = ROOT / "envs" / backend / ".venv" / "bin" / "python"
    script = Path(__file__).parent / WORKERS[backend]
    for needed in (python, script):
        if not needed.exists():
            print(f"{needed.relative_to(ROOT)} is not there: no rows of {backend}", file=sys.stderr)
            return []
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONPATH": str(ROOT / "workflow")}
    ended = subprocess.run(
        [str(python), str(script), *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if ended.returncode:
        print(f"{script.name} ended with {ended.returncode}: no rows of {backend} from it", file=sys.stderr)
        return []
    rows = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    return [{"backend": backend, "name": r["name"], "s": s} for r in rows for s in np.atleast_1d(r["seconds"])]


def table(rows: list[dict], machine: str) -> pd.DataFrame:
    """One row per way: least and median seconds, and ratios to `BASE` (least to least, median to median)."""
    grouped = pd.DataFrame(rows).groupby(["backend", "name"], sort=False)["s"]
    frame = grouped.agg(seconds_min="min", seconds_median="median", repeats="size")
    for kind in ("min", "median"):
        frame[f"ratio_{kind}"] = frame[f"seconds_{kind}"] / frame.loc[BASE, f"seconds_{kind}"]
    return frame.reset_index().assign(machine=machine)


def machine() -> str:
    """The CPU's name and the cores usable here."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return f"{names[0] if names else 'unknown CPU'}, {len(os.sched_getaffinity(0))} cores, one thread"


def plain(frame: pd.DataFrame) -> pd.Series:
    """Names without commas, for finding words in them."""
    return frame["name"].str.replace(",", "")


@plotting.styled
def draw(frame: pd.DataFrame):
    """Bars of ratios on a log axis, least seconds beside each; this project's ways in colour, its parts in pale."""
    frame = frame.sort_values("ratio_min", ascending=False)
    figure = plotting.new_figure(0.6 + 0.24 * len(frame))
    axes = figure.add_subplot()
    kinds = {"ours": "exact", "our": "model"}
    colors = [plotting.COLORS[next((kinds[w] for w in n.split() if w in kinds), "control")] for n in plain(frame)]
    labels = [f"{row['name']} ({'PyTorch' if row.backend == 'torch' else 'TF'})" for _, row in frame.iterrows()]
    bars = axes.barh(labels, frame["ratio_min"] - 0.5, left=0.5, color=colors, height=0.7)
    texts = [f" {r:.3g} ×, {s:.3g} s" for r, s in zip(frame["ratio_min"], frame["seconds_min"], strict=True)]
    axes.bar_label(bars, texts, fontsize=6.8)
    axes.set_xscale("log")
    axes.set_xlim(0.5, 4 * frame["ratio_min"].max())
    axes.axvline(1, color=plotting.COLORS["muted"], linewidth=0.7)
    axes.set_xlabel("time per step, as a multiple of our non-private step")
    axes.set_title("One training step")
    what = "2 × 200 LSTM, batch of 50 windows of 100 characters, RMSprop; least of the repeats"
    plotting.footer(figure, f"{what}. {frame['machine'].iloc[0]}.")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", action="store_true", help="only draw what private_step.csv holds")
    parser.add_argument("--rounds", type=int, default=2, help="turns of the environments")
    parser.add_argument("--repeats", type=int, default=15, help="steps per way and round")
    parser.add_argument("--slow-repeats", type=int, default=2, help="of the ways that take twenty times longer")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of private_step.csv and private_step.png")
    options = parser.parse_args()
    path = options.out / "private_step.csv"
    if not options.plot:
        arguments = ["--repeats", str(options.repeats), "--slow-repeats", str(options.slow_repeats)]
        rows = [row for _ in range(options.rounds) for backend in WORKERS for row in measured(backend, arguments)]
        if not any((row["backend"], row["name"]) == BASE for row in rows):
            sys.exit("the torch environment gave no rows: nothing to compare with")
        options.out.mkdir(parents=True, exist_ok=True)
        with contracts.atomic(path) as temporary:
            table(rows, machine()).to_csv(temporary, index=False, float_format="%.5g")
    frame = pd.read_csv(path)
    print(frame.drop(columns="machine").to_string(index=False))
    with contracts.atomic(path.with_suffix(".png")) as temporary:
        draw(frame).savefig(temporary, format="png", dpi=200, metadata={"Software": None})


if __name__ == "__main__":
    main()
