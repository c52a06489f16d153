"""The tidy table of figures on word-level models: one row per model, with its utility and its canary's exposure."""

import numpy as np
import pandas as pd

from memorization import tidy

SETTING = ("model.", "training.")
"""Cells that agree in the keys that begin so are one setting of hyperparameters."""

LADDER = ("exact", "importance", "sampled", "skew_normal")
"""Methods from the best on; see `exposures`."""

NUMERALS = ("digits", "number words")
"""Kinds of canaries of X6, by their holes: {d}, {n}."""


def exposures(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model, of its inserted canary: backend, run, replicate, pair (seed/replicate), space_bits, bits, low,
    high, method, first and beaten.

    bits is the exact exposure where the walk was finished; else the importance-sampled one where enough likelier fills
    were drawn; else the sampled one where a uniform fill was at least as likely; else the skew-normal estimate, but not
    more than log2|R|. `first`: the exact rank is 1; `beaten`: a fill at least as likely has been seen.
    """
    measures = tidy.rows(table, "measures")
    measures = measures[(measures["kind"] == "inserted") & (measures["index"] == 0)]
    measures = measures.assign(pair=tidy.seeds(measures))
    listed = [_best(model, own) for model, own in measures.groupby([*tidy.MODEL, "pair"], sort=False)]
    columns = [*tidy.MODEL, "pair", "space_bits", "bits", "low", "high", "method", "first", "beaten"]
    return pd.DataFrame(listed, columns=columns)


def _best(model: tuple, own: pd.DataFrame) -> tuple:
    """`exposures`'s row of one model from its rows of measures."""
    rows = {row.method: row for row in own.itertuples()}
    ranked = own[own["rank"] > 0]
    space = float((ranked["exposure_bits"] + np.log2(ranked["rank"])).median())
    exact, drawn, uniform = (rows.get(name) for name in LADDER[:3])
    finished = exact is not None and exact.algorithm != "bounds"
    seen = drawn is not None and drawn.rank > 1
    usable = {
        "exact": finished,
        "importance": seen and not drawn.extrapolated,
        "sampled": uniform is not None and not uniform.extrapolated,
        "skew_normal": "skew_normal" in rows,
    }
    method = next((name for name in LADDER if usable[name]), "sampled")
    row = rows[method]
    bits = min(row.exposure_bits, space) if method == "skew_normal" else row.exposure_bits
    beaten = seen or usable["sampled"] or (finished and exact.rank > 1)
    return (*model, space, bits, row.exposure_low_bits, row.exposure_high_bits, method,
            bool(finished and exact.rank == 1), bool(beaten))  # fmt: skip


def models(table: pd.DataFrame) -> pd.DataFrame:
    """`exposures`, and per model: loss (nats per token, test, of the weights that are kept), setting (the number of its
    hyperparameters in the order of the cells, from 1) and insertions.
    """
    curves = tidy.rows(table, "curves")
    kept = curves.loc[curves["kept"], [*tidy.MODEL, "test_loss_nats"]].rename(columns={"test_loss_nats": "loss"})
    about = table[table["source"] == "measures"].drop_duplicates(["backend", "run"])
    keys = [c for c in table if c.startswith(SETTING)]
    setting = pd.factorize(np.array(["|".join(map(str, row)) for row in about[keys].to_numpy()], dtype=object))[0] + 1
    insertions = about.get("canary.insertions", np.nan)
    about = about[["backend", "run"]].assign(setting=setting, insertions=insertions)
    return exposures(table).merge(kept, on=tidy.MODEL).merge(about, on=["backend", "run"])


def numerals(table: pd.DataFrame) -> pd.DataFrame:
    """`models` of canaries of digits ({d}) and of number words ({n}), told apart by a column `numerals` (`NUMERALS`).

    Those of one pair (seed/replicate) have the same numbers, places, start and mini-batches.
    """
    about = tidy.rows(table, "measures").drop_duplicates(["backend", "run"])
    texts = about["canary.format"].astype(str) if "canary.format" in about else pd.Series("", index=about.index)
    kind = texts.str.contains("{n}", regex=False).map({True: NUMERALS[1], False: NUMERALS[0]})
    return models(table).merge(about[["backend", "run"]].assign(numerals=kind), on=["backend", "run"])


def settings(found: pd.DataFrame) -> pd.DataFrame:
    """One row per setting of `models` rows, by number: perplexity (exp of the mean loss), bits (mean), models."""
    grouped = found.groupby("setting")
    frame = grouped.agg(loss=("loss", "mean"), bits=("bits", "mean"), models=("bits", "size")).reset_index()
    return frame.assign(perplexity=np.exp(frame["loss"]))


def pick(found: pd.DataFrame, band: float, reach: float) -> tuple[int, int] | None:
    """Settings A and B of Figure 1 from `settings` rows.

    Of all pairs whose perplexities differ by at most `band` (a share), both at most `reach` above the best, the pair
    that differs most in exposure; where there is no such pair, the one with the nearest perplexities. A is the more
    exposed one. None for fewer than two settings.
    """
    near = found[found["perplexity"] <= (1 + reach) * found["perplexity"].min()]
    near = near if len(near) > 1 else found.nsmallest(2, "perplexity")
    if len(near) < 2:
        return None
    i, j = np.triu_indices(len(near), 1)
    log, bits, number = (near[c].to_numpy() for c in ("loss", "bits", "setting"))
    apart, differ = np.abs(log[i] - log[j]), np.abs(bits[i] - bits[j])
    alike = apart <= np.log1p(band)
    best = int(np.argmax(np.where(alike, differ, -1.0))) if alike.any() else int(np.argmin(apart))
    pair = sorted((i[best], j[best]), key=lambda k: -bits[k])
    return int(number[pair[0]]), int(number[pair[1]])


def resampled(found: pd.DataFrame, draws: int, seed: int = 0) -> list[pd.DataFrame]:
    """`settings` of bootstrap samples of `models` rows, drawn within each setting."""
    rng = np.random.default_rng(seed)
    groups = [own.index.to_numpy() for _, own in found.groupby("setting")]
    return [settings(found.loc[np.concatenate([rng.choice(g, len(g)) for g in groups])]) for _ in range(draws)]
