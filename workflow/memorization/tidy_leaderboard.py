"""The tidy table of the defence leaderboard: what each defence leaves of the canary, and what it costs in utility.

Two set-ups. `central`: one model trained on the text (the cells of secret_sharer/text_defences). `federated`: users'
models averaged, another size and another canary (learn_to_forget/canary_unlearning), because unlearning is asked of
federations there. Losses are bits per character: of validation text, in federations of test text, which is all that
they measure. A model is compared with the undefended one of its set-up, kind of canary and seed.
"""

import numpy as np
import pandas as pd

from memorization import tidy, tidy_defences, tidy_forget

NAMES = {
    "dropout": lambda level: f"dropout {100 * float(level):.0f} %",
    "weight decay": lambda level: f"weight decay {level}",
    "sanitise": lambda level: {"deduplicate": "lines deduplicated", "mask_digits": "digits masked"}[level],
    "privacy": lambda level: f"differential privacy, ε = {level.replace('e+0', 'e+')}",
    "retrained": lambda level: "retrained without it",
    "none": lambda level: "no defence",
}
"""Defence of a central model -> level -> label."""
UNLEARNING = {
    "base": "no defence",
    "retrain": "retrained without it",
    "forsaken": "Forsaken",
    "federaser": "FedEraser",
    "ascent": "gradient ascent",
    "without_user": "trained on without the user",
}
"""Method of a federation -> label. A placebo is no defence."""
ARM = ["setup", "canary", "defence", "level", "label"]
COLUMNS = [*ARM, "pair", "bits", "bound", "first", "bits_per_character", "untrained"]
MEASURES = ("exposure_bits", "canary_rank", "loss_nats")
"""Of a federation."""
BITS_PER_NAT = 1 / np.log(2)


