"""Where the time of a finished run went: per rule and per figure, and what lay outside trainings, attacks and scores.

    PYTHONPATH=workflow .venv/bin/python tests/benchmarks/dag_overhead.py results/reduced            # Markdown tables
    … results/reduced --wall 4560 --cores 2       # wall time by the clock (uv, imports and the DAG included)

Begins and ends of jobs are Snakemake's own records of the folder's outputs (.snakemake/metadata; they agree with its
benchmark files). Without --wall the wall time is that of Snakemake's logs: from the second in a log's name to its last
line, of every invocation that did one of these jobs. A job that was done again counts once, as it was done last.
"""

import argparse
import base64
import json
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from memorization import costs
from memorization.configuration import ROOT, load_config, read_yaml
from memorization.data.registry import registry
from memorization.errors import UserError
from memorization.expansion import dataset_names, expand

WORK = ("train", "attack", "score")
"""What the pipeline is for; all else is overhead."""

STARTED = re.compile(r"(\d{4}-\d\d-\d\dT\d{6})\.\d+\.snakemake\.log$")
CORES = re.compile(r"^Provided cores: (\d+)", re.MULTILINE)


@dataclass(frozen=True)
class Overview:
    """Of a whole run, in seconds: `work_s` sums over slots, `beside_s` is wall time without any job of `WORK`."""

    wall_s: float
    cores: int
    work_s: float
    all_jobs_s: float
    beside_s: float
    invocations: int = 0
    """Of Snakemake, by its logs; 0 where the wall time was told."""

    @property
    def outside(self) -> float:
        """Share of all slots' time that was not spent in trainings, attacks and scores."""
        return 1 - self.work_s / (self.wall_s * self.cores)

    @property
    def idle(self) -> float:
        """Share of all slots' time in which no job ran at all."""
        return 1 - self.all_jobs_s / (self.wall_s * self.cores)


def jobs(results: Path) -> pd.DataFrame:
    """One row per job of results/<scale> and its figures: rule, job (its log's name), began, ended (Unix seconds).

    Raises UserError where Snakemake keeps no record of that folder.
    """
    root, scale = results.parents[1], results.name
    under, found = (f"results/{scale}/", f"paper_figures/{scale}/"), []
    for path in sorted((root / ".snakemake" / "metadata").rglob("*")):
        # Long names are cut into folders, each but the last marked by an @.
        name = "".join(part.removeprefix("@") for part in path.relative_to(root / ".snakemake" / "metadata").parts)
        if not path.is_file() or not base64.b64decode(name).decode().startswith(under):
            continue
        record = json.loads(path.read_text())
        if record.get("starttime") and record.get("endtime") and record.get("log"):
            found.append((record["rule"], Path(record["log"][0]).stem, record["starttime"], record["endtime"]))
    if not found:
        raise UserError(
            f"{results}: no jobs in {root.name}/.snakemake/metadata; name a folder results/<scale> of a run"
        )
    frame = pd.DataFrame(found, columns=["rule", "job", "began", "ended"])
    return frame.groupby(["rule", "job"], as_index=False).agg(began=("began", "min"), ended=("ended", "max"))


def covered(frame: pd.DataFrame) -> float:
    """Seconds in which at least one of the jobs ran."""
    total, until = 0.0, float("-inf")
    for began, ended in frame.sort_values("began")[["began", "ended"]].itertuples(index=False):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


def invocations(root: Path, frame: pd.DataFrame) -> tuple[float, int, int]:
    """Wall seconds, cores, number of Snakemake processes that did these jobs, by their logs; zeros without any log."""
    wall, cores, count = 0.0, 0, 0
    for path in sorted((root / ".snakemake" / "log").glob("*.snakemake.log")):
        stamp, told = STARTED.search(path.name), CORES.search(path.read_text(errors="replace"))
        if not stamp or not told:
            continue
        began, ended = datetime.strptime(stamp[1], "%Y-%m-%dT%H%M%S").timestamp(), path.stat().st_mtime
        if ((frame["began"] >= began - 1) & (frame["ended"] <= ended + 1)).any():
            wall, cores, count = wall + ended - began, max(cores, int(told[1])), count + 1
    return wall, cores, count


def overview(frame: pd.DataFrame, wall_s: float, cores: int, count: int = 0) -> Overview:
    """Raises UserError where the jobs do not fit into cores x wall."""
    spent = frame["ended"] - frame["began"]
    work = frame["rule"].isin(WORK)
    if not wall_s * cores >= 0.98 * spent.sum():
        raise UserError(
            f"{wall_s:.0f} s on {cores} cores are less than the jobs' {spent.sum():.0f} s; give --wall and --cores"
        )
    return Overview(wall_s, cores, spent[work].sum(), spent.sum(), wall_s - covered(frame[work]), count)


def finished(results: Path, wall_s: float | None = None, cores: int | None = None) -> tuple[pd.DataFrame, Overview]:
    """Jobs and overview of a results folder; wall time and cores from Snakemake's logs unless given."""
    frame = jobs(results)
    logged_s, logged_cores, count = invocations(results.parents[1], frame)
    return frame, overview(frame, wall_s or logged_s, cores or logged_cores, 0 if wall_s else count)


