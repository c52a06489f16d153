"""Figures on defences: what each leaves of the canary and what it costs (beyond), and the paper's text-only results."""

from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import plotting, statistics, tidy, tidy_defences
from memorization.panels import nothing
from memorization.plotting import COLORS, styled

NAMES = {
    "dropout": lambda level: f"dropout {100 * float(level):.0f} %",
    "weight decay": lambda level: f"weight decay {level}",
    "sanitise": lambda level: {"deduplicate": "lines deduplicated", "mask_digits": "digits masked"}[level],
    "privacy": lambda level: f"differential privacy, ε = {level}",
}
"""Defence -> level -> label."""
NINE_DIGITS = 9 * float(np.log2(10))
UNDEFENDED, STOPPED, EIGHT_BITS = "no defence", "early stopping", "8-bit weights"


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """One row per model and defence: canary, label, pair, bits, bound, loss (test, nats per character).

    Of 8-bit weights the loss is the undefended model's plus what the change of its weights costs on single lines.
    """
    frame = tidy_defences.epochs(table)
    frame = frame[~frame["defence"].isin(tidy_defences.VARIANTS)].rename(columns={"test_loss_nats": "loss"})
    plain = frame[frame["defence"] == "none"]
    final = tidy_defences.last(frame)
    label = [NAMES[d](v) if d in NAMES else UNDEFENDED for d, v in zip(final["defence"], final["level"], strict=True)]
    parts = [final.assign(label=label)]
    early = tidy_defences.stopped(plain[(plain["canary"] == "digits") & _every_epoch(plain)])
    parts.append(early.assign(label=STOPPED))
    rounded = tidy_defences.quantised(table).merge(
        tidy_defences.last(plain)[[*tidy.MODEL, "canary", "loss"]], on=tidy.MODEL
    )
    if len(rounded):
        loss = rounded["loss"] + rounded["loss_int8"] - rounded["loss_none"]
        parts.append(rounded.assign(label=EIGHT_BITS, bits=rounded["bits_int8"], bound=False, loss=loss))
    return pd.concat(parts, ignore_index=True)[["canary", "label", "pair", "bits", "bound", "loss"]]


def _every_epoch(frame: pd.DataFrame) -> pd.Series:
    """Models that were measured more than once: of the others no best epoch is known."""
    return frame.groupby(tidy.MODEL)["step"].transform("nunique") > 1