def board(table: pd.DataFrame) -> pd.DataFrame:
    """`COLUMNS`: one row per model and defence at the end of its training. bits: exposure (exact where a walk was
    finished; `tidy_defences.canary_bits`); bound: only a lower bound of it; first: exact rank 1; untrained: its loss
    before training (bits per character, NaN where unknown). Of early stopping bits and loss are NaN where the loss was
    still falling at the last measurement: that model was not stopped.
    """
    parts = [part for part in (_central(table), _federated(table)) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _central(table: pd.DataFrame) -> pd.DataFrame:
    """Models trained on the whole text. Of 8-bit weights the loss is the model's own and what rounding adds on single
    test lines.
    """
    frame = tidy_defences.epochs(table)
    frame = frame[~frame["defence"].isin(tidy_defences.VARIANTS)]
    if not len(frame):
        return pd.DataFrame(columns=COLUMNS)
    plain = frame[frame["defence"] == "none"]
    parts = [tidy_defences.last(frame), _early(plain)]
    rounded = tidy_defences.quantised(table)
    if len(rounded):
        base = tidy_defences.last(plain)[[*tidy.MODEL, "canary", "validation_loss_nats"]]
        rounded = rounded.merge(base, on=tidy.MODEL)
        worse = (rounded["loss_int8"] - rounded["loss_none"]).fillna(0.0)
        loss = rounded["validation_loss_nats"] + worse
        about = {"defence": "8 bits", "level": "", "label": "8-bit weights", "bound": rounded["bound_int8"] == 1}
        own = {"bits": rounded["bits_int8"], "rank": rounded["rank_int8"], "validation_loss_nats": loss}
        parts.append(rounded.assign(**own, **about))
    found = pd.concat([part for part in parts if len(part)], ignore_index=True)
    named = [NAMES[d](v) if d in NAMES else "" for d, v in zip(found["defence"], found["level"], strict=True)]
    label = found["label"].fillna(pd.Series(named, index=found.index)) if "label" in found else named
    loss = found["validation_loss_nats"] * BITS_PER_NAT
    found = found.assign(setup="central", label=label, bits_per_character=loss, first=found["rank"] == 1)
    curves = tidy.rows(table, "curves")
    start = curves[curves["step"] == 0].groupby(tidy.MODEL)["validation_loss_nats"].first() * BITS_PER_NAT
    return found.merge(start.rename("untrained").reset_index(), on=tidy.MODEL, how="left")[COLUMNS]


def _early(plain: pd.DataFrame) -> pd.DataFrame:
    """Undefended models where early stopping stops; without values where their last measurement is their best one."""
    measured_often = plain.groupby(tidy.MODEL)["step"].transform("nunique") > 1
    chosen = plain[measured_often & (plain["canary"] == "digits")]
    found = tidy_defences.stopped(chosen).assign(defence="stopping", label="early stopping")
    falling = found["step"] == chosen.groupby(tidy.MODEL)["step"].transform("max").reindex(found.index)
    values = ["bits", "rank", "validation_loss_nats"]
    return found.assign(bound=found["bound"] & ~falling, **{name: found[name].mask(falling) for name in values})


def _federated(table: pd.DataFrame) -> pd.DataFrame:
    """Federations: before any request, and where each way of unlearning ends."""
    if not (table["source"] == "details").any():
        return pd.DataFrame(columns=COLUMNS)
    found = tidy_forget.rows(table)
    found = found[found["method"].isin(UNLEARNING) & found["measure"].isin(MEASURES) & found["part"].isin(["", "test"])]
    last = found.groupby([*tidy_forget.UNIT, "measure"])["step"].transform("max")
    ends = found[found["step"] == last]
    if not len(ends):
        return pd.DataFrame(columns=COLUMNS)
    wide = ends.pivot_table(index=["seed", "method"], columns="measure", values="value").reset_index()
    wide = wide.reindex(columns=["seed", "method", "exposure_bits", "canary_rank", "loss_nats"])
    wide = wide.dropna(subset=["exposure_bits", "loss_nats"])
    defence = wide["method"].map(lambda method: "none" if method == "base" else "unlearning")
    about = {"setup": "federated", "canary": "digits", "bound": False}
    curves = tidy.rows(table, "curves")
    start = curves[(curves["step"] == 0) & curves["run"].isin(found["run"])]
    untrained = start.groupby(tidy.seeds(start))["test_loss_nats"].mean() * BITS_PER_NAT
    return wide.assign(
        **about,
        defence=defence,
        level=wide["method"].where(defence != "none", ""),
        label=wide["method"].map(UNLEARNING),
        pair=wide["seed"],
        bits=wide["exposure_bits"],
        first=wide["canary_rank"] == 1,
        bits_per_character=wide["loss_nats"] * BITS_PER_NAT,
        untrained=wide["seed"].map(untrained),
    )[COLUMNS]


def changes(rows: pd.DataFrame) -> pd.DataFrame:
    """`board` rows with, against the undefended model of the same set-up, canary and pair: `bits_change` and
    `loss_change` (minus its own), and `learned`, what training gained from the untrained loss as a share of what it
    gained there. NaN where there is none; `bits_change` also where its exposure is only a lower bound. Where the row's
    own is one (`bound`), `bits_change` is a lower limit.
    """
    keys = ["setup", "canary", "pair"]
    plain = rows[rows["defence"] == "none"].set_index(keys)[["bits", "bound", "bits_per_character", "untrained"]]
    plain = plain[~plain.index.duplicated()]
    plain = plain.assign(
        bits=plain["bits"].mask(plain["bound"].astype(bool)), gain=plain["untrained"] - plain["bits_per_character"]
    )
    found = plain.reindex(pd.MultiIndex.from_frame(rows[keys])).set_index(rows.index)
    return rows.assign(
        bits_change=rows["bits"] - found["bits"],
        loss_change=rows["bits_per_character"] - found["bits_per_character"],
        learned=(rows["untrained"] - rows["bits_per_character"]) / found["gain"].where(found["gain"] > 0),
    )


def path(table: pd.DataFrame) -> pd.DataFrame:
    """The undefended central models with a canary of digits while they train, until their least validation loss, where
    their exposure was measured and nowhere else: pair, epoch, bits, bound, bits_per_character.
    """
    columns = ["pair", "epoch", "bits", "bound", "bits_per_character"]
    frame = tidy_defences.epochs(table)
    frame = frame[(frame["defence"] == "none") & (frame["canary"] == "digits")]
    if not len(frame):
        return pd.DataFrame(columns=columns)
    best = tidy_defences.stopped(frame).set_index("pair")["step"]
    frame = frame[frame["step"] <= frame["pair"].map(best)]
    frame = frame.assign(bits_per_character=frame["validation_loss_nats"] * BITS_PER_NAT)
    return frame.sort_values(["pair", "step"])[columns]


def at_equal_loss(rows: pd.DataFrame, walked: pd.DataFrame) -> pd.DataFrame:
    """Per row of `rows` (pair, bits_per_character) the exposure that the undefended model of its pair has where its
    own training first reaches that loss (`path`): `least` and `most` of the two measurements around it, at its least
    loss where the row's is lower still. `most` is infinite where one of them is only a lower bound.

    NaN where the loss lies above that of the first measurement: nobody knows what a model stopped there had memorised
    (unless that one is of the untrained model, which then counts).
    """
    found = pd.DataFrame(np.nan, index=rows.index, columns=["least", "most"])
    for pair, own in walked.groupby("pair"):
        for row, loss in rows.loc[rows["pair"] == pair, "bits_per_character"].dropna().items():
            around = _around(own, loss)
            if len(around):
                most = np.inf if around["bound"].any() else around["bits"].max()
                found.loc[row] = [around["bits"].min(), most]
    return found


def _around(own: pd.DataFrame, loss: float) -> pd.DataFrame:
    """The measurements of one model between which its loss first falls to `loss`: none, one or two rows of `path`."""
    reached = np.minimum.accumulate(own["bits_per_character"].to_numpy())
    after = int(np.searchsorted(-reached, -loss))
    if after == len(own):
        return own.tail(1)
    if reached[after] == loss:
        return own.iloc[[after]]
    if after == 0:
        return own.head(1) if own["epoch"].iloc[0] == 0 else own.head(0)
    return own.iloc[after - 1 : after + 1]
