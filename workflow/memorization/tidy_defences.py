"""The tidy table of figures on defences: what was done against memorisation, what it cost, and what was left of it.

A model is compared with the undefended one of the same seed and the same kind of canary: their canaries, initial
weights and mini-batches are the same. Exposures come from `measures`, so that every epoch has one.
"""

import numpy as np
import pandas as pd

from memorization import tidy

KEYS = {
    "training.dropout": "dropout",
    "training.weight_decay": "weight decay",
    "training.optimizer": "optimizer",
    "training.sampling": "sampling",
    "corpus.sanitise": "sanitise",
    "privacy.epsilon": "privacy",
    "canary.insertions": "retrained",
}
"""Key that a cell varies -> the defence that it is; a cell that varies none of them is undefended ("none").
Insertions vary where the model is trained without the canary."""
RUN = ["backend", "run"]
QUANTIZE = ["attack.quantize", "score.quantize"]


def arms(table: pd.DataFrame) -> pd.DataFrame:
    """One row per back end and run: defence (of `KEYS`, or "none"), level (text: "0.2", "adam", "mask_digits"),
    canary ("digits" or "letters").
    """
    frame = table[table["backend"] != "none"].drop_duplicates(RUN)
    found = frame[RUN].assign(defence="none", level="", canary="digits")
    for key, name in KEYS.items():
        if key in frame:
            chosen = frame[key].notna()
            found.loc[chosen, "defence"] = name
            found.loc[chosen, "level"] = frame.loc[chosen, key].map(_written)
    if "canary.format" in frame:
        letters = frame["canary.format"].astype(str).str.contains("{l}", regex=False)
        found.loc[letters, "canary"] = "letters"
    return found


def _written(value: object) -> str:
    try:
        return f"{float(value):g}"
    except ValueError:
        return str(value)


