"""Panels that figures of exposure and extraction are made of: each draws into one Axes and survives missing rows."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy import special, stats

from memorization import plotting, statistics, tidy
from memorization.gates.search import midpoint_of
from memorization.plotting import COLORS, LABELS
from memorization.skew_normal import log_cdf

LN2 = np.log(2)


def nothing(axes: Axes, why: str) -> None:
    """Say why there is nothing to draw, and draw no scale that nothing was measured on."""
    plotting.empty(axes, why)
    axes.tick_params(which="both", left=False, bottom=False, labelleft=False, labelbottom=False)
    axes.grid(False)


# --- finished models ----------------------------------------------------------------------------------------------


def first_model(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first model."""
    return next((group for _, group in frame.groupby(tidy.MODEL)), frame)


def ranks(axes: Axes, exposure: pd.DataFrame) -> None:
    """Rank of the inserted canary in every model: exact, or bounds and estimate where the walk was not finished."""
    axes.set(xlabel="model", ylabel="rank (1 = most likely)", yscale="log")
    known = tidy.known_ranks(exposure)
    if known[["rank", "rank_low", "importance"]].isna().all(axis=None):
        return nothing(axes, "no exact rank was computed")
    done, x = known["rank"].notna(), known.index + 1
    axes.axhspan(0.7, 10, color=COLORS["paper"], alpha=0.06, lw=0, label="paper: rank ≤ 10 (verified, v1)")
    axes.vlines(x, known["rank_low"], known["rank_high"], color=COLORS["exact"], lw=1, alpha=0.5)
    if done.any():
        label = f"exact rank: 1 in {(known['rank'] == 1).sum()} of {done.sum()}"
        axes.scatter(x[done], known.loc[done, "rank"], s=16, color=COLORS["exact"], zorder=3, label=label)
    guess = known[~done].dropna(subset=["importance", "importance_low"], how="all")
    if len(guess):
        middle, most, least = (
            2.0 ** (guess["space_bits"] - guess[f"importance{end}"]) for end in ("", "_low", "_high")
        )
        axes.vlines(x[guess.index], least, most, color=COLORS["importance"], lw=0.9)
        style = {"s": 12, "marker": "D", "facecolor": "white", "edgecolor": COLORS["importance"], "zorder": 3}
        axes.scatter(x[guess.index], middle, label="rank by importance sampling, 95 %", **style)
    if not done.all():
        axes.plot([], [], " ", label=f"exact walk not finished: {(~done).sum()}")
    axes.set_ylim(0.7, max(100, axes.get_ylim()[1]))
    _model_axis(axes, len(known))
    return None


