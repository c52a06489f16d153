"""Figures about the canaries themselves: Tables 6 and 7 of The Secret Sharer, and the kinds of secrets (ours)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import plotting, statistics, tidy, tidy_canaries
from memorization.panels import nothing
from memorization.plotting import COLORS, styled
from memorization.tidy_canaries import FORMATS, PLAIN

EPOCH_COLORS = (COLORS["model"], COLORS["exact"])
CURVES = {
    "insertions": ("#B9D7EC", "#7FB8DD", "#3A8CC1", "#0B4F7D", "#062B45"),
    "phrases": ("#F3C9A5", "#E89A5B", "#D55E00", "#8F3F00", "#4F2300"),
}
"""Few to many."""


def _number(value: float, low: float = np.nan, high: float = np.nan, digits: int = 1) -> str:
    """`5.0 [4.1, 5.9]`, or a dash where there is nothing."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.{digits}f}" + (f" [{low:.{digits}f}, {high:.{digits}f}]" if np.isfinite(low) else "")


# --- Table 6 ------------------------------------------------------------------------------------------------------


@styled
def tab06_formats(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Table 6: exposure by the canary's format after 5 and after 10 epochs, and what a format adds to the plain one."""
    frame = tidy_canaries.format_exposures(table)
    epochs = sorted(frame["epoch"].unique())[-2:]
    figure = plotting.new_figure(4.6)
    grid = figure.add_gridspec(2, 2, height_ratios=[1.05, 1.35])
    listed, left, right = (figure.add_subplot(cell) for cell in (grid[0, :], grid[1, 0], grid[1, 1]))
    _format_table(listed, frame, reference, epochs)
    _format_points(left, frame, reference, epochs)
    _format_effects(right, frame, reference, epochs)
    count = plotting.models(tidy.count_models(table))
    listed.set_title(f"(a) Exposure (bits), mean and 95 % t interval, {count}; the paper's: verified, v1", pad=8)
    left.set_title("(b) Exposure by format")
    right.set_title("(c) What a format adds, 95 %")
    plotting.legend_below(figure, (left, right), 4)
    return figure


def _paper(reference: pd.DataFrame, name: str, epoch: float) -> float:
    part = reference[(reference["series"] == "exposure") & (reference["label"] == name) & (reference["x"] == epoch)]
    return float(part["y"].iloc[0]) if len(part) else np.nan


def _format_table(axes: Axes, frame: pd.DataFrame, reference: pd.DataFrame, epochs: list[float]) -> None:
    at = sorted({5.0, 10.0, *epochs})
    header = ["format"] + [f"{who}\nepoch {e:g}" for e in at for who in ("paper", "ours")] + ["exact\nin"]
    cells = []
    for name in FORMATS:
        own = frame[frame["format"] == name]
        row = [name]
        for epoch in at:
            bits = own.loc[own["epoch"] == epoch, "bits"]
            row += [_number(_paper(reference, name, epoch)), _number(*statistics.t_interval(bits))]
        cells.append([*row, f"{int((own['method'] == 'exact').sum())} of {len(own)}"])
    widths = [0.24, *([0.7 / (len(header) - 2)] * (len(header) - 2)), 0.1]
    plotting.rendered_table(axes, cells, header, widths, size=7)


def _format_axis(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _format_points(axes: Axes, frame: pd.DataFrame, reference: pd.DataFrame, epochs: list[float]) -> None:
    """One row per format: every model, mean and interval at each epoch, and the paper's values."""
    axes.set(xlabel="exposure (bits)")
    _format_axis(axes, list(FORMATS))
    for epoch, color, shift in zip(epochs, EPOCH_COLORS[-len(epochs) :], (-0.17, 0.17), strict=False):
        part = frame[frame["epoch"] == epoch]
        y = part["format"].map(FORMATS.index) + shift
        axes.plot(part["bits"], y, ".", color=color, ms=3, alpha=0.5)
        axes.plot(part.loc[part["bound"], "bits"], y[part["bound"]], ">", color=color, ms=4, mfc="white",
                  label="lower bound" if part["bound"].any() else None)  # fmt: skip
        means = [statistics.t_interval(part.loc[part["format"] == name, "bits"]) for name in FORMATS]
        estimate, low, high = np.array(means).T
        limits = np.array([estimate - low, high - estimate])
        axes.errorbar(estimate, np.arange(len(FORMATS)) + shift, xerr=limits, fmt="o", ms=4, color=color, lw=1,
                      label=f"ours, epoch {epoch:g}")  # fmt: skip
    for epoch, shift, face in ((5.0, -0.17, "white"), (10.0, 0.17, COLORS["paper"])):
        values = [_paper(reference, name, epoch) for name in FORMATS]
        axes.plot(values, np.arange(len(FORMATS)) + shift, "D", ms=3.5, color=COLORS["paper"], mfc=face, mew=0.8,
                  zorder=5, label=f"paper, epoch {epoch:g} (verified, v1)")  # fmt: skip
    axes.axvspan(0, statistics.exponential_band()[1], color=COLORS["control"], alpha=0.2, lw=0, zorder=0,
                 label="not inserted, 90 %")  # fmt: skip
    axes.set_xlim(0, None)


def _format_effects(axes: Axes, frame: pd.DataFrame, reference: pd.DataFrame, epochs: list[float]) -> None:
    """Difference to the plain format by seed at the last epoch, and the paper's."""
    names = [name for name in FORMATS if name != PLAIN]
    last = epochs[-1] if epochs else 10.0
    axes.set(xlabel=f"minus the plain format, epoch {last:g} (bits)")
    _format_axis(axes, names)
    axes.axvline(0, color="#444444", lw=0.7)
    effects = tidy_canaries.format_effects(frame, last)
    if effects.empty:
        return nothing(axes, "no pair of formats with the same seed")
    for i, name in enumerate(names):
        values = effects[name].dropna() if name in effects else pd.Series(dtype=float)
        if not len(values):
            continue
        mean, low, high = statistics.t_interval(values)
        axes.plot(values, np.full(len(values), i), ".", color=COLORS["exact"], ms=3, alpha=0.5)
        axes.errorbar(mean, i, xerr=[[mean - low], [high - mean]], fmt="o", ms=4, lw=1, color=COLORS["exact"])
    paper = [_paper(reference, name, 10.0) - _paper(reference, PLAIN, 10.0) for name in names]
    axes.plot(paper, range(len(names)), "D", ms=3.5, color=COLORS["paper"], zorder=5)
    return None


# --- Table 7 ------------------------------------------------------------------------------------------------------


def cell_interval(shares: pd.Series) -> statistics.Interval:
    """Mean of models' percentages with a 95 % interval; where all are equal, and all 0 or 100, Clopper and Pearson's
    over models: Student's would have no width.
    """
    values = shares.to_numpy(float)
    if len(values) and np.isin(values, (0.0, 100.0)).all():
        return statistics.Interval(
            *(100 * v for v in statistics.binomial_interval(int((values == 100).sum()), len(values)))
        )
    mean, low, high = statistics.t_interval(values)
    return (
        statistics.Interval(mean, max(low, 0.0), min(high, 100.0))
        if np.isfinite(low)
        else statistics.Interval(mean, low, high)
    )


@styled
def tab07_interference(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Table 7: percentage of phrases that can be extracted, by their number and how often each was inserted."""
    frame = tidy_canaries.extractable(table)
    figure = plotting.new_figure(4.7)
    grid = figure.add_gridspec(2, 2, height_ratios=[1, 1.5])
    listed, left, right = (figure.add_subplot(cell) for cell in (grid[0, :], grid[1, 0], grid[1, 1]))
    paper = reference[reference["series"] == "extractable"]
    paper = paper.assign(insertions=paper["label"].str.extract(r"(\d+)", expand=False).astype(float))
    _interference_table(listed, frame, paper)
    for axes, x, by in ((left, "phrases", "insertions"), (right, "insertions", "phrases")):
        _interference_lines(axes, frame, paper.rename(columns={"x": "phrases"}), x, by)
    title = f"(a) Percentage of phrases extracted: ours, 95 %, {plotting.models(len(frame))} | paper's"
    listed.set_title(title + (f" ({plotting.marks(paper)})" if len(paper) else ""), pad=8)
    left.set_title("(b) More phrases")
    right.set_title("(c) More insertions of each")
    plotting.legend_below(figure, (left, right), 4)
    left.set_ylabel("phrases extracted (%)")
    return figure


def _interference_table(axes: Axes, frame: pd.DataFrame, paper: pd.DataFrame) -> None:
    columns = sorted({*frame["phrases"], *paper["x"]})
    rows = sorted({*frame["insertions"], *paper["insertions"]})
    cells = []
    for n in rows:
        line = [f"{n:g}"]
        for p in columns:
            own = frame.loc[(frame["phrases"] == p) & (frame["insertions"] == n), "percent"]
            told = paper.loc[(paper["x"] == p) & (paper["insertions"] == n), "y"]
            line.append(f"{_share(own)} | {f'{told.iloc[0]:g}' if len(told) else '–'}")
        cells.append(line)
    header = ["insertions \\ phrases", *(f"{p:g}" for p in columns)]
    if not cells:
        return nothing(axes, "no search")
    plotting.rendered_table(axes, cells, header, [0.15, *([0.85 / max(len(columns), 1)] * len(columns))], size=6.6)
    return None


def _share(shares: pd.Series) -> str:
    if not len(shares):
        return "–"
    mean, low, high = cell_interval(shares)
    return f"{mean:.3g}" + (f" [{low:.0f}, {high:.0f}]" if np.isfinite(low) else "")


def _interference_lines(axes: Axes, frame: pd.DataFrame, paper: pd.DataFrame, x: str, by: str) -> None:
    """Lines of percentage against `x`, one per level of `by`: ours with intervals over models, the paper's dashed."""
    axes.set(xlabel={"phrases": "unique phrases", "insertions": "insertions of each phrase"}[x], xscale="log")
    axes.set_ylim(-4, 104)
    levels = sorted(frame[by].unique())
    if not levels:
        return nothing(axes, "no search")
    colors = dict(zip(levels, CURVES[by] if len(levels) > 3 else CURVES[by][::2], strict=False))
    for i, level in enumerate(levels):
        part = frame[frame[by] == level]
        points = sorted(part[x].unique())
        means = np.array([cell_interval(part.loc[part[x] == p, "percent"]) for p in points])
        at = np.array(points, float) * 1.04 ** (i - (len(levels) - 1) / 2)
        limits = np.abs(means[:, 1:].T - means[:, 0])
        noun = by if level != 1 else by[:-1]
        axes.errorbar(at, means[:, 0], yerr=limits, fmt="o-", ms=4, lw=1.2, elinewidth=0.9, color=colors[level],
                      label=f"{level:g} {noun}")  # fmt: skip
        told = paper[paper[by] == level].sort_values(x)
        axes.plot(told[x], told["y"], "D--", ms=3, lw=0.8, color=colors[level], mfc="white", mew=0.8)
    axes.plot([], [], "D--", ms=3, lw=0.8, color=COLORS["paper"], mfc="white", label="paper (verified, v1)")
    ticks = sorted({*frame[x], *paper[x]})
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    return None


# --- kinds of secrets ---------------------------------------------------------------------------------------------


@styled
def secret_kinds(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Secrets that people worry about: how far each kind is memorised, and what it costs to extract it."""
    frame = tidy_canaries.secrets(table)
    names = [kind for kind in tidy_canaries.KINDS.values() if kind in set(frame["kind"])]
    figure = plotting.new_figure(3.2)
    left, right = figure.subplots(1, 2, sharey=True)
    if not names:
        nothing(left, "no canary was attacked")
        nothing(right, "no canary was searched for")
        return figure
    labels = []
    for name in names:
        part = frame[frame["kind"] == name]
        labels.append(f"{name}\n|R| = 2$^{{{part['space_bits'].iloc[0]:.1f}}}$")
    _shares(left, frame, names)
    _queries(right, frame, reference, names)
    left.set_yticks(range(len(names)), labels)
    left.set_ylim(len(names) - 0.5, -0.5)
    left.set_title(f"(a) How exposed, {plotting.models(len(frame))}")
    right.set_title("(b) Queries until it is extracted")
    plotting.legend_below(figure, (left, right), 3)
    return figure


def _shares(axes: Axes, frame: pd.DataFrame, names: list[str]) -> None:
    """Exposure as a share of log2|R|: single models, mean with Student's 95 % interval, and the null."""
    axes.set(xlabel="exposure / log$_2$|R|", xlim=(0, 1.06))
    axes.axvline(1, color=COLORS["exact"], lw=0.8, ls=(0, (1, 1.5)), label="most likely of all: rank 1")
    for i, name in enumerate(names):
        part = frame[frame["kind"] == name]
        null = statistics.exponential_band()[1] / part["space_bits"].iloc[0]
        axes.fill_betweenx([i - 0.35, i + 0.35], 0, null, color=COLORS["control"], alpha=0.3, lw=0,
                           label="not inserted, 90 %")  # fmt: skip
        for bound, marker, label in ((False, "o", "one model"), (True, ">", "one model: at least")):
            chosen = part[part["bound"] == bound]
            axes.plot(chosen["share"], np.full(len(chosen), i + 0.12), marker, ms=3.5, color=COLORS["model"],
                      label=label if len(chosen) else None)  # fmt: skip
        mean, low, high = statistics.t_interval(part["share"])
        limits = [[mean - low], [min(high, 1.0) - mean]] if np.isfinite(low) else None
        axes.errorbar(mean, i - 0.12, xerr=limits, fmt="s", ms=4.5, lw=1.1, color=COLORS["canary"],
                      label="mean, 95 % t interval")  # fmt: skip


def _queries(axes: Axes, frame: pd.DataFrame, reference: pd.DataFrame, names: list[str]) -> None:
    """Queries of the shortest-path search, and of trying every secret of the kind (|R|)."""
    axes.set(xlabel="queries", xscale="log")
    for i, name in enumerate(names):
        part = frame[frame["kind"] == name]
        won = part[part["success"].eq(True) & ~part["queries_bound"].eq(True)]
        lost = part.drop(won.index).dropna(subset=["queries"])
        style = {"color": COLORS["canary"], "ms": 4}
        axes.plot(won["queries"], np.full(len(won), i), "o", label="extracted" if len(won) else None, **style)
        label = "not returned within" if len(lost) else None
        axes.plot(lost["queries"], np.full(len(lost), i + 0.12), ">", mfc="white", label=label, **style)
        axes.plot(2.0 ** part["space_bits"].iloc[0], i, "|", ms=12, mew=1.6, color=COLORS["muted"],
                  label="every secret of the kind: |R|")  # fmt: skip
        told = reference[(reference["series"] == "queries to extract") & (reference["label"] == name)]
        if len(told):
            axes.plot(told["y"], np.full(len(told), i - 0.22), "-", color=COLORS["paper"], lw=2,
                      label=f"paper: tens of thousands ({plotting.marks(told)})")  # fmt: skip