def canary_bits(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """One row per `keys` of exposure (or measures) rows: the first canary's `bits`, exact where the walk was finished,
    else importance-sampled, else sampled or, where that is more, importance sampling's lower limit; then `bound` says
    that the canary beats every reference, so that bits is only a lower bound. `rank` (exact, else NaN); `skew_normal`,
    the paper's estimate.
    """
    rows = rows[(rows["kind"] == "inserted") & (rows["index"] == 0)].drop_duplicates([*keys, "method"])
    value = {method: tidy.points(rows, method).set_index(keys) for method in ("exact", "importance", "sampled")}
    frame = rows.drop_duplicates(keys).set_index(keys)[[]]
    for method, part in value.items():
        frame[method] = part["exposure_bits"]
    frame["rank"] = value["exact"]["rank"]
    frame["skew_normal"] = tidy.points(rows, "skew_normal").set_index(keys)["exposure_bits"]
    limit = rows[rows["method"] == "importance"].set_index(keys)["exposure_low_bits"].reindex(frame.index)
    least = frame["sampled"].mask(limit > frame["sampled"], limit)
    frame["bits"] = frame["exact"].fillna(frame["importance"]).fillna(least)
    beyond = value["sampled"]["extrapolated"].reindex(frame.index).eq(True)
    frame["bound"] = frame[["exact", "importance"]].isna().all(axis=1) & beyond
    return frame.reset_index()


def epochs(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model and epoch with an exposure: the columns of curves, of `arms` and of `canary_bits`, and pair
    ("seed/replicate").
    """
    keys = [*tidy.MODEL, "step"]
    curves = tidy.rows(table, "curves").drop_duplicates(keys)
    measures = tidy.rows(table, "measures")
    measures = measures[measures["moment"].isin(["start", "epoch"])]
    frame = curves.assign(pair=tidy.seeds(curves)).merge(canary_bits(measures, keys), on=keys)
    return frame.merge(arms(table), on=RUN).sort_values([*tidy.MODEL, "step"], ignore_index=True)


def last(frame: pd.DataFrame) -> pd.DataFrame:
    """Of `epochs`: each model at the end of its training."""
    return frame.groupby(tidy.MODEL).tail(1)


def stopped(frame: pd.DataFrame) -> pd.DataFrame:
    """Of `epochs`: each model where its validation loss is least, which is where early stopping stops."""
    trained = frame[(frame["step"] > 0) & frame["validation_loss_nats"].notna()]
    return trained.loc[trained.groupby(tidy.MODEL)["validation_loss_nats"].idxmin()]


def matched(frame: pd.DataFrame) -> pd.DataFrame:
    """Of `variants`: each model where its validation loss is as high as the best one of the worst optimiser (or
    sampling) with the same seed (brief section 8): the last such epoch before its own minimum.
    """
    chosen = []
    for _, group in frame[frame["step"] > 0].groupby(["backend", "pair"]):
        worst = group.groupby("run")["validation_loss_nats"].min().max()
        for _, model in group.groupby("run"):
            falling = model[model["step"] <= model.loc[model["validation_loss_nats"].idxmin(), "step"]]
            reached = falling[falling["validation_loss_nats"] >= worst]
            chosen.append(reached.tail(1) if len(reached) else falling.head(1))
    return pd.concat(chosen) if chosen else frame.head(0)


VARIANTS = {"optimizer": "rmsprop", "sampling": "without_replacement"}
"""What is varied but is no defence -> what the undefended models have."""


def variants(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """`epochs` of the models that differ only in `what`, a key of `VARIANTS`, with a column of that name."""
    frame = epochs(table)
    frame = frame[frame["defence"].isin(["none", what]) & (frame["canary"] == "digits")]
    return frame.assign(**{what: frame["level"].where(frame["defence"] == what, VARIANTS[what])})


def differences(frame: pd.DataFrame, defence: str, canary: str, level: str | None = None) -> dict[str, pd.Series]:
    """Level -> bits of the defended minus those of the undefended model, indexed by pair, of rows with one moment per
    model (`last`); of one `level` or of all.
    """
    frame = frame[frame["canary"] == canary]
    plain = frame[frame["defence"] == "none"].set_index("pair")["bits"]
    found = {}
    for name, group in frame[frame["defence"] == defence].groupby("level", sort=False):
        if level in (None, name):
            found[name] = (group.set_index("pair")["bits"] - plain).dropna()
    return found


def quantised(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model that was attacked with its own and with 8-bit weights: pair, and bits, rank, bound (1 where
    bits is only a lower bound, else 0), loss (nats per character of the scored test lines; NaN where none were) of
    both, as bits_none, bits_int8, ...
    """
    exposure, scores = tidy.rows(table, "exposure"), tidy.rows(table, "scores")
    if "attack.quantize" not in exposure or exposure["attack.quantize"].nunique() < 2:
        return pd.DataFrame(columns=[*tidy.MODEL, "pair", *(f"{n}_{q}" for n in _QUANTISED for q in ("none", "int8"))])
    pairs = exposure.assign(pair=tidy.seeds(exposure)).drop_duplicates(tidy.MODEL)[[*tidy.MODEL, "pair"]]
    wide = canary_bits(exposure, [*tidy.MODEL, "attack.quantize"])
    wide = wide.rename(columns={"attack.quantize": "how"})[[*tidy.MODEL, "how", "bits", "rank", "bound"]]
    wide = wide.astype({"bound": float})
    losses = _scored(scores).rename(columns={"score.quantize": "how"})
    wide = wide.merge(losses, on=[*tidy.MODEL, "how"], how="left")
    wide = wide.pivot(index=tidy.MODEL, columns="how", values=list(_QUANTISED))
    wide.columns = [f"{name}_{how}" for name, how in wide.columns]
    return wide.reset_index().merge(pairs, on=tidy.MODEL)


_QUANTISED = ("bits", "rank", "bound", "loss")


def _scored(scores: pd.DataFrame) -> pd.DataFrame:
    """Model, score.quantize, loss: mean over the characters of the test lines."""
    keys = [*tidy.MODEL, "score.quantize"]
    if "score.quantize" not in scores or not len(scores):
        return pd.DataFrame(columns=[*keys, "loss"]).astype({"replicate": "int64", "loss": "float64"})
    scores = scores[scores["split"] == "test"]
    scores = scores.assign(total=scores["loss_nats"] * scores["size"])
    sums = scores.groupby(keys)[["total", "size"]].sum()
    return (sums["total"] / sums["size"]).rename("loss").reset_index()


def controls(table: pd.DataFrame) -> pd.DataFrame:
    """Exposures of fills that were not inserted, by sampling, in every model at the end of its training."""
    measures = tidy.rows(table, "measures")
    chosen = measures[(measures["kind"] == "control") & (measures["method"] == "sampled")]
    final = chosen.groupby(tidy.MODEL)["step"].transform("max")
    return chosen[chosen["step"] == final].drop_duplicates([*tidy.MODEL, "index"])


def ceilings(table: pd.DataFrame) -> dict[str, float]:
    """Kind of canary -> log2|R| of nine digits, or of the letters in its format."""
    found = {"digits": 9 * float(np.log2(10))}
    formats = table["canary.format"].dropna().astype(str).unique() if "canary.format" in table else ()
    for text in formats:
        found["letters"] = text.count("{l}") * float(np.log2(26))
    return found
