"""The tidy table of one run of every comparison, from the lines that its scripts printed."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from comparisons import SIZES, Comparison

from memorization import contracts

VALUES = ("difference_bits", "weights_difference", "matrix_fraction", "operations_per_second")
"""Columns of what a line says besides time: bits between two estimates, largest relative difference of a
weight, share of the matrix-product rate, and that rate."""

COLUMNS = [
    "benchmark", "part", "way", "backend", *SIZES, "items", "unit", "repeats", "seconds_min", "seconds_median",
    "per_second", "base", "ratio", "ratio_median", *VALUES, "device", "hardware", "versions", "commit", "date",
]  # fmt: skip


def rows(lines: list[dict[str, Any]], backend: str, about: dict[str, str]) -> list[dict[str, Any]]:
    """Lines of one script, each with where it was measured. about: device, hardware, versions, commit, date."""
    return [line | {"backend": backend} | about for line in lines if "seconds" in line]


def tidy(found: list[dict[str, Any]], comparisons: tuple[Comparison, ...]) -> pd.DataFrame:
    """One row per way and size, `COLUMNS`; lines of further rounds are further repeats. One that holds only its least
    seconds says `seconds_median` and `repeats` itself.

    ratio: least seconds per item over that of the base in the same group (ratio_median: of medians); empty where no
    base was measured. Lines of no declared comparison are left out.
    """
    declared = {comparison.key: comparison for comparison in comparisons}
    kept = pd.DataFrame([row for row in found if row["benchmark"] in declared])
    for name in {*COLUMNS, "seconds"} - set(kept.columns):
        kept[name] = np.nan
    same = ["benchmark", "part", "way", "backend", *SIZES]
    joined = []
    for _, group in kept.groupby(same, sort=False, dropna=False):
        row = group.iloc[0].to_dict()
        seconds = np.concatenate([np.atleast_1d(taken) for taken in group["seconds"]]).astype(float)
        told = {name: row[name] for name in ("repeats", "seconds_median") if not pd.isna(row[name])}
        row |= {"repeats": len(seconds), "seconds_min": seconds.min(), "seconds_median": float(np.median(seconds))}
        row |= told if len(group) == 1 else {}
        row |= {"unit": declared[row["benchmark"]].unit, "per_second": row["items"] / row["seconds_min"]}
        joined.append(row)
    parts = [_with_ratios(part, declared[key]) for key, part in pd.DataFrame(joined).groupby("benchmark", sort=False)]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _with_ratios(part: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """`part` of one benchmark with base, ratio, ratio_median."""
    part = part.assign(base=[comparison.base_of(backend) for backend in part["backend"]])
    is_base = part["way"] == part["base"]
    group = list(comparison.group)
    for column, of in (("ratio", "seconds_min"), ("ratio_median", "seconds_median")):
        each = part[of] / part["items"]
        to = each[is_base].groupby([part.loc[is_base, name] for name in group], dropna=False).first()
        keys = part[group].apply(tuple, axis=1) if len(group) > 1 else part[group[0]]
        part[column] = each / keys.map(to.to_dict())
    return part


def faults(table: pd.DataFrame, comparisons: tuple[Comparison, ...], absent: dict[str, str]) -> list[str]:
    """What is wrong with a table, one line each: comparisons missing or without a rival, times that are none, ratios
    that do not follow from the times. absent: comparison/back end -> why it could not be measured.
    """
    found = []
    for comparison in comparisons:
        for backend in comparison.backends:
            part = table[(table["benchmark"] == comparison.key) & (table["backend"] == backend)]
            if f"{comparison.key}/{backend}" in absent or (comparison.optional and part.empty):
                continue
            if part["way"].nunique() < 2 or comparison.base_of(backend) not in set(part["way"]):
                found.append(f"{comparison.key} ({backend}): needs {comparison.base_of(backend)!r} and another way")
            if part["ratio"].isna().any():
                found.append(f"{comparison.key} ({backend}): rows without a base: {sorted(part['way'].unique())}")
    numbers = table[["seconds_min", "seconds_median", "items", "per_second"]].astype(float)
    if not (np.isfinite(numbers) & (numbers > 0)).all(axis=None):
        found.append("seconds, items and rates must be finite and positive")
    if not (table["seconds_min"] <= table["seconds_median"]).all():
        found.append("a least time is above its median")
    if not np.allclose(table.loc[table["way"] == table["base"], "ratio"], 1):
        found.append("a base is not 1 to itself")
    declared = {comparison.key: comparison for comparison in comparisons}
    for key, part in table.groupby("benchmark"):
        again = _with_ratios(part, declared[key])[["ratio", "ratio_median"]]
        if not np.allclose(again, part[["ratio", "ratio_median"]], rtol=1e-3, equal_nan=True):
            found.append(f"{key}: ratios do not follow from the times")
    return found


def write(table: pd.DataFrame, path: Path) -> None:
    """Five significant digits, atomically."""
    with contracts.atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.5g")


def read(path: Path) -> pd.DataFrame:
    """A table that `write` wrote; sizes without a value are NaN."""
    return pd.read_csv(path, dtype={"way": str, "backend": str, "commit": str, "date": str})
