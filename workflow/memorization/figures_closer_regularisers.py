"""A Closer Look's Figures 10 and 11: regularisers, the memorisation of random labels, and generalisation."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import stats

from memorization import plotting, statistics, tidy_regularisers
from memorization.gates.closer_regularisers import CHANCE, areas, frontier, resampled, slowdowns, spearman
from memorization.panels import nothing
from memorization.plotting import COLORS, styled
from memorization.tidy_regularisers import BOTH, DATA, NONE, Points

STYLES = {
    NONE: ("#000000", "*"),
    "dropout": ("#D55E00", "o"),
    "input dropout": ("#E69F00", "s"),
    "input noise": ("#56B4E9", "^"),
    "hidden noise": ("#0072B2", "v"),
    "weight decay": ("#009E73", "D"),
    BOTH: ("#CC79A7", "P"),
}
"""Technique -> colour and marker, in both figures."""
NAMES = {NONE: "no regularisation", "input noise": "Gaussian input noise", "hidden noise": "Gaussian hidden noise"}
LINES = {"torch": "-", "tf": "--"}


def _logarithmic(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 times powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _name(technique: str) -> str:
    return NAMES.get(technique, technique)


@styled
def fig10_regularisers(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 10: memorisation of random labels against generalisation; areas under it; time to convergence (U7)."""
    frame = tidy_regularisers.trainings(table)
    points = tidy_regularisers.points(tidy_regularisers.one_back_end(frame))
    figure = plotting.new_figure(4.6)
    grid = figure.add_gridspec(2, 2, width_ratios=[1.5, 1])
    main, ranked, times = (figure.add_subplot(cell) for cell in (grid[:, 0], grid[0, 1], grid[1, 1]))
    _frontiers(main, points)
    _areas(ranked, points)
    _slowdowns(times, slowdowns(tidy_regularisers.one_back_end(frame)))
    main.set_title(f"(a) Capping memorisation, {plotting.models(len(frame))}")
    ranked.set_title("(b) Mean height of the lines")
    times.set_title("(c) Time to fit")
    plotting.legend_below(figure, (main, times), 4)
    return figure


def _limits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of float[settings, seeds] and half of Student's 95 % intervals, NaN below three seeds."""
    n = values.shape[1]
    half = stats.t.ppf(0.975, n - 1) * stats.sem(values, axis=1) if n > 2 else np.full(len(values), np.nan)
    return values.mean(axis=1), half


def _frontiers(axes: Axes, points: Points) -> None:
    """One point per setting with its 95 % intervals, one frontier per technique from the guess on."""
    axes.set(xlabel="final training accuracy on random labels", ylabel="best validation accuracy on real labels")
    if not points.fitted.size:
        return nothing(axes, "no setting was trained on both random and real labels")
    (x, wide), (y, high) = _limits(points.fitted), _limits(points.validated)
    technique = points.settings["technique"].to_numpy()
    for name, (color, marker) in STYLES.items():
        rows = technique == name
        if not rows.any():
            continue
        own = rows | (technique == NONE)
        if name != NONE:
            axes.plot(*frontier(x[own], y[own]), color=color, lw=1.2, alpha=0.8, zorder=3)
        style = {"fmt": marker, "ms": 9 if name == NONE else 4.5, "color": color, "elinewidth": 0.7, "lw": 0}
        axes.errorbar(x[rows], y[rows], xerr=wide[rows], yerr=high[rows], label=_name(name), zorder=4, **style)
        for at in np.flatnonzero(rows) if rows.sum() <= 3 and name != NONE else ():
            text = points.settings["setting"][at].replace(", dropout ", "+").removeprefix("w ")
            axes.annotate(text, (x[at], y[at]), (3, 3), textcoords="offset points", fontsize=5.5, color=color)
    axes.plot([CHANCE], [CHANCE], "X", color=COLORS["muted"], ms=5, label="a guess", zorder=3)
    axes.set(xlim=(0, 1.03), ylim=(0, None))
    return None


def _areas(axes: Axes, points: Points) -> None:
    """Area under each technique's frontier, with the interval of resampled seeds, the largest on top."""
    axes.set(xlabel="mean validation accuracy (%)")
    names = set(points.settings["technique"])
    if NONE not in names or len(names) < 2 or not points.fitted.size:
        return nothing(axes, "needs unregularised and regularised models")
    n = points.fitted.shape[1]
    found = 100 * areas(points, np.arange(n)[None]).iloc[0].sort_values()
    draws = 100 * resampled(points) if n > 2 else None
    for at, name in enumerate(found.index):
        color, marker = STYLES[name]
        if draws is not None:
            axes.hlines(at, *draws[name].quantile([0.025, 0.975]), color=color, lw=1.5)
        axes.plot(found[name], at, marker, color=color, ms=5)
    labels = [name.replace(" + ", "\n+ ") for name in found.index]
    if draws is not None:
        first = draws.idxmax(axis=1).value_counts(normalize=True)
        labels = [
            f"{label} ({100 * first.get(name, 0):.0f} %)" for label, name in zip(labels, found.index, strict=True)
        ]
        axes.set_xlabel("mean validation accuracy (%)\nbrackets: first in so many draws", fontsize=7)
    axes.set_yticks(range(len(found)), labels, fontsize=6.5)
    axes.set_ylim(-0.6, len(found) - 0.4)
    return None


