"""R4, R5, R7 and R12 of Learn to Forget (numbers of ours): ways of forgetting compared, by round, and posteriors."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import panels_forget, plotting, tidy, tidy_forget
from memorization.gates import forget_comparisons
from memorization.panels_forget import METHODS, set_name
from memorization.plotting import COLORS, styled

OURS = "the papers' own curves are not known"
EFFICIENCY = "efficiency is a claim of v3/TDSC, without known numbers; small models measure overhead"
ORACLE = "confidence"


def _sets(frame: pd.DataFrame) -> list[str]:
    return sorted(frame["dataset"].unique())


@styled
def r04_equal_rate(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R4: test accuracy and time against the forgetting rate, on the way or at the end, a column per data set."""
    figure = panels_forget.begin(4.0, "R4", f"claim of v3/TDSC: better at equal FR; {OURS}")
    if panels_forget.unmeasured(figure, table):
        return figure
    frame = tidy_forget.rows(table)
    paths = _paths(frame)
    sets = _sets(paths) or [""]
    grid = figure.subplots(2, len(sets), sharex="col", squeeze=False)
    for column, dataset in enumerate(sets):
        own = paths[paths["dataset"] == dataset]
        above, below = grid[:, column]
        for axes, value in ((above, "accuracy"), (below, "seconds")):
            if not panels_forget.missing(axes, own, "no request"):
                _against_rate(axes, own, value)
        above.set_title(f"{set_name(dataset)}, {panels_forget.seeds(own)}", fontsize=6.2)
        below.set(yscale="log", xlabel="forgetting rate (%)")
        panels_forget.plain_log(below)
        low, high = above.get_xlim()
        above.set_xlim(max(low, -40), min(max(high, 100), 105))
    grid[0, 0].set_ylabel("test accuracy (%)")
    grid[1, 0].set_ylabel("seconds, everybody's work")
    plotting.legend_below(figure, grid.ravel(), 4)
    return figure


def _paths(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per federation, request and round: dataset, MODEL, item, method, step, fr, accuracy, seconds; of methods
    that begin with a new model only the end.
    """
    keys = ["dataset", *tidy_forget.UNIT, "method", "seed", "step"]
    parts = {
        "fr": tidy_forget.rates(frame, ORACLE),
        "accuracy": tidy_forget.accuracies(frame),
        "seconds": tidy_forget.trajectories(frame, "seconds_all", start=0.0),
    }
    columns = [part.set_index(keys)["value"].rename(name) for name, part in parts.items()]
    joined = pd.concat(columns, axis=1).reset_index().dropna(subset=["fr"])
    ends = joined["step"] == joined.groupby(tidy_forget.UNIT)["step"].transform("max")
    return joined[~joined["method"].isin(tidy_forget.FROM_SCRATCH) | ends]


def _against_rate(axes: Axes, own: pd.DataFrame, value: str) -> None:
    """Means over seeds by round as a line that ends in a dot, or where it ends with intervals of both."""
    for method, (color, name) in METHODS.items():
        mine = own[own["method"] == method]
        if not len(mine):
            continue
        mean = mine.groupby("step")[["fr", value]].mean()
        if value == "seconds":
            mean = mean[mean[value] > 0]
        if method not in tidy_forget.FROM_SCRATCH and len(mean) > 1:
            axes.plot(mean["fr"], mean[value], color=color, lw=1.2, zorder=3)
        last = mine[mine["step"] == mine["step"].max()]
        middle = [panels_forget.interval(last[column]) for column in ("fr", value)]
        errors = [np.nan_to_num([[m - low], [high - m]]) for m, low, high in middle]
        shape = {"marker": "s" if method in tidy_forget.FROM_SCRATCH else "o", "ms": 3.6, "ls": "none"}
        axes.errorbar(
            [middle[0][0]], [middle[1][0]], errors[1], errors[0], color=color, label=name, elinewidth=0.8, **shape
        )


@styled
def r05_time(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R5: seconds of every way of forgetting, with and without others' work, and the factor over retraining."""
    figure = panels_forget.begin(2.9, "R5", EFFICIENCY)
    if panels_forget.unmeasured(figure, table):
        return figure
    frame = tidy_forget.last(tidy_forget.rows(table))
    every, client = (tidy_forget.measured(frame, f"seconds_{part}") for part in ("all", "client"))
    sets = _sets(every)
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    if panels_forget.missing(left, every, "no times"):
        return figure
    for k, (method, (color, name)) in enumerate(METHODS.items()):
        for place, dataset in enumerate(sets):
            x = place + 0.11 * (k - 3)
            for part, style in ((every, {}), (client, {"mfc": "white"})):
                own = part[(part["dataset"] == dataset) & (part["method"] == method)]
                panels_forget.dots(left, x, own["value"].where(own["value"] > 0), color, **style)
        left.plot([], [], color=color, lw=3, label=name)
    for label, fill in (("everybody's work", COLORS["muted"]), ("the user's own", "white")):
        left.plot([], [], "D", color=COLORS["muted"], mfc=fill, ms=3.6, label=label)
    left.set(yscale="log", ylabel="seconds per federation", xlim=(-0.5, len(sets) - 0.5))
    panels_forget.plain_log(left)
    _named(left, sets)
    left.set_title(f"(a) Time, {panels_forget.seeds(every)}, timed together")
    _factors(right, every, sets)
    right.set_title("(b) Speed-up over retraining")
    plotting.legend_below(figure, (left, right), 5)
    return figure


def _factors(axes: Axes, every: pd.DataFrame, sets: list[str]) -> None:
    """Seconds of retraining over seconds of each other method."""
    pairs = every.pivot_table(index=["dataset", *tidy.MODEL], columns="method", values="value")
    if "retrain" not in pairs:
        return
    others = [method for method in METHODS if method in pairs and method != "retrain"]
    for k, method in enumerate(others):
        factor = (pairs["retrain"] / pairs[method]).rename("factor").reset_index()
        for place, dataset in enumerate(sets):
            own = factor.loc[factor["dataset"] == dataset, "factor"]
            panels_forget.dots(axes, place + 0.11 * (k - 2.5), own, METHODS[method][0])
    axes.axhline(1, color="#444444", lw=0.8, zorder=1)
    axes.set(yscale="log", xlim=(-0.5, len(sets) - 0.5))
    panels_forget.plain_log(axes)
    _named(axes, sets)


def _named(axes: Axes, sets: Iterable[str]) -> None:
    names = [set_name(dataset) for dataset in sets]
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=6.6)


