"""Where the paper's estimators of exposure mislead: errors against the exact exposure, over all models of a run."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import plotting, tidy
from memorization.gates import estimates
from memorization.panels import nothing
from memorization.plotting import COLORS, LABELS, styled

METHODS = ("sampled", "skew_normal")
OFFSET = {"sampled": -0.18, "skew_normal": 0.18}


@styled
def estimators(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Errors by exact exposure: of every model, by class, how often sampling is at its limit; what the fitted tail says
    of rank 1.
    """
    figure = plotting.new_figure(5.2)
    grid = figure.add_gridspec(2, 3, height_ratios=[1.25, 1], width_ratios=[1.5, 1, 0.9])
    above = figure.add_subplot(grid[0, :])
    boxes, limits, told = (figure.add_subplot(grid[1, i]) for i in range(3))
    frames = {method: estimates.compared(table, method, importance=True) for method in METHODS}
    every = tidy.rows(table, "estimates")
    known = int(every["exact_bits"].notna().sum())
    other = max(len(frame) for frame in frames.values()) - known
    above.set_title(
        f"(a) Error of every model: {known} of {len(every)} with an exact exposure, {other} importance-sampled"
    )
    boxes.set_title("(b) By exposure")
    limits.set_title("(c) Sampling at its limit")
    told.set_title("(d) Rank 1?")
    if not known + other:
        for axes in (above, boxes, limits, told):
            nothing(axes, "no model with a known exposure")
        return figure
    _errors(above, frames, reference)
    _boxes(boxes, frames)
    _limits(limits, frames["sampled"])
    _decisions(told, estimates.compared(table, "skew_normal"))
    plotting.legend_below(figure, (above,), 2)
    return figure


def _errors(axes: Axes, frames: dict[str, pd.DataFrame], reference: pd.DataFrame) -> None:
    """Estimate minus exact exposure against the exact one, open where that is importance-sampled; crosses: sampling at
    its limit.
    """
    for method, frame in frames.items():
        limited, exact = frame["sampled_at_limit"] & (method == "sampled"), frame["exact_bits"].notna()
        style = {"s": 14, "alpha": 0.6, "lw": 0.8, "zorder": 3}
        for chosen, name, fill in (
            (~limited & exact, "", {"color": COLORS[method]}),
            (~limited & ~exact, ", against importance sampling", {"facecolor": "none", "edgecolor": COLORS[method]}),
            (limited, ", at its limit", {"marker": "x", "color": COLORS[method]}),
        ):
            part = frame[chosen]
            if len(part):
                label = f"{LABELS[method]}{name}, n = {len(part)}"
                axes.scatter(part["known_bits"], part["error"], label=label, **style, **fill)
    axes.axhline(0, color=COLORS["exact"], lw=0.8, zorder=2)
    margin, mark = plotting.value(reference, "slack", "skew-normal")
    if np.isfinite(margin):
        axes.axhspan(-margin, margin, color=COLORS["control"], alpha=0.18, lw=0, zorder=0,
                     label=f"±{margin:g} bits, the paper's slack ({mark})")  # fmt: skip
    axes.set(
        xlabel="exact exposure (bits; open: importance-sampled)", ylabel="estimate − exact (bits)", xlim=(-0.5, None)
    )


def _boxes(axes: Axes, frames: dict[str, pd.DataFrame]) -> None:
    """Median, quartiles and 5 to 95 % of the errors in each class of exact exposure, with the number of models."""
    counts = dict.fromkeys(estimates.CLASSES, 0)
    for method, frame in frames.items():
        for name, group in frame.groupby(estimates.binned(frame)):
            place = estimates.CLASSES.index(name)
            counts[name] = max(counts[name], len(group))
            color = COLORS[method]
            line = {"color": color, "lw": 1.0}
            axes.boxplot(
                group["error"], positions=[place + OFFSET[method]], widths=0.3, whis=(5, 95), showfliers=False,
                patch_artist=True, boxprops={"facecolor": color, "alpha": 0.35, "edgecolor": color},
                medianprops=line, whiskerprops=line, capprops=line, manage_ticks=False,
            )  # fmt: skip
    axes.axhline(0, color=COLORS["exact"], lw=0.8, zorder=1)
    names = [f"{name}\nn = {counts[name]}" for name in estimates.CLASSES]
    axes.set_xticks(range(len(names)), names, fontsize=6.3)
    axes.set(xlabel="exposure (bits)", ylabel="estimate − exact (bits)", xlim=(-0.6, len(names) - 0.4))


def _limits(axes: Axes, frame: pd.DataFrame) -> None:
    """Share of models whose sampled estimate is at its limit, by exact exposure."""
    kinds = estimates.binned(frame)
    shares = [frame.loc[kinds == name, "sampled_at_limit"].mean() for name in estimates.CLASSES]
    axes.bar(range(len(shares)), np.nan_to_num(100 * np.array(shares)), color=COLORS["sampled"], alpha=0.7, width=0.65)
    for place, share in enumerate(shares):
        text = "–" if np.isnan(share) else f"{100 * share:.0f}"
        axes.annotate(text, (place, 0 if np.isnan(share) else 100 * share), xytext=(0, 1), textcoords="offset points",
                      ha="center", va="bottom", fontsize=6.3)  # fmt: skip
    axes.set_xticks(range(len(shares)), estimates.CLASSES, fontsize=5.8)
    axes.set(xlabel="exposure (bits)", ylabel="of the models (%)", ylim=(0, 112))


def _decisions(axes: Axes, frame: pd.DataFrame) -> None:
    """How often the skew-normal estimate reaches log2|R|, of canaries that rank first and of others."""
    said = frame["skew_normal_bits"] >= frame["space_bits"] - 1e-9
    counts = np.array([[int((said & (frame["first"] == first)).sum()), int((~said & (frame["first"] == first)).sum())]
                       for first in (True, False)])  # fmt: skip
    axes.grid(False)
    right = np.array([[1.0, 0.25], [0.25, 1.0]])
    axes.imshow(right, cmap="Greens", vmin=0, vmax=3, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        axes.text(column, row, str(count), ha="center", va="center", fontsize=9, weight="bold")
    axes.set_xticks([0, 1], ["≥ log$_2$|R|", "below"])
    axes.set_yticks([0, 1], ["rank 1", "not"])
    axes.set_xlabel("skew-normal estimate")
