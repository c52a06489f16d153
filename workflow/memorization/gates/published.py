"""Tests on published epsilons (B7, B8): arithmetic, no training."""

import numpy as np
import pandas as pd

from memorization.gates.outcome import Outcome, undecided

SERIES = {"classic_rdp": "classic RDP", "rdp": "dp-accounting RDP", "pld": "dp-accounting PLD"}
"""Convention -> its series in reference.csv."""


def epsilons(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of source `static` as `published_epsilons.rows` gives them; empty without any."""
    return table[table["source"] == "static"].dropna(axis=1, how="all").reset_index(drop=True)


def by_convention(table: pd.DataFrame) -> pd.DataFrame:
    """Recomputed epsilon: one row per setting (series), one column per convention."""
    return epsilons(table).pivot_table(index="series", columns="convention", values="epsilon", sort=False, dropna=False)


def published_epsilons(table: pd.DataFrame, reference: pd.DataFrame, *, decimals: int) -> Outcome:
    """G1: every published epsilon equals the classic conversion's at `decimals`, and none a current one's."""
    printed = reference[reference["series"] == "published"].set_index("label")["y"]
    if not len(epsilons(table)):
        return undecided("no epsilons in the table")
    ours = by_convention(table).reindex(printed.index)
    equal = {c: int((ours[c].round(decimals) == printed.round(decimals)).sum()) for c in SERIES if c in ours}
    off = (ours["classic_rdp"] - printed).abs()
    told = ", ".join(f"{SERIES[c]} {count}" for c, count in equal.items())
    supported = equal["classic_rdp"] == len(printed) and not equal.get("rdp") and not equal.get("pld")
    summary = f"of {len(printed)} published values equal at {decimals} decimals: {told}; "
    summary += f"largest classic difference {off.max():.4f}"
    return Outcome(bool(supported), float(off.max()), n=len(printed), summary=summary)


def tutorial_epsilon(table: pd.DataFrame, reference: pd.DataFrame, *, relative: float) -> Outcome:
    """G1: the tutorial's epsilons by current RDP and PLD equal the reference's to a share `relative` (three digits)."""
    ours = epsilons(table)
    printed = reference[reference["series"].isin(SERIES.values())]
    if not len(ours) or not len(printed):
        return undecided("no epsilons in the table" if len(printed) else "no epsilons in the reference")
    ours = ours.assign(name=ours["convention"].map(SERIES))
    joined = printed.merge(ours, left_on=["label", "x", "series"], right_on=["series", "noise_multiplier", "name"])
    off = (joined["epsilon"] / joined["y"] - 1).abs()
    complete = len(joined) == len(printed) and off.notna().all()
    summary = f"largest relative difference {off.max():.2g} over {int(off.notna().sum())} of {len(printed)} values"
    return Outcome(bool(complete and np.all(off <= relative)), float(off.max()), n=len(joined), summary=summary)
