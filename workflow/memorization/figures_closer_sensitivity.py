"""Figures 3 and 4 of A Closer Look at Memorization: loss-sensitivity of training examples through unrolled SGD."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from memorization import plotting, statistics, tidy, tidy_sensitivity
from memorization.panels import nothing
from memorization.panels_noise import KINDS, titled
from memorization.plotting import COLORS, styled
from memorization.tidy_sensitivity import AGAIN, NORMS, RANDOM, REAL

LABELS = {"own": "(a) Ten classes", "unique": "(b) Every example its own class"}
STYLE = {
    REAL: (COLORS["paper"], "-", "MNIST"),
    RANDOM: (KINDS["inputs"], "-", "noise inputs"),
    AGAIN: (KINDS["inputs"], (0, (1, 1.2)), "other noise inputs (control)"),
}
"""Training set -> colour, line, label."""
SYMBOLS = {"l1": "$L_1$", "l2": "$L_2$", "linf": "$L_\\infty$"}


@styled
def fig03_sensitivity(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Gini coefficient over examples while training, for both kinds of classes; and at the end by norm."""
    figure = plotting.new_figure(2.9)
    axes = figure.subplots(1, 3, width_ratios=[1.15, 1.15, 0.9])
    axes[1].sharey(axes[0])
    means, now = tidy_sensitivity.inequality(table), tidy_sensitivity.inequality(table, part="now")
    for one, (classes, title) in zip(axes, LABELS.items(), strict=False):
        chosen = [frame[frame["classes"] == classes] for frame in (means, now)]
        one.set(xlabel="SGD updates", ylabel="Gini coefficient" if classes == "own" else "")
        titled(one, title, reference, f"gini, {classes}", width=42)
        _curves(one, *chosen)
    _norms(axes[2], table)
    titled(axes[2], "(c) Other norms", reference, "gini, norms", width=34)
    plotting.legend_below(figure, axes, 4)
    return figure


def _curves(axes: Axes, means: pd.DataFrame, now: pd.DataFrame) -> None:
    """Of the mean over the updates so far, with interval; faint and without, of the loss after just that many."""
    if not len(means):
        return nothing(axes, "no loss-sensitivity was measured")
    for name, (color, line, label) in STYLE.items():
        if name != AGAIN:
            momentary = plotting.intervals(now[now["data"] == name], "step", "value")
            axes.plot(momentary["step"], momentary["mean"], color=color, lw=0.8, ls=(0, (4, 2)), alpha=0.6, zorder=2)
        plotting.band(axes, means[means["data"] == name], "step", "value", color, label, ls=line)
    axes.plot([], [], color="#444444", lw=0.8, ls=(0, (4, 2)), alpha=0.6, label="at that update, not averaged")
    axes.set_xscale("log")
    axes.set_ylim(0, None)
    return None


def _norms(axes: Axes, table: pd.DataFrame) -> None:
    """Final Gini of real minus that of random inputs, paired by seed, for every norm and both kinds of classes."""
    axes.set_ylabel("Gini: MNIST − noise inputs")
    listed = {
        (norm, classes): tidy_sensitivity.final(tidy_sensitivity.inequality(table, norm), classes)
        for norm in NORMS
        for classes in LABELS
    }
    listed = {key: wide for key, wide in listed.items() if {REAL, RANDOM} <= set(wide)}
    if not listed:
        return nothing(axes, "needs both training sets")
    axes.axhline(0, color="#444444", lw=0.7)
    for (norm, classes), wide in listed.items():
        difference = (wide[REAL] - wide[RANDOM]).dropna()
        x = NORMS.index(norm) + (-0.14 if classes == "own" else 0.14)
        mean, low, high = statistics.t_interval(difference)
        error = [[mean - low], [high - mean]] if len(difference) > 2 else None
        first = norm == NORMS[0]
        face = COLORS["exact"] if classes == "own" else "white"
        label = f"{'ten classes' if classes == 'own' else 'own classes'}, paired, 95 %" if first else None
        axes.scatter(np.full(len(difference), x + 0.08), difference, s=5, color=COLORS["exact"], alpha=0.4, lw=0)
        axes.errorbar(x, mean, error, fmt="D", ms=4, color=COLORS["exact"], mfc=face, elinewidth=1.2, label=label)
    axes.set_xticks(range(len(NORMS)), [SYMBOLS[norm] for norm in NORMS])
    axes.set_xlim(-0.5, len(NORMS) - 0.5)
    return None


