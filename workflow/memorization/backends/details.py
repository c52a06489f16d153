"""The long table details.csv while it grows: numbers that a training measures, one a row. Pure NumPy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from memorization import contracts

ALL = -1
"""`replicate` of what is about all replicates together; `item` and `other` where there is none."""


class Details:
    """Rows in the order in which they were added; plain values and arrays, so that a checkpoint can hold them."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []

    def add(
        self,
        measure: str,
        part: str,
        value: Any,
        *,
        step: int,
        epoch: float,
        replicate: int | Sequence[int] | np.ndarray = ALL,
        item: int | np.ndarray = ALL,
        other: int | np.ndarray = ALL,
    ) -> None:
        """One row per number of `value` (NaN: not measured); the other arrays are broadcast to its shape."""
        values = np.asarray(value, dtype=np.float64)
        numbers = {"replicate": replicate, "item": item, "other": other}
        arrays = {name: np.broadcast_to(np.asarray(n, dtype=np.int64), values.shape) for name, n in numbers.items()}
        plain = {name: array.ravel().copy() for name, array in (arrays | {"value": values}).items()}
        self.parts.append({"measure": measure, "part": part, "step": int(step), "epoch": float(epoch), **plain})

    def frame(self) -> pd.DataFrame:
        """The table, as its contract wants it."""
        if not self.parts:
            return contracts.empty("details")
        columns = {}
        for name, kind in contracts.columns("details").items():
            columns[name] = np.concatenate(
                [np.broadcast_to(np.asarray(p[name], dtype=object if kind == "str" else None), p["value"].shape)
                 for p in self.parts]
            )  # fmt: skip
        return pd.DataFrame(columns)

    def write(self, directory: Path) -> None:
        """Write directory/details.csv."""
        contracts.write("details", self.frame(), directory)
