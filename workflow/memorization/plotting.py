"""One style for every figure: colours, intervals over replicates, the paper's own values, footers, saving.

Figures are built without pyplot, so nothing is global and no display is needed. Colours are Okabe and Ito's,
safe for colour-blind readers, and mean the same thing everywhere.
"""

import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from memorization import contracts, statistics, tidy

WIDTH = 7.0
"""Inches: two columns of a paper."""

COLORS = {
    "canary": "#D55E00",
    "control": "#9A9A9A",
    "exact": "#0072B2",
    "sampled": "#009E73",
    "skew_normal": "#E69F00",
    "importance": "#CC79A7",
    "paper": "#000000",
    "loss": "#7B4B94",
    "model": "#56B4E9",
    "muted": "#6B6B6B",
}
LABELS = {
    "exact": "exact",
    "importance": "importance-sampled",
    "sampled": "sampled",
    "skew_normal": "skew-normal, the paper's way",
}
METHODS = ("exact", "importance", "sampled", "skew_normal")
_VERIFIED = ("verified", "verified (v1)", "derived")
_FOOTER_INCHES = 0.34

_STYLE = {
    **sns.axes_style("ticks", {"axes.grid": True, "grid.color": "#ECECEC", "grid.linewidth": 0.6}),
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.edgecolor": "#444444",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.fontsize": 6.8,
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.edgecolor": "none",
    "legend.borderpad": 0.3,
    "lines.linewidth": 1.4,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}


def styled(draw: Callable) -> Callable:
    """Decorator: run `draw` under the style sheet, and leave the caller's settings alone."""

    @wraps(draw)
    def wrapped(*args, **kwargs) -> Figure:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapped


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure in inches; constrained layout that leaves the footer's space at the bottom."""
    figure = Figure(figsize=(width, height + _FOOTER_INCHES))
    FigureCanvasAgg(figure)
    bottom = _FOOTER_INCHES / (height + _FOOTER_INCHES)
    figure.set_layout_engine("constrained", rect=(0, bottom, 1, 1 - bottom), w_pad=0.06, h_pad=0.05)
    return figure


def footer(figure: Figure, text: str) -> None:
    """Provenance in small grey type below the axes: scale, data, run ids. At most two lines are kept."""
    lines = textwrap.wrap(text, int(24 * figure.get_figwidth()))
    shown = lines if len(lines) <= 2 else [lines[0], lines[1][:-1] + "…"]
    figure.text(
        0.008,
        0.05 / figure.get_figheight(),
        "\n".join(shown),
        fontsize=5.8,
        color=COLORS["muted"],
        va="bottom",
    )


def save(figure: Figure, pdf: Path, png: Path) -> None:
    """Write both files atomically and without dates: the same figure gives the same bytes.

    Laying out costs half of the time: it is done once, for the PNG, and the PDF has its places.
    """
    for path, options in (
        (png, {"format": "png", "metadata": {"Software": None}}),
        (pdf, {"format": "pdf", "metadata": {"CreationDate": None}}),
    ):
        with contracts.atomic(Path(path)) as temporary, mpl.rc_context(_STYLE):
            figure.savefig(temporary, **options)
        figure.set_layout_engine("none")


def empty(axes: Axes, why: str) -> None:
    """Say in the panel why there is nothing to draw."""
    axes.text(
        0.5,
        0.5,
        textwrap.fill(why, 34),
        transform=axes.transAxes,
        ha="center",
        va="center",
        color=COLORS["muted"],
    )


def models(n: int) -> str:
    """`1 model`, `5 models`."""
    return f"{n} model" + "s" * (n != 1)


