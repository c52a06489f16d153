"""Figures 7 and 8 of A Closer Look at Memorization: accuracy and critical samples while more and more noise is fitted.

Beyond the paper: accuracy on its clean and its corrupted training examples.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import panels_noise, plotting, tidy, tidy_noise
from memorization.plotting import COLORS, styled

PAPER_RADIUS = 0.3
"""On the scale of 0 to 255 (footnote 6)."""
WIDTH = 108
"""Characters of small type across the figure."""
NOISY = {"inputs": "Noise on inputs", "labels": "Noise on labels"}
SUBSETS = {
    "clean": (COLORS["exact"], "-", "clean"),
    "corrupted": (COLORS["canary"], "-", "corrupted, as labelled"),
    "corrupted_true": (COLORS["sampled"], "-", "corrupted, true label"),
    "validation": (COLORS["muted"], (0, (1, 1.2)), "validation"),
}
"""Part of the data -> colour, line, label."""


@styled
def fig07_mnist_noise(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 7: MNIST."""
    return _noise_figure(table, reference)


@styled
def fig08_cifar_noise(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 8: CIFAR-10."""
    return _noise_figure(table, reference)


def _noise_figure(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Rows: noise on inputs, on labels. Columns: accuracies and critical sample ratios, of each back end; of one alone
    also at the next radius.
    """
    backends = sorted(table["backend"].dropna().unique(), reverse=True) or ["torch"]
    shown = (radii(table) or [PAPER_RADIUS])[: 2 if len(backends) == 1 else 1]
    panels = [(backend, radius) for backend in backends for radius in (None, *shown)]
    wide = WIDTH // len(panels)
    figure = plotting.new_figure(4.9)
    grid = figure.subplots(2, len(panels), squeeze=False)
    for row, (kind, name) in enumerate(NOISY.items()):
        for axes, (backend, radius) in zip(grid[row], panels, strict=True):
            own = table[table["backend"] == backend]
            if radius is None:
                _accuracies(axes, own, kind)
                title = f"({'ab'[row]}) {name}, {backend}" if len(backends) > 1 else f"({'ab'[row]}) {name}"
                panels_noise.titled(axes, title, reference, f"accuracy, {kind}", width=wide)
            else:
                _ratios(axes, own, kind, radius)
                series = f"csr, {kind}" if radius == PAPER_RADIUS else f"csr, {kind}, radii"
                panels_noise.titled(axes, f"Critical within r = {radius:g}", reference, series, width=wide)
    plotting.legend_below(figure, grid.ravel(), 4)
    return figure


def _kind(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Curves of one kind of noise, and those without."""
    return frame[frame["kind"].isin((kind, tidy_noise.REAL))]


def _accuracies(axes: Axes, table: pd.DataFrame, kind: str) -> None:
    """Training accuracy by the given labels solid, validation accuracy dotted."""
    train, validation = (_kind(tidy_noise.curves(table, "accuracy", part), kind) for part in ("train", "validation"))
    axes.set_ylabel("accuracy (%)")
    if panels_noise.missing(axes, train, "no accuracy was measured"):
        return
    panels_noise.levels(axes, train, lw=1.2)
    panels_noise.levels(axes, validation, label=False, ls=(0, (1, 1.2)), lw=1.4)
    n = train[train["level"] == train["level"].max()].groupby(tidy.MODEL).ngroups
    axes.plot([], [], color="#444444", lw=1.2, label=f"training, n = {n} each")
    axes.plot([], [], color="#444444", ls=(0, (1, 1.2)), lw=1.4, label="validation")
    axes.set_ylim(0, 102)
    panels_noise.epoch_axis(axes, train)


def radii(table: pd.DataFrame) -> list[float]:
    """The radii at which critical samples were searched, the paper's first."""
    names = tidy.rows(table, "details")["measure"].unique()
    found = [float(name.removeprefix("csr_")) for name in names if name.startswith("csr_") and "count" not in name]
    return sorted(found, key=lambda radius: (radius != PAPER_RADIUS, radius))


def _ratios(axes: Axes, table: pd.DataFrame, kind: str, radius: float) -> None:
    """Critical sample ratio of validation images after every measured epoch; an untrained network's says nothing."""
    axes.set_ylabel("critical sample ratio (%)")
    frame = _kind(tidy_noise.curves(table, f"csr_{radius:g}", "validation"), kind)
    frame = frame[frame["epoch"] > 0]
    if panels_noise.missing(axes, frame, "no critical samples searched"):
        return
    panels_noise.levels(axes, frame, label=False, lw=1.2)
    axes.set_ylim(0, None)
    panels_noise.epoch_axis(axes, frame)


@styled
def subset_curves(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Accuracy on clean and on corrupted training examples, a panel per kind and share of noise."""
    details = tidy_noise.curves(table, "accuracy", "clean")
    shares = sorted(details.loc[details["kind"] != tidy_noise.REAL, "level"].unique()) or [np.nan]
    figure = plotting.new_figure(3.7)
    grid = figure.subplots(2, len(shares), sharey=True, sharex=True, squeeze=False)
    for row, (kind, name) in enumerate(NOISY.items()):
        for axes, level in zip(grid[row], shares, strict=True):
            frames = {part: tidy_noise.of(tidy_noise.curves(table, "accuracy", part), kind, level) for part in SUBSETS}
            if not panels_noise.missing(axes, frames["clean"], "no accuracy was measured"):
                _subsets(axes, frames, kind)
            axes.set_title(f"({'ab'[row]}) {level:.0%} {name.lower()}" if axes is grid[row, 0] else f"{level:.0%}")
            axes.set_xlabel("epoch" if row else "")
        grid[row, 0].set_ylabel("accuracy (%)")
    plotting.legend_below(figure, grid.ravel(), 5)
    return figure


def _subsets(axes: Axes, frames: dict[str, pd.DataFrame], kind: str) -> None:
    for part, (color, style, name) in SUBSETS.items():
        # A noise input has no other label than the one it was given.
        if len(frames[part]) and not (kind == "inputs" and part == "corrupted_true"):
            panels_noise.curve(axes, frames[part], color, name, scale=100, ls=style, lw=1.3)
    if kind == "labels" and len(frames["validation"]):
        mean = frames["validation"].groupby("epoch")["value"].mean()
        axes.axvline(mean.idxmax(), color=COLORS["muted"], lw=0.7, zorder=1, label="validation's peak")
    axes.set_ylim(0, 102)
    panels_noise.epoch_axis(axes, frames["clean"])
