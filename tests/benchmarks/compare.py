"""Every comparison with what a user would run instead, in one run: one table, plots and a page.

    uv run snakemake --cores 1 benchmarks                                 # into results/benchmarks/
    uv run snakemake --cores 1 benchmarks --config benchmarks=publish     # and into paper_figures/benchmarks/
    uv run snakemake --cores 1 benchmarks --config benchmarks=quick       # tiny: does all of it run?

By hand: PYTHONPATH=workflow .venv/bin/python tests/benchmarks/compare.py [--quick] [--page]; --page only makes table,
plots and page anew from what was measured last (record.json). One script after another (comparisons.yaml), each on one
thread in its own environment; a back end that is not built, or not asked for, is left out and the page says so.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import bench_adapters
import bench_page
import bench_plots
import bench_table
import dag_overhead
import pandas as pd
from comparisons import Comparison, Script, load

from memorization import contracts
from memorization.configuration import ROOT
from memorization.errors import UserError

PUBLISHED = ROOT / "paper_figures" / "benchmarks"
ABOUT = "import json; from memorization import runs; print(json.dumps(runs.environment()))"
GPU = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), "1")


def ran(python: str, arguments: list[str]) -> str:
    """Standard output of an interpreter. Raises UserError with the last line of its standard error."""
    environment = {**os.environ, **THREADS, "PYTHONPATH": str(ROOT / "workflow"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [python, *arguments]
    try:
        ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UserError(f"{python}: {error.strerror}; build it with `snakemake benchmarks`") from None
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"{Path(arguments[0]).name} ended with {ended.returncode}: {last}")
    return ended.stdout


def about(python: str, device: str) -> dict[str, str]:
    """Columns of where it is measured: device, hardware, versions, commit, date."""
    record = json.loads(ran(python, ["-c", ABOUT]))
    named = {"python": record["python"]} | record["packages"]
    hardware = f"{record['cpu']}, {record['logical_cpus']} CPUs, one thread"
    gpu = ran(python, ["-c", GPU]).strip() if device == "cuda" else ""
    return {
        "device": device,
        "hardware": f"{gpu}; {hardware}" if gpu else hardware,
        "versions": ", ".join(f"{name} {version}" for name, version in named.items()),
        "commit": record["commit"],
        "date": record["date"],
    }


def device_of(asked: str, python: str | None) -> str:
    """What `auto` means here."""
    return asked if asked != "auto" else "cuda" if python and ran(python, ["-c", GPU]).strip() else "cpu"


def arguments_of(script: Script, quick: bool, device: str, data: Path | None) -> list[str]:
    """The command line after the interpreter."""
    words = [str(Path(__file__).parent / script.file), *(script.quick if quick else script.full).split()]
    words += ["--device", device] if script.device else []
    return [*words, "--data", str(data)] if script.needs else words


def lines_of(
    script: Script, python: str | None, options: argparse.Namespace, records: dict[tuple[str, str], dict[str, str]]
) -> list[dict[str, Any]]:
    """Rows of one run of a script. Raises UserError where it cannot run. records: (environment, device) -> `about`."""
    if python is None:
        raise UserError("this back end was not asked for")
    device = options.device if script.device else "cpu"
    at = (script.environment, device)
    records[at] = records.get(at) or about(python, device)
    printed = ran(python, arguments_of(script, options.quick, device, options.data)).splitlines()
    shown = [json.loads(line) for line in printed if line.startswith("{")]
    return bench_table.rows(bench_adapters.lines(script.name, shown), script.environment, records[at])


def measured(scripts: tuple[Script, ...], options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of every script, and "comparison/back end" -> why it is absent. Rounds of all scripts take turns."""
    found, absent, failed, records = [], {}, set(), {}
    rounds = 1 if options.quick else max(script.rounds for script in scripts)
    for turn, script in ((turn, script) for turn in range(rounds) for script in scripts):
        if turn >= script.rounds or script.name in failed:
            continue
        began = time.monotonic()
        try:
            found += lines_of(script, options.python.get(script.environment), options, records)
            print(f"{script.name}: {time.monotonic() - began:.0f} s", flush=True)
        except UserError as error:
            failed.add(script.name)
            absent |= {f"{key}/{script.environment}": str(error) for key in script.measures}
            print(f"{script.name}: {error}", flush=True)
    return found, absent


