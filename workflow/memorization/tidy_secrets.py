"""The tidy table of secrets planted in mail (Table 2 of The Secret Sharer): one row per secret of every model."""

import string

import numpy as np
import pandas as pd

from memorization import tidy

SECRET = [*tidy.MODEL, "index"]
KINDS = {"card": "CCN", "security": "SSN"}
"""Word in the canary's format -> the paper's name of the type of secret."""
BITS = ["exposure_bits", "exposure_low_bits", "exposure_high_bits"]


def secrets(table: pd.DataFrame) -> pd.DataFrame:
    """One row per planted secret and model, in the order of the owners. Columns beside backend, run, replicate, index:

    owner (A has most text), kind (CCN, SSN), copies; space_bits; exact, exact_low, exact_high (bits; `exact` NaN where
    the walk was not finished), rank_low, rank_high; importance, sampled, skew_normal (bits) each with _low, _high and
    extrapolated_; extracted: a search returned it; provable; outranked: a likelier fill has been seen by the walk or
    among samples; beaten_in_search: one was found by a search. NaN or False where a method was not asked for.
    """
    exposure = tidy.rows(table, "exposure")
    exposure = exposure[exposure["kind"] == "inserted"]
    about = {"corpus.mailbox": "mailbox", "canary.format": "format", "canary.insertions": "copies"}
    frame = exposure.assign(**{c: exposure.get(c, np.nan) for c in about}).rename(columns=about)
    frame = frame.drop_duplicates(SECRET)[[*SECRET, *about.values(), "space_bits"]]
    frame["owner"] = [string.ascii_uppercase[int(n) - 1] if n > 0 else "?" for n in frame["mailbox"]]
    frame["kind"] = [next((k for word, k in KINDS.items() if word in str(text)), "?") for text in frame["format"]]
    for method in ("exact", "importance", "sampled", "skew_normal"):
        frame = frame.merge(_one_method(exposure, method), on=SECRET, how="left")
    frame["exact"] = frame["exact"].mask(frame["algorithm"] == "bounds")
    frame = frame.merge(_searched(table), on=SECRET, how="left")
    for column in ("extracted", "provable", "beaten_in_search"):
        frame[column] = frame[column].eq(True)
    # The sampled rank is (1 + hits) |R| / (1 + n): one hit and no hit are a factor of two apart.
    hit = frame["rank_sampled"] > 1.5 * 2.0 ** frame["space_bits"] / (1 + frame["references_sampled"])
    frame["outranked"] = (frame["rank_low"] > 1) | hit | (frame["rank_importance"] > 1)
    # Importance sampling without a likelier fill gives log2|R|: an upper bound, no estimate.
    frame["importance"] = frame["importance"].mask(frame["rank_importance"] <= 1)
    return frame.sort_values(["mailbox", "run", "index", "replicate"], ignore_index=True)


def _one_method(exposure: pd.DataFrame, method: str) -> pd.DataFrame:
    """The columns of one method, named after it."""
    part = exposure[exposure["method"] == method]
    names = dict(zip(BITS, (method, f"{method}_low", f"{method}_high"), strict=True))
    if method == "exact":
        return part[[*SECRET, *BITS, "algorithm", "rank_low", "rank_high"]].rename(columns=names)
    more = {c: f"{c}_{method}" for c in ("rank", "references", "extrapolated")}
    return part[[*SECRET, *BITS, *more]].rename(columns=names | more)


def _searched(table: pd.DataFrame) -> pd.DataFrame:
    """Per secret: what all searches for it together say."""
    search = tidy.rows(table, "extraction")
    cheaper = search["best_cost_bits"] < search["canary_cost_bits"] - tidy.MARGIN
    search = search.assign(
        index=search["index"].fillna(0).astype("int64"),
        extracted=search["extracted"] & (search["algorithm"] == "shortest_path"),
        beaten_in_search=cheaper & ~search["extracted"],
    )
    return search.groupby(SECRET)[["extracted", "provable", "beaten_in_search"]].any().reset_index()