# --- Figure 4 -----------------------------------------------------------------------------------------------------


@styled
def fig04_class_sensitivity(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Class matrices of both training sets on one logarithmic scale; and the rest of them over the diagonal."""
    figure = plotting.new_figure(2.9)
    axes = figure.subplots(1, 3, width_ratios=[1, 1, 0.75])
    frame = tidy_sensitivity.matrices(table)
    means = {name: _mean_matrix(frame[frame["data"] == name]) for name in (REAL, RANDOM)}
    shown = np.concatenate([matrix[matrix > 0] for matrix in means.values()])
    scale = LogNorm(shown.min(), shown.max()) if len(shown) and shown.min() < shown.max() else None
    drawn = None
    for one, letter, (name, matrix) in zip(axes, "ab", means.items(), strict=False):
        label = STYLE[name][2]
        titled(one, f"({letter}) {label[0].upper()}{label[1:]}", reference, f"classes, {name}", width=42)
        drawn = _heatmap(one, matrix, scale, _models(frame, name)) or drawn
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=axes[:2], shrink=0.85, pad=0.01)
        bar.set_label("mean $\\| \\partial L_{y=i} / \\partial x_{y=j} \\|_1$")
    _ratios(axes[2], tidy_sensitivity.spread(table))
    titled(axes[2], "(c) Off the diagonal", reference, "classes, ratio", width=30)
    plotting.legend_below(figure, axes[2:], 3)
    return figure


def _models(frame: pd.DataFrame, name: str) -> int:
    return frame.loc[frame["data"] == name, tidy.MODEL].drop_duplicates().shape[0]


def _mean_matrix(frame: pd.DataFrame) -> np.ndarray:
    """Terms x examples; geometric mean over seeds, as the scale is logarithmic."""
    logs = frame[frame["value"] > 0].assign(value=lambda rows: np.log(rows["value"]))
    return np.exp(logs.pivot_table(index="term", columns="example", values="value").to_numpy(dtype=float))


def _heatmap(axes: Axes, matrix: np.ndarray, scale: LogNorm | None, models: int):
    if not matrix.size:
        return nothing(axes, "no class sensitivity was measured")
    drawn = axes.imshow(matrix, cmap="viridis", norm=scale)
    axes.grid(False)
    axes.set(xlabel=f"class j of the example ({plotting.models(models)})", ylabel="class i of the loss")
    axes.set_xticks(range(matrix.shape[1]))
    axes.set_yticks(range(matrix.shape[0]))
    return drawn


def _ratios(axes: Axes, frame: pd.DataFrame) -> None:
    """Mean off the diagonal over mean on it: a line per seed, and means with their 95 % interval of the logarithm."""
    axes.set_ylabel("mean off the diagonal / mean on it")
    wide = frame.pivot_table(index="seed", columns="data", values="ratio")
    names = [name for name in (REAL, RANDOM) if name in wide]
    if not names:
        return nothing(axes, "no class sensitivity was measured")
    for _, seed in wide[names].dropna().iterrows():
        axes.plot(range(len(names)), seed, color=COLORS["muted"], lw=0.6, alpha=0.6, zorder=2)
    for x, name in enumerate(names):
        values = wide[name].dropna()
        mean, low, high = 10 ** np.array(statistics.t_interval(np.log10(values)))
        error = [[mean - low], [high - mean]] if len(values) > 2 else None
        label = f"{STYLE[name][2]}, n = {len(values)}" + ", mean and 95 %" * (len(values) > 2)
        axes.errorbar(x, mean, error, fmt="D", ms=4.5, color=STYLE[name][0], elinewidth=1.3, zorder=4, label=label)
    axes.axhline(1, color="#444444", lw=0.7)
    axes.set_yscale("log")
    axes.set_xticks(range(len(names)), [STYLE[name][2] for name in names])
    axes.set_xlim(-0.4, len(names) - 0.6)
    return None