@styled
def r07_rounds(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R7: forgetting rate by two oracles, KL divergence and accuracies by unlearning round of Forsaken."""
    figure = panels_forget.begin(4.6, "R7", f"“after some steps of training” (v1); FR is v3's; {OURS}")
    if panels_forget.unmeasured(figure, table):
        return figure
    frame = tidy_forget.rows(table)
    grid = figure.subplots(2, 2, sharex=True)
    colors = panels_forget.set_colors(_sets(frame))
    for axes, oracle, letter in zip(grid[0], ("confidence", "loss"), "ab", strict=True):
        rates = tidy_forget.rates(frame, oracle).query("method == 'forsaken'")
        again = tidy_forget.results(table, oracle, "retrain").groupby("dataset")["fr"].mean()
        expected = tidy_forget.results(table, oracle).groupby("dataset")["expected"].mean()
        for dataset, own in rates.groupby("dataset"):
            panels_forget.curve(axes, own, colors[dataset], set_name(dataset))
            _reached(axes, own, again.get(dataset, expected.get(dataset, np.nan)), colors[dataset])
        panels_forget.claim_line(axes, reference, "forgetting rate")
        axes.set(ylabel="forgetting rate (%)")
        axes.set_title(f"({letter}) {oracle} oracle, {panels_forget.seeds(rates)}")
    divergence = tidy_forget.measured(frame, "kl_to_target").query("method == 'forsaken'")
    for dataset, own in divergence.groupby("dataset"):
        panels_forget.curve(grid[1, 0], own, colors[dataset], None)
    grid[1, 0].set(ylabel="KL(target ‖ outputs) (nats)", xlabel="unlearning round j")
    grid[1, 0].set_title("(c) Distance from the target")
    for part, style in (("test", "-"), ("retain", (0, (1, 1.2)))):
        path = tidy_forget.accuracies(frame, part).query("method == 'forsaken'")
        for dataset, own in path.groupby("dataset"):
            panels_forget.curve(grid[1, 1], own, colors[dataset], None, ls=style)
        grid[1, 1].plot([], [], color="#444444", ls=style, label=f"accuracy, {part}")
    grid[1, 1].set(ylabel="accuracy (%)", xlabel="unlearning round j")
    grid[1, 1].set_title("(d) Accuracy")
    plotting.legend_below(figure, grid.ravel(), 5)
    return figure


def _reached(axes: Axes, own: pd.DataFrame, retrained: float, color: str) -> None:
    """Retraining as a thin line; a dot at the first round with FR >= 90, a ring at that with FR >= retraining's."""
    mean = own.groupby("step")["value"].mean()
    if np.isfinite(retrained):
        axes.axhline(retrained, color=color, lw=0.7, ls=(0, (4, 2)), zorder=1)
    for level, fill, name in (
        (90.0, color, "first FR ≥ 90 %"),
        (retrained, "white", "first FR ≥ retraining's (dashed)"),
    ):
        over = mean.index[mean >= level]
        axes.plot([], [], "o", color=COLORS["muted"], mfc=COLORS["muted"] if fill == color else fill, ms=4, label=name)
        if len(over):
            axes.plot(over[0], mean[over[0]], "o", color=color, mfc=fill, ms=4, zorder=5)


LOW_FPR = 0.01
"""False-positive rate at which LiRA is asked (the least of the recorded ones that 1,000 examples resolve)."""
POPULATIONS = {
    "before": (COLORS["canary"], "-", "forget set, before"),
    "after": (COLORS["exact"], "-", "forget set, after Forsaken"),
    "retrain": (COLORS["sampled"], (0, (4, 2)), "forget set, retrained"),
    "nonmember": (COLORS["muted"], (0, (1, 1.2)), "never seen (test)"),
}


@styled
def r12_posteriors(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R12: largest posteriors on the forget set before, after and retrained, and of others; what LiRA still finds."""
    figure = panels_forget.begin(4.9, "R12", f"from the objective of v1 and v3; {OURS}")
    if panels_forget.unmeasured(figure, table):
        return figure
    frame = tidy_forget.rows(table)
    shares = forget_comparisons.densities(frame)
    sets = _sets(shares) or [""]
    grid = figure.subplots(3, len(sets), height_ratios=[1.3, 1, 1], squeeze=False, sharey="row")
    distances, found = forget_comparisons.posterior_distances(frame), _lira(frame)
    for column, dataset in enumerate(sets):
        above, middle, below = grid[:, column]
        own = shares[shares["dataset"] == dataset]
        if not panels_forget.missing(above, own, "no posteriors"):
            _densities(above, own)
            _places(middle, distances[distances["dataset"] == dataset])
        if not panels_forget.missing(below, found, "no LiRA"):
            _places(below, found[found["dataset"] == dataset])
            below.axhline(LOW_FPR, color="#444444", lw=0.7, zorder=1, label="chance")
        above.set_title(f"{set_name(dataset)}, {panels_forget.seeds(own)}", fontsize=6.2)
        above.set_xlabel("largest posterior")
    grid[0, 0].set_ylabel("share of examples")
    grid[1, 0].set_ylabel("distance from\nnever seen")
    grid[2, 0].set_ylabel(f"LiRA: found\nat {LOW_FPR:.0%} false alarms")
    plotting.legend_below(figure, [*grid[0], *grid[2]], 5)
    return figure


def _densities(axes: Axes, own: pd.DataFrame) -> None:
    """Mean shares over seeds in ten bins."""
    coarse = own.assign(bin=own["bin"] // 5).groupby(["part", *tidy.MODEL, "bin"])["value"].sum().reset_index()
    for part, (color, style, name) in POPULATIONS.items():
        mean = coarse[coarse["part"] == part].groupby("bin")["value"].mean().reindex(range(10), fill_value=0.0)
        if (coarse["part"] == part).any():
            axes.stairs(mean, np.linspace(0, 1, 11), color=color, ls=style, lw=1.4, label=name, baseline=None)
    axes.set(xlim=(0, 1))


def _lira(frame: pd.DataFrame) -> pd.DataFrame:
    """LiRA's true-positive rate on the forget set, one row per federation: dataset, MODEL, before, after, retrain."""
    found = tidy_forget.last(tidy_forget.measured(frame, "lira_tpr", f"{LOW_FPR:g}"))
    parts = {"base": "before", "forsaken": "after", "retrain": "retrain"}
    found = found[found["method"].isin(parts)].assign(part=lambda rows: rows["method"].map(parts))
    return found.pivot_table(index=["dataset", *tidy.MODEL], columns="part", values="value").reset_index()


def _places(axes: Axes, own: pd.DataFrame) -> None:
    """Seeds, mean and interval before, after and retrained."""
    parts = [part for part in ("before", "after", "retrain") if part in own]
    for place, part in enumerate(parts):
        panels_forget.dots(axes, place, own[part], POPULATIONS[part][0])
    axes.set_xticks(range(len(parts)), [{"retrain": "retrained"}.get(part, part) for part in parts], fontsize=6.6)
    axes.set_xlim(-0.5, len(parts) - 0.5)
    axes.set_ylim(0, None)
