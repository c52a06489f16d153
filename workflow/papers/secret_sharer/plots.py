"""The figures of The Secret Sharer: one function per key, draw(table, reference) -> Figure; nothing is read or written.

`table` is the figure's tidy table (all sources), `reference` the rows of reference.csv for that figure.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import panels, panels_table3, plotting, tidy
from memorization.figures_canaries import tab06_formats, tab07_interference  # noqa: F401
from memorization.figures_defences import text_defences  # noqa: F401
from memorization.figures_enron import tab02_enron  # noqa: F401
from memorization.figures_grids import tab04_architectures, tab05_batch_units  # noqa: F401
from memorization.figures_insertions import fig05_character_state_of_the_art  # noqa: F401
from memorization.figures_translation import fig06_translation  # noqa: F401
from memorization.figures_words import (  # noqa: F401
    fig01_strategies,
    fig03_smart_compose,
    fig04_utility,
    text_word_canaries,
)
from memorization.plotting import COLORS, styled

SHOWN = 9
"""Fills listed, as in Table 1."""


@styled
def tab01_most_likely_fills(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Table 1: the most likely fills beside the paper's, and where the canary ranks in every model."""
    top = tidy.rows(table, "top")
    top = top[top["position"] <= SHOWN]
    figure = plotting.new_figure(5.2)
    grid = figure.add_gridspec(2, 3, height_ratios=[1.3, 1], width_ratios=[1.15, 1, 1])
    listed = figure.add_subplot(grid[0, :])
    costs, ranks, gaps = (figure.add_subplot(grid[1, i]) for i in range(3))
    _fill_table(listed, top, reference, SHOWN)
    listed.set_title(f"(a) The {SHOWN} most likely fills, {plotting.models(tidy.count_models(table))}", pad=8)
    plotting.band(costs, top, "position", "cost_bits", COLORS["model"], "ours")
    canary = top[top["is_canary"]]
    if len(canary):
        costs.scatter(canary["position"], canary["cost_bits"], s=10, color=COLORS["canary"], zorder=4, label="canary")
    plotting.paper(costs, reference, "most likely fill", "paper", line=False)
    costs.set(title="(b) Cost of the best fills", xlabel="position", ylabel="log-perplexity of the fill (bits)")
    costs.set_xticks(range(1, SHOWN + 1))
    panels.ranks(ranks, tidy.rows(table, "exposure"))
    ranks.set_title("(c) Rank of the canary")
    panels.gaps(gaps, tidy.gaps(table), reference)
    gaps.set_title("(d) Gap to the next fill")
    plotting.legend_below(figure, (costs, ranks, gaps), 3)
    return figure


def _fill_table(axes: Axes, top: pd.DataFrame, reference: pd.DataFrame, count: int) -> None:
    """The most likely fills: the paper's, those of the first model, and the costs' mean over models by position."""
    paper = reference[reference["series"] == "most likely fill"].set_index("x")
    ours = panels.first_model(top).set_index("position")
    summary = plotting.intervals(top, "position", "cost_bits").set_index("position")
    cells, canary = [], set()
    for i in range(1, count + 1):
        row = [str(i), "–", "–", "–", "–", "–"]
        if i in paper.index:
            row[1:3] = paper.loc[i, "label"], f"{paper.loc[i, 'y']:.2f}"
            canary |= {(i - 1, 1), (i - 1, 2)} if "canary" in str(paper.loc[i, "note"]) else set()
        if i in ours.index:
            row[3:5] = ours.loc[i, "fill"], f"{ours.loc[i, 'cost_bits']:.2f}"
            canary |= {(i - 1, 3), (i - 1, 4)} if ours.loc[i, "is_canary"] else set()
        if i in summary.index:
            mean, low, high = summary.loc[i, ["mean", "low", "high"]]
            row[5] = f"{mean:.2f}" + (f"  [{low:.2f}, {high:.2f}]" if np.isfinite(low) else "")
        cells.append(row)
    mark = plotting.marks(paper) if len(paper) else "none"
    header = ["position", f"paper: fill ({mark})", "bits", "ours: fill, first model", "bits"]
    header.append("ours: mean [95 % t interval]")
    plotting.rendered_table(axes, cells, header, [0.09, 0.22, 0.1, 0.22, 0.1, 0.27], frozenset(canary))