@styled
def defences(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Exposure and test loss under every defence, beside the undefended model."""
    rows = compared(table)
    order = _order(rows)
    figure = plotting.new_figure(1.3 + 0.24 * max(len(order), 4))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
    ceilings = tidy_defences.ceilings(table)
    _forest(left, rows, order, "bits", COLORS["canary"], ceilings)
    _forest(right, rows, order, "loss", COLORS["loss"])
    if len(rows):
        _null_span(left, tidy_defences.controls(table))
        for kind, bits in ceilings.items():
            at = [y for y, (canary, _) in enumerate(order) if canary == kind]
            if at:
                style = {"color": COLORS["exact"], "lw": 0.9, "ls": (0, (1, 1.5)), "zorder": 1}
                label = "extractable: log$_2$|R|" if kind == "digits" else None
                left.plot([bits, bits], [min(at) - 0.5, max(at) + 0.5], label=label, **style)
    at, mark = plotting.value(reference, "early stopping", "exposure at the least loss")
    if np.isfinite(at) and ("digits", STOPPED) in order:
        y = order.index(("digits", STOPPED)) + 0.25
        left.plot(
            at, y, "v", color=COLORS["paper"], ms=4, label=f"paper, another text ({mark.replace(' (v1)', ', v1')})"
        )
    left.set(xlabel="exposure at the end of training (bits)", xlim=(-0.5, None))
    right.set(xlabel="test loss (nats per character)")
    left.set_title("(a) What is left of the canary")
    right.set_title("(b) What it costs")
    plotting.legend_below(figure, (left,), 3)
    return figure


def _null_span(axes: Axes, controls: pd.DataFrame) -> None:
    """As `plotting.null_band`, on a horizontal axis."""
    low, high = controls["exposure_bits"].quantile([0.05, 0.95]) if len(controls) else statistics.exponential_band(0.9)
    axes.axvspan(low, high, color=COLORS["control"], alpha=0.25, lw=0, zorder=0, label="not inserted, 5–95 %")


def _order(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """(canary, label) from the bottom up: letters below digits, the most exposed on top, the undefended first."""
    means = rows.groupby(["canary", "label"])["bits"].mean()
    rank = {"letters": 0, "digits": 1}
    return sorted(means.index, key=lambda key: (rank[key[0]], key[1] == UNDEFENDED, means[key]))


def _forest(
    axes: Axes,
    rows: pd.DataFrame,
    order: list[tuple[str, str]],
    value: str,
    color: str,
    most: dict[str, float] = MappingProxyType({}),
) -> None:
    """Models as dots, mean and Student's 95 % interval from three models on, the undefended mean as a line."""
    if not rows[value].notna().any():
        return nothing(axes, "nothing was measured")
    for y, (canary, label) in enumerate(order):
        group = rows[(rows["canary"] == canary) & (rows["label"] == label)].dropna(subset=[value])
        if not len(group):
            continue
        first = y == len(order) - 1
        axes.scatter(group[value], np.full(len(group), y - 0.22), s=10, color=color, alpha=0.6, linewidths=0, zorder=3,
                     label="single models" if first else None)  # fmt: skip
        told = "mean, 95 % from 3 models on" if first else None
        _interval(axes, group[value], y, color, most=most.get(canary, np.inf), horizontal=True, label=told)
        if value == "bits" and group["bound"].any():
            low = group[group["bound"]]
            axes.plot(low[value], np.full(len(low), y), ls="", marker="$\\rightarrow$", ms=6, color=color, zorder=5)
    for kind in ("digits", "letters"):
        at = [y for y, (canary, _) in enumerate(order) if canary == kind]
        plain = rows[(rows["canary"] == kind) & (rows["label"] == UNDEFENDED)][value].mean()
        if at and np.isfinite(plain):
            name = "undefended mean" if kind == "digits" else None
            axes.plot([plain, plain], [min(at) - 0.5, max(at) + 0.5], color="#444444", lw=0.8, zorder=1, label=name)
    axes.set_yticks(range(len(order)), [("letters: " if c == "letters" else "") + name for c, name in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    edge = sum(canary == "letters" for canary, _ in order)
    if 0 < edge < len(order):
        axes.axhline(edge - 0.5, color="#BBBBBB", lw=0.7)
    return None


def _interval(
    axes: Axes,
    values: pd.Series,
    at: float,
    color: str,
    *,
    most: float = np.inf,
    horizontal: bool = False,
    label: str | None = None,
) -> None:
    """Mean and Student's 95 % interval from three models on, cut at `most`, beyond which nothing can be measured."""
    mean, low, high = statistics.t_interval(values)
    style = {"fmt": "D", "ms": 3.6, "color": color, "mec": "white", "mew": 0.4, "elinewidth": 1.3, "zorder": 4}
    error = [[mean - low], [max(min(high, most) - mean, 0)]] if len(values) > 2 else None
    place = {"x": mean, "y": at, "xerr": error} if horizontal else {"x": at, "y": mean, "yerr": error}
    axes.errorbar(**place, label=label, **style)


# --- the paper's text-only results --------------------------------------------------------------------------------


@styled
def text_defences(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Dropout, weight decay, 8-bit weights, optimisers and bagging at equal loss: exposure, and test loss beside it."""
    figure = plotting.new_figure(4.6)
    axes, never = figure.subplots(2, 2), tidy_defences.controls(table)
    frame = tidy_defences.epochs(table)
    final = tidy_defences.last(frame[frame["canary"] == "digits"])
    twins = [_levels(axes[0, 0], final, "dropout"), _levels(axes[0, 1], final, "weight decay")]
    _dropout_reference(axes[0, 0], reference)
    _eight_bits(axes[1, 0], tidy_defences.quantised(table), reference)
    _variants(axes[1, 1], table)
    axes[0, 0].set(title="(a) Dropout (X1)", xlabel="share dropped (%)")
    axes[0, 1].set(title="(b) Weight decay (X2)", xlabel="weight decay")
    axes[1, 0].set_title("(c) The same models with 8-bit weights (X3)")
    axes[1, 1].set_title("(d) At equal validation loss (X4)")
    for one in axes.flat:
        plotting.ceiling(one, tidy_defences.ceilings(table)["digits"])
        plotting.null_band(one, never)
        one.set_ylim(-0.5, 33)
    for one in axes[:, 0]:
        one.set_ylabel("exposure (bits)")
    plotting.legend_below(figure, [*axes.flat, *[t for t in twins if t is not None]], 3)
    return figure


def _levels(axes: Axes, final: pd.DataFrame, defence: str) -> Axes | None:
    """Exposure (left axis) and test loss (right) at each level of a defence; level 0 is the undefended model."""
    frame = final[final["defence"].isin(["none", defence])]
    if not (frame["defence"] == defence).any():
        return nothing(axes, f"no model with {defence}")
    levels = pd.to_numeric(frame["level"].replace("", "0"))
    names = sorted(levels.unique())
    right = axes.twinx()
    for x, level in enumerate(names):
        group = frame[levels == level]
        first = x == 0
        spread = np.full(len(group), x - 0.12)
        axes.scatter(spread, group["bits"], s=9, color=COLORS["canary"], alpha=0.5, linewidths=0,
                     label="exposure of single models" if first else None)  # fmt: skip
        told = "mean, 95 % from 3 models on" if first else None
        _interval(axes, group["bits"], x, COLORS["canary"], most=NINE_DIGITS, label=told)
        loss = "test loss, mean, 95 %" if first else None
        _interval(right, group["test_loss_nats"], x + 0.15, COLORS["loss"], label=loss)
    axes.set_xticks(range(len(names)), [f"{100 * v:.0f}" if defence == "dropout" else f"{v:g}" for v in names])
    axes.set_xlim(-0.5, len(names) - 0.5)
    right.set_ylabel("test loss (nats per char.)", color=COLORS["loss"])
    right.tick_params(axis="y", colors=COLORS["loss"])
    right.spines["right"].set(visible=True, color=COLORS["loss"])
    right.grid(False)
    return right


def _dropout_reference(axes: Axes, reference: pd.DataFrame) -> None:
    most, mark = plotting.value(reference, "X1 dropout", "no significant effect up to")
    if np.isfinite(most):
        told = f"paper: no significant effect up to {most:g} % ({mark})"
        axes.text(0.5, 0.03, told, transform=axes.transAxes, fontsize=6.8, ha="center", va="bottom")


def _eight_bits(axes: Axes, frame: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Exposure with own and with 8-bit weights, a line per model; losses as text."""
    if not len(frame):
        return nothing(axes, "no model was attacked with 8-bit weights")
    both = frame[["bits_none", "bits_int8"]].to_numpy()
    for pair in both:
        axes.plot([0, 1], pair, color=COLORS["canary"], lw=0.8, alpha=0.6, marker="o", ms=3)
    for x, name in enumerate(("bits_none", "bits_int8")):
        _interval(axes, frame[name], x + (0.1 if x else -0.1), COLORS["canary"], most=NINE_DIGITS)
    axes.set_xticks([0, 1], ["float32", "8-bit"])
    axes.set_xlim(-0.5, 1.5)
    first = frame[frame["rank_none"] == 1]
    told = [f"rank 1 before: {len(first)} of {len(frame)}, after: {int((first['rank_int8'] == 1).sum())} of those"]
    if frame["loss_none"].notna().any():
        told.append(f"ours: test loss {frame['loss_none'].mean():.3f} → {frame['loss_int8'].mean():.3f} nats")
    before, mark = plotting.value(reference, "X3 quantisation", "test loss before")
    after, _ = plotting.value(reference, "X3 quantisation", "test loss after")
    if np.isfinite(before):
        told.append(f"paper: {before:.2f} → {after:.2f} nats, still rank 1 ({mark})")
    axes.text(0.5, 0.03, "\n".join(told), transform=axes.transAxes, fontsize=6.8, va="bottom", ha="center")
    return None


DRAWN = {"without_replacement": "shuffled", "with_replacement": "bagging"}
"""training.sampling -> the paper's word."""


def _variants(axes: Axes, table: pd.DataFrame) -> None:
    """Optimisers, the least exposed first, then both ways of drawing windows, which are matched on their own."""
    found = [(what, tidy_defences.matched(tidy_defences.variants(table, what))) for what in tidy_defences.VARIANTS]
    found = [(what, frame) for what, frame in found if len(frame) and frame[what].nunique() > 1]
    if not found:
        return nothing(axes, "fewer than two optimisers, and no bagging")
    at, ticks, edge = 0.0, {}, []
    for what, frame in found:
        order = frame.groupby(what)["bits"].mean().sort_values().index if what == "optimizer" else DRAWN
        for name in order:
            group = frame[frame[what] == name]
            dots = {"s": 9, "color": COLORS["canary"], "alpha": 0.5, "linewidths": 0}
            axes.scatter(np.full(len(group), at - 0.12), group["bits"], **dots)
            _interval(axes, group["bits"], at, COLORS["canary"], most=NINE_DIGITS)
            ticks[at] = f"{DRAWN.get(name, name)}\n{group['validation_loss_nats'].mean():.2f}"
            at += 1
        edge.append(at - 0.3)
        at += 0.4
    for x in edge[:-1]:
        axes.axvline(x, color="#BBBBBB", lw=0.7)
    axes.set_xticks(list(ticks), ticks.values(), fontsize=6.8 - 0.6 * max(0, len(ticks) - 5))
    axes.set_xlim(-0.5, max(ticks) + 0.5)
    names = {"optimizer": "optimiser", "sampling": "windows"}
    axes.set_xlabel(" | ".join(names[what] for what, _ in found) + ", validation loss (nats per char.)")
    told = "paper: no significant difference (unverified)"
    axes.text(0.5, 0.03, told, transform=axes.transAxes, fontsize=6.8, ha="center", va="bottom")
    return None
