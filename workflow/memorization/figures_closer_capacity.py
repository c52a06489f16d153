"""Figures 5 and 6 of A Closer Look at Memorization: validation performance and time to convergence by capacity, time
by the size of the data; and what the paper says of CIFAR-10 without a figure.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from memorization import panels_noise, plotting, survival, tidy_capacity
from memorization.panels import nothing
from memorization.plotting import COLORS, styled

SHARE = 0.99
"""Of a curve's maximum: the width that reaches it is the one that is needed (H5)."""
JITTER = 0.022
"""Noise levels at one place stand apart by this many decades."""
WIDTH_LABEL = "hidden units per layer"
NO_MODEL = "no model has been evaluated"


@styled
def fig05_capacity(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 5: validation accuracy by width, the width that is needed, and that without the noise examples (U6)."""
    frame = tidy_capacity.accuracies(table)
    together = frame[~frame["without"]]
    figure = plotting.new_figure(5.4)
    (last, relative), (needed, removed) = figure.subplots(2, 2)
    _curves(last, together, "final")
    _curves(relative, _to_maximum(together, "final"), "share", scale=100)
    _threshold(relative)
    widths = tidy_capacity.needed(together, "final", SHARE)
    for value, fill in (("final", True), ("best", False)):
        own = widths if fill else tidy_capacity.needed(together, value, SHARE)
        name = "final accuracy" if fill else "best accuracy of any epoch"
        _needed(needed, own, COLORS["exact"], name, filled=fill, shift=0.006 * (1 if fill else -1))
    plotting.legend(needed, loc="best")
    _removal(removed, tidy_capacity.needed(frame[frame["level"] > 0], "final", SHARE))
    panels_noise.titled(last, "(a) Validation accuracy after training", reference, "accuracy")
    panels_noise.titled(relative, "(b) Relative to the best width", reference, "relative")
    panels_noise.titled(needed, f"(c) Width for {SHARE:.0%} of the maximum", reference, "width needed")
    panels_noise.titled(removed, "(d) The same, noise examples left out", reference, "noise removed")
    last.set_ylabel("accuracy (%)")
    relative.set_ylabel("% of own maximum")
    plotting.legend_below(figure, (last, relative), 6)
    return figure


@styled
def text_capacity_cifar10(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """U2 and U3: the same on CIFAR-10 with noise in the inputs, and with random labels."""
    frame = tidy_capacity.accuracies(table)
    figure = plotting.new_figure(2.75)
    grid = figure.subplots(1, 3)
    kinds = {"inputs": "random inputs", "labels": "random labels"}
    for axes, letter, (kind, name) in zip(grid, "ab", kinds.items(), strict=False):
        own = frame[frame["noise"].isin(("none", kind))]
        _curves(axes, own, "final")
        panels_noise.titled(axes, f"({letter}) {name.capitalize()}", reference, kind)
        axes.set_ylabel("validation accuracy (%)")
        found = tidy_capacity.needed(own, "final", SHARE)
        shift = 0.008 * (1 if kind == "inputs" else -1)
        _needed(grid[2], found, panels_noise.KINDS[kind], name, shift=shift)
    panels_noise.titled(grid[2], f"(c) Width for {SHARE:.0%}", reference, "width needed", width=40)
    plotting.legend_below(figure, grid, 7)
    return figure


def _to_maximum(frame: pd.DataFrame, value: str) -> pd.DataFrame:
    """With column `share`: `value` relative to the same seed's maximum over widths."""
    most = frame.groupby(["backend", *tidy_capacity.CONDITION, "seed"])[value].transform("max")
    return frame.assign(share=frame[value] / most)


def _level_name(level: float) -> str:
    return "real data" if level == 0 else f"{level:.0%} noise"


def _log_ticks(axes: Axes, values: pd.Series, vertical: bool = False) -> None:
    """Every value as a tick of a logarithmic axis."""
    axis, set_scale = (axes.yaxis, axes.set_yscale) if vertical else (axes.xaxis, axes.set_xscale)
    set_scale("log")
    ticks = sorted(values.unique())
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


def _curves(axes: Axes, frame: pd.DataFrame, value: str, scale: float = 1.0) -> None:
    """A line per noise level through the means over seeds, with Student's 95 % intervals from three models on."""
    axes.set_xlabel(WIDTH_LABEL)
    if panels_noise.missing(axes, frame, NO_MODEL):
        return
    _log_ticks(axes, frame["width"])
    levels = sorted(frame["level"].unique())
    for number, level in enumerate(levels):
        own = plotting.intervals(frame[frame["level"] == level], "width", value)
        x = own["width"] * 10 ** (JITTER * (number - (len(levels) - 1) / 2))
        bars = scale * np.array([own["mean"] - own["low"], own["high"] - own["mean"]])
        axes.errorbar(x, scale * own["mean"], yerr=bars, color=panels_noise.level_color(level), marker="o", ms=3,
                      lw=1.2, elinewidth=0.8, capsize=1.5, label=_level_name(level))  # fmt: skip


def _threshold(axes: Axes) -> None:
    label = f"{SHARE:.0%} of the maximum"
    axes.axhline(100 * SHARE, color="#444444", lw=0.8, ls=(0, (4, 2)), zorder=1, label=label)


def _needed(
    axes: Axes, found: pd.DataFrame, color: str, label: str, *, filled: bool = True, shift: float = 0.0
) -> None:
    """Width that is needed against the noise level: single seeds, and geometric means with 95 % intervals."""
    axes.set(xlabel="share of noise", ylabel=WIDTH_LABEL)
    if panels_noise.missing(axes, found, NO_MODEL):
        return
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    logs = found.assign(log=np.log2(found["width"]))
    x = logs["level"] + shift
    axes.scatter(x, logs["width"], s=8, color=color, alpha=0.35, linewidths=0, zorder=2)
    own = plotting.intervals(logs, "level", "log")
    middle, low, high = (2 ** own[column] for column in ("mean", "low", "high"))
    axes.errorbar(own["level"] + shift, middle, yerr=[middle - low, high - middle], color=color, marker="o", ms=4,
                  mfc=color if filled else "white", ls="-" if filled else "--", lw=1.2, elinewidth=0.8, capsize=1.5,
                  zorder=3, label=label)  # fmt: skip
    axes.set_xticks(sorted(found["level"].unique()))


def _removal(axes: Axes, found: pd.DataFrame) -> None:
    """U6: the width that is needed with the noise examples in the training set, and without them."""
    if not found["without"].any():
        return nothing(axes, "no training without the noise examples")
    for without, color, name in ((False, COLORS["canary"], "with noise"), (True, COLORS["sampled"], "noise left out")):
        _needed(axes, found[found["without"] == without], color, name, shift=0.006 * (1 if without else -1))
    return plotting.legend(axes, loc="best")


@styled
def fig06_convergence(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 6: epochs to 100 % training accuracy by width and by the number of examples; below, relative to the widest
    network and to the smallest data set, which is what the claims compare.
    """
    frame = tidy_capacity.times(table)
    widths, sizes = tidy_capacity.at_widths(frame), tidy_capacity.at_sizes(frame)
    figure = plotting.new_figure(5.2)
    (left, right), (saved, grown) = figure.subplots(2, 2)
    _times(left, widths, "width")
    _times(right, sizes, "examples")
    _relative(saved, widths, "width", widths["width"].max())
    _relative(grown, sizes, "examples", sizes["examples"].min())
    examples, units = widths["examples"].max(), sizes["width"].max()
    title = "(a) Time by capacity" + (f", {examples:,.0f} examples" if np.isfinite(examples) else "")
    panels_noise.titled(left, title, reference, "by capacity")
    title = "(b) Time by data size" + (f", {units:,.0f} units per layer" if np.isfinite(units) else "")
    panels_noise.titled(right, title, reference, "by data size")
    saved.set_title("(c) Relative to the widest network")
    grown.set_title("(d) Relative to the smallest data set")
    for axes in (left, right):
        axes.set_ylabel("epochs to 100 % training accuracy")
    for axes in (saved, grown):
        axes.set_ylabel("relative time")
    plotting.legend_below(figure, (left, right), 7)
    return figure


X_LABELS = {"width": WIDTH_LABEL, "examples": "training examples N"}


def _times(axes: Axes, frame: pd.DataFrame, along: str) -> None:
    """Kaplan-Meier medians with 95 % intervals per noise level; triangles: not reached by half of the runs."""
    axes.set_xlabel(X_LABELS[along])
    if panels_noise.missing(axes, frame, "no training has ended"):
        return
    _log_ticks(axes, frame[along])
    axes.set_yscale("log")
    levels = sorted(frame["level"].unique())
    for number, level in enumerate(levels):
        own = _medians(frame[frame["level"] == level], along)
        color = panels_noise.level_color(level)
        x = own[along] * 10 ** (JITTER * (number - (len(levels) - 1) / 2))
        known = np.isfinite(own["median"])
        bars = [own["median"] - own["low"], own["high"].clip(upper=own["last"]) - own["median"]]
        axes.errorbar(x[known], own["median"][known], yerr=np.array(bars)[:, known], color=color, marker="o", ms=3.5,
                      lw=1.2, elinewidth=0.8, capsize=1.5, zorder=3, label=_level_name(level))  # fmt: skip
        axes.scatter(x[~known], own["last"][~known], marker="^", s=24, facecolor="white", edgecolor=color, zorder=4,
                     linewidths=1.1)  # fmt: skip
    if frame["censored"].any():
        axes.scatter([], [], marker="^", s=24, facecolor="white", edgecolor="#444444", label="more than half not there")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "235" else "")


def _medians(frame: pd.DataFrame, along: str) -> pd.DataFrame:
    """Columns `along`, median, low, high, last (the latest epoch that any run was watched for)."""
    listed = []
    for value, group in frame.groupby(along):
        found = survival.median_time(group["epochs"], group["censored"])
        listed.append((value, *found, group["epochs"].max()))
    return pd.DataFrame(listed, columns=[along, "median", "low", "high", "last"])


def _relative(axes: Axes, frame: pd.DataFrame, along: str, at: float) -> None:
    """Per seed T relative to its own at `at`: geometric means with 95 % intervals where every run got there."""
    axes.set_xlabel(X_LABELS[along])
    keys = ["backend", "seed", "level"]
    base = frame[(frame[along] == at) & ~frame["censored"]].set_index(keys)["epochs"].rename("base")
    frame = frame.join(base, on=keys).dropna(subset=["base"])
    if panels_noise.missing(axes, frame, "the network compared with did not get to 100 %"):
        return
    axes.axhline(1, color="#444444", lw=0.7, zorder=1)
    frame = frame.assign(log=np.log2(frame["epochs"] / frame["base"]))
    levels = sorted(frame["level"].unique())
    for number, level in enumerate(levels):
        group = frame[frame["level"] == level]
        own = plotting.intervals(group, along, "log").set_index(along)
        bound = group.groupby(along)["censored"].any().reindex(own.index)
        color = panels_noise.level_color(level)
        middle, low, high = (2 ** own[column] for column in ("mean", "low", "high"))
        x = own.index * 10 ** (JITTER * (number - (len(levels) - 1) / 2))
        axes.plot(x, middle, color=color, lw=1.2, zorder=2)
        sure = ~bound.to_numpy()
        bars = np.array([middle - low, high - middle])[:, sure]
        axes.errorbar(x[sure], middle[sure], yerr=bars, color=color, marker="o", ms=3.5, ls="", elinewidth=0.8,
                      capsize=1.5, zorder=3)  # fmt: skip
        axes.scatter(x[~sure], middle[~sure], marker="^", s=24, facecolor="white", edgecolor=color, zorder=4,
                     linewidths=1.1)  # fmt: skip
    if frame["censored"].any():
        axes.scatter([], [], marker="^", s=24, facecolor="white", edgecolor="#444444", label="at least")
        plotting.legend(axes, loc="best")
    _log_ticks(axes, frame[along])
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
