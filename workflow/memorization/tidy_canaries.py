"""The tidy tables of figures about the canaries themselves: their formats, their number, the kinds of secrets."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from memorization import tidy
from memorization.tidy import MODEL

CONTEXT = "{x}" * 5
FORMATS = (
    "ooooooooo",
    "<s> ooooooooo",
    "ooooooooo <e>",
    "<s> ooooooooo <e>",
    "ooo-oo-oooo",
    "o-o-o-o-o-o-o-o-o",
)
"""Table 6's formats in its order and spelling: o a random digit, <s> and <e> five random characters of context."""
PLAIN = FORMATS[0]

KINDS = {
    "the random number is": "9-digit number",
    "my card number is": "card number",
    "my social security number is": "social security number",
    "my phone number is": "phone number",
    "my password is": "password",
}
"""How a canary begins -> the kind of secret that it is."""


def format_label(text: str) -> str:
    """A canary.format of Table 6 as the paper spells it."""
    text = text.replace("{d}", "o")
    start, end = text.startswith(CONTEXT), text.endswith(CONTEXT)
    core = text.removeprefix(CONTEXT).removesuffix(CONTEXT).strip()
    return "<s> " * start + core + " <e>" * end


def kind_of(text: str) -> str:
    """The kind of secret that a canary.format holds; its text where it is none of `KINDS`."""
    return next((kind for begin, kind in KINDS.items() if text.startswith(begin)), text)


def best_exposures(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """One row per `keys` of rows about an inserted canary: bits, method, bound.

    The exact exposure where the walk was finished, else the importance-sampled one, else the sampled one. Where the
    canary beats every reference, and too few likelier fills were drawn for an estimate, `bound` says that bits is only
    a lower bound: the better of log2 of the sample and the importance estimate's lower limit.
    """
    keys = list(keys)
    sampled, drawn = rows[rows["method"] == "sampled"], rows[rows["method"] == "importance"]
    guesses = [
        tidy.points(rows, "exact").assign(bound=False),
        tidy.points(rows, "importance").assign(bound=False),
        sampled[~sampled["extrapolated"]].assign(bound=False),
        pd.concat([sampled, drawn.assign(exposure_bits=drawn["exposure_low_bits"])])
        .sort_values("exposure_bits", ascending=False)
        .assign(bound=True),
    ]
    found = pd.concat(guesses).rename(columns={"exposure_bits": "bits"}).dropna(subset=["bits"])
    # Of each canary the first, which is the best.
    return found[[*keys, "bits", "method", "bound"]].drop_duplicates(keys, ignore_index=True)


def format_exposures(table: pd.DataFrame) -> pd.DataFrame:
    """Table 6: one row per model and epoch at which it was measured: format (as the paper spells it), epoch, seed,
    bits, method, bound.
    """
    rows = tidy.rows(table, "measures")
    rows = rows[(rows["kind"] == "inserted") & (rows["moment"] == "epoch")]
    if "canary.format" not in rows or not len(rows):
        return pd.DataFrame(columns=[*MODEL, "format", "epoch", "seed", "bits", "method", "bound"])
    rows = rows.assign(
        format=rows["canary.format"].map(format_label), seed=tidy.seeds(rows), epoch=rows["epoch"].round()
    )
    return best_exposures(rows, [*MODEL, "format", "epoch", "seed"])


def format_effects(frame: pd.DataFrame, epoch: float, base: str = PLAIN) -> pd.DataFrame:
    """Differences to the format `base` by seed, float[seeds, formats], of `format_exposures` rows at one epoch."""
    wide = frame[frame["epoch"] == epoch].pivot_table(index="seed", columns="format", values="bits")
    if base not in wide:
        return pd.DataFrame(index=wide.index)
    others = [name for name in FORMATS if name in wide and name != base]
    return wide[others].sub(wide[base], axis=0)


def phrases(table: pd.DataFrame) -> pd.DataFrame:
    """Table 7: one row per inserted canary: MODEL, index, seed, phrases, insertions, extracted, decided.

    A search returns the canary exactly if it is the most likely fill: certain by the search's proof, or where no other
    fill is as likely; not so where a likelier fill was seen by any search or walk. Else it is not decided, and
    `extracted` is False.
    """
    keys = [*MODEL, "index"]
    search = tidy.rows(table, "extraction")
    search = search.assign(index=search["index"].fillna(0).astype(int), seed=tidy.seeds(search))
    likelier = ~search["extracted"] & (search["best_cost_bits"] < search["canary_cost_bits"] - tidy.MARGIN)
    search = search.assign(
        won=search["extracted"] & search["provable"], lost=likelier | (search["provable"] & ~search["extracted"])
    )
    about = {"phrases": "canary.count", "insertions": "canary.insertions"}
    for name, key in about.items():
        search[name] = pd.to_numeric(search[key]) if key in search else 1
    frame = search.groupby([*keys, "seed", *about], as_index=False)[["won", "lost"]].any()
    ranks = tidy.rows(table, "exposure")
    ranks = ranks[(ranks["kind"] == "inserted") & (ranks["method"] == "exact")]
    frame = frame.merge(ranks[[*keys, "rank_low", "rank_high"]], on=keys, how="left")
    first = tidy.known_ranks(tidy.rows(table, "exposure"))[[*MODEL, "beaten"]].assign(index=0)
    frame = frame.merge(first, on=keys, how="left")
    lost = frame["lost"] | (frame["rank_low"] > 1) | frame["beaten"].eq(True)
    extracted = (frame["won"] | (frame["rank_high"] <= 1)) & ~lost
    return frame[[*keys, "seed", *about]].assign(extracted=extracted, decided=extracted | lost)


def extractable(table: pd.DataFrame) -> pd.DataFrame:
    """Per model: `percent` of its phrases that can be extracted, and `most` if the undecided ones could be too; MODEL,
    seed, phrases, insertions.
    """
    frame = phrases(table)
    frame = frame.assign(possible=frame["extracted"] | ~frame["decided"])
    shares = frame.groupby([*MODEL, "seed", "phrases", "insertions"], as_index=False)[["extracted", "possible"]].mean()
    shares[["extracted", "possible"]] *= 100
    return shares.rename(columns={"extracted": "percent", "possible": "most"})


def secrets(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model of a single canary: kind, seed, bits, method, bound, space_bits, share (bits / log2|R|), and of
    its search extracted, success, queries, queries_bound (`tidy.trials`).
    """
    parts = []
    for text, part in table.groupby("canary.format") if "canary.format" in table else []:
        exposure = tidy.rows(part, "exposure")
        inserted = exposure[(exposure["kind"] == "inserted") & (exposure["index"] == 0)]
        found = best_exposures(inserted.assign(seed=tidy.seeds(inserted)), [*MODEL, "seed", "space_bits"])
        search = tidy.trials(part).rename(columns={"bound": "queries_bound"})
        columns = ["extracted", "success", "decided", "queries", "queries_bound"]
        parts.append(found.merge(search[[*MODEL, *columns]], on=MODEL, how="left").assign(kind=kind_of(text)))
    if not parts:
        columns = [*MODEL, "seed", "kind", "bits", "method", "bound", "space_bits", "extracted", "success", "queries"]
        return pd.DataFrame(columns=[*columns, "queries_bound", "decided"]).assign(share=np.nan)
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(share=frame["bits"] / frame["space_bits"])
