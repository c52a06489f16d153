"""Costs as text for people."""

import math

import numpy as np
import pandas as pd

SIGNIFICANT = 2
NOTES = """
recorded: jobs at each scale that are recorded themselves. CPU hours are of one job slot of the recorded machine (this
one: {slower}); N slots take an N-th of them, but no less than the longest job. Memory is of the
largest job, disk of the runs and, in "all", of downloads. PFLOP: arithmetic of training, 10^15 operations; divided by
what a GPU sustains: its least time. {gpu}What figures share counts in each of them, and once in "all".
How well this predicts what was recorded: PYTHONPATH=workflow uv run python -m memorization.costs --check"""
NO_GPU = "GPU hours: no job of a GPU is recorded. "
GPU = "GPU hours are of the recorded GPU. "


def number(value: float) -> str:
    """Two significant digits without exponents; "-" where nothing is known, "0" for nothing."""
    if value is None or math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    digits = SIGNIFICANT - 1 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def overview_table(table: pd.DataFrame, slower: float) -> str:
    """Figures down, scales across; where a GPU is recorded its hours too."""
    scales = list(dict.fromkeys(table["scale"]))
    gpu = table["gpu_h"].where(table["jobs"] > 0).notna().any()
    kinds = {"cpu_h": "CPU h"} | ({"gpu_h": "GPU h"} if gpu else {}) | {"memory_gb": "GB memory", "disk_gb": "GB disk"}
    head = ["figure", "recorded", *(f"{scale} {label}" for scale in scales for label in kinds.values()), "paper PFLOP"]
    lines = [head]
    for (_, figure), rows in table.groupby(["paper", "figure"], sort=False):
        by = {row["scale"]: row for row in rows.to_dict("records")}
        shown = [number(by[scale][name]) for scale in scales for name in kinds]
        known = "/".join(str(by[scale]["recorded"]) for scale in scales)
        lines.append([figure, known, *shown, number(by[scales[-1]]["pflop"])])
    about = (
        "its own jobs are too few to tell"
        if math.isnan(slower)
        else f"its own jobs took {number(slower)} times as long"
    )
    return aligned(lines) + "\n" + NOTES.format(slower=about, gpu=GPU if gpu else NO_GPU)


def check_table(found: pd.DataFrame, scale: str) -> str:
    """Recorded and predicted hours and their ratio per figure, then all figures' quartiles."""
    lines = [["figure", "jobs", "recorded h", "predicted h", "ratio"]]
    for row in found.itertuples():
        lines.append([row.figure, str(row.jobs), *map(number, (row.recorded_h, row.predicted_h, row.ratio))])
    if not len(found):
        return f"{scale}: nothing recorded"
    known = found.dropna(subset=["predicted_h"])  # others are the only ones of their task
    whole = known["predicted_h"].sum() / known["recorded_h"].sum()
    quartiles = ", ".join(number(q) for q in np.nanpercentile(found["ratio"], [0, 25, 50, 75, 100]))
    return f"{scale}\n{aligned(lines)}\nall figures: {number(whole)}; least, quartiles and largest ratio: {quartiles}\n"


def aligned(lines: list[list[str]]) -> str:
    """Columns: the first to the left, the others to the right."""
    first, *widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join([line[0].ljust(first), *map(str.rjust, line[1:], widths)]) for line in lines)
