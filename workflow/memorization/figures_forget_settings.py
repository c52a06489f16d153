"""R6, R8, R9, R10 and R11 of Learn to Forget (numbers of ours): what forgetting depends on."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from memorization import panels_forget, plotting, tidy_forget
from memorization.panels_forget import set_name
from memorization.plotting import COLORS, styled

TWO = ("confidence", "loss")
OURS = "settings and axes are ours"
DROP = "drop of test accuracy (points)"
RATE = "forgetting rate (%)"


def _ticks(axes: Axes, values: np.ndarray, form: str = "{:g}") -> None:
    axes.set_xticks(values, [form.format(value) for value in values])
    axes.xaxis.set_minor_locator(NullLocator())


@styled
def r06_forget_size(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R6: forgetting rate by two oracles and drop of accuracy against the share of the user's data to be forgotten."""
    figure = panels_forget.begin(2.9, "R6", f"forgetting of a subset: secondary, of v1 and v3; {OURS}")
    if panels_forget.unmeasured(figure, table):
        return figure
    found = {oracle: tidy_forget.results(table, oracle) for oracle in TWO}
    first = found[TWO[0]].query("method == 'forsaken'")
    panels = figure.subplots(1, 3)
    if panels_forget.missing(panels[0], first, "no federation was asked to forget"):
        return figure
    colors = panels_forget.set_colors(sorted(first["dataset"].unique()))
    x = "data.forget"
    for axes, oracle, letter in zip(panels, TWO, "ab", strict=False):
        for dataset, own in found[oracle].groupby("dataset"):
            for method, style in (("forsaken", {}), ("retrain", {"ls": (0, (4, 2)), "mfc": "white"})):
                label = f"{set_name(dataset)}, {panels_forget.METHODS[method][1]}"
                mine = own[own["method"] == method]
                panels_forget.levels(axes, mine, x, "fr", colors[dataset], label, 1 if style else 1.06, **style)
        panels_forget.claim_line(axes, reference, "forgetting rate")
        steps = found[oracle].groupby(x)["positives"].mean()
        told = ", ".join(f"{100 / count:.2g}" if count > 0 else "–" for count in steps)
        axes.set_title(f"({letter}) {oracle} oracle\none example = {told} points", fontsize=6.2)
        axes.set_ylabel(RATE)
    for dataset, own in first.groupby("dataset"):
        panels_forget.levels(panels[2], own, x, "drop", colors[dataset], None)
    panels_forget.claim_line(panels[2], reference, "accuracy loss")
    panels[2].set_ylabel(DROP)
    panels[2].set_title(f"(c) Cost, {panels_forget.seeds(first)}")
    for axes in panels:
        axes.set(xscale="log", xlabel="forgotten (% of user 0's data)")
        shares = np.sort(first[x].unique())
        axes.set_xticks(shares, [f"{100 * share:g}" for share in shares])
        axes.xaxis.set_minor_locator(NullLocator())
    plotting.legend_below(figure, panels, 4)
    return figure


IMPORTANCE = {
    "none": ("#7B4B94", "no penalty"),
    "uniform": ("#0072B2", "uniform"),
    "gradient": ("#D55E00", "by importance"),
}