def overheads(folders: list[Path]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Scale -> Markdown of where the time of its finished run went, and rows; a folder without records is named."""
    texts, rows = {}, []
    for folder in folders:
        try:
            frame, seen = dag_overhead.finished(folder.resolve())
        except UserError as error:
            print(f"{folder}: {error}", file=sys.stderr)
            continue
        texts[folder.name] = f"{dag_overhead.told(seen)}\n\n{dag_overhead.rules(frame)}"
        rows += dag_overhead.lines(seen, folder.name)
    return texts, bench_table.rows(rows, "driver", about(sys.executable, "cpu")) if rows else []


def write_page(folder: Path, table: pd.DataFrame, comparisons: tuple[Comparison, ...], record: dict[str, Any]) -> None:
    """Plots and README.md of a table."""
    for comparison in comparisons:
        part = table[table["benchmark"] == comparison.key]
        if len(part) and comparison.plot:
            with contracts.atomic(folder / f"{comparison.key}.png") as temporary:
                figure = bench_plots.draw(part, comparison)
                figure.savefig(temporary, format="png", dpi=160, metadata={"Software": None})
    with contracts.atomic(folder / "README.md") as temporary:
        temporary.write_text(bench_page.page(table, comparisons, record))


def publish(folder: Path, comparisons: tuple[Comparison, ...]) -> None:
    """Copy table, plots and page to where they are committed."""
    plots = {f"{comparison.key}.png" for comparison in comparisons if comparison.plot}
    for path in sorted(folder.iterdir()):
        if path.name in {"README.md", "benchmarks.csv"} | plots:
            shutil.copyfile(path, PUBLISHED / path.name)
    print(f"published into {PUBLISHED.relative_to(ROOT)}")


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--page", action="store_true", help="measure nothing: table, plots and page of the last time")
    parser.add_argument("--publish", action="store_true", help="also into paper_figures/benchmarks/")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--finished", type=Path, nargs="*", help="results/<scale> of runs (default: finished ones)")
    parser.add_argument("--data", type=Path, default=ROOT / "results" / "reduced" / "data" / "mnist")
    parser.add_argument("--python", action="append", default=[], metavar="BACKEND=PYTHON")
    options = parser.parse_args(arguments)
    if options.finished is None:
        scales = [ROOT / "results" / scale for scale in ("smoke", "reduced", "paper")]
        options.finished = [folder for folder in scales if (folder / "claims.csv").exists()]
    told = dict(text.split("=", 1) for text in options.python)
    built = {name: str(ROOT / "envs" / name / ".venv" / "bin" / "python") for name in ("torch", "tf")}
    options.python = {"driver": sys.executable, **(told or built)}
    return options


def main(arguments: list[str]) -> None:
    options = options_of(arguments)
    scripts, comparisons = load()
    record_path = options.out / "record.json"
    if options.page:
        record = json.loads(record_path.read_text())
    else:
        options.device = device_of(options.device, options.python.get("torch"))
        began = time.monotonic()
        found, absent = measured(scripts, options)
        record = {"quick": options.quick, "seconds": round(time.monotonic() - began), "absent": absent, "overhead": {}}
        record["rows"] = bench_adapters.with_fractions(found)
    texts, rows = overheads(options.finished)
    record["overhead"] |= texts
    kept = [row for row in record["rows"] if row["benchmark"] != "dag_overhead" or row["part"] not in texts]
    record["rows"] = kept + rows
    with contracts.atomic(record_path) as temporary:
        temporary.write_text(json.dumps(record) + "\n")
    bench_table.write(bench_table.tidy(record["rows"], comparisons), options.out / "benchmarks.csv")
    table = bench_table.read(options.out / "benchmarks.csv")
    write_page(options.out, table, comparisons, record)
    if wrong := bench_table.faults(table, comparisons, record["absent"]):
        sys.exit("\n".join(f"error: {line}" for line in wrong))
    if options.publish:
        if record["quick"]:
            raise UserError("tiny sizes are not published: measure without benchmarks=quick (--quick) first")
        publish(options.out, comparisons)
    print(f"{os.path.relpath(options.out)}: benchmarks.csv, README.md")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
