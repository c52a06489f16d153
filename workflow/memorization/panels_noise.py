"""Panels on classifiers that fit data or noise: curves over epochs. Each draws into one Axes and survives missing rows.

Colours: grey without noise, then from orange to purple with the share of noise; blue noise inputs, red random labels.
"""

import textwrap

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns  # noqa: F401  registers its colour maps
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from memorization import plotting
from memorization.panels import nothing
from memorization.plotting import COLORS

KINDS = {"none": COLORS["muted"], "inputs": "#0072B2", "labels": "#D55E00"}
"""data.noise.kind -> colour."""
NAMES = {"none": "real", "inputs": "randX", "labels": "randY"}
"""data.noise.kind -> the paper's name of the training set."""


def level_color(level: float) -> tuple[float, ...] | str:
    """Colour of a share of noise."""
    return COLORS["muted"] if level == 0 else mpl.colormaps["flare"](0.05 + 0.95 * float(level))


def curve(axes: Axes, frame: pd.DataFrame, color, label: str | None, *, scale: float = 1.0, **line) -> None:
    """Mean over models of `value` against `epoch`, with Student's 95 % interval from three models on."""
    summary = plotting.intervals(frame, "epoch", "value")
    if len(summary):
        low, high = summary["low"] * scale, summary["high"] * scale
        axes.fill_between(summary["epoch"], low, high, color=color, alpha=0.18, lw=0, zorder=2)
        axes.plot(summary["epoch"], summary["mean"] * scale, color=color, label=label, zorder=3, **line)


def levels(axes: Axes, frame: pd.DataFrame, *, label: bool = True, **line) -> None:
    """A curve in per cent for every share of noise in rows of `tidy_noise.curves`."""
    for level, group in frame.groupby("level"):
        name = "no noise" if level == 0 else f"{level:.0%} noise"
        curve(axes, group, level_color(level), name if label else None, scale=100, **line)


def epoch_axis(axes: Axes, frame: pd.DataFrame) -> None:
    """Logarithmic epochs, with the untrained network (epoch 0) at the left end."""
    epochs = np.sort(frame["epoch"].unique())
    later = epochs[epochs > 0]
    axes.set_xlabel("epoch")
    if len(later):
        axes.set_xscale("symlog", linthresh=later[0], linscale=0.5)
        axes.set_xlim(-0.08 * later[0] if epochs[0] == 0 else later[0], 1.05 * later[-1])
        powers = 10.0 ** np.arange(np.ceil(np.log10(later[0])), np.floor(np.log10(later[-1])) + 1)
        axes.set_xticks([*([0] if epochs[0] == 0 else []), *powers])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        axes.xaxis.set_minor_locator(NullLocator())


def missing(axes: Axes, frame: pd.DataFrame, why: str) -> bool:
    """Whether there is nothing to draw; then the panel says why."""
    if not len(frame):
        nothing(axes, why)
    return not len(frame)


def titled(axes: Axes, title: str, reference: pd.DataFrame, series: str, *, width: int = 60) -> None:
    """The panel's title, and under it in small type what the paper says of it: the labels of a reference series, in
    lines of `width` characters.
    """
    says = reference[reference["series"] == series]
    lines = [
        line
        for label, mark in zip(says["label"], says["mark"], strict=True)
        for line in textwrap.wrap(f"paper: {label} ({mark})", width)
    ]
    axes.set_title(title, pad=4 + 8.5 * len(lines))
    for row, line in enumerate(reversed(lines)):
        note = axes.annotate(line, (0, 1), (0, 3 + 8.5 * row), xycoords="axes fraction", textcoords="offset points",
                             fontsize=6.3, style="italic", color=COLORS["paper"])  # fmt: skip
        note.set_in_layout(False)