def by_rule(frame: pd.DataFrame) -> pd.DataFrame:
    """rule, jobs, seconds, median_s, longest_s; most seconds first."""
    spent = frame.assign(s=frame["ended"] - frame["began"]).groupby("rule")["s"]
    table = spent.agg(jobs="size", seconds="sum", median_s="median", longest_s="max")
    return table.sort_values("seconds", ascending=False).reset_index()


def by_figure(frame: pd.DataFrame, scale: str) -> pd.DataFrame:
    """paper, figure, trainings, jobs, seconds of all it needs, own_s (of jobs that no row above needs), drawing_s.

    drawing_s: its table, claims and drawing. Figures of which nothing was run are left out; finished jobs that no
    figure needs (any more) are the last row, without a paper.
    """
    spent = {(r.rule, r.job): r.ended - r.began for r in frame.itertuples()}
    plan = expand(load_config(read_yaml(ROOT / "config" / "config.yaml") | {"scale": scale}), dataset_names())
    datasets, rows = registry(ROOT / "config" / "datasets.yaml"), []
    left = {job for job in spent if job[0] in WORK}
    for (paper, key), figure in plan.figures.items():
        needed = {(kind, "-".join(filter(None, names))) for kind, *names in costs.jobs_of(figure, datasets)} & set(
            spent
        )
        drawing = sum(spent.get((rule, f"{paper}-{key}"), 0.0) for rule in ("table", "claims", "figure"))
        if needed or drawing:
            rows.append((paper, key, *_summed(needed, spent), sum(spent[job] for job in needed & left), drawing))
        left -= needed
    rows += [("", "of no figure", *_summed(left, spent), sum(spent[job] for job in left), 0.0)] if left else []
    return pd.DataFrame(rows, columns=["paper", "figure", "trainings", "jobs", "seconds", "own_s", "drawing_s"])


def _summed(found: set[tuple[str, str]], spent: dict[tuple[str, str], float]) -> tuple[int, int, float]:
    """Trainings, jobs, seconds."""
    return sum(kind == "train" for kind, _ in found), len(found), sum(spent[job] for job in found)


def told(seen: Overview) -> str:
    """The overview in sentences."""
    slots, how = seen.wall_s * seen.cores, f" in {seen.invocations} invocations" if seen.invocations > 1 else ""
    return (
        f"{seen.wall_s / 60:.1f} min{how} on {seen.cores} cores ({slots:,.0f} s of slots): {seen.work_s:,.0f} s in"
        f" trainings, attacks and scores, {seen.outside:.1%} outside them (idle {seen.idle:.1%}, other rules"
        f" {seen.outside - seen.idle:.1%}). No training, attack or score ran for {seen.beside_s:,.0f} s of the wall"
        f" time ({seen.beside_s / seen.wall_s:.1%})."
    )


def lines(seen: Overview, scale: str) -> list[dict[str, Any]]:
    """The overview as `compare.py` reads it: seconds of slots."""
    slots = seen.wall_s * seen.cores
    parts = {
        "all slots": slots,
        "trainings, attacks, scores": seen.work_s,
        "other rules": seen.all_jobs_s - seen.work_s,
        "no job": slots - seen.all_jobs_s,
    }
    about = {"benchmark": "dag_overhead", "part": scale, "items": 1}
    return [about | {"way": way, "seconds": [s]} for way, s in parts.items() if s > 0]


def rules(frame: pd.DataFrame) -> str:
    """A Markdown table: what each rule took."""
    lines = ["| rule | jobs | seconds | median | longest |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| `{r.rule}` | {r.jobs} | {r.seconds:,.0f} | {r.median_s:.1f} | {r.longest_s:.0f} |"
        for r in by_rule(frame).itertuples()
    ]
    return "\n".join(lines)


def figures(frame: pd.DataFrame, scale: str) -> str:
    """A Markdown table: what each figure took, and a note below it."""
    head = "| figure | trainings | jobs | seconds | not in a row above | table, claims, drawing |"
    lines, table = [head, "|---" + "|---:" * 5 + "|"], by_figure(frame, scale)
    for r in table.itertuples():
        mark = "" if r.own_s >= 0.999 * r.seconds else " \\*"
        name = f"{r.paper}: `{r.figure}`" if r.paper else r.figure
        counts = f"| {r.trainings} | {r.jobs} | {r.seconds:,.0f} | {r.own_s:,.0f}{mark} | {r.drawing_s:.0f} |"
        lines.append(f"| {name} {counts}")
    done = frame[frame["rule"].isin(WORK)]["rule"]
    once = f"| {(done == 'train').sum()} | {len(done)} | | {table['own_s'].sum():,.0f} |"
    lines.append(f"| each job once {once} {table['drawing_s'].sum():,.0f} |")
    note = "Seconds are those of trainings, attacks and scores. \\* shared with a row above, where it is counted."
    return "\n".join([*lines, "", note])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="results/<scale> of a finished run")
    parser.add_argument("--wall", type=float, help="seconds, by the clock")
    parser.add_argument("--cores", type=int, help="of that run")
    options = parser.parse_args()
    results = options.results.resolve()
    try:
        frame, seen = finished(results, options.wall, options.cores)
        print(told(seen), rules(frame), figures(frame, results.name), sep="\n\n")
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
