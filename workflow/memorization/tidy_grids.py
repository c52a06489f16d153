"""One row per model of figures that vary the architecture or the training: Tables 4 and 5 of The Secret Sharer."""

import pandas as pd

from memorization import tidy

ARCHITECTURE = ("model.architecture", "model.layers")
NAMES = {"gru": "GRU", "lstm": "LSTM", "cnn": "CNN", "wavenet": "WaveNet", "transformer": "transformer"}

COLUMNS = ("seed", "bits", "bound", "skew_normal", "rank", "space_bits", "test_loss", "epoch")
"""What is read off `models`, beside the keys."""


def models(table: pd.DataFrame, keys: tuple[str, ...]) -> pd.DataFrame:
    """One row per model: `tidy.known_ranks`'s columns, seed, the varied `keys`, test_loss (nats) and epoch of the kept
    weights, and bits, bound: exact exposure where the walk was finished, else importance-sampled, else a lower
    bound from the walk (NaN where none of them says anything).
    """
    exposure, curves = tidy.rows(table, "exposure"), tidy.rows(table, "curves")
    if not len(exposure):
        return pd.DataFrame(columns=[*tidy.MODEL, *COLUMNS, *keys], dtype=float)
    known = tidy.known_ranks(exposure)
    about = exposure.assign(seed=tidy.seeds(exposure)).drop_duplicates(tidy.MODEL)
    frame = known.merge(about[[*tidy.MODEL, "seed", *keys]], on=tidy.MODEL, how="left")
    kept = curves.loc[curves["kept"], [*tidy.MODEL, "test_loss_nats", "epoch"]]
    frame = frame.merge(kept.rename(columns={"test_loss_nats": "test_loss"}), on=tidy.MODEL, how="left")
    bits = frame["exact"].combine_first(frame["importance"])
    return frame.assign(bits=bits.combine_first(frame["exact_low"]), bound=bits.isna() & frame["exact_low"].notna())


def by_architecture(table: pd.DataFrame) -> pd.DataFrame:
    """`models` of Table 4, with label, the paper's name of the row ("CNN, 2 layers"), and family ("CNN")."""
    frame = models(table, ARCHITECTURE)
    family = frame["model.architecture"].map(NAMES)
    layers = frame["model.layers"].astype(int)
    label = family.astype(str) + ", " + layers.astype(str) + " layer" + layers.gt(1).map({True: "s", False: ""})
    return frame.assign(family=family, label=label)


def by_batch_and_units(table: pd.DataFrame) -> pd.DataFrame:
    """`models` of Table 5, with integer columns batch and units."""
    frame = models(table, ("training.batch_size", "model.units"))
    numbers = {"batch": frame["training.batch_size"].astype(int), "units": frame["model.units"].astype(int)}
    return frame.assign(**numbers)
