"""Exposure as the measure of forgetting: a federated language model of which one user's text holds a canary (beyond
Learn to Forget).
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memorization import panels_forget, plotting, tidy_forget
from memorization.panels_forget import METHODS
from memorization.plotting import COLORS, styled

ORDER = ("retrain", "forsaken", "federaser", "ascent", "without_user", "placebo")
SHORT = {
    "base": "before",
    "retrain": "retrained",
    "forsaken": "Forsaken",
    "federaser": "FedEraser",
    "ascent": "ascent",
    "without_user": "without\nthe user",
    "placebo": "placebo",
}
"""Method -> tick."""
STYLES = {"retrain": (0, (4, 2)), "federaser": (0, (4, 2)), "placebo": (0, (1, 1.2)), "without_user": (0, (1, 1.2))}
NONE = pd.DataFrame()
"""Controls whose exposure was measured: the law of unseen canaries is known."""
LINES = {"exposure_bits": "exposure of the canary (bits)", "loss_nats": "test loss (nats per character)"}


@styled
def canary_unlearning(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Exposure and test loss by unlearning round and where methods end; exposure once the user's text is back."""
    figure = panels_forget.begin(
        5.3, "Canary", "beyond the paper: neither v1 nor v3 measures exposure; settings are ours"
    )
    if panels_forget.unmeasured(figure, table):
        return figure
    frame = tidy_forget.rows(table)
    grid = figure.subplots(2, 2, width_ratios=[1.0, 1.0])
    for axes, measure, letter in zip(grid[:, 0], LINES, "ac", strict=True):
        _rounds(axes, frame, measure)
        axes.set(xlabel="unlearning round j", ylabel=LINES[measure])
        axes.set_title(f"({letter}) {'Exposure' if letter == 'a' else 'Utility'} while forgetting")
    _limits(grid[0, 0], frame)
    _ends(grid[0, 1], frame)
    _relearning(grid[1, 1], frame, reference)
    plotting.legend_below(figure, [grid[0, 0], grid[1, 1]], 3)
    return figure


def _rounds(axes: Axes, frame: pd.DataFrame, measure: str) -> None:
    """Means over seeds by round; methods that begin with a new model as a level line where they end."""
    paths = tidy_forget.trajectories(frame, measure)
    if panels_forget.missing(axes, paths, "no federation was asked to forget"):
        return
    for method in ORDER:
        color, name = METHODS[method]
        own = paths[paths["method"] == method]
        if not len(own):
            continue
        if method in tidy_forget.FROM_SCRATCH:
            end = tidy_forget.last(own)["value"].mean()
            axes.axhline(end, color=color, ls=STYLES[method], lw=1.1, zorder=2, label=f"{name} (where it ends)")
        else:
            panels_forget.curve(axes, own, color, name, ls=STYLES.get(method, "-"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _limits(axes: Axes, frame: pd.DataFrame) -> None:
    """Where canaries lie that nobody trained on, and the most that exposure can be: log2|R|, of a canary of rank 1."""
    plotting.null_band(axes, NONE)
    ranks = tidy_forget.of_base(tidy_forget.measured(frame, "canary_rank"))
    bits = tidy_forget.of_base(tidy_forget.measured(frame, "exposure_bits")) + np.log2(ranks)
    plotting.ceiling(axes, bits.max())


def _ends(axes: Axes, frame: pd.DataFrame) -> None:
    """Exposure of every seed before any request and where each method ends."""
    found = tidy_forget.last(tidy_forget.measured(frame, "exposure_bits"))
    shown = [method for method in ("base", *ORDER) if (found["method"] == method).any()]
    for place, method in enumerate(shown):
        color = COLORS["muted"] if method == "base" else METHODS[method][0]
        panels_forget.dots(axes, place, found.loc[found["method"] == method, "value"], color)
    plotting.null_band(axes, NONE, label=False)
    axes.set_xticks(range(len(shown)), [SHORT[method] for method in shown], fontsize=5.8)
    axes.set(ylabel=LINES["exposure_bits"], title=f"(b) Exposure at the end, {panels_forget.seeds(found)}")


def _relearning(axes: Axes, frame: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Exposure by rounds since user 0's text is back."""
    found = tidy_forget.measured(frame, "exposure_relearned")
    axes.set_title("(d) The user's text comes back")
    if panels_forget.missing(axes, found, "the text did not come back"):
        return
    for method in ORDER:
        color, name = METHODS[method]
        label = f"{name} (where it ends)" if method in tidy_forget.FROM_SCRATCH else name
        style = STYLES.get(method, "-")
        panels_forget.curve(axes, found[found["method"] == method], color, label, ls=style)
    plotting.null_band(axes, NONE, label=False)
    level, _ = plotting.value(reference, "relearned")
    if np.isfinite(level):
        axes.axhline(
            level, color="#000000", lw=0.7, ls=(0, (1, 1.5)), zorder=1, label=f"relearned: {level:g} bits (ours)"
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="rounds with the user's whole text", ylabel=LINES["exposure_bits"])
