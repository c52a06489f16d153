"""Panels on federated unlearning: names, colours, intervals over seeds, curves over rounds, and the stamp that says
whose numbering and which version of the paper a figure is about.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from memorization import plotting, statistics, tidy
from memorization.panels import nothing
from memorization.plotting import COLORS

METHODS = {
    "forsaken": ("#D55E00", "Forsaken"),
    "retrain": ("#0072B2", "retraining"),
    "sisa": ("#009E73", "SISA"),
    "federaser": ("#CC79A7", "FedEraser"),
    "ascent": ("#E69F00", "gradient ascent"),
    "placebo": ("#7B4B94", "placebo: random updates"),
    "without_user": ("#9A9A9A", "training on without the user"),
}
"""RequestSpec.method -> colour, name."""
SETS = {
    "mnist": "MNIST",
    "cifar10": "CIFAR-10",
    "adult": "Adult",
    "reuters21578": "Reuters",
    "20newsgroups-bow": "20 Newsgroups",
    "location-bangkok": "Location",
    "purchase-100": "Purchase",
}
"""Data set -> its name."""
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B4B94", "#6B6B6B")
ORACLES = {"confidence": "confidence", "loss": "loss", "shadow": "shadow-trained", "lira": "LiRA"}
CLAIM = "#000000"


def set_name(dataset: str) -> str:
    """A data set's name for people."""
    return SETS.get(dataset, dataset)


def set_colors(datasets: Sequence[str]) -> dict[str, str]:
    """A colour per data set, the same in every figure that shows the known ones."""
    order = [*SETS, *sorted(set(datasets) - set(SETS))]
    return {name: PALETTE[order.index(name) % len(PALETTE)] for name in datasets}


def begin(height: float, number: str, version: str) -> Figure:
    """An empty figure with one line on top: the number is ours, and whose claim is drawn."""
    figure = plotting.new_figure(height + 0.15)
    text = f"{number}: numbering of this repository, not the papers' · {version}"
    figure.suptitle(text, x=0.01, ha="left", fontsize=6.3, style="italic", color=COLORS["muted"])
    return figure


def unmeasured(figure: Figure, table: pd.DataFrame) -> bool:
    """Whether the table has no federation; then the figure says so."""
    rows = tidy.rows(table, "details")
    return missing(figure.subplots(), rows, "no federation was asked to forget") if not len(rows) else False


def sets_of(table: pd.DataFrame) -> list[str]:
    """The data sets of a table, in a fixed order."""
    return sorted(table["dataset"].dropna().unique())


def plain_log(axes: Axes) -> None:
    """Ticks of a logarithmic y axis at 1, 2 and 5, as plain numbers."""
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def claim_line(axes: Axes, reference: pd.DataFrame, series: str, *, vertical: bool = False, label: bool = True) -> None:
    """The paper's limit (of a rate or a drop) as a black line, with its mark."""
    at, mark = plotting.value(reference, series)
    if np.isfinite(at):
        line = axes.axvline if vertical else axes.axhline
        name = {"forgetting rate": "claim: FR > 90 %", "accuracy loss": "claim: loss < 5"}.get(series, series)
        line(at, color=CLAIM, lw=0.8, ls=(0, (1, 1.5)), zorder=1, label=f"{name} ({mark}, v3)" if label else None)


def expected_line(axes: Axes, found: pd.DataFrame) -> None:
    """What retraining is expected to score, mean over rows of `tidy_forget.results`."""
    if found["expected"].notna().any():
        style = {"color": COLORS["muted"], "lw": 1.0, "ls": (0, (1, 1)), "zorder": 1}
        axes.axhline(found["expected"].mean(), label="expected of retraining: 1 − f/t", **style)


def interval(values: pd.Series) -> tuple[float, float, float]:
    """Mean and Student's 95 % limits over seeds, NaN below three."""
    found = statistics.t_interval(values.dropna())
    return found if values.notna().sum() >= 3 else (found.estimate, np.nan, np.nan)


def dots(axes: Axes, x: float, values: pd.Series, color: str, label: str | None = None, **style) -> None:
    """Single seeds as small dots, their mean with its interval as a diamond."""
    values = values.dropna()
    if not len(values):
        return
    mean, low, high = interval(values)
    small = {"ms": 1.8, "alpha": 0.35, "ls": "none", "color": color, "mew": 0}
    axes.plot(np.full(len(values), x), values, "o", **small)
    error = None if np.isnan(low) else [[mean - low], [high - mean]]
    options = {"marker": "D", "ms": 3.6, "elinewidth": 1.0, "capsize": 1.8, "color": color, "zorder": 4, **style}
    axes.errorbar([x], [mean], error, label=label, ls="none", **options)


def curve(axes: Axes, frame: pd.DataFrame, color: str, label: str | None, x: str = "step", **line) -> None:
    """Mean over seeds of `value` against `x`, with Student's 95 % band from three seeds on."""
    summary = plotting.intervals(frame, x, "value")
    if len(summary):
        axes.fill_between(summary[x], summary["low"], summary["high"], color=color, alpha=0.16, lw=0, zorder=2)
        axes.plot(summary[x], summary["mean"], color=color, label=label, zorder=3, **line)


def levels(
    axes: Axes, frame: pd.DataFrame, x: str, y: str, color: str, label: str | None, shift: float = 1.0, **line
) -> None:
    """Means over seeds at each value of a setting, with intervals; `shift` sets series apart on a logarithmic axis."""
    summary = plotting.intervals(frame, x, y)
    if not len(summary):
        return
    error = np.array([summary["mean"] - summary["low"], summary["high"] - summary["mean"]])
    options = {"marker": "o", "ms": 3, "lw": 1.2, "elinewidth": 0.8, "capsize": 1.5, "color": color, **line}
    axes.errorbar(summary[x] * shift, summary["mean"], np.nan_to_num(error), label=label, **options)


def missing(axes: Axes, frame: pd.DataFrame, why: str) -> bool:
    """Whether there is nothing to draw; then the panel says why."""
    if not len(frame):
        nothing(axes, why)
    return not len(frame)


def seeds(frame: pd.DataFrame) -> str:
    """`n = 5` or a range: seeds per cell."""
    counts = frame[["dataset", *tidy.MODEL]].drop_duplicates().groupby(["dataset", "run"]).size()
    if not len(counts):
        return "n = 0"
    low, high = counts.min(), counts.max()
    return f"n = {low}" if low == high else f"n = {low} to {high}"
