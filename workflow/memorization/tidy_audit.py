"""What an audit of a user's own text found: one row per arm (without privacy, and per epsilon), from its tidy table."""

import numpy as np
import pandas as pd

from memorization import lower_bound, tidy
from memorization.statistics import t_interval
from memorization.tidy_privacy import CONVENTIONS, trainings


def arms(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run, those without privacy first, then by falling epsilon:

    arm                      in words
    models, canaries         trainings; canaries of each
    test_loss_nats           mean over models, at the end, per character
    planted, left_out        canaries of all models
    exposure_bits            mean over models of their planted canaries' mean exact exposure, with Student's 95 %
                             interval over models (_low, _high)
    left_out_bits            the same mean of those that were left out
    unfinished               canaries without an exact rank; their exposures are missing from the means
    space_bits               log2 of the number of possible secrets: the largest exposure
    first, extracted         planted canaries of exact rank 1; that the search returned
    queries_median, _most    model steps of a search, over planted canaries
    classic_rdp, rdp, pld    epsilon accounted for: infinite without privacy
    delta                    of all epsilons
    records, unit            that a private training protects one of; NaN, and "", without privacy
    epsilon_low              the largest of the models' lower bounds; 95 % of all of them at once
    attainable               the largest epsilon_low that so many canaries can show
    """
    about = trainings(table).set_index("run")
    rows = [_arm(run, known, table) for run, known in about.iterrows()]
    frame = pd.DataFrame(rows)
    return frame.sort_values("rdp", ascending=False, ignore_index=True)


def exposures(table: pd.DataFrame) -> pd.DataFrame:
    """Exact exposures, one row per canary: run, replicate, index, kind (inserted, excluded), rank, exposure_bits (NaN
    where the rank was not finished), space_bits.
    """
    rows = tidy.rows(table, "exposure")
    kept = ["run", "replicate", "index", "kind", "rank", "exposure_bits", "space_bits"]
    return rows.loc[rows["method"] == "exact", kept].reset_index(drop=True)


def bounds(table: pd.DataFrame) -> pd.DataFrame:
    """The lower bound on epsilon of every model, rows of contract `audit` with `run`."""
    return tidy.rows(table, "audit")


def label(private: bool, wanted: float) -> str:
    """An arm in words."""
    return f"private, ε ≤ {wanted:g}" if private else "without privacy"


def _arm(run: str, known: pd.Series, table: pd.DataFrame) -> dict:
    mine = table[table["run"] == run]
    found, audited, searched = exposures(mine), bounds(mine), tidy.rows(mine, "extraction")
    accounts = tidy.rows(mine, "privacy")
    searched = searched[searched["algorithm"] == "shortest_path"]
    planted, left = (found[found["kind"] == kind] for kind in ("inserted", "excluded"))
    losses = tidy.rows(mine, "curves").sort_values("epoch").groupby("replicate")["test_loss_nats"].last()
    mean, low, high = t_interval(planted.groupby("replicate")["exposure_bits"].mean().dropna())
    canaries, delta = int(audited["canaries"].iloc[0]), float(audited["delta"].iloc[0])
    models = len(audited)
    each = 1 - (1 - lower_bound.CONFIDENCE) / models
    accounted = {name: float(known[name]) if known["private"] else np.inf for name in CONVENTIONS}
    return {
        "arm": label(known["private"], known["wanted"]),
        "run": run,
        "models": models,
        "canaries": canaries,
        "test_loss_nats": float(losses.mean()),
        "planted": len(planted),
        "left_out": len(left),
        "exposure_bits": mean,
        "exposure_bits_low": low,
        "exposure_bits_high": high,
        "left_out_bits": float(left["exposure_bits"].mean()),
        "unfinished": int(found["exposure_bits"].isna().sum()),
        "space_bits": float(found["space_bits"].iloc[0]),
        "first": int((planted["rank"] == 1).sum()),
        "extracted": int(searched["extracted"].sum()),
        "queries_median": float(searched["model_steps"].median()),
        "queries_most": float(searched["model_steps"].max()),
        **accounted,
        "delta": delta,
        "records": float(accounts["examples"].iloc[0]) if len(accounts) else np.nan,
        "unit": accounts["unit"].iloc[0] if len(accounts) else "",
        "epsilon_low": float(audited["epsilon_low"].max()),
        "attainable": lower_bound.attainable(canaries, delta, each),
    }