def _slowdowns(axes: Axes, found: pd.DataFrame) -> None:
    """Epochs to fit the training set over those without regularisation; a triangle: never fitted, so at least that."""
    axes.set_xlabel("epochs to 100 % / those without")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    if not len(found):
        return nothing(axes, "no unregularised training reached 100 %")
    order = [name for name in STYLES if name in set(found["technique"])][::-1]
    for shift, (data, fill) in zip((0.17, -0.17), (("randY", True), ("real", False)), strict=True):
        for at, name in enumerate(order):
            color = STYLES[name][0]
            part = found[(found["technique"] == name) & (found["data"] == data)]
            for bound, marker in ((False, "o"), (True, ">")):
                one = part[part["bound"] == bound]
                style = {"s": 11, "marker": marker, "facecolor": color if fill else "white", "edgecolor": color}
                axes.scatter(2 ** one["slowdown"], np.full(len(one), at + shift), linewidths=0.7, zorder=3, **style)
            if len(part):  # a bound keeps the median from above only
                axes.plot(2 ** part["slowdown"].median(), at + shift, "|", color="#222222", ms=8, mew=1.2, zorder=4)
    axes.axvline(1, color="#444444", lw=0.7, zorder=1)
    for label, marker, fill in (("random labels", "o", "#444444"), ("real labels", "o", "white"),
                                ("never fitted: at least", ">", "#444444")):  # fmt: skip
        axes.scatter([], [], s=13, marker=marker, facecolor=fill, edgecolor="#444444", linewidths=0.7, label=label)
    axes.set_yticks(range(len(order)), [name.replace(" + ", "\n+ ") for name in order], fontsize=6.5)
    axes.set_ylim(-0.6, len(order) - 0.4)
    return None


@styled
def fig11_training_curves(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 11: training loss by regulariser on random and on real labels, and the two orderings at the end."""
    frame = tidy_regularisers.losses(table)
    figure = plotting.new_figure(3.3)
    left, right, last = figure.subplots(1, 3, width_ratios=[1, 1, 0.9])
    for axes, data in ((left, "randY"), (right, "real")):
        _curves(axes, frame[frame["data"] == data])
    right.sharey(left)
    right.set_ylabel("")
    _orderings(last, tidy_regularisers.one_back_end(frame))
    left.set_title("(a) Random labels")
    right.set_title("(b) Real labels")
    plotting.legend_below(figure, (left, right), 3)
    return figure


def _curves(axes: Axes, frame: pd.DataFrame) -> None:
    """Mean loss on the training set with its 95 % interval: a colour per technique, a dash per back end."""
    axes.set(xlabel="epoch", ylabel="training loss (nats)", yscale="log")
    if not len(frame):
        return nothing(axes, "no training loss was recorded")
    several = frame["backend"].nunique() > 1
    for name, (color, marker) in STYLES.items():
        for (backend, setting), own in frame[frame["technique"] == name].groupby(["backend", "setting"], sort=False):
            label = _name(name) + (f" {setting}" if name != NONE else "") + (f", {backend}" if several else "")
            at = max(1, own["epoch"].nunique() // 6)
            style = {"ls": LINES.get(backend, "-"), "lw": 1.2, "marker": marker, "ms": 5 if name == NONE else 3}
            plotting.band(axes, own, "epoch", "loss", color, label, markevery=at, **style)
    _logarithmic(axes.yaxis)
    return None


def _orderings(axes: Axes, frame: pd.DataFrame) -> None:
    """The same settings' losses at the end on both sets; on the diagonal of ranks the orderings would be equal."""
    axes.set(xlabel="final loss, random labels", ylabel="final loss, real labels")
    axes.set(xscale="log", yscale="log")
    last = frame.sort_values("epoch").groupby(["data", "technique", "setting", "seed"])["loss"].last()
    wide = last.unstack("data")
    if not set(DATA.values()) <= set(wide) or not (wide := wide.dropna()).size:
        return nothing(axes, "needs trainings on random and on real labels")
    means = wide.groupby(["technique", "setting"]).mean()
    for (name, _), one in wide.groupby(["technique", "setting"]):
        color, marker = STYLES[name]
        places = [statistics.t_interval(one[data]) for data in ("randY", "real")]
        errors = [[[at.estimate - at.low], [at.high - at.estimate]] if len(one) > 2 else None for at in places]
        x, y = (at.estimate for at in places)
        axes.errorbar(x, y, xerr=errors[0], yerr=errors[1], fmt=marker, color=color, ms=8 if name == NONE else 5,
                      elinewidth=0.7)  # fmt: skip
    _logarithmic(axes.xaxis)
    _logarithmic(axes.yaxis)
    rho = float(spearman(means["randY"], means["real"])) if len(means) > 2 else np.nan
    axes.set_title(f"(c) Spearman {rho:.2f}" if np.isfinite(rho) else "(c) At the end")
    return None
