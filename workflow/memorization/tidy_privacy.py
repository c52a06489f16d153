"""The tidy table of figures on differential privacy: trainings and their guarantees, canaries, pairs of models.

Two models are a pair when they share back end, seed and replicate: one trained without privacy (N), one with it (D).
A difference in loss between them is always D - N.
"""

import numpy as np
import pandas as pd

from memorization import tidy

CONVENTIONS = ("classic_rdp", "rdp", "pld")
RUN = ["backend", "run"]
VARIED = {
    "privacy.epsilon": "wanted",
    "privacy.noise_multiplier": "noise",
    "training.optimizer": "optimizer",
    "canary.count": "count",
    "canary.insertions": "copies",
}
"""Keys that cells vary -> columns of `trainings`."""


def private(frame: pd.DataFrame) -> pd.Series:
    """bool per row: was the model trained with per-example clipping?"""
    return frame["private"].astype(str).eq("True") if "private" in frame else pd.Series(False, index=frame.index)


def trainings(table: pd.DataFrame) -> pd.DataFrame:
    """One row per back end and run: private, what its cell varied (`VARIED`'s columns, NaN where the figure's base says
    it), and of private ones the accounting: delta, noise_multiplier, sampling, and epsilon by every convention.
    """
    frame = table[table["backend"] != "none"]
    frame = frame.assign(private=private(frame)).drop_duplicates(RUN)
    columns = {c: frame.get(c, np.nan) for c in VARIED}
    frame = frame[[*RUN, "private"]].assign(**columns).rename(columns=VARIED)
    accounts = tidy.rows(table, "privacy")
    about = accounts.drop_duplicates(RUN)[[*RUN, "delta", "noise_multiplier", "clip", "sampling", "steps"]]
    frame = frame.merge(about, on=RUN, how="left")
    for convention in CONVENTIONS:
        part = accounts.loc[accounts["convention"] == convention, [*RUN, "epsilon"]]
        frame = frame.merge(part.rename(columns={"epsilon": convention}), on=RUN, how="left")
    return frame


def seeded(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with column `pair`, "seed/replicate": what is independent, and shared by the models of a pair."""
    return frame.assign(pair=tidy.seeds(frame))


def final(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model: its last line of curves (what `training.keep: final` keeps), with `private` and `pair`."""
    curves = tidy.rows(table, "curves").sort_values("epoch")
    return seeded(curves.assign(private=private(curves))).groupby(tidy.MODEL).tail(1)


def losses(table: pd.DataFrame) -> pd.DataFrame:
    """Columns backend, pair, N, D, gap: test losses (nats) at the end of training, one row per pair of models."""
    return _paired(final(table), ["backend", "pair"], "test_loss_nats")


def sentences(table: pd.DataFrame) -> pd.DataFrame:
    """Columns backend, pair, split, trained, index, label, N, D, gap: losses (nats) of every example that was scored
    under both models of a pair.
    """
    scores = tidy.rows(table, "scores")
    scores = seeded(scores.assign(private=private(scores)))
    return _paired(scores, ["backend", "pair", "split", "trained", "index", "label"], "loss_nats")


def _paired(frame: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    wide = frame.pivot_table(index=keys, columns="private", values=value).rename(columns={False: "N", True: "D"})
    wide = wide.reindex(columns=["N", "D"]).dropna().reset_index().rename_axis(columns=None)
    return wide.assign(gap=wide["D"] - wide["N"])


def coins(table: pd.DataFrame) -> pd.DataFrame:
    """Sampled exposures of trainings whose canaries a coin inserted or left out: backend, run, replicate,
    index, exposure_bits, extrapolated (beats every reference), inserted (bool; else left out by its coin).
    """
    exposure = tidy.rows(table, "exposure")
    coined = exposure.loc[exposure["kind"] == "excluded", RUN].drop_duplicates()
    chosen = exposure[(exposure["method"] == "sampled") & (exposure["kind"] != "control")].merge(coined, on=RUN)
    return chosen.assign(inserted=chosen["kind"] == "inserted")


def canaries(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model of a single canary: `tidy.known_ranks`'s columns, pair, copies, noise, private, and

    bits, method: exact where the walk was finished, else importance-sampled, else sampled (then `bound`: the canary
    beats every reference, or every fill that was drawn, and bits is only a lower bound).
    """
    exposure = tidy.rows(table, "exposure")
    coined = exposure.loc[exposure["kind"] == "excluded", RUN].drop_duplicates().assign(coined=True)
    exposure = exposure.merge(coined, on=RUN, how="left")
    single = exposure[exposure["coined"].isna()]
    first = single[(single["kind"] == "inserted") & (single["index"] == 0)]
    about = seeded(first).drop_duplicates(tidy.MODEL)[[*tidy.MODEL, "pair"]]
    frame = tidy.known_ranks(first).merge(about, on=tidy.MODEL)
    sampled = first.loc[first["method"] == "sampled", [*tidy.MODEL, "exposure_bits", "extrapolated"]]
    sampled.columns = [*tidy.MODEL, "sampled", "at_limit"]
    frame = frame.merge(sampled, on=tidy.MODEL, how="left").merge(trainings(table), on=RUN)
    frame["bits"] = frame["exact"].fillna(frame["importance"]).fillna(frame["sampled"])
    frame["bound"] = frame[["exact", "importance"]].isna().all(axis=1) & frame["at_limit"].eq(True)
    return frame


def controls(table: pd.DataFrame) -> pd.DataFrame:
    """Exposure rows of fills that are no canary, by sampling."""
    exposure = tidy.rows(table, "exposure")
    return exposure[(exposure["kind"] == "control") & (exposure["method"] == "sampled")]


def lower_bounds(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model that was audited: the largest of its lower bounds on epsilon (they hold at once),
    `epsilon_low`, with `canaries`, `guesses`, `correct` of that one, and the training's accounting.
    """
    audit = tidy.rows(table, "audit").sort_values("epsilon_low")
    return audit.groupby(tidy.MODEL).tail(1).merge(trainings(table), on=RUN, suffixes=("", "_accounted"))
