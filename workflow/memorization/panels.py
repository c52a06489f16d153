"""Panels that figures of exposure and extraction are made of: each draws into one Axes and survives missing rows."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy import stats

from memorization import plotting, statistics, tidy
from memorization.gates.search import midpoint_of
from memorization.plotting import COLORS, LABELS

LN2 = np.log(2)


# --- finished models ----------------------------------------------------------------------------------------------


def fill_table(axes: Axes, top: pd.DataFrame, reference: pd.DataFrame, count: int) -> None:
    """The most likely fills: the paper's, those of the first model, and the costs' mean over models by position."""
    paper = reference[reference["series"] == "most likely fill"].set_index("x")
    ours = first_model(top).set_index("position")
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
    header = [
        "position",
        f"paper: fill ({mark})",
        "bits",
        "ours: fill, first model",
        "bits",
        "ours: mean [95 % t interval]",
    ]
    plotting.rendered_table(axes, cells, header, [0.09, 0.22, 0.1, 0.22, 0.1, 0.27], frozenset(canary))


def first_model(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first model."""
    return next((group for _, group in frame.groupby(tidy.MODEL)), frame)


def ranks(axes: Axes, exposure: pd.DataFrame) -> None:
    """Exact rank of the inserted canary in every model; a bar where only bounds are known."""
    axes.set(xlabel="model", ylabel="rank (1 = most likely)", yscale="log")
    exact = exposure[(exposure["method"] == "exact") & (exposure["kind"] == "inserted")].reset_index(drop=True)
    if not len(exact):
        return plotting.empty(axes, "no exact rank was computed")
    done = exact["algorithm"] != "bounds"
    x = exact.index + 1
    axes.axhspan(0.7, 10, color=COLORS["paper"], alpha=0.06, lw=0, label="paper: ≤ 10 (verified, v1)")
    axes.vlines(x, exact["rank_low"], exact["rank_high"], color=COLORS["exact"], lw=1, alpha=0.5)
    label = f"rank 1 in {(exact.loc[done, 'rank'] == 1).sum()} of {len(exact)}"
    axes.scatter(x[done], exact.loc[done, "rank"], s=16, color=COLORS["exact"], zorder=3, label=label)
    axes.set_ylim(0.7, 100 * np.nanmax(exact[["rank", "rank_high"]].to_numpy()))
    _model_axis(axes, len(exact))
    plotting.legend(axes, loc="upper left")


