"""From measurements with a name and one value (bench_walk.py) to the lines with ways and seconds of `bench_table`."""

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
ENUMERATION = "nn.LSTM, every fill (from its rate)"


def lines(script: str, printed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of a script: those of bench_walk.py turned, all others as they are."""
    return walk(printed) if script == "bench_walk" else printed


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
