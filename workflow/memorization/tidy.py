"""The tidy table of a figure and the papers' values: the rows of each source, of each model, of each method.

A model is one replicate of one run: (backend, run, replicate). A seed is (seed, replicate): models of
different cells that share it share their random streams, so it is the seed that is independent, not the model
(brief §7, trap 8).
"""

from pathlib import Path

import numpy as np
import pandas as pd

from memorization import contracts

STATIC = {
    "series": "str",
    "node": "str",
    "parent": "str",
    "symbol": "str",
    "probability": "float",
    "path_probability": "float",
    "log_perplexity_bits": "float",
    "is_leaf": "bool",
    "on_best_path": "bool",
    "on_greedy_path": "bool",
}
"""Columns of `static` rows, which no run writes (Fig 9's tree)."""
MODEL = ["backend", "run", "replicate"]
MARGIN = 1e-3
"""Bits by which a fill must be cheaper than the canary to count as likelier whatever the rounding (brief §4.8)."""
REFERENCE = ("figure", "series", "label", "x", "y", "x_unit", "y_unit", "mark", "reading_error", "note")
_BOOLEANS = {True: True, False: False, "True": True, "False": False, "true": True, "false": False}


def kinds(source: str) -> dict[str, str]:
    """Column -> int | float | bool | str for the rows of `source`."""
    return STATIC if source == "static" else contracts.columns(source)


def read_reference(path: Path, figure: str | None = None) -> pd.DataFrame:
    """The papers' own values, all of them or one figure's. Labels are text."""
    numeric = {"x", "y", "reading_error"}
    frame = pd.read_csv(path, dtype={c: float if c in numeric else str for c in REFERENCE})
    return frame if figure is None else frame[frame.figure == figure].reset_index(drop=True)


