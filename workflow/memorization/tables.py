"""Tidy tables: the rows of a figure's sources over all its cells, one row per point, each with its provenance."""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pandas as pd

from memorization import contracts, published_epsilons, redaction, toy_tree
from memorization.figure_specs import DetailsFilter

RUN_SOURCES = ("curves", "measures", "details", "privacy")
"""By training, or before it (`privacy`, the same in every back end); `scores` come from scoring, every other source but
`static` from an attack."""

SCORE_SOURCES = ("scores", "lines")
ALL_DETAILS = DetailsFilter()
DERIVED = {"digits": ("scores",), "estimates": ("exposure", "measures")}
"""Sources that are made of other sources of all cells of a figure, whose own rows then stay out of the table."""

STATIC = {
    "fig09_search_tree": toy_tree.rows,
    "b7_epsilon_conventions": published_epsilons.b7_rows,
    "b8_tutorial_privacy": published_epsilons.b8_rows,
}
"""Figures that need no training: key -> function giving the rows of source `static`."""


def source_path(results: str, cell: dict[str, Any], source: str) -> Path:
    """Where one source of one cell lies. `cell` holds backend, run, attack and score (ids)."""
    run = Path(results) / "runs" / cell["backend"] / cell["run"]
    if source == "privacy":
        return Path(results) / source / cell["run"]
    if source in RUN_SOURCES:
        return run
    return run / "scores" / cell["score"] if source in SCORE_SOURCES else run / "attacks" / cell["attack"]


def sources_of(cell: dict[str, Any], sources: Sequence[str]) -> list[str]:
    """The files of a cell that a figure's sources come from: only private runs account, attacks and scores where asked
    for.
    """
    wanted = dict.fromkeys(needed for source in sources for needed in DERIVED.get(source, (source,)))
    absent = set() if cell["private"] else {"privacy"}
    if cell["attack"] is None:
        absent |= set(wanted) - {*RUN_SOURCES, *SCORE_SOURCES}
    if cell["score"] is None:
        absent |= set(SCORE_SOURCES)
    return [source for source in wanted if source != "static" and source not in absent]


def build(
    figure: str,
    scale: str,
    sources: Sequence[str],
    cells: Sequence[dict[str, Any]],
    results: str,
    details: DetailsFilter = ALL_DETAILS,
) -> pd.DataFrame:
    """The figure's table; of source `details` only what the filter lets through.

    cells: per cell {"backend", "run", "attack", "score", "private", "varied": {dotted key: value}}. Columns: source,
    the contract's columns of every source (empty where a source lacks them), the varied keys, and figure, scale, run,
    backend, private, dataset, data_source, replicates.
    """
    frames = []
    if "static" in sources:
        static = STATIC[figure]()
        frames.append(static.assign(source="static", backend="none", dataset="none", data_source="none"))
    if "digits" in sources:
        frames += _digits(cells, results)
    if "estimates" in sources:
        frames += _estimates(cells, results)
    own = [source for source in sources if source not in DERIVED]
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
        for source in sources_of(cell, own):
            rows = contracts.read(source, source_path(results, cell, source))
            rows = redaction.without_fills(rows, about["dataset"])
            rows = kept(rows, details) if source == "details" else rows
            frames.append(rows.assign(source=source, **about))
    filled = [f.dropna(axis=1, how="all") for f in frames if len(f)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=["source"])
    table = table.assign(figure=figure, scale=scale)
    first = ["figure", "scale", "source", "backend", "run", "dataset", "data_source", "replicates"]
    first = [c for c in first if c in table]
    return table[first + [c for c in table if c not in first]]


def kept(rows: pd.DataFrame, wanted: DetailsFilter) -> pd.DataFrame:
    """The rows of details.csv that `wanted` lets through."""
    if wanted == ALL_DETAILS:
        return rows
    names = rows["measure"] + "/" + rows["part"].fillna("")
    chosen = _matching(names, wanted.measures)
    if wanted.ends:
        steps = rows.groupby(["replicate", "item"])["step"]
        end = (rows["step"] == steps.transform("min")) | (rows["step"] == steps.transform("max"))
        chosen &= end | _matching(names, wanted.every)
    if wanted.items:
        chosen &= rows["item"].isin(wanted.items)
    if wanted.first:
        chosen &= (rows["replicate"] == 0) | ~_matching(names, wanted.first)
    return rows[chosen]


def _matching(names: pd.Series, patterns: Sequence[str]) -> pd.Series:
    return names.map({n: any(fnmatchcase(n, p) for p in patterns) for n in names.unique()}).astype(bool)


def _digits(cells: Sequence[dict[str, Any]], results: str) -> list[pd.DataFrame]:
    """Source `digits` of each back end: its private against its normal classifiers."""
    from memorization import digit_gallery, runs

    frames = []
    for backend in dict.fromkeys(cell["backend"] for cell in cells):
        mine = [cell for cell in cells if cell["backend"] == backend]
        scores = [
            contracts.read("scores", source_path(results, cell, "scores")).assign(private=cell["private"])
            for cell in mine
        ]
        run = source_path(results, mine[0], "curves")
        spec, record = runs.read_spec(run / "spec.json"), json.loads((run / "run.json").read_text())
        data = runs.training_material(spec, Path(results) / "data" / spec.dataset, runs.dataset_of(spec))
        about = {"dataset": spec.dataset, "data_source": record["data"]["source"], "replicates": spec.replicates}
        rows = digit_gallery.gallery(pd.concat(scores, ignore_index=True), data)
        frames.append(rows.assign(source="digits", backend=backend, run=mine[0]["run"], **about))
    return frames


def _estimates(cells: Sequence[dict[str, Any]], results: str) -> list[pd.DataFrame]:
    """Source `estimates`, once of every run: of its attack with its own weights, else of what its training measured."""
    from memorization import estimates

    frames = {}
    for cell in sorted(cells, key=lambda cell: cell["attack"] is None):
        key = cell["backend"], cell["run"]
        if key in frames:
            continue
        record = json.loads((source_path(results, cell, "curves") / "run.json").read_text())
        found = {
            source: contracts.read(source, source_path(results, cell, source))
            for source in sources_of(cell, ["estimates"])
        }
        if "exposure" in found and estimates.is_quantised(source_path(results, cell, "exposure")):
            continue
        data = record["data"]
        about = {"dataset": data["dataset"], "data_source": data["source"], "replicates": record["spec"]["replicates"]}
        rows = contracts.check("estimates", estimates.of_run(found, record["spec"]))
        frames[key] = rows.assign(source="estimates", backend=key[0], run=key[1], **about)
    return list(frames.values())


TEXT = ("fill", "best_fill", "run", "node", "parent", "symbol", "label", "pixels_hex")


def read(path: str | Path) -> pd.DataFrame:
    """A table written by `build`: fills, run ids and labels of images stay text ("007" is not 7)."""
    return pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), low_memory=False)


def write(table: pd.DataFrame, path: str | Path) -> None:
    """Write atomically: ten significant digits (a rank may need them), bits, nats and seconds to six decimals."""
    fine = [c for c in table if c.endswith(("_bits", "_nats", "_s", "seconds")) and table[c].dtype.kind == "f"]
    with contracts.atomic(Path(path)) as temporary:
        table.round(dict.fromkeys(fine, 6)).to_csv(temporary, index=False, float_format="%.10g")
