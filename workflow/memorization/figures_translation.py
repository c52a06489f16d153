"""Figure 6 of The Secret Sharer: a translator's exposure against the insertions of a canary pair."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from memorization import panels, plotting, tidy
from memorization.plotting import COLORS, LABELS, styled

COUNT = "canary.insertions"


@styled
def fig06_translation(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 6: (a) exposure against insertions, (b) what the target of the pair costs, inserted or not."""
    exposure = tidy.rows(table, "exposure")
    figure = plotting.new_figure(3.1)
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    _exposures(left, exposure, tidy.space_bits(table, reference))
    plotting.paper(left, reference, "exposure", "paper, English–Vietnamese")
    costs(right, exposure)
    left.set(title=f"(a) Exposure, {plotting.models(tidy.count_models(table))}", xlabel="insertions of the pair")
    left.set(ylabel="exposure (bits)", ylim=(0, None))
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_title("(b) Does the model just copy digits?")
    plotting.legend_below(figure, (left, right), 3)
    return figure


def _exposures(axes: Axes, exposure: pd.DataFrame, space_bits: float) -> None:
    if not len(exposure) or COUNT not in exposure:
        return panels.nothing(axes, "no exposures")
    inserted = exposure[exposure["kind"] == "inserted"].sort_values(COUNT)
    for method in ("exact", "importance", "sampled", "skew_normal"):
        part = inserted[inserted["method"] == method]
        name = "importance splitting" if method == "importance" else LABELS[method]
        plotting.band(axes, part, COUNT, "exposure_bits", COLORS[method], name)
        _dots(axes, part, "exposure_bits", COLORS[method])
    for method in ("sampled", "skew_normal"):
        plotting.flag_extrapolated(axes, inserted[inserted["method"] == method], COUNT, "exposure_bits")
    controls = exposure[(exposure["kind"] == "control") & (exposure["method"] == "sampled")]
    plotting.null_band(axes, controls)
    plotting.ceiling(axes, space_bits)
    return None


def _dots(axes: Axes, frame: pd.DataFrame, y: str, color: str) -> None:
    """Single models: each has one point, at its own number of insertions."""
    axes.plot(frame[COUNT], frame[y], ".", color=color, ms=3.5, alpha=0.6, zorder=3)


def costs(axes: Axes, exposure: pd.DataFrame) -> None:
    """Log-perplexity of the target, given its source, of the canary and of control pairs, against insertions.

    A model that copies digits from source to target makes every pair cheap; the line is what the digits alone cost one
    that knows the sentence and guesses them.
    """
    axes.set(xlabel="insertions of the pair", ylabel="log-perplexity of the target (bits)")
    if not len(exposure) or COUNT not in exposure:
        return panels.nothing(axes, "no costs")
    sampled = exposure[exposure["method"] == "sampled"].sort_values(COUNT)
    controls = sampled[sampled["kind"] == "control"]
    limits = controls.groupby(COUNT)["cost_bits"].quantile([0.05, 0.5, 0.95]).unstack()
    if len(limits):
        label = "control pairs, 5–95 % and median"
        axes.fill_between(limits.index, limits[0.05], limits[0.95], color=COLORS["control"], alpha=0.3, lw=0)
        axes.plot(limits.index, limits[0.5], color=COLORS["control"], label=label)
    inserted = sampled[sampled["kind"] == "inserted"]
    plotting.band(axes, inserted, COUNT, "cost_bits", COLORS["canary"], "the pair itself")
    _dots(axes, inserted, "cost_bits", COLORS["canary"])
    digits = exposure["space_bits"].max()
    if np.isfinite(digits):
        axes.axhline(digits, color=COLORS["muted"], lw=0.8, ls=(0, (4, 3)), label=f"guessed digits, {digits:.1f} bits")
    axes.set_ylim(0, None)
    return None
