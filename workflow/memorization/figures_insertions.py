"""Figure 5 of The Secret Sharer: exposure against the number of insertions in a character-level model."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memorization import plotting, tidy
from memorization.gates.insertions import by_insertions
from memorization.panels import nothing
from memorization.plotting import COLORS, LABELS, styled


@styled
def fig05_character_state_of_the_art(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 5: exposure by the paper's estimate and by the exact rank, and whether a search returns the canary."""
    figure = plotting.new_figure(3.1)
    left, right = figure.subplots(1, 2, width_ratios=[1.9, 1])
    frame = by_insertions(table)
    _exposure(left, frame, tidy.points(tidy.rows(table, "exposure"), "sampled", "control"))
    plotting.paper(left, reference, "exposure", "paper")
    _extracted(right, tidy.trials(table), frame)
    left.set_title(f"(a) Exposure, {plotting.models(len(frame))}")
    right.set_title("(b) Extraction")
    plotting.legend_below(figure, (left, right), 3)
    return figure


def _exposure(axes: Axes, frame: pd.DataFrame, controls: pd.DataFrame) -> None:
    axes.set(xlabel="insertions", ylabel="exposure (bits)")
    if not frame["skew_normal"].notna().any():
        return nothing(axes, "no exposure was measured")
    plotting.null_band(axes, controls)
    plotting.ceiling(axes, frame["space_bits"].max())
    for method, marker in (("skew_normal", "o"), ("importance", "D"), ("exact", "s")):
        part = frame.dropna(subset=[method])
        summary = plotting.intervals(part, "insertions", method)
        error = [summary["mean"] - summary["low"], summary["high"] - summary["mean"]]
        style = {"color": COLORS[method], "marker": marker, "ms": 4, "lw": 1.2, "elinewidth": 1, "capsize": 2}
        label = f"{LABELS[method].split(',')[0]} (mean, 95 %)"
        if len(part):
            axes.errorbar(summary["insertions"], summary["mean"], yerr=error, label=label, zorder=3, **style)
            axes.scatter(part["insertions"] + 0.12, part[method], s=8, color=COLORS[method], alpha=0.5, linewidths=0)
    axes.set(xlim=(-0.5, None), ylim=(-1, None))
    return None


def _extracted(axes: Axes, trials: pd.DataFrame, frame: pd.DataFrame) -> None:
    """Share of models whose search returns the canary; searches that are undecided are counted apart."""
    axes.set(xlabel="insertions", ylabel="models")
    trials = trials.merge(frame[[*tidy.MODEL, "insertions"]], on=tidy.MODEL)
    if not len(trials):
        return nothing(axes, "no search was made")
    state = trials["success"].map({True: "extracted", False: "not extractable"}).where(trials["decided"], "not certain")
    counts = pd.crosstab(trials["insertions"], state)
    places, below = range(len(counts)), 0
    colors = {"extracted": COLORS["canary"], "not extractable": COLORS["model"], "not certain": COLORS["control"]}
    for name, color in colors.items():
        if name in counts:
            axes.bar(places, counts[name], bottom=below, color=color, width=0.6, label=name)
            below = below + counts[name].to_numpy()
    axes.set_xticks(places, [f"{level:g}" for level in counts.index])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return None