def intervals(frame: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Columns x, mean, low, high, n: mean of `y` over models at every `x`, Student's 95 % interval from 3
    models on.
    """
    listed = []
    for value, group in frame.dropna(subset=[y]).groupby(x):
        few = len(group) < 3
        mean, low, high = statistics.t_interval(group[y])
        listed.append((value, mean, np.nan if few else low, np.nan if few else high, len(group)))
    return pd.DataFrame(listed, columns=[x, "mean", "low", "high", "n"])


def band(
    axes: Axes, frame: pd.DataFrame, x: str, y: str, color: str, label: str, *, shade: bool = True, **line
) -> None:
    """Mean over models; with `shade` also its 95 % interval and a thin line per model."""
    frame = frame.dropna(subset=[y])
    if not len(frame):
        return
    summary = intervals(frame, x, y)
    if shade:
        axes.fill_between(summary[x], summary["low"], summary["high"], color=color, alpha=0.2, lw=0, zorder=2)
    if shade and summary["n"].max() > 1:
        for _, one in frame.groupby(tidy.MODEL):
            axes.plot(one[x], one[y], color=color, lw=0.4, alpha=0.25, zorder=2)
    label = f"{label}, n = {summary['n'].max()}"
    axes.plot(summary[x], summary["mean"], color=color, label=label, zorder=3, **line)


def null_band(axes: Axes, controls: pd.DataFrame, x: str | None = None, *, label: bool = True) -> None:
    """5 to 95 % of the exposure of canaries that were not inserted; by the exponential law where none were
    measured.
    """
    name = "not inserted, 5–95 %"
    if x is None or not len(controls):
        low, high = statistics.exponential_band(0.90)
        if len(controls):
            low, high = controls["exposure_bits"].quantile([0.05, 0.95])
        else:
            name += " (exponential law)"
        axes.axhspan(low, high, color=COLORS["control"], alpha=0.25, lw=0, zorder=0, label=name if label else None)
        return
    limits = controls.groupby(x)["exposure_bits"].quantile([0.05, 0.95]).unstack()
    axes.fill_between(
        limits.index, limits[0.05], limits[0.95], color=COLORS["control"], alpha=0.3, lw=0, zorder=0,
        label=name if label else None,
    )  # fmt: skip


def ceiling(axes: Axes, bits: float, *, vertical: bool = False) -> None:
    """The largest exact exposure, log2|R|; what lies beyond it is an extrapolation of the fitted tail."""
    if np.isfinite(bits):
        line = axes.axvline if vertical else axes.axhline
        line(bits, color=COLORS["exact"], lw=0.8, ls=(0, (1, 1.5)), zorder=1, label=f"log$_2$|R| = {bits:.1f}")


def flag_extrapolated(axes: Axes, frame: pd.DataFrame, x: str, y: str) -> None:
    """Rings on the mean line where most models' estimates lie beyond log2|R| or beyond log2 of the sample size."""
    if len(frame):
        mean = frame.assign(beyond=frame["extrapolated"].astype(float)).groupby(x)[[y, "beyond"]].mean()
        mean = mean[mean["beyond"] > 0.5]
        axes.plot(mean.index, mean[y], "o", ms=3.6, mfc="white", mec=COLORS["skew_normal"], mew=0.7, zorder=4,
                  label="extrapolated" if len(mean) else None)  # fmt: skip


def legend(axes: Axes, **options) -> None:
    """A panel's own legend, if it has anything to say; it never squeezes the panel."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**options).set_in_layout(False)


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """One legend of all panels between the axes and the footer, each label once."""
    found = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if not found:
        return
    height = figure.get_figheight()
    rows = -(-len(found) // columns)
    top = (_FOOTER_INCHES + 0.16 * rows) / height
    figure.get_layout_engine().set(rect=(0, top, 1, 1 - top))
    placed = figure.legend(found.values(), found.keys(), loc="lower center", ncols=columns, frameon=False,
                           bbox_to_anchor=(0.5, (_FOOTER_INCHES - 0.05) / height), borderpad=0, borderaxespad=0,
                           columnspacing=1.6, handlelength=1.8)  # fmt: skip
    placed.set_in_layout(False)


def paper(axes: Axes, reference: pd.DataFrame, series: str, name: str, *, line: bool = True, **style) -> None:
    """The paper's values of one series, in black: filled and solid if verified, open and dashed if not."""
    chosen = reference[(reference["series"] == series)].dropna(subset=["x", "y"])
    for sure in (True, False):
        part = chosen[chosen["mark"].isin(_VERIFIED) == sure]
        if len(part):
            options = {
                "color": COLORS["paper"], "marker": "o", "ms": 3, "lw": 0.9 if line else 0, "zorder": 5,
                "mfc": COLORS["paper"] if sure else "white", "ls": "-" if sure else "--", "mew": 0.7,
                **style,
            }  # fmt: skip
            error = part["reading_error"] if part["reading_error"].gt(0).all() else None
            axes.errorbar(part["x"], part["y"], yerr=error, elinewidth=0.5, label=f"{name} ({marks(part)})", **options)


def marks(reference: pd.DataFrame) -> str:
    """The confidence marks of some reference rows, for a label."""
    return "; ".join(sorted(reference["mark"].unique())).replace(" (v1)", ", v1")


def value(reference: pd.DataFrame, series: str, label: str | None = None) -> tuple[float, str]:
    """The paper's one value of a series (and label) and its mark; (nan, "") where the reference has none."""
    chosen = reference[reference["series"] == series]
    chosen = chosen if label is None else chosen[chosen["label"] == label]
    return (float(chosen["y"].iloc[0]), chosen["mark"].iloc[0]) if len(chosen) else (np.nan, "")


def paper_line(axes: Axes, at: float, mark: str, name: str, *, vertical: bool = False) -> None:
    """A single value of the paper as a line: solid if verified, dashed if not."""
    if np.isfinite(at):
        line = axes.axvline if vertical else axes.axhline
        style = "-" if mark in _VERIFIED else (0, (4, 3))
        line(at, color=COLORS["paper"], lw=0.8, ls=style, zorder=1, label=f"{name} ({mark.replace(' (v1)', ', v1')})")


def rendered_table(
    axes: Axes,
    cells: Sequence[Sequence[str]],
    header: Sequence[str],
    widths: Sequence[float],
    highlighted: frozenset[tuple[int, int]] = frozenset(),
    *,
    size: float = 7.5,
) -> None:
    """Text as a table without vertical rules; (row, column) cells in `highlighted` are in the canary's colour."""
    axes.set_axis_off()
    box = {"bbox": (0, 0, 1, 1), "cellLoc": "center", "edges": "horizontal"}
    table = axes.table(cells, colLabels=header, colWidths=widths, **box)
    table.auto_set_font_size(False)
    table.set_fontsize(size)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("#444444" if row == 0 else "#DDDDDD")
        cell.set_linewidth(0.7)
        if row == 0:
            cell.set_text_props(weight="bold", fontsize=min(7, size))
            cell.set_height(cell.get_height() * (1.7 if any("\n" in name for name in header) else 1))
        elif (row - 1, column) in highlighted:
            cell.set_text_props(color=COLORS["canary"], weight="bold")
