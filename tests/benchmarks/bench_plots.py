"""One plot per comparison: bars of ratios, or how cost and ratio grow with a size."""

import math

import pandas as pd
from comparisons import Comparison
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from memorization import plotting

BACKENDS = {"torch": "PyTorch", "tf": "TensorFlow", "driver": "NumPy, SciPy"}
RIVALS = ("control", "skew_normal", "sampled", "importance", "loss", "muted")
"""Colours of the ways that are not ours, in the order in which they appear."""
STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))
SIZE_NAMES = {
    "space": "fills in the canary's space",
    "units": "units per layer",
    "states": "states per step",
    "batch": "windows per batch",
}


def color_of(way: str, ways: list[str]) -> str:
    """Ours blue, parts of ours under another's engine pale, all others each a colour of its own."""
    words = way.replace(",", "").split()
    if words[0] == "ours":
        mine = [other for other in ways if other.split(",")[0].split()[0] == "ours"]
        return plotting.COLORS["exact" if way == mine[0] or len(mine) > 4 else "model"]
    if "our" in words:
        return plotting.COLORS["model"]
    rivals = [other for other in ways if not other.startswith("ours")]
    return plotting.COLORS[RIVALS[rivals.index(way) % len(RIVALS)]]


def times(value: float) -> str:
    """`0.93 ×`, `21.8 ×`, `1,340 ×`."""
    return f"{value:,.0f} ×" if value >= 100 else f"{value:.3g} ×"


def duration(seconds: float) -> str:
    """With a unit that leaves few zeros; hours and days above an hour."""
    for unit, factor in (("days", 86400.0), ("h", 3600.0)):
        if seconds >= 2 * factor:
            return f"{seconds / factor:,.3g} {unit}"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{number(seconds * factor)} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def number(value: float) -> str:
    """Three significant digits, never as a power of ten above one."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw(part: pd.DataFrame, comparison: Comparison) -> Figure:
    """The plot of one comparison's rows."""
    return growth(part, comparison) if comparison.grows else bars(part, comparison)


def provenance(figure: Figure, part: pd.DataFrame) -> None:
    where = "; ".join(part["hardware"].unique())
    plotting.footer(figure, f"Least of the repeats. {where}. {part['date'].max()}.")


@plotting.styled
def bars(part: pd.DataFrame, comparison: Comparison) -> Figure:
    """Ratios (on a log axis where they differ much), a panel per back end, with the time of one call beside each."""
    backends = [name for name in BACKENDS if name in set(part["backend"])]
    heights = [len(part[part["backend"] == name]) for name in backends]
    figure = plotting.new_figure(0.5 * len(backends) + 0.23 * sum(heights))
    panels = figure.subplots(len(backends), 1, height_ratios=heights, squeeze=False, sharex=True)[:, 0]
    wide = part["ratio"].max() > 5 * part["ratio"].min()
    least = 0.5 * min(1.0, part["ratio"].min()) if wide else 0.0
    for axes, backend in zip(panels, backends, strict=True):
        _panel(axes, part[part["backend"] == backend], comparison, least)
        axes.set_title(f"{BACKENDS[backend]}: 1 = {comparison.base_of(backend)}")
    if wide:
        panels[0].set_xscale("log")
        panels[0].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    panels[0].set_xlim(least, (6 if wide else 1.3) * part["ratio"].max())
    panels[-1].set_xlabel("time, as a multiple of the base's")
    provenance(figure, part)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, comparison: Comparison, least: float) -> None:
    """Bars of one back end, which begin at `least`."""
    ordered = comparison.as_measured or rows["part"].notna().any()
    rows = rows[::-1] if ordered else rows.sort_values("ratio", ascending=False)
    ours = rows["way"].str.replace(",", "").str.split()
    kinds = ["exact" if w[0] == "ours" else "model" if "our" in w else "control" for w in ours]
    labels = rows["way"].where(rows["part"].isna(), rows["part"].astype(str) + ": " + rows["way"])
    colors = [plotting.COLORS[kind] for kind in kinds]
    drawn = axes.barh(labels, rows["ratio"] - least, left=least, color=colors, height=0.7)
    texts = [f" {times(r)}, {duration(s)}" for r, s in zip(rows["ratio"], rows["seconds_min"], strict=True)]
    axes.bar_label(drawn, texts, fontsize=6.8)
    axes.axvline(1, color=plotting.COLORS["muted"], linewidth=0.7, zorder=0.5)


@plotting.styled
def growth(part: pd.DataFrame, comparison: Comparison) -> Figure:
    """(a) items per second, or seconds in all, and (b) ratio to the base, against the size that grows; logarithmic."""
    figure = plotting.new_figure(2.5)
    left, right = figure.subplots(1, 2)
    ways, base = list(dict.fromkeys(part["way"])), part["base"].iloc[0]
    others = sorted(part[comparison.lines].dropna().unique()) if comparison.lines else [math.nan]
    for way in ways:
        for (style, marker), other in zip(STYLES, others, strict=False):
            rows = part[part["way"] == way]
            rows = rows[rows[comparison.lines] == other] if comparison.lines else rows
            rows = rows.sort_values(comparison.grows)
            label = f"{way}, {other:,.0f} {comparison.lines}" if comparison.lines else way
            label += " (1 ×)" if way == base else ""
            how = {"color": color_of(way, ways), "ls": style, "marker": marker, "ms": 3, "label": label}
            left.plot(rows[comparison.grows], rows["seconds_min" if comparison.in_all else "per_second"], **how)
            if way != base:
                right.plot(rows[comparison.grows], rows["ratio"], **how)
    right.axhline(1, color=plotting.COLORS["muted"], lw=0.7, zorder=1)
    titles = ("(a) seconds" if comparison.in_all else f"(a) {comparison.unit} per second", "(b) time, the base's = 1")
    for axes, title in zip((left, right), titles, strict=True):
        _logarithmic(axes, sorted(part[comparison.grows].dropna().unique()), comparison.grows)
        axes.set_title(title)
    plotting.legend_below(figure, [left], 3)
    provenance(figure, part)
    return figure


def _logarithmic(axes: Axes, sizes: list[float], name: str) -> None:
    """Both axes; the sizes that were measured are the ticks where they are few."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(SIZE_NAMES.get(name, name))
    low, high = axes.get_ylim()
    if high < 50 * low:  # so few decades that powers of ten would leave the axis bare
        near = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
        axes.yaxis.set_major_locator(near if high < 5 * low else LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.3g}" if y < 1000 else f"{y:,.0f}"))
        axes.yaxis.set_minor_locator(NullLocator())
    if len(sizes) <= 8 and max(sizes) < 1e4:
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        axes.set_xticks([], minor=True)
