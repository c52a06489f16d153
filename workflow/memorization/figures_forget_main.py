"""R2 and R3 of Learn to Forget (numbers of ours): the data sets with their oracles, and the main result as a table."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import panels_forget, plotting, tidy, tidy_forget
from memorization.panels_forget import ORACLES, set_name
from memorization.plotting import COLORS, styled

TWO = ("confidence", "loss")
VERSION = "claims of v3/TDSC (eight data sets, FR > 90 %, accuracy loss < 5 %); v1 states no numbers"
SIZES = {
    "data.users": "users",
    "data.examples_per_user": "examples\neach",
    "data.third_party": "third\nparty",
}
"""Varied key -> heading."""


def _mean(values: pd.Series, form: str = "{:.1f}") -> str:
    return form.format(values.mean()) if values.notna().any() else "–"


@styled
def r02_datasets(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R2: who holds how much, the model, its accuracy, and what the oracles are worth on it."""
    figure = panels_forget.begin(0.85 + 0.3 * max(len(panels_forget.sets_of(table)) + 2, 4), "R2", VERSION)
    if panels_forget.unmeasured(figure, table):
        return figure
    results = {oracle: tidy_forget.results(table, oracle) for oracle in TWO}
    first = results[TWO[0]]
    axes = figure.subplots()
    if panels_forget.missing(axes, first, "no federation was judged"):
        return figure
    sizes = {key: name for key, name in SIZES.items() if key in first}
    for part in ("retain", "test"):  # of the federations: SISA's requests start from models of their own
        accuracy = 100 * tidy_forget.of_base(tidy_forget.measured(tidy_forget.rows(table), "accuracy", part))
        first = first.merge(accuracy.rename(f"accuracy_{part}").reset_index(), on=tidy.MODEL, how="left")
    header = ["data set", *sizes.values(), "to\nforget", "test", "model", "accuracy\ntrained", "accuracy\ntest"]
    header += [f"t − f\n{ORACLES[oracle]}" for oracle in TWO]
    cells, weak = [], set()
    for row, (dataset, own) in enumerate(first.groupby("dataset")):
        told = [results[oracle][results[oracle]["dataset"] == dataset] for oracle in TWO]
        line = [set_name(dataset), *(_mean(own[key], "{:,.0f}") for key in sizes)]
        line += [_mean(own["forget_n"], "{:,.0f}"), _mean(own["test_n"], "{:,.0f}"), _model(own)]
        line += [_mean(own["accuracy_retain"]), _mean(own["accuracy_test"]), *(_worth(one) for one in told)]
        weak |= {(row, len(line) - 2 + i) for i, one in enumerate(told) if (one["t"] - one["f"]).mean() < 0.1}
        cells.append(line)
    widths = [0.12, *[0.065] * len(sizes), 0.06, 0.05, 0.06, 0.075, 0.075, 0.18, 0.18]
    plotting.rendered_table(axes, cells, header, widths, frozenset(weak), size=6.6)
    count, mark = plotting.value(reference, "data sets")
    axes.set_title(
        f"Data sets, {panels_forget.seeds(first)}; the papers have {count:g} ({mark}), which ones is not known", pad=8
    )
    return figure


def _model(own: pd.DataFrame) -> str:
    """`mlp` or as the table says."""
    return str(own["model.architecture"].iloc[0]) if "model.architecture" in own else "–"


def _worth(own: pd.DataFrame) -> str:
    """`0.93 − 0.51 = 0.42`."""
    gap = (own["t"] - own["f"]).mean()
    return f"{own['t'].mean():.2f} − {own['f'].mean():.2f} = {gap:.2f}"


HEADER = [
    "data set", "oracle", "BT", "BF", "AT", "AF", "FR (%)", "FR of\nretraining", "1 − f/t",
    "accuracy\nbefore", "after", "drop\n(points)", "drop\n(rel. %)",
]  # fmt: skip
WIDTHS = [0.13, 0.1, 0.055, 0.055, 0.055, 0.055, 0.16, 0.11, 0.075, 0.075, 0.065, 0.065, 0.065]