def gaps(axes: Axes, gap: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Gap in bits from the canary to the cheapest other fill, per model (rows of `tidy.gaps`)."""
    axes.set(xlabel="model", ylabel="gap (bits)")
    if not len(gap):
        return nothing(axes, "no list of the most likely fills")
    paper, mark = plotting.value(reference, "gap to runner-up")
    plotting.paper_line(axes, paper, mark, f"paper: gap {paper:.2f}")
    axes.axhline(0, color="#444444", lw=0.7)
    axes.scatter(gap.index + 1, gap["gap_bits"], s=16, color=COLORS["canary"], zorder=3, label="gap, one model")
    median = statistics.bootstrap_interval(gap["gap_bits"], np.median)
    if np.isfinite(median.low):
        axes.axhspan(
            median.low, median.high, color=COLORS["canary"], alpha=0.15, lw=0, label="median gap, 95 % bootstrap"
        )
    highest = np.nanmax([paper, gap["gap_bits"].max(), 1])
    axes.set_ylim(min(-1, 1.2 * gap["gap_bits"].min()), 1.15 * highest)
    _model_axis(axes, len(gap))
    return None


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
        return nothing(axes, "no sampled costs")
    total = counts["count"].sum()
    share = 100 * counts["count"] / total / (counts["high_bits"] - counts["low_bits"])
    edges = [*counts["low_bits"], counts["high_bits"].iloc[-1]]
    axes.stairs(share, edges, fill=True, color=COLORS["model"], alpha=0.7, label=f"{total:,.0f} sampled fills")
    if len(fit):
        f = fit.iloc[0]
        x = np.linspace(min(counts["low_bits"].min(), *canary) - 2, counts["high_bits"].max() + 2, 400)
        density = 100 * stats.skewnorm.pdf(x, f["shape"], f["location_bits"], f["scale_bits"])
        label = f"skew-normal fit (K-S of (a): bootstrap p = {f['ks_p_bootstrap']:.2g})"
        axes.plot(x, density, color=COLORS["skew_normal"], ls="--", label=label)
    _canary_line(axes, canary)
    paper, mark = plotting.value(reference, "inserted canary")
    plotting.paper_line(axes, paper, mark, "paper's canary", vertical=True)
    axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
    return None


def tail(axes: Axes, counts: pd.DataFrame, fit: pd.DataFrame, top: pd.DataFrame, canary: pd.Series) -> None:
    """-log2 P(cost <= x) of one model's fills: exact from the most likely ones, sampled, and by the fit."""
    axes.set(xlabel="log-perplexity (bits)", ylabel="exposure at that cost (bits)")
    if not len(fit):
        return nothing(axes, "no skew-normal fit")
    f = fit.iloc[0]
    if len(top):
        exact = f["space_bits"] - np.log2(top["position"])
        label = "exact tail (most likely fills)"
        axes.plot(top["cost_bits"], exact, color=COLORS["exact"], marker=".", ms=1.5, lw=1, label=label)
    if len(counts):
        cumulative = counts["count"].cumsum() / counts["count"].sum()
        bits = -np.log2(cumulative.where(cumulative > 0))
        axes.plot(counts["high_bits"], bits, color=COLORS["sampled"], lw=2.2, alpha=0.8, label="sampled tail")
    start = min([*canary[:1], *top["cost_bits"], *counts["low_bits"], f["location_bits"]])
    x = np.linspace(start - 1, f["location_bits"] + 2 * f["scale_bits"], 300)
    fitted = -log_cdf(x, f["shape"], f["location_bits"], f["scale_bits"]) / LN2
    axes.plot(x, fitted, color=COLORS["skew_normal"], ls="--")
    plotting.ceiling(axes, f["space_bits"])
    _canary_line(axes, canary)
    median = stats.skewnorm.median(f["shape"], f["location_bits"], f["scale_bits"])
    axes.set_xlim(start - 2, max([median, *canary[:1]]) + 2)
    axes.set_ylim(0, max(45, 1.35 * f["space_bits"]))
    return None


def tail_error(axes: Axes, top: pd.DataFrame, fit: pd.DataFrame) -> None:
    """Skew-normal minus exact exposure at the most likely fills, all models: how far extrapolation is off."""
    axes.set(xlabel="exact rank of the fill", ylabel="skew-normal − exact (bits)")
    axes.axhline(0, color=COLORS["exact"], lw=0.8)
    joined = top.merge(fit[[*tidy.MODEL, "location_bits", "scale_bits", "shape", "space_bits"]], on=tidy.MODEL)
    if not len(joined):
        return nothing(axes, "needs the exact most likely fills and a fit")
    exact = joined["space_bits"] - np.log2(joined["position"])
    fitted = [
        pd.Series(log_cdf(one["cost_bits"], *one[["shape", "location_bits", "scale_bits"]].iloc[0]), one.index)
        for _, one in joined.groupby(tidy.MODEL)
    ]
    joined = joined.assign(error=-pd.concat(fitted) / LN2 - exact)
    every = joined.groupby("position")["error"].transform("count") == joined[tidy.MODEL].drop_duplicates().shape[0]
    plotting.band(axes, joined[every], "position", "error", COLORS["skew_normal"], "mean error, 95 %")
    canary = joined[joined["is_canary"]]
    axes.scatter(
        canary["position"], canary["error"], s=14, color=COLORS["canary"], zorder=4, label="error at the canary"
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    return None


# --- exposure while training --------------------------------------------------------------------------------------


def methods(axes: Axes, measures: pd.DataFrame, ceiling: float = np.inf) -> None:
    """Exposure of the inserted canary by every method that was measured, with the null band of the controls.

    Exact and importance-sampled means only where every model has a value, else one dot per model: the models that lack
    one are not like the others.
    """
    controls = measures[(measures["kind"] == "control") & (measures["method"] == "sampled")]
    plotting.null_band(axes, controls, "epoch" if len(controls) else None)
    for method in ("skew_normal", "exact", "sampled", "importance"):
        style = {"sampled": {"lw": 1.1, "ls": "-."}, "importance": {"lw": 1.1, "ls": ":"}}.get(method, {})
        rows, color = tidy.points(measures, method), COLORS[method]
        if method in ("exact", "importance"):
            finished = rows.groupby("epoch").size()
            every = rows["epoch"].isin(finished.index[finished == tidy.count_models(measures)])
            part, rows = rows[~every], rows[every]
            if len(part):
                label = f"{LABELS[method]}, single models"
                axes.plot(part["epoch"], part["exposure_bits"], ".", color=color, ms=3.5, alpha=0.7, label=label)
        plotting.band(
            axes, rows, "epoch", "exposure_bits", color, LABELS[method], shade=method == "skew_normal", **style
        )
        if method == "exact" and len(rows):
            summary = plotting.intervals(rows, "epoch", "exposure_bits")
            high = np.minimum(summary["high"], ceiling)  # no exact exposure lies beyond it
            axes.fill_between(summary["epoch"], summary["low"], high, color=color, alpha=0.2, lw=0, zorder=2)
    plotting.flag_extrapolated(axes, tidy.points(measures, "skew_normal"), "epoch", "exposure_bits")
    sampled = tidy.points(measures, "sampled")
    sampled = sampled.assign(beyond=sampled["extrapolated"].astype(float))
    mean = sampled.groupby("epoch")[["exposure_bits", "beyond"]].mean().query("beyond > 0")
    if len(mean):  # one model whose canary beats all references makes the mean a lower bound
        style = {"ls": "", "marker": "$\\uparrow$", "ms": 5, "mew": 0.2, "color": COLORS["sampled"], "zorder": 4}
        axes.plot(mean.index, mean["exposure_bits"], label="sampled: lower bound", **style)
    axes.set(xlabel="epoch", ylabel="exposure (bits)")


# --- search and extraction ----------------------------------------------------------------------------------------


def cost(axes: Axes, frame: pd.DataFrame, x: str) -> None:
    """Queries until the search returns the canary (rows of `tidy.trials`) against exposure `x`, log scale.

    Where it was not reached: what is proven (an arrow), joined with what importance sampling estimates; there it
    stands in for the exact exposure too, with its 95 % interval.
    """
    axes.set(xlabel=f"{x.replace('_', '-')} exposure (bits)", yscale="log")
    if x == "exact":
        if frame["bound"].any():
            axes.set_xlabel("exact exposure (bits; ◇ ↑: importance-sampled)")
        frame = frame.assign(exact=frame["exact"].fillna(frame["importance"]))
    frame = frame.dropna(subset=[x])
    if not len(frame):
        return nothing(axes, f"no {x.replace('_', '-')} exposure")
    full = tidy.full_walk(frame["space_bits"].max())
    axes.axhline(full, color=COLORS["muted"], lw=0.9, label=f"all {full:,.0f} prefixes")
    proven = frame["extracted"] & frame["provable"]
    kinds = (
        ("returned by the search", proven, "o", COLORS["exact"]),
        ("counted by the exact walk", ~proven & ~frame["bound"], "s", COLORS["sampled"]),
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
    guess = frame[frame["bound"] & frame["planned"].notna()]
    if len(guess):
        style = {"s": 14, "marker": "D", "facecolor": "white", "edgecolor": COLORS["importance"], "linewidths": 0.9}
        axes.vlines(guess[x], guess["queries"], guess["planned"], color=COLORS["control"], lw=0.5, zorder=2)
        axes.scatter(guess[x], guess["planned"], zorder=3, label="its estimate by importance sampling", **style)
        if x == "exact":
            limits = guess["importance_low"], guess["importance_high"]
            axes.hlines(guess["planned"], *limits, color=COLORS["importance"], lw=0.8, zorder=2)
    if x == "skew_normal":
        axes.scatter([], [], s=14, facecolor="white", edgecolor="#444444", label="open: extrapolated estimate")
    plotting.ceiling(axes, frame["space_bits"].max(), vertical=True)
    return None


def success(axes: Axes, frame: pd.DataFrame, x: str) -> None:
    """Ticks at 0 and 1 for every decided search; the logistic on estimated, the necessary step on exact exposure."""
    axes.set(xlabel=f"{x.replace('_', '-')} exposure (bits)")
    total = len(frame)
    frame = frame[frame["decided"]].dropna(subset=[x]).reset_index(drop=True)
    if not len(frame):
        return nothing(axes, f"no decided search with {x.replace('_', '-')} exposure")
    won = frame["success"]
    label = f"trials: {won.sum()} of {len(won)} succeed"
    axes.plot(frame[x], won.astype(float), "|", color=COLORS["canary"], ms=9, mew=0.9, alpha=0.8, zorder=3, label=label)
    if total > len(frame):
        why = "no finished exact walk" if x == "exact" else "outcome not certain"
        axes.plot([], [], " ", label=f"not drawn: {total - len(frame)} ({why})")
    space = frame["space_bits"].max()
    plotting.ceiling(axes, space, vertical=True)
    if x == "exact":
        proven = frame[frame["provable"]]
        agree = (proven["extracted"] == (proven["rank"] == 1)).sum()
        label = f"success ⇔ rank 1: holds in {agree}\nof {len(proven)} proven searches"
        axes.step([0, space, space + 1], [0, 1, 1], where="post", color=COLORS["exact"], label=label)
        return None
    middle = midpoint_of(frame)
    if np.isfinite(middle.estimate):
        intercept, slope = statistics.firth_logistic(frame[x], won)
        high = f"{middle.high:.1f}" if np.isfinite(middle.high) else "∞"
        label = f"logistic, midpoint {middle.estimate:.1f}\n[{middle.low:.1f}, {high}] (95 %)"
        seen = (frame[x].min(), frame[x].max())
        for ends, style in ((seen, {"label": label}), ((0, seen[0]), {"ls": ":"}), ((seen[1], 42), {"ls": ":"})):
            if ends[0] < ends[1]:  # dotted where no trial was
                grid = np.linspace(*ends, 200)
                rate = special.expit(intercept + slope * grid)
                axes.plot(grid, rate, color=COLORS["skew_normal"], **style)
    return None
