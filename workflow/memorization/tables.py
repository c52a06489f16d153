"""Tidy tables: the rows of a figure's sources over all its cells, one row per point, each with its provenance."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from memorization import contracts, toy_tree

RUN_SOURCES = ("curves", "measures", "privacy")
"""In the run's own folder; `scores` come from scoring, every other source but `static` from an attack."""

SCORE_SOURCES = ("scores", "lines")

STATIC = {"fig09_search_tree": toy_tree.rows}
"""Figures that need no training: key -> function giving the rows of source `static`."""


def source_path(results: str, cell: dict[str, Any], source: str) -> Path:
    """Where one source of one cell lies. `cell` holds backend, run, attack and score (ids)."""
    run = Path(results) / "runs" / cell["backend"] / cell["run"]
    if source in RUN_SOURCES:
        return run
    return run / "scores" / cell["score"] if source in SCORE_SOURCES else run / "attacks" / cell["attack"]


def sources_of(cell: dict[str, Any], sources: Sequence[str]) -> list[str]:
    """Those of a figure's sources that a cell has: only private runs account, attacks and scores where asked for."""
    absent = set() if cell["private"] else {"privacy"}
    if cell["attack"] is None:
        absent |= set(sources) - {*RUN_SOURCES, *SCORE_SOURCES}
    if cell["score"] is None:
        absent |= set(SCORE_SOURCES)
    return [source for source in sources if source != "static" and source not in absent]


def build(
    figure: str, scale: str, sources: Sequence[str], cells: Sequence[dict[str, Any]], results: str
) -> pd.DataFrame:
    """The figure's table.

    cells: per cell {"backend", "run", "attack", "score", "private", "varied": {dotted key: value}}. Columns: source,
    the contract's columns of every source (empty where a source lacks them), the varied keys, and figure, scale, run,
    backend, private, dataset, data_source, replicates.
    """
    frames = []
    if "static" in sources:
        static = STATIC[figure]()
        frames.append(static.assign(source="static", backend="none", dataset="none", data_source="none"))
    for cell in cells:
        run = source_path(results, cell, "curves")
        record = json.loads((run / "run.json").read_text())
        about = {
            **cell["varied"],
            "private": cell["private"],
            "run": cell["run"],
            "backend": cell["backend"],
            "dataset": record["data"]["dataset"],
            "data_source": record["data"]["source"],
            "replicates": record["spec"]["replicates"],
        }
        for source in sources_of(cell, sources):
            rows = contracts.read(source, source_path(results, cell, source))
            frames.append(rows.assign(source=source, **about))
    filled = [f.dropna(axis=1, how="all") for f in frames if len(f)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=["source"])
    table = table.assign(figure=figure, scale=scale)
    first = ["figure", "scale", "source", "backend", "run", "dataset", "data_source", "replicates"]
    first = [c for c in first if c in table]
    return table[first + [c for c in table if c not in first]]


TEXT = ("fill", "best_fill", "run", "node", "parent", "symbol")


def read(path: str | Path) -> pd.DataFrame:
    """A table written by `build`: fills and run ids stay text ("007" is not 7)."""
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), low_memory=False)


def write(table: pd.DataFrame, path: str | Path) -> None:
    """Write atomically: ten significant digits (a rank may need them), bits, nats and seconds to six decimals."""
    fine = [c for c in table if c.endswith(("_bits", "_nats", "_s", "seconds")) and table[c].dtype.kind == "f"]
    with contracts.atomic(Path(path)) as temporary:
        table.round(dict.fromkeys(fine, 6)).to_csv(temporary, index=False, float_format="%.10g")
