"""What scripts with lines of their own print (bench_walk, bench_training, matrix_rate), as `bench_table` reads it.

matrix_rate.py measures the device's rate; `with_fractions` gives every line that counts its operations its share of it.
"""

import math
from typing import Any

WAYS = {
    "walk_candidates": "ours, the walk",
    "prefixes_shared": "our model, all prefixes shared",
    "prefix_cached": "our model, prefix cached",
    "whole_lines": "our model, whole lines",
    "nn_lstm": "nn.LSTM, whole lines",
}
"""Measured candidates per second -> way."""

MILLION = 1_000_000
PLAIN = "float32"
LARGE = "one large square product, as many operations"
ENUMERATION = "nn.LSTM, every fill (from its rate)"


def lines(script: str, printed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of a script as `bench_table` reads them; of most they are so already."""
    return TURNED[script](printed) if script in TURNED else printed


def walk(printed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Comparisons exact_walk, walk_chunks and walk_growth. A pruned rank that its budget ended is no rank: left out."""
    found = {(row["measurement"], row["x"]): row["value"] for row in printed}
    rates = {name: found[name, ""] for name in WAYS}
    rows = [_rate("exact_walk", way, rates[name]) for name, way in WAYS.items()]
    rows[0]["matrix_fraction"] = found["fraction_of_product_rate", ""]
    for (name, x), value in found.items():
        if name == "walk_states_by_chunk":
            rows.append(_rate("walk_chunks", f"ours, {x:,} states at once", value) | {"chunk": x})
    for (name, digits), value in found.items():
        if name == "pruned_rank_seconds" and math.isnan(found["pruned_rank", digits]):
            continue
        if name in ("full_walk_seconds", "pruned_rank_seconds"):
            way = "ours, every fill" if name == "full_walk_seconds" else "ours, branch and bound"
            rows.append(_growth(way, digits, value))
            if name == "pruned_rank_seconds":
                rows.append(_growth(ENUMERATION, digits, 10**digits / rates["nn_lstm"]))
    return rows


def _rate(benchmark: str, way: str, per_second: float) -> dict[str, Any]:
    return {"benchmark": benchmark, "way": way, "items": MILLION, "seconds": [MILLION / per_second]}


def _growth(way: str, digits: int, seconds: float) -> dict[str, Any]:
    return {"benchmark": "walk_growth", "way": way, "space": 10**digits, "items": 1, "seconds": [seconds]}


def training(printed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Comparisons training, stepping, training_replicates and training_units: rows of one varied size each."""
    rows = []
    for line in printed:
        way = line["variant"] + (f", {line['precision']}" if line.get("precision", PLAIN) != PLAIN else "")
        taken = {"seconds": [line["seconds"]], "seconds_median": line["median_seconds"], "repeats": line["repeats"]}
        row = {"way": way, "items": line["items_per_s"] * line["seconds"], **taken}
        row |= {name: line[name] for name in ("units", "batch", "states", "flops") if name in line}
        if line["name"] != "growth":
            rows.append(row | {"benchmark": line["name"]})
            continue
        row |= {"replicates": line["replicates"]}
        first = next(one for one in printed if one["name"] == "growth")
        rows += [row | {"benchmark": "training_replicates"}] if line["units"] == first["units"] else []
        rows += [row | {"benchmark": "training_units"}] if line["replicates"] == first["replicates"] else []
    return rows


def step_parts(printed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Comparison step_parts: seconds of every product of a step and of the rest, and of a step at the device's rate.

    A rest that is not positive is left out: the products were slower when they were measured alone.
    """
    whole = next(line for line in printed if line["part"] == "step")
    sizes = {name: whole[name] for name in ("units", "batch", "replicates")}
    rows = [_part(whole, sizes, "the whole step")]
    peak = whole["rate"] / whole["of_peak"]
    ideal = {"seconds": [whole["flops"] / peak], "operations_per_second": peak}
    rows.append(rows[0] | {"way": LARGE} | ideal)
    for line in printed:
        if line is not whole and line["seconds"] > 0:
            rows.append(_part(line, sizes, f"{line['part']} ({line['shape']})" if "shape" in line else line["part"]))
    return rows


def _part(line: dict[str, Any], sizes: dict[str, Any], way: str) -> dict[str, Any]:
    row = {"benchmark": "step_parts", "way": way, "items": 1, "seconds": [line["seconds"]], **sizes}
    return row | {name: line[name] for name in ("flops",) if name in line}


def with_fractions(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with `flops` get matrix_fraction: their rate over that of a large product on the same device."""
    peaks = {row["device"]: row["operations_per_second"] for row in found if row["way"] == LARGE}
    rows = []
    for row in found:
        peak = peaks.get(row["device"])
        known = peak and "flops" in row
        rows.append(row | {"matrix_fraction": row["flops"] / min(row["seconds"]) / peak} if known else row)
    return rows


TURNED = {"bench_walk": walk, "bench_training": training, "bench_training_growth": training, "matrix_rate": step_parts}
"""Script -> what turns its lines."""
