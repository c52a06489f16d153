"""Beyond the papers: how five scores of the same training examples rank them."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import plotting, single_examples
from memorization.panels import nothing
from memorization.plotting import COLORS, styled
from memorization.single_examples import SCORES
from memorization.statistics import Interval

AXES = {
    "difficulty": "wrong after one epoch\n(share of models)",
    "sensitivity": "loss-sensitivity\n($L_1$, mean over updates)",
    "critical": "critical samples\n(share of searches)",
    "forgetting": "forgetting events\n(mean over models)",
}
"""Column -> axis label of the panels against the memorisation score."""


@styled
def example_scores(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Rank correlations of all pairs of scores, and the memorisation score against each of the others."""
    scores = single_examples.of_examples(table)
    figure = plotting.new_figure(4.1)
    grid = figure.add_gridspec(2, 3, width_ratios=[2.2, 1, 1])
    whole = figure.add_subplot(grid[:, 0])
    _matrix(whole, scores)
    first = None
    for number, (name, letter) in enumerate(zip(AXES, "bcde", strict=True)):
        axes = figure.add_subplot(grid[number // 2, 1 + number % 2], sharey=first)
        first = first or axes
        axes.set_title(f"({letter})")
        axes.set_xlabel(AXES[name], fontsize=6.6)
        axes.set_ylabel("memorisation score" if number % 2 == 0 else "")
        axes.tick_params(labelleft=number % 2 == 0)
        _scatter(axes, scores, name)
    plotting.legend_below(figure, figure.axes, 2)
    return figure


def _matrix(axes: Axes, scores: pd.DataFrame) -> None:
    """Spearman's correlations: below the diagonal of rightly labelled examples, above it of all; on it the area under
    the ROC curve for finding wrong labels.
    """
    names = list(SCORES)
    found = {(i, j): _entry(scores, i, j) for i in range(len(names)) for j in range(len(names))}
    axes.set_title("(a) Rank correlations")
    if not any(np.isfinite(interval.estimate) for interval in found.values()):
        return nothing(axes, "no two scores of the same examples")
    colors = np.full((len(names), len(names)), np.nan)
    for (i, j), interval in found.items():
        colors[i, j] = np.nan if i == j else interval.estimate
    axes.imshow(colors, cmap="RdBu_r", vmin=-1, vmax=1)
    for (i, j), interval in found.items():
        strong = i != j and np.isfinite(interval.estimate) and abs(interval.estimate) > 0.65
        _cell(axes, i, j, interval, "white" if strong else "#222222")
    broken = [textwrap.fill(name.replace("-", "- "), 12).replace("- ", "-") for name in SCORES.values()]
    axes.set_xticks(range(len(names)), broken, fontsize=6.2)
    axes.set_yticks(range(len(names)), broken, fontsize=6.2)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.set_xlabel("Spearman, 95 %: below the diagonal right labels, above it all;\non it: area under the ROC curve",
                    fontsize=6.8)  # fmt: skip
    return None


def _entry(scores: pd.DataFrame, i: int, j: int) -> Interval:
    row, column = list(SCORES)[i], list(SCORES)[j]
    if i == j:
        return single_examples.detection(scores[row], scores["mislabelled"])
    frame = single_examples.chosen(scores, "clean" if i > j else "all")
    return single_examples.rank_correlation(frame[row], frame[column])


def _cell(axes: Axes, i: int, j: int, interval: Interval, color: str) -> None:
    """Estimate and, below it in small type, its 95 % interval."""
    estimate, low, high = interval
    style = {"ha": "center", "va": "center", "color": color}
    shown = f"{estimate:.2f}" if np.isfinite(estimate) else "–"
    axes.text(j, i - 0.1, shown, fontsize=8, weight="bold" if i == j else "normal", **style)
    if np.isfinite(low):
        axes.text(j, i + 0.24, f"{low:.2f} … {high:.2f}", fontsize=5, **style)


def _scatter(axes: Axes, scores: pd.DataFrame, name: str) -> None:
    """Memorisation score against another one; wrong labels in colour."""
    frame = scores.dropna(subset=[name, "memorisation"])
    if not len(frame):
        return nothing(axes, "not measured")
    wrong = frame["mislabelled"].astype(bool)
    for part, color, label in (
        (frame[~wrong], COLORS["exact"], "right label"),
        (frame[wrong], COLORS["canary"], "wrong label"),
    ):
        if len(part):
            label += f", n = {len(part)}"
            axes.scatter(part[name], part["memorisation"], s=6, color=color, alpha=0.35, lw=0, label=label)
    axes.axhline(0, color="#444444", lw=0.6, zorder=1)
    return None