@styled
def fig02_log_perplexity_distribution(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 2: distribution of the fills' log-perplexities, its skew-normal fit, and how far the fit's tail is off."""
    figure = plotting.new_figure(3.1)
    body, tail, error = figure.subplots(1, 3, width_ratios=[1.2, 1.1, 1])
    top, fit, counts = (tidy.rows(table, source) for source in ("top", "fit", "histogram"))
    exposure = tidy.rows(table, "exposure")
    canary = exposure[exposure["kind"] == "inserted"].groupby(tidy.MODEL)["cost_bits"].first()
    one = [panels.first_model(frame) for frame in (counts, fit, top)]
    panels.histogram(body, one[0], one[1], canary, reference)
    panels.tail(tail, *one, canary)
    panels.tail_error(error, top, fit)
    body.set_title("(a) Sampled fills, one model")
    tail.set_title("(b) Its left tail")
    error.set_title(f"(c) Fit error, {plotting.models(tidy.count_models(table))}")
    plotting.legend_below(figure, (body, tail, error), 4)
    return figure


@styled
def fig07_exposure_per_batch(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 7: exposure after every mini-batch; the first of each epoch holds the canary."""
    measures = tidy.rows(table, "measures")
    measures = measures[measures["moment"].isin(["start", "batch"])].sort_values("step")
    figure = plotting.new_figure(3.4)
    axes = figure.subplots()
    panels.methods(axes, measures)
    held = measures.loc[measures["holds_canary"], "epoch"].unique()
    axes.plot(
        held, np.zeros(len(held)), "^", color=COLORS["canary"], ms=5, clip_on=False, zorder=6, label="held the canary"
    )
    paper = reference["x"].max() if len(reference) else 0
    last = np.nanmax([measures["epoch"].max() if len(measures) else 0, paper])
    for start in range(1, int(last) + 1):
        axes.axvline(start, color="#888888", lw=0.7, ls=(0, (4, 3)), zorder=1)
    plotting.paper(axes, reference, "exposure", "paper")
    plotting.paper(axes, reference, "exposure in the text", "paper's text", line=False, marker="D", ms=4)
    axes.set_title(f"Exposure after every mini-batch, {plotting.models(tidy.count_models(table))}")
    axes.set(xlabel="epoch (dashed lines: an epoch starts)", xlim=(-0.03, None), ylim=(0, None))
    plotting.legend_below(figure, (axes,), 3)
    return figure


@styled
def fig08_overtraining(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 8: exposure (left axis) and losses (right axis) against the epoch, far into overfitting."""
    curves = tidy.rows(table, "curves").sort_values("epoch")
    measures = tidy.rows(table, "measures")
    measures = measures[measures["moment"].isin(["start", "epoch"])].sort_values("epoch")
    figure = plotting.new_figure(3.9)
    axes = figure.subplots()
    right = axes.twinx()
    panels.methods(axes, measures, tidy.space_bits(table, reference))
    _losses(right, curves)
    _early_stop(axes, curves)
    plotting.ceiling(axes, tidy.space_bits(table, reference))
    plotting.paper(axes, reference, "exposure", "paper, exposure", line=False)
    for name, marker in (("test loss", "s"), ("train loss", "v")):
        style = {"marker": marker, "ms": 3, "color": COLORS["loss"], "mfc": "white"}
        plotting.paper(right, reference, name, f"paper, {name}", line=False, **style)
    axes.set_title(f"Exposure and loss while training, {plotting.models(tidy.count_models(table))}")
    axes.set(xlim=(-0.5, None), ylim=(0, None))
    plotting.legend_below(figure, (axes, right), 3)
    return figure


def _losses(axes: Axes, curves: pd.DataFrame) -> None:
    """Test, validation and train loss on a right-hand axis of their own colour."""
    for name, dashes in (("test", "-"), ("validation", ":"), ("train", "--")):
        style = {"shade": False, "ls": dashes, "lw": 1.1}
        plotting.band(axes, curves, "epoch", f"{name}_loss_nats", COLORS["loss"], f"{name} loss", **style)
    axes.set_ylabel("loss (nats per character)", color=COLORS["loss"])
    axes.spines["right"].set(visible=True, color=COLORS["loss"])
    axes.tick_params(axis="y", colors=COLORS["loss"])
    axes.grid(False)


def _early_stop(axes: Axes, curves: pd.DataFrame) -> None:
    """The epoch of least validation loss, mean and range over models, and how many had not passed it at the end."""
    curves = curves.dropna(subset=["validation_loss_nats"])
    if len(curves):
        best = curves.loc[curves.groupby(tidy.MODEL)["validation_loss_nats"].idxmin()].set_index(tidy.MODEL)["epoch"]
        early = int((best == curves.groupby(tidy.MODEL)["epoch"].max()).sum())
        label = "least validation loss" + f" ({early} of {len(best)} at the end)" * bool(early)
        axes.axvspan(best.min(), best.max(), color=COLORS["loss"], alpha=0.12, lw=0, zorder=0)
        axes.axvline(best.mean(), color=COLORS["loss"], lw=1, ls=(0, (6, 2, 1, 2)), zorder=1, label=label)


@styled
def fig09_search_tree(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 9: the toy tree; the shortest path finds what greedy search misses."""
    tree = tidy.rows(table, "static").set_index("node")
    figure = plotting.new_figure(2.9, width=5.0)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_title("Shortest-path against greedy search")
    places = _places(tree)
    axes.set(xlim=(-0.6, max(x for x, _ in places.values()) + 0.6), ylim=(-0.75, 2.3))
    for name, node in tree[tree["parent"] != ""].iterrows():
        _edge(axes, node, places[node["parent"]], places[name])
    for name, (x, y) in places.items():
        ring = COLORS["exact"] if tree.loc[name, "on_best_path"] else "#888888"
        box = {"boxstyle": "circle,pad=0.35", "facecolor": "white", "edgecolor": ring, "linewidth": 1.3}
        text = "start" if tree.loc[name, "parent"] == "" else name
        axes.text(x, y, text, ha="center", va="center", zorder=3, fontsize=8.5, bbox=box)
        if tree.loc[name, "is_leaf"]:
            paper, mark = plotting.value(reference, "leaf log-perplexity", name)
            note = f"\npaper {paper:g} ({mark})" if np.isfinite(paper) else ""
            text = f"{tree.loc[name, 'log_perplexity_bits']:.3f} bits{note}"
            axes.text(x, y - 0.3, text, ha="center", va="top", fontsize=7)
    axes.plot([], [], color=COLORS["exact"], lw=2.4, label="shortest path")
    axes.plot([], [], color=COLORS["canary"], lw=2.4, ls="--", label="greedy")
    plotting.legend(axes, loc="upper right")
    return figure


def _places(tree: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Leaves side by side in reading order, every other node above the middle of its children."""
    leaves = sorted(tree.index[tree["is_leaf"]])
    found = {name: (float(i), 0.0) for i, name in enumerate(leaves)}
    height = 0.0
    while len(found) < len(tree):
        height += 1
        children = {n: tree.index[tree["parent"] == n] for n in tree.index if n not in found}
        ready = {n: c for n, c in children.items() if len(c) and set(c) <= set(found)}
        if not ready:
            raise ValueError(f"the rows do not form a tree: nothing leads to {sorted(children)}")
        found |= {n: (float(np.mean([found[c][0] for c in kids])), height) for n, kids in ready.items()}
    return found


def _edge(axes: Axes, node: pd.Series, start: tuple[float, float], end: tuple[float, float]) -> None:
    best, greedy = node["on_best_path"], node["on_greedy_path"]
    color = COLORS["exact"] if best else COLORS["canary"] if greedy else "#BBBBBB"
    style = {"lw": 2.4 if best or greedy else 1.2, "ls": "--" if greedy and not best else "-"}
    axes.plot([start[0], end[0]], [start[1], end[1]], color=color, zorder=1, **style)
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    text = f"{node['symbol']}: {node['probability']:g}"
    axes.text(*middle, text, ha="center", va="center", bbox=box, zorder=2)


@styled
def fig10_search_cost(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 10: queries of the shortest-path search against the canary's exposure, estimated and exact."""
    frame = tidy.trials(table)
    figure = plotting.new_figure(3.5)
    left, right = figure.subplots(1, 2, sharey=True)
    panels.cost(left, frame, "skew_normal")
    panels.cost(right, frame, "exact")
    at, mark = plotting.value(reference, "threshold")
    plotting.paper_line(left, at, mark, f"paper's threshold {at:g}", vertical=True)
    fast = reference[reference["series"] == "queries at high exposure"]
    if len(fast):
        style = {"facecolor": "none", "edgecolor": COLORS["paper"], "hatch": "////", "lw": 0.7, "ls": "--"}
        label = f"paper's queries ({plotting.marks(fast)})"
        left.fill_between(fast["x"], fast["y"].min(), fast["y"].max(), label=label, **style)
    left.set_title(f"(a) Estimated exposure, {plotting.models(len(frame))}")
    title = f"(b) Exact, {plotting.models(int(frame['exact'].count()))}"
    guesses = int((frame["exact"].isna() & frame["importance"].notna()).sum())
    right.set_title(title + f" (+ {guesses} estimated)" * bool(guesses))
    right.set_xlim(0, None)
    left.set_ylabel("queries until the canary is returned")
    plotting.legend_below(figure, (left, right), 3)
    return figure


@styled
def fig11_extraction_threshold(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 11: success of extraction against estimated exposure, and against exact exposure, where it is a step."""
    frame = tidy.trials(table)
    figure = plotting.new_figure(2.9)
    left, right = figure.subplots(1, 2, sharey=True)
    panels.success(left, frame, "skew_normal")
    plotting.paper(left, reference, "smoothed success", "paper")
    panels.success(right, frame, "exact")
    left.set(
        title=f"(a) Estimated exposure, {plotting.models(len(frame))}", ylabel="extraction succeeds", ylim=(-0.08, 1.08)
    )
    right.set(title="(b) Exact exposure")
    for axes in (left, right):
        plotting.legend(axes, loc="center left")
    return figure


@styled
def tab03_differential_privacy(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Table 3: private and other trainings beside the paper's, and whether inserted canaries are exposed at all."""
    rows = panels_table3.private_rows(table)
    figure = plotting.new_figure(2.5 + 0.175 * max(len(rows), 6))
    grid = figure.add_gridspec(2, 2, height_ratios=[0.4 + 0.175 * max(len(rows), 6), 1.75])
    listed, left, right = (figure.add_subplot(cell) for cell in (grid[0, :], grid[1, 0], grid[1, 1]))
    panels_table3.private_table(listed, rows, reference)
    panels_table3.forest(left, rows)
    panels_table3.private_losses(right, rows, reference)
    if "standin" not in set(table["data_source"]):
        panels_table3.uniform_guess(right)
    mark = plotting.marks(reference[reference["series"] == "exposure"]) if len(reference) else "none"
    title = f"(a) Training with and without differential privacy, δ = 10$^{{-9}}$; the paper's values: {mark}"
    listed.set_title(title, pad=8)
    left.set_title("(b) Are inserted canaries more exposed?")
    right.set_title("(c) Test loss")
    plotting.legend_below(figure, (left, right), 4)
    return figure
