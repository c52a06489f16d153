"""Figures 1 and 2 of A Closer Look at Memorization: easy examples exist in real data only, and first-layer filters."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from memorization import plotting, statistics, tidy_examples
from memorization.panels import nothing
from memorization.panels_noise import KINDS, NAMES, titled
from memorization.plotting import COLORS, styled

EDGE = 5
"""Pixels along a filter's edge."""
SHOWN = 49
"""Filters drawn per grid."""
STRUCTURE = {
    "filter_tv": "total variation / deviation",
    "filter_low_frequency": "energy below half Nyquist (%)",
}
SETTINGS = (("none", "init"), ("none", "trained"), ("labels", "init"), ("labels", "trained"))


@styled
def fig01_easy_examples(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Sorted P(correct) of single examples after one epoch; and their variance over a binomial's."""
    backends = sorted(table["backend"].dropna().unique(), reverse=True) or ["torch"]
    figure = plotting.new_figure(2.9)
    grid = figure.subplots(1, 1 + len(backends), width_ratios=[1.25] * len(backends) + [1])
    for axes, backend in zip(grid, backends, strict=False):
        _sorted_rates(axes, table, backend)
        name = f" ({backend})" * (len(backends) > 1)
        titled(axes, f"(a) After one epoch{name}", reference, "rates", width=58 if len(backends) == 1 else 36)
    _variance_ratios(grid[-1], table, backends)
    titled(grid[-1], "(b) Variance ratio", reference, "ratios", width=40 if len(backends) == 1 else 30)
    plotting.legend_below(figure, grid[:-1], 4)
    return figure


def _sorted_rates(axes: Axes, table: pd.DataFrame, backend: str) -> None:
    """A curve per training set: rates over runs, with the 95 % interval of each; and of a binomial of randX's mean."""
    own = table[table["backend"] == backend]
    axes.set(xlabel="example, sorted (%)", ylabel="P(correct) over runs")
    found = {kind: tidy_examples.rates(own, kind, backend) for kind in ("none", "labels", "inputs")}
    if not any(map(len, found.values())):
        return nothing(axes, "no example was followed")
    for kind, rates in found.items():
        if len(rates):
            n = tidy_examples.runs(own, kind)
            x = 100 * (np.arange(len(rates)) + 0.5) / len(rates)
            # Clopper and Pearson's: of every single rate, given its runs.
            right = np.rint(rates * n)
            low = stats.beta.ppf(0.025, right, n - right + 1)
            high = stats.beta.ppf(0.975, right + 1, n - right)
            axes.fill_between(x, np.nan_to_num(low), np.where(right == n, 1, high), color=KINDS[kind], alpha=0.13, lw=0)
            axes.plot(x, rates, color=KINDS[kind], lw=1.6, label=f"{NAMES[kind]}, {n} runs")
    if len(found["inputs"]):
        rates, n = found["inputs"], tidy_examples.runs(own, "inputs")
        x = (np.arange(len(rates)) + 0.5) / len(rates)
        expected = stats.binom.ppf(x, n, rates.mean()) / n
        axes.plot(100 * x, expected, color=COLORS["paper"], lw=0.9, ls=(0, (2, 1.5)), label="binomial, mean of randX")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(0, 100)
    return None


def _variance_ratios(axes: Axes, table: pd.DataFrame, backends: list[str]) -> None:
    """A point per training set and back end, of all examples and within classes; 95 % intervals over runs."""
    axes.set_ylabel("variance of rates / binomial variance")
    axes.axhline(1, color=COLORS["paper"], lw=0.9, ls=(0, (2, 1.5)))
    drawn = False
    for within, marker, label in ((False, "o", "all examples"), (True, "D", "within classes")):
        for place, backend in enumerate(backends):
            for x, kind in enumerate(tidy_examples.KINDS):
                estimate, resampled = tidy_examples.ratios(table, kind, within=within, backend=backend)
                if not len(resampled):
                    continue
                low, high = np.nanquantile(resampled, [0.025, 0.975])
                low = max(low, estimate / 10)  # on a logarithmic axis
                at = x + (0.15 if within else -0.15) + 0.07 * place
                error = [[max(estimate - low, 0)], [max(high - estimate, 0)]]
                axes.errorbar(at, estimate, error, fmt=marker, ms=4.5, color=KINDS[kind], elinewidth=1.2,
                              mfc="white" if within else KINDS[kind], zorder=4)  # fmt: skip
                drawn = True
        axes.plot([], [], marker, color="#444444", mfc="white" if within else "#444444", ms=4.5, label=label)
    if not drawn:
        return nothing(axes, "too few runs")
    axes.set_yscale("log")
    axes.set_xticks(range(3), [NAMES[kind] for kind in tidy_examples.KINDS])
    axes.set_xlim(-0.5, 2.5)
    plotting.legend(axes, loc="upper right")
    return None


# --- Figure 2 -----------------------------------------------------------------------------------------------------


@styled
def fig02_filters(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """First-layer filters of a network trained on real data and of one trained on randY; how smooth all are."""
    figure = plotting.new_figure(2.7)
    axes = figure.subplots(1, 4, width_ratios=[1, 1, 0.8, 0.8])
    for one, (kind, letter) in zip(axes, (("none", "a"), ("labels", "b")), strict=False):
        _gallery(one, tidy_examples.filters(table, kind, "trained"))
        titled(one, f"({letter}) {NAMES[kind].capitalize() if kind == 'none' else NAMES[kind]}", reference,
               f"filters, {kind}", width=36)  # fmt: skip
    for one, (measure, label), letter in zip(axes[2:], STRUCTURE.items(), "cd", strict=True):
        _structure(one, tidy_examples.structure(table, measure) * (100 if "frequency" in measure else 1))
        one.set_ylabel(label)
        titled(one, f"({letter}) {'Roughness' if letter == 'c' else 'Smoothness'}", reference, measure, width=26)
    plotting.legend_below(figure, axes[2:], 3)
    return figure


def _gallery(axes: Axes, frame: pd.DataFrame) -> None:
    """Filters of the first network, each scaled to its own range, side by side."""
    axes.set_axis_off()
    if not len(frame):
        return plotting.empty(axes, "no filter was recorded")
    first = frame[(frame["replicate"] == frame["replicate"].min()) & (frame["backend"] == frame["backend"].iloc[0])]
    weights = first.pivot_table(index="item", columns="other", values="value").to_numpy()
    weights = weights.reshape(len(weights), EDGE, EDGE, -1)[:SHOWN]
    low, high = (f(weights, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    weights = (weights - low) / np.maximum(high - low, 1e-12)
    columns = int(np.ceil(np.sqrt(len(weights))))
    canvas = np.ones((-(-len(weights) // columns) * (EDGE + 1) - 1, columns * (EDGE + 1) - 1, 3))
    for number, weight in enumerate(weights):
        row, column = (EDGE + 1) * (number // columns), (EDGE + 1) * (number % columns)
        canvas[row : row + EDGE, column : column + EDGE] = weight if weight.shape[2] == 3 else weight[..., :1]
    axes.imshow(canvas, interpolation="nearest")
    return None


def _structure(axes: Axes, frame: pd.DataFrame) -> None:
    """A line per network from its initial to its trained filters, for both training sets."""
    settings = [setting for setting in SETTINGS if setting in frame.columns]
    if not settings:
        return nothing(axes, "no filter was recorded")
    for kind in ("none", "labels"):
        places = [x for x, setting in enumerate(SETTINGS) if setting in settings and setting[0] == kind]
        for _, network in frame.iterrows():
            axes.plot(places, [network[SETTINGS[x]] for x in places], color=KINDS[kind], lw=0.6, alpha=0.5, zorder=2)
        for x in places:
            values = frame[SETTINGS[x]].dropna()
            mean, low, high = statistics.t_interval(values)
            error = [[mean - low], [high - mean]] if len(values) > 2 else None
            label = f"{NAMES[kind]}, n = {len(values)}" + ", mean and 95 %" * (len(values) > 2)
            axes.errorbar(x, mean, error, fmt="D", ms=4, color=KINDS[kind], elinewidth=1.2, zorder=4,
                          mfc=KINDS[kind] if SETTINGS[x][1] == "trained" else "white",
                          label=label if SETTINGS[x][1] == "trained" else None)  # fmt: skip
    axes.set_xticks(range(4), ["init", "real", "init", "randY"])
    axes.set_xlim(-0.5, 3.5)
    return None
