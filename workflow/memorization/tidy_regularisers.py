"""A Closer Look's Figures 10 and 11: trainings by regularisation technique and strength, on random and real labels."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from memorization import tidy

NONE, BOTH = "none", "dropout + adversarial"
KEYS = {
    "dropout": "training.dropout",
    "input dropout": "training.input_dropout",
    "input noise": "training.input_noise",
    "hidden noise": "training.hidden_noise",
    "weight decay": "training.weight_decay",
    BOTH: "training.adversarial",
}
"""Technique -> the key that turns it on; dropout alone has no adversarial weight beside it."""
DATA = {"labels": "randY", "none": "real"}
"""data.noise.kind -> what the paper calls the training set."""


class Points(NamedTuple):
    """Figure 10's points, one row per setting: how well random labels were fitted, and how well real ones generalise.

    settings   DataFrame technique, strength, setting
    fitted     float[settings, seeds]: accuracy on the training set randY after the last epoch
    validated  float[settings, seeds]: best validation accuracy of the same seed and setting on real labels
    """

    settings: pd.DataFrame
    fitted: np.ndarray
    validated: np.ndarray


def _values(table: pd.DataFrame, key: str) -> pd.Series:
    column = table[key] if key in table else pd.Series(np.nan, index=table.index)
    return pd.to_numeric(column).fillna(0.0)


def techniques(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns data (randY, real), technique, strength and setting (text), of the varied keys in each row."""
    on = {name: _values(frame, key) for name, key in KEYS.items()}
    told = pd.DataFrame({"technique": NONE, "strength": 0.0, "setting": NONE}, index=frame.index)
    for name, values in on.items():  # the combination last, so that it is not taken for dropout
        chosen = values > 0
        told.loc[chosen, "technique"] = name
        told.loc[chosen, "strength"] = values[chosen]
        told.loc[chosen, "setting"] = values[chosen].map("{:g}".format)
    both = told["technique"] == BOTH
    beside = on["dropout"][both].map(", dropout {:g}".format)
    told.loc[both, "setting"] = "w " + told.loc[both, "setting"] + beside
    kind = frame["data.noise.kind"] if "data.noise.kind" in frame else pd.Series("none", index=frame.index)
    return told.assign(data=kind.fillna("none").map(DATA))


def one_back_end(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of torch where there are any: back ends share seeds, so they are no further evidence."""
    return frame[frame["backend"] == "torch"] if (frame["backend"] == "torch").any() else frame


def losses(table: pd.DataFrame) -> pd.DataFrame:
    """Rows per model and epoch: loss (nats, training set, evaluation mode), seed and `techniques`' columns."""
    rows = tidy.rows(table, "details")
    rows = rows[(rows["measure"] == "loss_nats") & (rows["part"] == "train") & (rows["replicate"] >= 0)]
    rows = rows.assign(seed=tidy.seeds(rows), loss=rows["value"], **techniques(rows)).sort_values("epoch")
    return rows[[*tidy.MODEL, "seed", "data", "technique", "strength", "setting", "epoch", "loss"]]


def trainings(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model: `techniques`' columns, seed, and

    accuracy    on the training set after the last epoch, evaluation mode
    loss        the same, nats; epoch_loss: as it was minimised, regularised, mean over the last epoch's batches
    validated   best validation accuracy of all epochs (the paper selects by it)
    epochs      to 100 % training accuracy, and `censored`: not reached by the last epoch, which is then given
    """
    details = tidy.rows(table, "details")
    details = details[(details["replicate"] >= 0) & (details["part"] == "train")].sort_values("step")
    curves = tidy.rows(table, "curves").sort_values("step")
    models = curves.groupby(tidy.MODEL, sort=False)
    frame = models.tail(1).reset_index(drop=True)
    frame = frame.assign(seed=tidy.seeds(frame), last=frame["epoch"], epoch_loss=frame["train_loss_nats"])
    frame = frame.assign(**techniques(frame))
    best = models["validation_accuracy"].max().rename("validated").reset_index()
    frame = frame.merge(best, on=tidy.MODEL)
    for measure, name in (("accuracy", "accuracy"), ("loss_nats", "loss"), ("fitted_epoch", "epochs")):
        last = details[details["measure"] == measure].groupby(tidy.MODEL)["value"].last()
        # groupby.last skips gaps, and a censored time is one: it has no other row.
        frame = frame.merge(last.rename(name).reset_index(), on=tidy.MODEL, how="left")
    frame["censored"] = frame["epochs"].isna()
    frame["epochs"] = frame["epochs"].fillna(frame["last"])
    own = ["accuracy", "loss", "epoch_loss", "validated", "epochs", "censored"]
    return frame[[*tidy.MODEL, "seed", "data", "technique", "strength", "setting", *own]]


def points(frame: pd.DataFrame) -> Points:
    """Figure 10's points of `trainings`: the settings that were trained on both sets, over the seeds of all of them."""
    keys = ["technique", "strength", "setting"]
    sides = [
        frame[frame["data"] == data].pivot_table(index=keys, columns="seed", values=value)
        for data, value in (("randY", "accuracy"), ("real", "validated"))
    ]
    index = sides[0].index.intersection(sides[1].index)
    sides = [side.loc[index] for side in sides]
    # A setting with fewer seeds than the others would leave holes in the resampling: only common seeds count.
    seeds = [s for s in sides[0] if s in sides[1] and all(side[s].notna().all() for side in sides)]
    return Points(index.to_frame(index=False), *(side[seeds].to_numpy(dtype=float) for side in sides))