@styled
def r03_main_result(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R3: per data set and oracle what was memorised before and after Forsaken, beside retraining, and the cost."""
    figure = panels_forget.begin(2.7 + 0.23 * max(2 * len(panels_forget.sets_of(table)), 4), "R3", VERSION)
    if panels_forget.unmeasured(figure, table):
        return figure
    found = {oracle: tidy_forget.results(table, oracle) for oracle in tidy_forget.present(table)}
    shown = {oracle: found[oracle] for oracle in TWO if oracle in found}
    sets = sorted(next(iter(shown.values()))["dataset"].unique()) if shown else []
    above, below = figure.subfigures(2, 1, height_ratios=[0.4 + 0.23 * max(2 * len(sets), 4), 2.3])
    axes = above.subplots()
    if panels_forget.missing(axes, pd.DataFrame(index=sets), "no federation was asked to forget"):
        return figure
    _table(axes, shown, sets)
    axes.set_title("(a) Forsaken: memorised examples before and after, means over seeds", pad=8)
    left, right = below.subplots(1, 2, width_ratios=[2.2, 1])
    _rates(left, found, sets, reference)
    left.set_title(f"(b) Forgetting rate by oracle, {panels_forget.seeds(shown[TWO[0]])}")
    _drops(right, shown[TWO[0]], sets, reference)
    right.set_title("(c) What it costs")
    plotting.legend_below(figure, (left, right), 4)
    return figure


def _table(axes: Axes, found: dict[str, pd.DataFrame], sets: list[str]) -> None:
    cells, weak = [], set()
    for dataset in sets:
        for oracle, frame in found.items():
            own = frame[(frame["dataset"] == dataset) & (frame["method"] == "forsaken")]
            again = frame[(frame["dataset"] == dataset) & (frame["method"] == "retrain")]
            after = own["positives"] * (1 - own["fr"] / 100)
            counts = [own["positives"], own["forget_n"] - own["positives"], after, own["forget_n"] - after]
            mean, low, high = panels_forget.interval(own["fr"])
            line = [set_name(dataset) if oracle == TWO[0] else "", ORACLES[oracle], *(_mean(c) for c in counts)]
            limits = f" [{low:.1f}, {high:.1f}]" if np.isfinite(low) else ""
            line += [f"{mean:.1f}{limits}", _mean(again["fr"]), _mean(own["expected"])]
            line += [_mean(own[c]) for c in ("before", "after", "drop", "relative")]
            if (own["t"] - own["f"]).mean() < 0.1:
                weak |= {(len(cells), 6)}
            cells.append(line)
    plotting.rendered_table(axes, cells, HEADER, WIDTHS, frozenset(weak), size=6.4)


MARKERS = {"confidence": "o", "loss": "s", "shadow": "^", "lira": "v"}


def _rates(axes: Axes, found: dict[str, pd.DataFrame], sets: list[str], reference: pd.DataFrame) -> None:
    """Mean and interval over seeds of Forsaken and of retraining, and what retraining is expected to score."""
    for method in ("forsaken", "retrain"):
        color, name = panels_forget.METHODS[method]
        for k, (oracle, frame) in enumerate(found.items()):
            offset = 0.17 * (k - (len(found) - 1) / 2)
            for place, dataset in enumerate(sets):
                own = frame[(frame["dataset"] == dataset) & (frame["method"] == method)]
                weak = (own["t"] - own["f"]).mean() < 0.1
                style = {"marker": MARKERS[oracle], "mfc": "white" if weak else color, "ms": 3.4}
                panels_forget.dots(axes, place + offset, own["fr"], color, **style)
                if method == "retrain" and len(own):
                    axes.plot([place + offset - 0.06, place + offset + 0.06], [own["expected"].mean()] * 2, **_EXPECTED)
        axes.plot([], [], color=color, lw=3, label=name)
    for oracle in found:
        axes.plot([], [], MARKERS[oracle], color=COLORS["muted"], ms=3.4, label=f"{ORACLES[oracle]} oracle")
    axes.plot([], [], "o", color=COLORS["muted"], mfc="white", ms=3.4, label="uninformative: t − f < 0.1")
    axes.plot([], [], **_EXPECTED, label="expected of retraining: 1 − f/t")
    panels_forget.claim_line(axes, reference, "forgetting rate")
    axes.set_xticks(range(len(sets)), [set_name(dataset) for dataset in sets], fontsize=6.8)
    axes.set(ylabel="forgetting rate (%)", xlim=(-0.5, len(sets) - 0.5))
    axes.axhline(0, color="#444444", lw=0.6, zorder=1)


_EXPECTED = {"color": COLORS["paper"], "lw": 1.4, "zorder": 5, "solid_capstyle": "butt"}


def _drops(axes: Axes, frame: pd.DataFrame, sets: list[str], reference: pd.DataFrame) -> None:
    for method, offset in (("forsaken", -0.12), ("retrain", 0.12)):
        color, _ = panels_forget.METHODS[method]
        for place, dataset in enumerate(sets):
            own = frame[(frame["dataset"] == dataset) & (frame["method"] == method)]
            panels_forget.dots(axes, place + offset, own["drop"], color)
    panels_forget.claim_line(axes, reference, "accuracy loss")
    axes.axhline(0, color="#444444", lw=0.6, zorder=1)
    axes.set_xticks(range(len(sets)), [set_name(dataset) for dataset in sets], rotation=25, ha="right", fontsize=6.4)
    axes.set(ylabel="drop of test accuracy (points)", xlim=(-0.5, len(sets) - 0.5))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -1), max(high, 6))
