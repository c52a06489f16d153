"""Figure 9 of A Closer Look at Memorization: critical samples through training on data, noise inputs, random labels."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import panels_noise, plotting, statistics, tidy_noise
from memorization.figures_closer_noise import PAPER_RADIUS, radii
from memorization.panels_noise import KINDS, NAMES
from memorization.plotting import styled

WIDTH = 42
"""Characters of small type across a panel."""


@styled
def fig09_critical_samples(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Critical sample ratio of validation and of training images over epochs, and at the end over the radius."""
    figure = plotting.new_figure(2.9)
    left, middle, right = figure.subplots(1, 3)
    _curves(left, table, "validation")
    panels_noise.titled(left, "(a) Validation images", reference, "csr, validation", width=WIDTH)
    gaussian = tidy_noise.curves(table, f"csr_{PAPER_RADIUS:g}", "gaussian")
    if len(gaussian):
        style = {"ls": (0, (1, 1.2)), "lw": 1.4}
        own = tidy_noise.of(gaussian, "inputs")
        panels_noise.curve(left, own, KINDS["inputs"], "randX, on Gaussian images", scale=100, **style)
        left.autoscale(axis="y")
        left.set_ylim(0, None)
    _curves(middle, table, "train")
    panels_noise.titled(middle, "(b) Training images", reference, "csr, train", width=WIDTH)
    _over_radii(right, table)
    panels_noise.titled(right, "(c) Other radii", reference, "csr, radii", width=WIDTH)
    plotting.legend_below(figure, (left, middle, right), 5)
    return figure


def _curves(axes: Axes, table: pd.DataFrame, part: str) -> None:
    """The three training sets at the paper's radius."""
    frame = tidy_noise.curves(table, f"csr_{PAPER_RADIUS:g}", part)
    axes.set_ylabel(f"critical within r = {PAPER_RADIUS:g} (%)")
    if panels_noise.missing(axes, frame, "no critical samples searched"):
        return
    for kind, name in NAMES.items():
        own = tidy_noise.of(frame, kind)
        n = len(own[["backend", "run", "replicate"]].drop_duplicates())
        panels_noise.curve(axes, own, KINDS[kind], f"{name}, n = {n}", scale=100)
    axes.set_ylim(0, None)
    panels_noise.epoch_axis(axes, frame)


def _over_radii(axes: Axes, table: pd.DataFrame) -> None:
    """Ratio at the end against the radius, and of the untrained network."""
    found = sorted(radii(table))
    axes.set(xlabel="radius r (of 0 to 255)", ylabel="critical at the end (%)")
    frames = {radius: tidy_noise.curves(table, f"csr_{radius:g}", "validation") for radius in found}
    if panels_noise.missing(axes, pd.concat(frames.values()) if frames else pd.DataFrame(), "no critical samples"):
        return
    for kind in NAMES:
        ends = {
            radius: tidy_noise.at_end(tidy_noise.of(frame, kind)).to_numpy().ravel() for radius, frame in frames.items()
        }
        _line(axes, {radius: 100 * end for radius, end in ends.items() if len(end)}, KINDS[kind], None)
    starts = {radius: 100 * tidy_noise.at_start(frame).to_numpy().ravel() for radius, frame in frames.items()}
    style = {"ls": (0, (4, 2)), "lw": 1.0}
    _line(axes, starts, "#000000", "untrained", **style)
    axes.set(xscale="log", ylim=(0, None))
    axes.set_xticks(found, [f"{radius:g}" for radius in found])
    axes.minorticks_off()


def _line(axes: Axes, values: dict[float, np.ndarray], color: str, label: str | None, **style) -> None:
    """Means over seeds with Student's 95 % interval from three on."""
    if not values:
        return
    summary = [statistics.t_interval(v) for v in values.values()]
    middle = np.array([s.estimate for s in summary])
    few = min(len(v) for v in values.values()) < 3
    ends = np.array([[s.estimate - s.low, s.high - s.estimate] for s in summary]).T
    error = None if few else ends
    axes.errorbar(
        list(values), middle, error, color=color, label=label, marker="o", ms=2.5, elinewidth=0.8, capsize=1.5, **style
    )
