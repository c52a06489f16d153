"""Table 3 of The Secret Sharer: differentially private training beside the paper's rows, as a table and as panels."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memorization import plotting, statistics, tidy, tidy_privacy
from memorization.gates import privacy
from memorization.panels import nothing
from memorization.panels_privacy import BACK_ENDS, MARKERS, number
from memorization.plotting import COLORS

ORDER = ("with DP, RMSProp", "with DP, SGD", "no DP, SGD", "no DP, RMSProp", "no DP, RMSProp, one canary")
HEADER = [
    "training", "ε wanted\n(classic)", "paper: loss,\nexposure, extr.", "back\nend", "ε RDP", "ε PLD", "noise\nσ",
    "test loss\n(nats/char)", "exposure of inserted\n(bits) [90 %]", "n", "left out\n(bits)", "within\n±1 bit",
    "ε at least\n(one run)", "extr-\nacted",
]  # fmt: skip
WIDTHS = [0.112, 0.068, 0.105, 0.04, 0.055, 0.05, 0.055, 0.088, 0.135, 0.035, 0.055, 0.055, 0.065, 0.05]


def private_rows(table: pd.DataFrame, margin: float = 1.0) -> pd.DataFrame:
    """Table 3's rows in its order, one per training and back end: `tidy_privacy.trainings`'s columns and those of
    `privacy.null_rows`, series (the paper's name of the row), loss, loss_low, loss_high, epsilon_low, extracted (share
    of models), single (mean exposure in bits of a model's only canary), single_bound, space_bits.
    """
    rows = tidy_privacy.trainings(table)
    nulls = privacy.null_rows(table, margin)
    rows = rows.merge(nulls[[*tidy_privacy.RUN, *nulls.columns.difference(rows.columns)]], "left", tidy_privacy.RUN)
    rows["optimizer"] = rows["optimizer"].where(rows["optimizer"].notna(), "rmsprop").astype(str)
    single = tidy_privacy.canaries(table).groupby(tidy_privacy.RUN)
    found = pd.DataFrame(
        {
            "single": single["bits"].mean(),
            "single_bound": single["bound"].any(),
            "space_bits": single["space_bits"].max(),
        }
    )
    rows = rows.merge(found, "left", left_on=tidy_privacy.RUN, right_index=True)
    losses = tidy_privacy.final(table).groupby(tidy_privacy.RUN)["test_loss_nats"]
    limits = [(*key, *statistics.t_interval(group)) for key, group in losses]
    rows = rows.merge(pd.DataFrame(limits, columns=[*tidy_privacy.RUN, "loss", "loss_low", "loss_high"]), "left")
    audit = tidy_privacy.lower_bounds(table).groupby(tidy_privacy.RUN)["epsilon_low"].max()
    search = tidy.rows(table, "extraction")
    search = search[search["algorithm"] == "shortest_path"].groupby(tidy_privacy.RUN)["extracted"].mean()
    for column in (audit, search):
        rows = rows.merge(column, "left", left_on=tidy_privacy.RUN, right_index=True)
    rows["series"] = [_series(row) for _, row in rows.iterrows()]
    rows["at"] = rows["series"].map(ORDER.index)
    rows["back"] = rows["backend"].map(list(MARKERS).index)
    return rows.sort_values(["at", "wanted", "run", "back"], ignore_index=True)


def _series(row: pd.Series) -> str:
    optimizer = {"sgd": "SGD"}.get(row["optimizer"], "RMSProp")
    name = f"{'with' if row['private'] else 'no'} DP, {optimizer}"
    return name + (", one canary" if np.isfinite(row["single"]) else "")


def private_table(axes: Axes, rows: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Table 3: the paper's row beside ours, one line per back end."""
    if not len(rows):
        return nothing(axes, "no training")
    cells, before = [], None
    for _, row in rows.iterrows():
        label = (
            row["series"]
            .replace("with DP, ", "DP ")
            .replace("no DP, RMSProp, one", "no DP, one")
            .replace("no DP, ", "no DP ")
        )
        head = [label, _wanted(row), _paper_row(row, reference)]
        same = (row["series"], row["run"]) == before
        cells.append([*(["", "", ""] if same else head), *_measured(row)])
        before = (row["series"], row["run"])
    failed = {(i, 11) for i, row in rows.iterrows() if row["private"] and not row["p_value"] < 0.05}
    known = {(i, 8) for i, row in rows.iterrows() if not row["private"]}
    plotting.rendered_table(axes, cells, HEADER, WIDTHS, frozenset(failed | known), size=5.6)
    return None


def _wanted(row: pd.Series) -> str:
    if not row["private"]:
        return "none"
    return number(row["wanted"]) if np.isfinite(row["wanted"]) else "∞ (clip only)"


def _paper_row(row: pd.Series, reference: pd.DataFrame) -> str:
    """The paper's loss, exposure and extraction of that row, as text."""
    name = row["series"].removesuffix(", one canary")
    if not row["private"] and name.endswith("RMSProp") and not row["series"].endswith("one canary"):
        return "–"  # the paper's row has one canary
    epsilon = np.inf if row["private"] and not np.isfinite(row["wanted"]) else row["wanted"]
    told = []
    for series in ("test loss", "exposure", "extraction possible"):
        part = reference[(reference["series"] == series) & (reference["label"] == name)]
        if row["private"]:
            part = part[np.isclose(part["x"], epsilon)]
        told.append(part["y"].iloc[0] if len(part) else np.nan)
    if np.isnan(told[0]):
        return "–"
    return f"{told[0]:.2f}, {told[1]:.1f}, {'yes' if told[2] else 'no'}"


def _measured(row: pd.Series) -> list[str]:
    loss = (
        number(row["loss"]) if pd.isna(row["loss_low"]) else f"{row['loss']:.2f} ± {row['loss_high'] - row['loss']:.2f}"
    )
    exposure, n = "–", "–"
    if np.isfinite(row["single"]):
        exposure = f"{'≥ ' if row['single_bound'] else ''}{row['single']:.1f} of {row['space_bits']:.1f}"
        n = "1"
    elif np.isfinite(row["mean"]):
        beyond = "≥ " if row["at_limit"] > 0.5 * row["n"] else ""
        exposure, n = f"{beyond}{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]", f"{row['n']:.0f}"
    tested = "–" if pd.isna(row["p_value"]) else "yes" if row["p_value"] < 0.05 else "no"
    share = row["extracted"]
    won = "–" if pd.isna(share) else "yes" if share == 1 else "no" if share == 0 else f"{share:.0%}"
    accounted = [number(row["rdp"]), number(row["pld"]), number(row["noise_multiplier"], 2)]
    measured = [number(row["mean_out"]), tested, number(row["epsilon_low"], 2), won]
    return [row["backend"], *accounted, loss, exposure, n, *measured]


def forest(axes: Axes, rows: pd.DataFrame, margin: float = 1.0) -> None:
    """Inserted minus left out, mean exposure with its 90 % interval, against epsilon; the band is TOST's margin."""
    axes.set(xlabel="ε (classic RDP, nominal)", ylabel="inserted − left out (bits)")
    rows = rows[rows["private"] & rows["estimate"].notna()]
    if not len(rows):
        return nothing(axes, "no private training with canaries left out")
    axes.axhspan(-margin, margin, color=COLORS["control"], alpha=0.25, lw=0, label=f"margin ±{margin:g} bit")
    axes.axhline(0, color="#444444", lw=0.7)
    position = _ticks(axes, rows["wanted"].fillna(np.inf))
    for i, (backend, group) in enumerate(rows.groupby("backend", sort=False)):
        x = np.array([position[e] for e in group["wanted"].fillna(np.inf)]) + 0.12 * (2 * i - 1)
        limits = np.abs(group[["difference_low", "difference_high"]].to_numpy().T - group["estimate"].to_numpy())
        style = {"fmt": MARKERS.get(backend, "o"), "ms": 3.5, "lw": 1, "color": BACK_ENDS.get(backend, COLORS["muted"])}
        axes.errorbar(
            x, group["estimate"], yerr=limits, label=f"{backend}, 90 %, n ≥ {group['n'].min():.0f} inserted", **style
        )
    return None


def _ticks(axes: Axes, epsilons: pd.Series) -> dict[float, int]:
    """Epsilons as evenly spaced, labelled places on the x axis."""
    levels = sorted(epsilons.unique())
    axes.set_xticks(range(len(levels)), ["∞\n(clip only)" if np.isinf(e) else number(e) for e in levels])
    axes.set_xlim(-0.5, len(levels) - 0.5)
    return {e: i for i, e in enumerate(levels)}


PTB_SYMBOLS = 50
"""Distinct characters of the Penn Treebank's training file, over which a model's softmax runs."""


def private_losses(axes: Axes, rows: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Test loss against epsilon, with the paper's, and the best model without privacy as a line."""
    axes.set(xlabel="ε (classic RDP, nominal)", ylabel="test loss (nats/char)")
    inside = rows[rows["private"] & rows["loss"].notna()]
    if not len(inside):
        return nothing(axes, "no private training")
    position = _ticks(axes, inside["wanted"].fillna(np.inf))
    paper = reference[(reference["series"] == "test loss") & reference["label"].str.startswith("with DP")]
    paper = paper[paper["x"].isin(position)]
    x = [position[e] for e in paper["x"]]
    style = {"color": COLORS["paper"], "ls": "--", "lw": 0.9, "marker": "o", "ms": 3, "mfc": "white", "mew": 0.7}
    axes.plot(x, paper["y"], label=f"paper ({plotting.marks(paper)})" if len(paper) else None, **style)
    for backend, group in rows.groupby("backend", sort=False):
        color = BACK_ENDS.get(backend, COLORS["muted"])
        own = group[group["private"]]
        axes.plot([position[e] for e in own["wanted"].fillna(np.inf)], own["loss"], MARKERS.get(backend, "o"), ms=3.5,
                  color=color, label=backend)  # fmt: skip
        best = group.loc[~group["private"], "loss"].min()
        if np.isfinite(best):
            axes.axhline(best, color=color, lw=0.9, ls=(0, (1, 1.5)), label=f"{backend}: best without privacy")
    return None


def uniform_guess(axes: Axes) -> None:
    """The loss of a model that has learned nothing, for the Penn Treebank's alphabet (a stand-in has another)."""
    uniform = np.log(PTB_SYMBOLS)
    axes.axhline(uniform, color=COLORS["muted"], lw=0.8, label=f"uniform guess: {uniform:.2f}")