def rows(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """The rows of `source` with their own types again, without the columns that only other sources fill.
     Every column of the source's contract is present, even where it is empty. Raises ValueError when a text
    column was read as numbers (use `tables.read`) or a boolean one has gaps.
    """
    frame = table[table["source"] == source].reset_index(drop=True)
    wanted = kinds(source)
    frame = frame[[c for c in frame if c in wanted or c in MODEL or not frame[c].isna().all()]].copy()
    for column, kind in wanted.items():
        if column not in frame:
            frame[column] = np.nan
        frame[column] = _typed(frame[column], kind)
    if (
        "replicate" in frame and frame["replicate"].notna().all()
    ):  # accounting and lines belong to a run, not to a model
        frame["replicate"] = frame["replicate"].astype("int64")
    return frame


def _typed(values: pd.Series, kind: str) -> pd.Series:
    if kind == "str":
        if values.dtype.kind in "iuf" and values.notna().any():
            raise ValueError(f"column {values.name} holds text but was read as numbers: use tables.read")
        return values.astype(object).where(values.notna(), "")
    if kind == "bool":
        mapped = values.map(_BOOLEANS)
        if mapped.isna().any():
            raise ValueError(f"column {values.name}: expected True or False, found {values[mapped.isna()].iloc[0]!r}")
        return mapped.astype(bool)
    numbers = pd.to_numeric(values)
    return numbers.astype("int64") if kind == "int" and numbers.notna().all() else numbers.astype("float64")


def seeds(frame: pd.DataFrame) -> pd.Series:
    """What is statistically independent: text "seed/replicate" for every row."""
    seed = frame["seed"] if "seed" in frame else pd.Series(0, index=frame.index)
    return pd.to_numeric(seed).fillna(0).astype(int).astype(str) + "/" + frame["replicate"].astype(str)


def count_models(table: pd.DataFrame) -> int:
    """How many models (replicates of runs) the table's rows come from."""
    return len(table.dropna(subset=["replicate"])[MODEL].drop_duplicates()) if "replicate" in table else 0


def points(frame: pd.DataFrame, method: str, kind: str = "inserted") -> pd.DataFrame:
    """Exposure rows of one method and kind of canary. Of `exact`, only those whose walk was finished; of `importance`,
    only those that rest on likelier fills that were drawn (without any, log2|R| is merely an upper bound).
    """
    chosen = frame[(frame["method"] == method) & (frame["kind"] == kind)]
    if method == "exact":
        return chosen[chosen["algorithm"] != "bounds"]
    return chosen[~(chosen["extrapolated"] | (chosen["rank"] <= 1))] if method == "importance" else chosen


def known_ranks(exposure: pd.DataFrame) -> pd.DataFrame:
    """One row per model with an inserted canary in `exposure` rows: what is certain about its exact rank.

    Columns beside backend, run, replicate: exact (bits), rank (NaN where no walk was finished), rank_low, rank_high
    (NaN where none was begun), exact_low, exact_high, algorithm, walk_steps; beaten (bool): a fill at least as likely
    as the canary has been seen, by the walk or among the samples; importance (bits, NaN where no likelier fill was
    drawn: then only the interval means something), importance_low, importance_high, planned (estimated steps of a
    pruned walk); skew_normal, extrapolated; space_bits.
    """
    # Of several canaries in one model only the first is ranked by more than samples.
    inserted = exposure[(exposure["kind"] == "inserted") & (exposure["index"] == 0)]
    frame = inserted[MODEL].drop_duplicates()
    bits = ["exposure_bits", "exposure_low_bits", "exposure_high_bits"]
    wanted = {
        "exact": {
            **dict(zip(bits, ("exact", "exact_low", "exact_high"), strict=True)),
            **{c: c for c in ("rank", "rank_low", "rank_high", "algorithm")},
            "model_steps": "walk_steps",
        },
        "importance": {
            **dict(zip(bits, ("importance", "importance_low", "importance_high"), strict=True)),
            "planned_steps": "planned",
            "rank": "importance_rank",
        },
        "sampled": {"rank": "sampled_rank", "references": "references"},
        "skew_normal": {"exposure_bits": "skew_normal", "extrapolated": "extrapolated"},
    }
    for method, columns in wanted.items():
        part = inserted.loc[inserted["method"] == method, [*MODEL, *columns]].rename(columns=columns)
        frame = frame.merge(part, on=MODEL, how="left")
    unfinished = frame["algorithm"] == "bounds"
    frame[["exact", "rank"]] = frame[["exact", "rank"]].mask(unfinished)
    frame["space_bits"] = inserted["space_bits"].max() if len(inserted) else np.nan
    # The sampled rank is (1 + hits) |R| / (1 + n): one hit and no hit are a factor of two apart. The importance-sampled
    # one is 1 only if no such fill was drawn.
    hit = frame["sampled_rank"] > 1.5 * 2.0 ** frame["space_bits"] / (1 + frame["references"])
    frame["beaten"] = (frame["rank_low"] > 1) | hit | (frame["importance_rank"] > 1)
    frame["importance"] = frame["importance"].mask(frame["importance_rank"] <= 1)
    return frame.drop(columns=["sampled_rank", "references", "importance_rank"])


def trials(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model with a shortest-path search: Figs 10 and 11. `known_ranks`'s columns, and

    seed; extracted: the search returned the canary; provable: nothing likelier exists; decided, success (bool): would
    a search without a budget return the canary, and is that certain? It is by the search's own proof; else by a fill
    that is likelier than the canary (found by the search, the walk or among the samples), or by an exact rank of 1.

    queries (float) and `bound`: what Dijkstra, one prefix at a time, would pop before it returns the canary: the
    sequential-equivalent count where the canary is the proven best leaf; else the prefixes of the exact pruned walk
    (all that are no dearer than the canary); else the sequential-equivalent count so far, and then `bound` says that
    it is only a lower bound.
    """
    search = rows(table, "extraction")
    # Of several canaries in one model the first that was searched for.
    search = search[search["algorithm"] == "shortest_path"].drop_duplicates(MODEL)
    columns = ["extracted", "provable", "sequential_equivalent", "canary_cost_bits", "best_cost_bits"]
    frame = search[[*MODEL, *columns]].assign(seed=seeds(search))
    frame = frame.merge(known_ranks(rows(table, "exposure")), on=MODEL, how="left")
    cheaper = frame["best_cost_bits"] < frame["canary_cost_bits"] - MARGIN
    beaten = frame["beaten"].eq(True) | (cheaper & ~frame["extracted"])
    first = frame["rank_high"] <= 1
    frame["decided"] = frame["provable"] | beaten | first
    frame["success"] = frame["extracted"].where(frame["provable"], first & ~beaten).astype(bool)
    proven = frame["extracted"] & frame["provable"]
    walked = ~proven & (frame["algorithm"] == "pruned_walk")
    frame["bound"] = ~proven & ~walked
    frame["queries"] = frame["sequential_equivalent"].where(~walked, frame["walk_steps"]).astype(float)
    return frame


def space_bits(table: pd.DataFrame, reference: pd.DataFrame) -> float:
    """log2|R|: as stored with the exposures, else from an exact rank, else the reference's value (NaN without)."""
    stored = rows(table, "exposure")["space_bits"].max()
    if np.isfinite(stored):
        return float(stored)
    exact = points(rows(table, "measures"), "exact").dropna(subset=["rank"])
    if len(exact):
        return float((exact["exposure_bits"] + np.log2(exact["rank"])).median())
    return float(reference.loc[reference["series"] == "log2|R|", "y"].max())


def full_walk(space_bits: float) -> float:
    """Prefixes of a space of digits, (10^L - 1) / 9: 111,111,111 for nine digits (brief §4.7)."""
    return (2.0**space_bits - 1) / 9


def gaps(table: pd.DataFrame) -> pd.DataFrame:
    """Per model: `gap_bits`, the cheapest other fill's cost minus the canary's; negative where it is not the
    best.
    """
    top = rows(table, "top")
    exposure = rows(table, "exposure")
    cost = exposure[exposure["kind"] == "inserted"].groupby(MODEL)["cost_bits"].first()
    listed = top[top["is_canary"]].groupby(MODEL)["cost_bits"].first()
    other = top[~top["is_canary"]].groupby(MODEL)["cost_bits"].min()
    gap = (other - listed.combine_first(cost)).rename("gap_bits").dropna().reset_index()
    best = top[top["is_canary"] & (top["position"] == 1)][MODEL].assign(first=True)
    gap = gap.merge(best, on=MODEL, how="left")
    return gap.assign(first=gap["first"].eq(True))