def gaps(axes: Axes, gap: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Gap in bits from the canary to the cheapest other fill, per model (rows of `tidy.gaps`)."""
    axes.set(xlabel="model", ylabel="gap (bits)")
    if not len(gap):
        return plotting.empty(axes, "no list of the most likely fills")
    paper, mark = plotting.value(reference, "gap to runner-up")
    plotting.paper_line(axes, paper, mark, f"paper {paper:.2f}")
    axes.axhline(0, color="#444444", lw=0.7)
    axes.scatter(gap.index + 1, gap["gap_bits"], s=16, color=COLORS["canary"], zorder=3, label="ours")
    median = statistics.bootstrap_interval(gap["gap_bits"], np.median)
    if np.isfinite(median.low):
        axes.axhspan(median.low, median.high, color=COLORS["canary"], alpha=0.15, lw=0, label="median, 95 % bootstrap")
    highest = np.nanmax([paper, gap["gap_bits"].max(), 1])
    axes.set_ylim(min(-1, 1.2 * gap["gap_bits"].min()), 1.8 * highest)
    _model_axis(axes, len(gap))
    plotting.legend(axes, loc="upper left")


def _model_axis(axes: Axes, n: int) -> None:
    axes.set_xlim(0.4, n + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


# --- distribution of all fills ------------------------------------------------------------------------------------


def _canary_line(axes: Axes, canary: pd.Series) -> None:
    if len(canary):
        axes.axvline(canary.iloc[0], color=COLORS["canary"], ls=(0, (4, 2)), lw=1.3, zorder=4, label="inserted canary")


def histogram(axes: Axes, counts: pd.DataFrame, fit: pd.DataFrame, canary: pd.Series, reference: pd.DataFrame) -> None:
    """Sampled costs of one model's fills, the fitted skew-normal density, and the canary."""
    axes.set(xlabel="log-perplexity (bits)", ylabel="share of fills (% per bit)")
    if not len(counts):
        return plotting.empty(axes, "no sampled costs")
    total = counts["count"].sum()
    share = 100 * counts["count"] / total / (counts["high_bits"] - counts["low_bits"])
    edges = [*counts["low_bits"], counts["high_bits"].iloc[-1]]
    axes.stairs(share, edges, fill=True, color=COLORS["model"], alpha=0.7, label=f"{total:,.0f} sampled fills")
    if len(fit):
        f = fit.iloc[0]
        x = np.linspace(min(counts["low_bits"].min(), *canary) - 2, counts["high_bits"].max() + 2, 400)
        density = 100 * stats.skewnorm.pdf(x, f["shape"], f["location_bits"], f["scale_bits"])
        axes.plot(x, density, color=COLORS["skew_normal"], ls="--", label="skew-normal fit")
        text = f"K-S, bootstrap\np = {f['ks_p_bootstrap']:.2g}"
        axes.text(0.98, 0.98, text, transform=axes.transAxes, ha="right", va="top", fontsize=7)
    _canary_line(axes, canary)
    paper, mark = plotting.value(reference, "inserted canary")
    plotting.paper_line(axes, paper, mark, "paper's canary", vertical=True)
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    return None


def tail(axes: Axes, counts: pd.DataFrame, fit: pd.DataFrame, top: pd.DataFrame, canary: pd.Series) -> None:
    """-log2 P(cost <= x) of one model's fills: exact from the most likely ones, sampled, and by the fit."""
    axes.set(xlabel="log-perplexity (bits)", ylabel="exposure at that cost (bits)")
    if not len(fit):
        return plotting.empty(axes, "no skew-normal fit")
    f = fit.iloc[0]
    if len(top):
        exact = f["space_bits"] - np.log2(top["position"])
        label = "exact tail (most likely fills)"
        axes.plot(top["cost_bits"], exact, color=COLORS["exact"], marker=".", ms=3.5, lw=0.8, label=label)
    if len(counts):
        cumulative = counts["count"].cumsum() / counts["count"].sum()
        bits = -np.log2(cumulative.where(cumulative > 0))
        axes.plot(counts["high_bits"], bits, color=COLORS["sampled"], lw=2.2, alpha=0.8, label="sampled tail")
    start = min([*canary[:1], *top["cost_bits"], *counts["low_bits"], f["location_bits"]])
    x = np.linspace(start - 1, f["location_bits"] + 2 * f["scale_bits"], 300)
    fitted = -stats.skewnorm.logcdf(x, f["shape"], f["location_bits"], f["scale_bits"]) / LN2
    axes.plot(x, fitted, color=COLORS["skew_normal"], ls="--", label="skew-normal fit")
    plotting.ceiling(axes, f["space_bits"])
    _canary_line(axes, canary)
    axes.set_ylim(0, max(45, 1.35 * f["space_bits"]))
    return None


def tail_error(axes: Axes, top: pd.DataFrame, fit: pd.DataFrame) -> None:
    """Skew-normal minus exact exposure at the most likely fills, all models: how far extrapolation is off."""
    axes.set(xlabel="exact rank of the fill", ylabel="skew-normal − exact (bits)")
    axes.axhline(0, color=COLORS["exact"], lw=0.8)
    joined = top.merge(fit[[*tidy.MODEL, "location_bits", "scale_bits", "shape", "space_bits"]], on=tidy.MODEL)
    if not len(joined):
        return plotting.empty(axes, "needs the exact most likely fills and a fit")
    law = stats.skewnorm(joined["shape"], joined["location_bits"], joined["scale_bits"])
    exact = joined["space_bits"] - np.log2(joined["position"])
    joined = joined.assign(error=-law.logcdf(joined["cost_bits"]) / LN2 - exact)
    plotting.band(axes, joined, "position", "error", COLORS["skew_normal"], "mean error, 95 %")
    canary = joined[joined["is_canary"]]
    axes.scatter(
        canary["position"], canary["error"], s=14, color=COLORS["canary"], zorder=4, label="error at the canary"
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    return None


# --- exposure while training --------------------------------------------------------------------------------------


def methods(axes: Axes, measures: pd.DataFrame) -> None:
    """Exposure of the inserted canary by every method that was measured, with the null band of the controls."""
    controls = measures[(measures["kind"] == "control") & (measures["method"] == "sampled")]
    plotting.null_band(axes, controls, "epoch" if len(controls) else None)
    for method in ("skew_normal", "exact", "sampled", "importance"):
        shade = method in ("skew_normal", "exact")
        style = {} if shade else {"lw": 1.1, "ls": "-." if method == "sampled" else ":"}
        rows = tidy.points(measures, method)
        plotting.band(axes, rows, "epoch", "exposure_bits", COLORS[method], LABELS[method], shade=shade, **style)
    plotting.flag_extrapolated(axes, tidy.points(measures, "skew_normal"), "epoch", "exposure_bits")
    axes.set(xlabel="epoch", ylabel="exposure (bits)")


def losses(axes: Axes, curves: pd.DataFrame) -> None:
    """Test, validation and train loss on a right-hand axis of their own colour."""
    for name, dashes in (("test", "-"), ("validation", ":"), ("train", "--")):
        style = {"shade": False, "ls": dashes, "lw": 1.1}
        plotting.band(axes, curves, "epoch", f"{name}_loss_nats", COLORS["loss"], f"{name} loss", **style)
    axes.set_ylabel("loss (nats per character)", color=COLORS["loss"])
    axes.spines["right"].set(visible=True, color=COLORS["loss"])
    axes.tick_params(axis="y", colors=COLORS["loss"])
    axes.grid(False)


def early_stop(axes: Axes, curves: pd.DataFrame) -> None:
    """Where early stopping would have stopped: the epoch of least validation loss, mean and range over models."""
    curves = curves.dropna(subset=["validation_loss_nats"])
    if len(curves):
        best = curves.loc[curves.groupby(tidy.MODEL)["validation_loss_nats"].idxmin(), "epoch"]
        axes.axvspan(best.min(), best.max(), color=COLORS["canary"], alpha=0.12, lw=0, zorder=0)
        axes.axvline(best.mean(), color=COLORS["canary"], lw=1, zorder=1, label="early stopping (mean, range)")


# --- search and extraction ----------------------------------------------------------------------------------------


def places(tree: pd.DataFrame) -> dict[str, tuple[float, float]]:
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


def cost(axes: Axes, frame: pd.DataFrame, x: str) -> None:
    """Queries until the search returns the canary (rows of `tidy.trials`) against exposure `x`, log scale."""
    axes.set(xlabel=f"{x.replace('_', '-')} exposure (bits)", yscale="log")
    frame = frame.dropna(subset=[x])
    if not len(frame):
        return plotting.empty(axes, f"no {x.replace('_', '-')} exposure")
    full = tidy.full_walk(frame["space_bits"].max())
    axes.axhline(full, color=COLORS["muted"], lw=0.9, label=f"all {full:,.0f} prefixes")
    kinds = (
        ("extracted", frame["extracted"], "o", COLORS["exact"]),
        ("another fill is likelier", ~frame["extracted"] & ~frame["bound"], "s", COLORS["skew_normal"]),
        ("lower bound: canary not reached", frame["bound"], "$\\uparrow$", COLORS["control"]),
    )
    for name, chosen, marker, color in kinds:
        if chosen.any():
            arrow = "arrow" in marker
            style = {"s": 55 if arrow else 14, "marker": marker, "edgecolor": color, "zorder": 3}
            style["linewidths"] = 0.3 if arrow else 0.9
            beyond = chosen & frame["extrapolated"].eq(True) & (x == "skew_normal") & (not arrow)
            for part, face in ((chosen & ~beyond, color), (beyond, "white")):
                axes.scatter(frame.loc[part, x], frame.loc[part, "queries"], facecolor=face, **style)
            axes.scatter([], [], facecolor=color, label=f"{name}, n = {chosen.sum()}", **style)
    if x == "skew_normal":
        axes.scatter([], [], s=14, facecolor="white", edgecolor="#444444", label="open: extrapolated estimate")
    plotting.ceiling(axes, frame["space_bits"].max(), vertical=True)
    return None


def success(axes: Axes, frame: pd.DataFrame, x: str) -> None:
    """Ticks at 0 and 1 for every decided search; the logistic on estimated, the necessary step on exact exposure."""
    axes.set(xlabel=f"{x.replace('_', '-')} exposure (bits)")
    frame = frame[frame["decided"]].dropna(subset=[x]).reset_index(drop=True)
    if not len(frame):
        return plotting.empty(axes, f"no decided search with {x.replace('_', '-')} exposure")
    won = frame["extracted"]
    label = f"trials: {won.sum()} of {len(won)} succeed"
    axes.plot(frame[x], won.astype(float), "|", color=COLORS["canary"], ms=9, mew=0.9, alpha=0.8, zorder=3, label=label)
    space = frame["space_bits"].max()
    plotting.ceiling(axes, space, vertical=True)
    if x == "exact":
        label = f"success ⇔ rank 1: holds in {(won == (frame['rank'] == 1)).sum()} of {len(won)}"
        axes.step([0, space, space + 1], [0, 1, 1], where="post", color=COLORS["exact"], label=label)
        return None
    middle = midpoint_of(frame)
    if np.isfinite(middle.estimate):
        intercept, slope = statistics.firth_logistic(frame[x], won)
        grid = np.linspace(0, max(42, frame[x].max()), 300)
        label = f"logistic, midpoint {middle.estimate:.1f}\n[{middle.low:.1f}, {middle.high:.1f}] (95 %)"
        axes.plot(grid, 1 / (1 + np.exp(-(intercept + slope * grid))), color=COLORS["skew_normal"], label=label)
    return None