@styled
def r08_penalty(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R8: forgetting rate and drop against the penalty, and against each other, for three kinds of importance."""
    figure = panels_forget.begin(
        0.5 + 1.9 * len(panels_forget.sets_of(table)), "R8", f"penalty: unverified, of v3; {OURS}; {TWO[0]} oracle"
    )
    if panels_forget.unmeasured(figure, table):
        return figure
    found = tidy_forget.results(table, TWO[0], "forsaken")
    sets = sorted(found["dataset"].unique()) or [""]
    grid = figure.subplots(len(sets), 3, squeeze=False)
    for row, dataset in enumerate(sets):
        own = found[found["dataset"] == dataset]
        if panels_forget.missing(grid[row, 0], own, "no federation was asked to forget"):
            continue
        for kind, (color, name) in IMPORTANCE.items():
            _penalties(grid[row], own[own["request.importance"] == kind], kind, color, name)
        for axes, series in zip(grid[row], ("forgetting rate", "accuracy loss"), strict=False):
            panels_forget.claim_line(axes, reference, series)
            _penalty_axis(axes, own)
        panels_forget.expected_line(grid[row, 0], own)
        grid[row, 0].set(ylabel=RATE, title=f"{set_name(dataset)}, {panels_forget.seeds(own)}")
        grid[row, 1].set(ylabel=DROP)
        grid[row, 2].set(ylabel=DROP, xlabel=RATE)
    plotting.legend_below(figure, grid.ravel(), 3)
    return figure


def _penalties(panels: np.ndarray, own: pd.DataFrame, kind: str, color: str, name: str) -> None:
    """One kind of importance in the three panels; without a penalty a horizontal line, for it has no weight."""
    if not len(own):
        return
    if kind == "none":
        for axes, value in zip(panels, ("fr", "drop"), strict=False):
            mean, low, high = panels_forget.interval(own[value])
            axes.axhline(mean, color=color, lw=1.0, ls=(0, (4, 2)), label=name)
            if np.isfinite(low):
                axes.axhspan(low, high, color=color, alpha=0.1, lw=0, zorder=0)
    else:
        for axes, value in zip(panels, ("fr", "drop"), strict=False):
            panels_forget.levels(axes, own, "request.penalty", value, color, name)
    mean = own.groupby("request.penalty")[["fr", "drop"]].mean()
    style = {"ls": "none"} if kind == "none" else {"lw": 1.0}
    panels[2].plot(mean["fr"], mean["drop"], marker="o", ms=3, color=color, **style)
    if kind != "none":
        for penalty, point in mean.iloc[[0, -1]].iterrows():  # between them the points may lie on each other
            panels[2].annotate(f"λ = {penalty:g}", point, (3, 2), textcoords="offset points", fontsize=5, color=color)


def _penalty_axis(axes: Axes, own: pd.DataFrame) -> None:
    values = np.sort(own.loc[own["request.importance"] != "none", "request.penalty"].unique())
    if (values > 0).any():
        shown = values[values > 0]
        axes.set(xscale="log", xlim=(shown[0] / 1.6, shown[-1] * 1.6))
        _ticks(axes, shown)
    axes.set_xlabel("penalty λ")


SOURCES = {
    "same": ("#0072B2", "held-out, same distribution"),
    "other": ("#009E73", "the same, features in another order"),
    "noise": ("#D55E00", "uniform noise"),
}


@styled
def r09_third_party(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R9: forgetting rate by two oracles and drop against the size of the third-party set, by its source."""
    figure = panels_forget.begin(
        0.5 + 1.75 * len(panels_forget.sets_of(table)), "R9", f"v3 needs “a random data set” (secondary); {OURS}"
    )
    if panels_forget.unmeasured(figure, table):
        return figure
    found = {oracle: tidy_forget.results(table, oracle, "forsaken") for oracle in TWO}
    sets = sorted(found[TWO[0]]["dataset"].unique()) or [""]
    grid = figure.subplots(len(sets), 3, squeeze=False, sharex=True)
    for row, dataset in enumerate(sets):
        for axes, oracle, value in zip(grid[row], (*TWO, TWO[0]), ("fr", "fr", "drop"), strict=True):
            own = found[oracle][found[oracle]["dataset"] == dataset]
            if panels_forget.missing(axes, own, "no federation was asked to forget"):
                continue
            for k, (source, (color, name)) in enumerate(SOURCES.items()):
                mine = own[own["data.third_party_source"] == source]
                panels_forget.levels(axes, mine, "data.third_party", value, color, name, 1.04 ** (k - 1))
            series = "forgetting rate" if value == "fr" else "accuracy loss"
            panels_forget.claim_line(axes, reference, series)
            if value == "fr":
                panels_forget.expected_line(axes, own)
            axes.set(xscale="log", ylabel=f"FR, {oracle} (%)" if value == "fr" else "drop (points)")
            _ticks(axes, np.sort(own["data.third_party"].unique()))
            axes.set_xlabel("third-party examples" if row == len(sets) - 1 else "")
        grid[row, 0].set_title(
            f"{set_name(dataset)}, {panels_forget.seeds(found[TWO[0]][found[TWO[0]]['dataset'] == dataset])}"
        )
    plotting.legend_below(figure, grid.ravel(), 3)
    return figure


MODELS = {"linear": "logistic regression", "svm": "linear SVM"}


@styled
def r10_linear_models(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R10: forgetting rate by two oracles, beside retraining, and drop, of logistic regression and a linear SVM."""
    figure = panels_forget.begin(2.7, "R10", f"“generalises to LR and SVM”: secondary, of v3; {OURS}")
    if panels_forget.unmeasured(figure, table):
        return figure
    found = {oracle: tidy_forget.results(table, oracle) for oracle in TWO}
    first = found[TWO[0]]
    left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])
    if panels_forget.missing(left, first, "no federation was asked to forget"):
        return figure
    groups = [key for key, _ in first.groupby(["model.architecture", "dataset"])]
    for place, (model, dataset) in enumerate(groups):
        for method, side in (("forsaken", -1), ("retrain", 1)):
            color, _ = panels_forget.METHODS[method]
            for oracle, marker, shift in ((TWO[0], "o", -0.08), (TWO[1], "s", 0.08)):
                own = _of(found[oracle], model, dataset, method)
                weak = (own["t"] - own["f"]).mean() < 0.1
                style = {"marker": marker, "mfc": "white" if weak else color, "ms": 3.4}
                panels_forget.dots(left, place + 0.18 * side + shift, own["fr"], color, **style)
            panels_forget.dots(right, place + 0.12 * side, _of(first, model, dataset, method)["drop"], color)
    for method in ("forsaken", "retrain"):
        left.plot([], [], color=panels_forget.METHODS[method][0], lw=3, label=panels_forget.METHODS[method][1])
    for oracle, marker in zip(TWO, "os", strict=True):
        left.plot([], [], marker, color=COLORS["muted"], ms=3.4, label=f"{oracle} oracle")
    left.plot([], [], "D", color=COLORS["muted"], mfc="white", ms=3.4, label="uninformative: t − f < 0.1")
    panels_forget.claim_line(left, reference, "forgetting rate")
    panels_forget.claim_line(right, reference, "accuracy loss")
    for axes, label in ((left, RATE), (right, DROP)):
        names = [f"{set_name(dataset)}\n{MODELS.get(model, model)}" for model, dataset in groups]
        axes.set_xticks(range(len(names)), names, fontsize=5.8, rotation=25, ha="right")
        axes.set(ylabel=label, xlim=(-0.5, len(names) - 0.5))
        axes.axhline(0, color="#444444", lw=0.6, zorder=1)
    left.set_title(f"(a) Forgetting rate, {panels_forget.seeds(first)}")
    right.set_title("(b) What it costs")
    plotting.legend_below(figure, (left, right), 4)
    return figure


def _of(frame: pd.DataFrame, model: str, dataset: str, method: str) -> pd.DataFrame:
    chosen = (frame["model.architecture"] == model) & (frame["dataset"] == dataset) & (frame["method"] == method)
    return frame[chosen]


PARTITIONS = {"iid": ("-", "IID"), "dirichlet": ((0, (3, 1.5)), "Dirichlet")}


@styled
def r11_users(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R11: forgetting rate, drop and traffic against the number of users, and the rate by round."""
    figure = panels_forget.begin(4.3, "R11", f"v1 is federated (verified); {OURS}")
    if panels_forget.unmeasured(figure, table):
        return figure
    every = {oracle: tidy_forget.results(table, oracle) for oracle in TWO}
    found = every[TWO[0]].query("method == 'forsaken'")
    grid = figure.subplots(2, 2)
    if panels_forget.missing(grid[0, 0], found, "no federation was asked to forget"):
        return figure
    frame = tidy_forget.rows(table)
    for axes, (oracle, rows), letter in zip(grid[0], every.items(), "ab", strict=True):
        _over_users(axes, rows[rows["method"] == "forsaken"], "fr")
        again = {"ls": "none", "mfc": "white", "lw": 0}
        _over_users(axes, rows[rows["method"] == "retrain"], "fr", labelled=False, **again)
        axes.plot([], [], "o", color=COLORS["muted"], mfc="white", ms=3, label="retraining")
        axes.set(ylabel=RATE, title=f"({letter}) {oracle} oracle, {panels_forget.seeds(found)}")
        panels_forget.claim_line(axes, reference, "forgetting rate")
    _over_users(grid[1, 0], found, "drop", labelled=False)
    grid[1, 0].set(ylabel=DROP, title="(c) What it costs")
    panels_forget.claim_line(grid[1, 0], reference, "accuracy loss")
    _by_round(grid[1, 1], tidy_forget.rates(frame, TWO[0]).query("method == 'forsaken'"))
    grid[1, 1].set_title("(d) By round")
    grid[1, 1].text(0.99, 0.45, _traffic(frame), transform=grid[1, 1].transAxes, ha="right", fontsize=5.6)
    plotting.legend_below(figure, grid.ravel(), 4)
    return figure


def _traffic(frame: pd.DataFrame) -> str:
    """Megabytes that the server receives in a round, by number of users, on the first data set."""
    first = frame["dataset"].min()
    sent = tidy_forget.last(tidy_forget.measured(frame, "bytes_per_round"))
    sent = sent[(sent["dataset"] == first) & (sent["method"] == "forsaken")].groupby("data.users")["value"].mean()
    return (
        f"MB per round, {set_name(first)}: "
        f"{', '.join(f'{size / 1e6:.2g} with {users:g}' for users, size in sent.items())} users"
    )


def _over_users(axes: Axes, rows: pd.DataFrame, value: str, *, labelled: bool = True, **line) -> None:
    """A line per data set and partition."""
    colors = panels_forget.set_colors(sorted(rows["dataset"].unique()))
    for (dataset, partition), own in rows.groupby(["dataset", "data.partition"]):
        style, name = PARTITIONS[partition]
        shift = 1.02 if partition == "iid" else 0.98
        label = f"{set_name(dataset)}, {name}" if labelled else None
        panels_forget.levels(axes, own, "data.users", value, colors[dataset], label, shift, **{"ls": style, **line})
    axes.set(xscale="log", xlabel="users U")
    _ticks(axes, np.sort(rows["data.users"].unique()))


def _by_round(axes: Axes, rates: pd.DataFrame) -> None:
    """Mean curves, darker with more users; of every data set and partition together one line each."""
    users = np.sort(rates["data.users"].unique())
    colors = panels_forget.set_colors(sorted(rates["dataset"].unique()))
    for (dataset, partition, number), own in rates.groupby(["dataset", "data.partition", "data.users"]):
        mean = own.groupby("step")["value"].mean()
        width = 0.6 + 1.6 * np.searchsorted(users, number) / max(1, len(users) - 1)
        axes.plot(mean.index, mean, color=colors[dataset], ls=PARTITIONS[partition][0], lw=width)
    axes.set(xlabel="unlearning round j (wider: more users)", ylabel="FR, confidence (%)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
