"""All estimates of one canary's exposure in one trained model side by side, of any task: what `exposure.csv` (of an
attack) or `measures.csv` (of a training) holds of the first canary, in one row per model.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from memorization import contracts, tidy

MODEL = ["replicate"]


def is_quantised(attack: Path) -> bool:
    """Whether the attack in folder `attack` was on rounded weights: another model than the one that was trained."""
    return json.loads((attack / "spec.json").read_text()).get("quantize", "none") != "none"


def of_run(found: Mapping[str, pd.DataFrame], spec: Mapping[str, Any]) -> pd.DataFrame:
    """One row (contract `estimates`) per replicate with an inserted canary that was measured.

    found: the run's `measures` and, where it was attacked, `exposure`, which is then preferred. spec: run.json's.
    """
    attacked = len(found.get("exposure", ())) > 0
    rows = found["exposure"] if attacked else _last(found["measures"])
    rows = rows[(rows["kind"] == "inserted") & (rows["index"] == 0)]
    if not len(rows):
        return contracts.empty("estimates")
    wide = _wide(rows)
    references = (spec.get("measure") or {}).get("references", 0)
    if attacked:
        own = rows[rows["method"] == "sampled"].set_index(MODEL)["references"]
        references = own.reindex(wide.index).fillna(0).astype(int)
    frame = wide.reset_index().assign(
        seed=int(spec.get("seed", 0)),
        task=spec.get("task", "text"),
        unit=(spec.get("corpus") or {}).get("unit", ""),
        moment="attack" if attacked else "end",
        references=np.asarray(references),
    )
    return contracts.check("estimates", frame[list(contracts.columns("estimates"))])


def _last(measures: pd.DataFrame) -> pd.DataFrame:
    """What was measured of every replicate at its last step."""
    return measures[measures["step"] == measures.groupby("replicate")["step"].transform("max")]


def _wide(rows: pd.DataFrame) -> pd.DataFrame:
    """Index replicate: the estimates, log2|R|, the exact rank, and whether the sampled estimate is at its limit."""
    rows = rows.drop_duplicates([*MODEL, "method"])
    every = rows.set_index([*MODEL, "method"])["exposure_bits"].unstack().reindex(columns=["sampled", "skew_normal"])
    sampled = rows[rows["method"] == "sampled"].set_index(MODEL)
    exact = tidy.points(rows, "exact").set_index(MODEL)
    space = (rows["exposure_bits"] + np.log2(rows["rank"])).groupby(rows["replicate"]).median()
    return pd.DataFrame(
        {
            "space_bits": space,
            "rank": exact["rank"],
            "exact_bits": exact["exposure_bits"],
            "importance_bits": tidy.points(rows, "importance").set_index(MODEL)["exposure_bits"],
            "sampled_bits": every["sampled"],
            "sampled_at_limit": sampled["extrapolated"].reindex(every.index).eq(True),
            "skew_normal_bits": every["skew_normal"],
        },
        index=every.index,
    )
