"""The figures of The Secret Sharer: one function per key, draw(table, reference) -> Figure, nothing read or written.

`table` is the figure's tidy table, `reference` the rows of reference.csv for that figure.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

from memorization import plotting, statistics, tidy
from memorization.plotting import COLORS, LABELS, METHODS, styled

LN2 = np.log(2)
SHOWN = 9
"""Fills listed, as in Table 1."""


def _jitter(n: int) -> np.ndarray:
    """Small fixed horizontal offsets, so that models do not hide each other."""
    return np.linspace(-0.12, 0.12, n) if n > 1 else np.zeros(n)


def _legend(axes: Axes, **options) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**options)


def _first(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first model."""
    return next((group for _, group in frame.groupby(tidy.MODEL)), frame)


# --- Table 1 ------------------------------------------------------------------------------------------------------


@styled
def tab01_most_likely_fills(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Table 1: the most likely fills beside the paper's, and where the canary ranks in every model."""
    top = tidy.rows(table, "top")
    top = top[top["position"] <= SHOWN]
    figure = plotting.new_figure(5.0)
    grid = figure.add_gridspec(2, 3, height_ratios=[1.25, 1])
    head = figure.add_subplot(grid[0, :])
    costs, ranks, gaps = (figure.add_subplot(grid[1, i]) for i in range(3))
    head.set_title(f"The {SHOWN} most likely fills, {plotting.models(tidy.count_models(table))}", pad=8)
    _fill_table(head, top, reference)
    if len(top):
        plotting.band(costs, top, "position", "cost_bits", COLORS["model"], "ours")
        canary = top[top["is_canary"]]
        costs.scatter(canary["position"], canary["cost_bits"], s=9, color=COLORS["canary"], zorder=4, label="canary")
    plotting.paper(costs, reference, "most likely fill", "paper", line=False)
    costs.set(title="Cost of the best fills", xlabel="position", ylabel="log-perplexity of the fill (bits)")
    costs.set_xticks(range(1, SHOWN + 1))
    _legend(costs)
    _ranks(ranks, tidy.rows(table, "exposure"))
    _gaps(gaps, tidy.gaps(table), reference)
    return figure


def _fill_table(axes: Axes, top: pd.DataFrame, reference: pd.DataFrame) -> None:
    paper = reference[reference["series"] == "most likely fill"].set_index("x")
    ours = _first(top).set_index("position")
    summary = plotting.intervals(top, "position", "cost_bits").set_index("position")
    cells = []
    for i in range(1, SHOWN + 1):
        row = [str(i)]
        row += [paper.loc[i, "label"], f"{paper.loc[i, 'y']:.2f}"] if i in paper.index else ["–", "–"]
        mine = ours.loc[i] if i in ours.index else None
        row += ["–", "–"] if mine is None else [mine["fill"] + " ●" * bool(mine["is_canary"]), f"{mine['cost_bits']:.2f}"]
        mean = summary.loc[i] if i in summary.index else None
        limits = "" if mean is None or np.isnan(mean["low"]) else f"  [{mean['low']:.2f}, {mean['high']:.2f}]"
        cells.append([*row, "–" if mean is None else f"{mean['mean']:.2f}{limits}"])
    mark = plotting.marks(paper) if len(paper) else "none"
    header = ["position", f"paper: fill ({mark})", "bits", "ours: fill, first model (● canary)", "bits", "mean over models [95 %]"]
    plotting.rendered_table(axes, cells, header, [0.08, 0.22, 0.1, 0.28, 0.1, 0.22])


def _ranks(axes: Axes, exposure: pd.DataFrame) -> None:
    exact = exposure[(exposure["method"] == "exact") & (exposure["kind"] == "inserted")].reset_index(drop=True)
    axes.set(title="Exact rank of the canary", xlabel="model", ylabel="rank (1 = most likely)", yscale="log")
    if not len(exact):
        return plotting.empty(axes, "no exact rank was computed")
    done = exact["algorithm"] != "bounds"
    x = exact.index + 1
    axes.vlines(x, exact["rank_low"], exact["rank_high"], color=COLORS["exact"], lw=1, alpha=0.5)
    axes.scatter(x[done], exact.loc[done, "rank"], s=16, color=COLORS["exact"], zorder=3,
                 label=f"rank 1 in {(exact.loc[done, 'rank'] == 1).sum()} of {len(exact)}")  # fmt: skip
    axes.axhspan(0.7, 10, color=COLORS["paper"], alpha=0.06, lw=0, label="paper: 1 in 80 %, else ≤ 10 (verified, v1)")
    axes.set_ylim(0.7, max(100, 2 * np.nanmax(exact["rank_high"])))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper left")


def _gaps(axes: Axes, gaps: pd.DataFrame, reference: pd.DataFrame) -> None:
    axes.set(title="Gap to the best other fill", xlabel="model", ylabel="gap (bits; negative: not first)")
    paper, mark = plotting.value(reference, "gap to runner-up")
    plotting.paper_line(axes, paper, mark, f"paper {paper:.2f}")
    axes.axhline(0, color="#444444", lw=0.7)
    if not len(gaps):
        return plotting.empty(axes, "no list of the most likely fills")
    axes.scatter(gaps.index + 1, gaps["gap_bits"], s=16, color=COLORS["canary"], zorder=3, label="ours")
    median = statistics.bootstrap_interval(gaps["gap_bits"], np.median)
    axes.axhspan(median.low, median.high, color=COLORS["canary"], alpha=0.15, lw=0, label="median, 95 % bootstrap")
    axes.set_ylim(min(-1, 1.2 * gaps["gap_bits"].min()), 1.7 * max(paper, gaps["gap_bits"].max(), 1))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper left")


# --- Figure 2 -----------------------------------------------------------------------------------------------------


@styled
def fig02_log_perplexity_distribution(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 2: distribution of the fills' log-perplexities, its skew-normal fit, and how far the fit's tail is off."""
    figure = plotting.new_figure(2.7)
    body, tail, error = figure.subplots(1, 3, width_ratios=[1.25, 1.1, 0.9])
    top, fit = tidy.rows(table, "top"), tidy.rows(table, "fit")
    exposure = tidy.rows(table, "exposure")
    canary = exposure[exposure["kind"] == "inserted"].groupby(tidy.MODEL)["cost_bits"].first()
    _histogram(body, _first(tidy.rows(table, "histogram")), _first(fit), canary, reference)
    _tail(tail, _first(tidy.rows(table, "histogram")), _first(fit), _first(top), canary)
    _tail_error(error, top, fit)
    return figure


def _canary_line(axes: Axes, canary: pd.Series) -> None:
    if len(canary):
        axes.axvline(canary.iloc[0], color=COLORS["canary"], ls=(0, (4, 2)), lw=1.2, zorder=4, label="inserted canary")


def _histogram(axes: Axes, counts: pd.DataFrame, fit: pd.DataFrame, canary: pd.Series, reference: pd.DataFrame) -> None:
    axes.set(title="(a) All fills, one model", xlabel="log-perplexity (bits)", ylabel="share of fills (% per bit)")
    if len(counts):
        width = counts["high_bits"] - counts["low_bits"]
        total = counts["count"].sum()
        axes.bar(counts["low_bits"], 100 * counts["count"] / total / width, width, align="edge", color=COLORS["model"],
                 alpha=0.7, label=f"{total:,.0f} sampled fills")  # fmt: skip
    if len(fit) and len(counts):
        f = fit.iloc[0]
        x = np.linspace(min(counts["low_bits"].min(), *canary) - 2, counts["high_bits"].max() + 2, 400)
        density = 100 * stats.skewnorm.pdf(x, f["shape"], f["location_bits"], f["scale_bits"])
        axes.plot(x, density, color=COLORS["skew_normal"], ls="--", label="skew-normal fit")
        axes.plot([], [], " ", label=f"K-S bootstrap p = {f['ks_p_bootstrap']:.2g}")
    _canary_line(axes, canary)
    paper = reference[reference["series"] == "inserted canary"]
    if len(paper):
        plotting.paper_line(axes, paper["x"].iloc[0], paper["mark"].iloc[0], "paper's canary", vertical=True)
    axes.set_ylim(0, 1.75 * axes.get_ylim()[1])
    _legend(axes, loc="upper left")


def _tail(axes: Axes, counts: pd.DataFrame, fit: pd.DataFrame, top: pd.DataFrame, canary: pd.Series) -> None:
    axes.set(title="(b) Its left tail", xlabel="log-perplexity (bits)", ylabel="exposure at that cost (bits)")
    if not len(fit):
        return plotting.empty(axes, "no skew-normal fit")
    f = fit.iloc[0]
    if len(top):
        axes.plot(top["cost_bits"], f["space_bits"] - np.log2(top["position"]), color=COLORS["exact"], marker=".", ms=3,
                  lw=0.8, label=f"exact, best {len(top)} fills")  # fmt: skip
    if len(counts):
        cumulative = counts["count"].cumsum() / counts["count"].sum()
        axes.plot(counts["high_bits"], -np.log2(cumulative.where(cumulative > 0)), color=COLORS["sampled"], label="sampled")
    start = min([*canary[:1], *top["cost_bits"], *counts["low_bits"], f["location_bits"]])
    x = np.linspace(start - 1, f["location_bits"] + 2 * f["scale_bits"], 300)
    axes.plot(x, _fitted(f, x), color=COLORS["skew_normal"], ls="--", label="skew-normal")
    plotting.ceiling(axes, f["space_bits"])
    _canary_line(axes, canary)
    axes.set_ylim(0, max(45, 1.35 * f["space_bits"]))
    _legend(axes, loc="upper right")


def _fitted(fit: pd.Series, cost_bits: np.ndarray) -> np.ndarray:
    """Exposure in bits by the fitted skew-normal (brief §4.5)."""
    return -stats.skewnorm.logcdf(cost_bits, fit["shape"], fit["location_bits"], fit["scale_bits"]) / LN2


def _tail_error(axes: Axes, top: pd.DataFrame, fit: pd.DataFrame) -> None:
    axes.set(title="(c) Error of the fit", xlabel="exact rank of the fill", ylabel="skew-normal − exact exposure (bits)")
    axes.axhline(0, color=COLORS["exact"], lw=0.8)
    joined = top.merge(fit[[*tidy.MODEL, "location_bits", "scale_bits", "shape", "space_bits"]], on=tidy.MODEL)
    if not len(joined):
        return plotting.empty(axes, "needs the exact most likely fills and a fit")
    exact = joined["space_bits"] - np.log2(joined["position"])
    fitted = -stats.skewnorm.logcdf(
        joined["cost_bits"], joined["shape"], joined["location_bits"], joined["scale_bits"]
    ) / LN2  # fmt: skip
    joined = joined.assign(error=fitted - exact)
    plotting.band(axes, joined, "position", "error", COLORS["skew_normal"], "mean, 95 %")
    canary = joined[joined["is_canary"]]
    axes.scatter(canary["position"], canary["error"], s=12, color=COLORS["canary"], zorder=4, label="canary")
    axes.set_xscale("log")
    axes.margins(y=0.25)
    _legend(axes, loc="best")


# --- Figures 7 and 8 ----------------------------------------------------------------------------------------------


@styled
def fig07_exposure_per_batch(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 7: exposure after every mini-batch; the first of each epoch holds the canary."""
    measures = tidy.rows(table, "measures")
    measures = measures[measures["moment"].isin(["start", "batch"])].sort_values("step")
    figure = plotting.new_figure(3.0)
    axes = figure.subplots()
    controls = measures[(measures["kind"] == "control") & (measures["method"] == "sampled")]
    plotting.null_band(axes, controls, "epoch" if len(controls) else None)
    for method in reversed(METHODS):
        chosen = tidy.points(measures, method)
        style = {"lw": 0.9, "ls": "-."} if method == "sampled" else {}
        plotting.band(axes, chosen, "epoch", "exposure_bits", COLORS[method], LABELS[method], **style)
    held = measures.loc[measures["holds_canary"], "epoch"].unique()
    axes.plot(held, np.zeros(len(held)), "^", color=COLORS["canary"], ms=5, clip_on=False, zorder=6, label="held the canary")
    for start in range(1, int(np.ceil(measures["epoch"].max() if len(measures) else 0)) + 1):
        axes.axvline(start, color="#888888", lw=0.7, ls=(0, (4, 3)), zorder=1)
    plotting.paper(axes, reference, "exposure", "paper")
    plotting.paper(axes, reference, "exposure in the text", "paper's text", line=False, marker="D", ms=4)
    axes.set(
        title=f"Exposure after every mini-batch, {plotting.models(tidy.count_models(table))}",
        xlabel="epoch (dashed: starts)", ylabel="exposure (bits)",
    )  # fmt: skip
    axes.set_xlim(left=-0.03)
    axes.set_ylim(bottom=0)
    _legend(axes, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


@styled
def fig08_overtraining(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 8: exposure (left axis) and losses (right axis) against the epoch, far into overfitting."""
    curves = tidy.rows(table, "curves").sort_values("epoch")
    measures = tidy.rows(table, "measures")
    measures = measures[measures["moment"].isin(["start", "epoch"])].sort_values("epoch")
    figure = plotting.new_figure(3.5)
    axes = figure.subplots()
    losses = axes.twinx()
    controls = measures[(measures["kind"] == "control") & (measures["method"] == "sampled")]
    plotting.null_band(axes, controls, "epoch" if len(controls) else None)
    for method in reversed(METHODS):
        style = {"lw": 0.9, "ls": "-."} if method in ("sampled", "importance") else {}
        chosen = tidy.points(measures, method)
        plotting.band(axes, chosen, "epoch", "exposure_bits", COLORS[method], LABELS[method], **style)
    space = tidy.rows(table, "exposure")["space_bits"].max()
    plotting.ceiling(axes, space if np.isfinite(space) else np.log2(1e9))
    for name, dashes in (("test", "-"), ("validation", ":"), ("train", "--")):
        plotting.band(losses, curves, "epoch", f"{name}_loss_nats", COLORS["loss"], f"{name} loss", singles=False, ls=dashes, lw=1.1)
    plotting.paper(axes, reference, "exposure", "paper, exposure", lw=0)
    plotting.paper(losses, reference, "test loss", "paper, test loss", lw=0, marker="s", ms=2.5, mfc="white")
    plotting.paper(losses, reference, "train loss", "paper, train loss", lw=0, marker="v", ms=2.5, mfc="white")
    _early_stop(axes, curves)
    axes.set(xlabel="epoch", ylabel="exposure (bits)", ylim=(0, None), xlim=(-0.5, None))
    axes.set_title(f"Exposure and loss while training, {plotting.models(tidy.count_models(table))}")
    losses.set_ylabel("loss (nats per character)", color=COLORS["loss"])
    losses.spines["right"].set(visible=True, color=COLORS["loss"])
    losses.tick_params(axis="y", colors=COLORS["loss"])
    losses.grid(False)
    handles, labels = (a + b for a, b in zip(axes.get_legend_handles_labels(), losses.get_legend_handles_labels(), strict=True))
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def _early_stop(axes: Axes, curves: pd.DataFrame) -> None:
    """Where early stopping would have stopped: the epoch of least validation loss, mean and range over models."""
    if not len(curves):
        return
    best = curves.loc[curves.groupby(tidy.MODEL)["validation_loss_nats"].idxmin(), "epoch"]
    axes.axvspan(best.min(), best.max(), color=COLORS["canary"], alpha=0.12, lw=0, zorder=0)
    axes.axvline(best.mean(), color=COLORS["canary"], lw=1, zorder=1, label="early stopping (mean, range)")


# --- Figure 9 -----------------------------------------------------------------------------------------------------


@styled
def fig09_search_tree(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 9: the toy tree; the shortest path finds what greedy search misses."""
    tree = tidy.rows(table, "static").set_index("node")
    figure = plotting.new_figure(2.9, width=5.0)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set(xlim=(-0.6, 3.6), ylim=(-0.75, 2.3))
    axes.set_title("Shortest path against greedy search")
    places = _places(tree)
    for name, node in tree[tree["parent"] != ""].iterrows():
        (x0, y0), (x1, y1) = places[node["parent"]], places[name]
        best, greedy = node["on_best_path"], node["on_greedy_path"]
        color = COLORS["exact"] if best else COLORS["canary"] if greedy else "#BBBBBB"
        axes.plot([x0, x1], [y0, y1], color=color, lw=2.4 if best or greedy else 1.2, ls="--" if greedy and not best else "-", zorder=1)
        axes.text((x0 + x1) / 2, (y0 + y1) / 2, f"{node['symbol']}: {node['probability']:g}", ha="center", va="center",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5}, zorder=2)  # fmt: skip
    for name, (x, y) in places.items():
        text = "start" if tree.loc[name, "parent"] == "" else name
        ring = COLORS["exact"] if tree.loc[name, "on_best_path"] else "#888888"
        axes.text(x, y, text, ha="center", va="center", zorder=3, fontsize=8.5,
                  bbox={"boxstyle": "circle,pad=0.35", "facecolor": "white", "edgecolor": ring, "linewidth": 1.3})  # fmt: skip
        if tree.loc[name, "is_leaf"]:
            paper, mark = plotting.value(reference, "leaf log-perplexity", name)
            note = f"\npaper {paper:g} ({mark})" if np.isfinite(paper) else ""
            axes.text(x, y - 0.3, f"{tree.loc[name, 'log_perplexity_bits']:.3f} bits{note}", ha="center", va="top", fontsize=7)
    axes.plot([], [], color=COLORS["exact"], lw=2.4, label="shortest path")
    axes.plot([], [], color=COLORS["canary"], lw=2.4, ls="--", label="greedy")
    axes.legend(loc="upper right")
    return figure


def _places(tree: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Leaves side by side in reading order, every other node above the middle of its children."""
    leaves = sorted(tree.index[tree["is_leaf"]])
    places = {name: (float(i), 0.0) for i, name in enumerate(leaves)}
    height = 0.0
    while len(places) < len(tree):
        height += 1
        ready = {}
        for name in tree.index.difference(list(places)):
            children = tree.index[tree["parent"] == name]
            if set(children) <= set(places):
                ready[name] = (float(np.mean([places[c][0] for c in children])), height)
        if not ready:
            raise ValueError("fig09: the rows do not form a tree")
        places |= ready
    return places


# --- Figures 10 and 11 --------------------------------------------------------------------------------------------


@styled
def fig10_search_cost(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 10: queries of the shortest-path search against the canary's exposure, estimated and exact."""
    frame = tidy.trials(table)
    figure = plotting.new_figure(3.1)
    left, right = figure.subplots(1, 2, sharey=True)
    _cost_panel(left, frame, "skew_normal")
    _cost_panel(right, frame, "exact")
    plotting.flag_extrapolated(left, frame, "skew_normal", "queries")
    at, mark = plotting.value(reference, "threshold")
    plotting.paper_line(left, at, mark, f"paper's threshold {at:g}", vertical=True)
    fast = reference[reference["series"] == "queries at high exposure"]
    if len(fast):
        left.fill_between(fast["x"], fast["y"].min(), fast["y"].max(), facecolor="none", edgecolor=COLORS["paper"],
                          hatch="////", lw=0.7, ls="--", label=f"paper ({plotting.marks(fast)})")  # fmt: skip
    left.set_title(f"(a) Estimated exposure, {plotting.models(len(frame))}")
    right.set_title("(b) Exact exposure")
    left.set(xlabel="skew-normal exposure (bits)", ylabel="queries to return the canary", yscale="log")
    right.set(xlabel="exact exposure (bits)")
    left.set_ylim(10, 3e10)
    _legend(left, loc="upper left", ncols=2)
    _legend(right, loc="upper left", ncols=2)
    return figure


def _cost_panel(axes: Axes, frame: pd.DataFrame, x: str) -> None:
    frame = frame.dropna(subset=[x])
    if not len(frame):
        return plotting.empty(axes, f"no {LABELS[x]} exposure")
    full = tidy.full_walk(frame["space_bits"].max())
    axes.axhline(full, color=COLORS["muted"], lw=0.8, label=f"all {full:,.0f} prefixes")
    kinds = (
        ("extracted", frame["extracted"], "o", COLORS["exact"]),
        ("another fill is likelier", ~frame["extracted"] & ~frame["bound"], "s", COLORS["skew_normal"]),
        ("at least (canary not reached)", frame["bound"], "^", COLORS["control"]),
    )
    for name, chosen, marker, color in kinds:
        if chosen.any():
            axes.scatter(frame.loc[chosen, x], frame.loc[chosen, "queries"], s=11, marker=marker, color=color, alpha=0.8,
                         linewidths=0, zorder=3, label=f"{name} (n = {chosen.sum()})")  # fmt: skip
    plotting.ceiling(axes, frame["space_bits"].max(), vertical=True)


@styled
def fig11_extraction_threshold(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 11: success of extraction against estimated exposure, and against exact exposure, where it is a step."""
    frame = tidy.trials(table)
    frame = frame[frame["decided"]]
    figure = plotting.new_figure(2.9)
    left, right = figure.subplots(1, 2, sharey=True)
    _success(left, frame, "skew_normal")
    plotting.paper(left, reference, "smoothed success", "paper")
    _success(right, frame, "exact")
    for axes, title, xlabel in (
        (left, f"(a) Estimated exposure, {plotting.models(len(frame))}", "skew-normal exposure (bits)"),
        (right, "(b) Exact exposure", "exact exposure (bits)"),
    ):
        axes.set(title=title, xlabel=xlabel, ylim=(-0.08, 1.08))
        _legend(axes, loc="center left")
    left.set_ylabel("extraction succeeds")
    return figure


def _success(axes: Axes, frame: pd.DataFrame, x: str) -> None:
    frame = frame.dropna(subset=[x])
    if not len(frame):
        return plotting.empty(axes, f"no {LABELS[x]} exposure of a decided search")
    won = frame["extracted"]
    axes.plot(frame[x], won.astype(float), "|", color=COLORS["canary"], ms=9, mew=0.9, alpha=0.8, zorder=3,
              label=f"trials ({won.sum()} of {len(won)} succeed)")  # fmt: skip
    space = frame["space_bits"].max()
    plotting.ceiling(axes, space, vertical=True)
    if x == "exact":
        agree = (won == (frame["rank"] == 1)).sum()
        axes.step([0, space, space + 1], [0, 1, 1], where="post", color=COLORS["exact"], label="what must be: success ⇔ rank 1")
        axes.plot([], [], " ", label=f"agrees in {agree} of {len(won)}")
        return None
    middle = statistics.logistic_midpoint(frame[x], won)
    if np.isfinite(middle.estimate):
        intercept, slope = statistics.firth_logistic(frame[x], won)
        grid = np.linspace(0, max(42, frame[x].max()), 300)
        name = f"logistic, midpoint {middle.estimate:.1f} [{middle.low:.1f}, {middle.high:.1f}]"
        axes.plot(grid, 1 / (1 + np.exp(-(intercept + slope * grid))), color=COLORS["skew_normal"], label=name)
    return None
