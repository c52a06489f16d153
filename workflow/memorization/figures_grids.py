"""Tables 4 (architectures) and 5 (batch size and units) of The Secret Sharer, drawn beside the paper's values."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from memorization import plotting, statistics, tidy_grids
from memorization.panels import nothing
from memorization.plotting import COLORS, styled
from memorization.specs import ModelSpec
from memorization.weights import parameter_count

ORDER = ("GRU", "LSTM", "CNN", "WaveNet", "transformer")
FAMILY_COLORS = dict(
    zip(
        ORDER,
        (COLORS["exact"], COLORS["model"], COLORS["canary"], COLORS["skew_normal"], COLORS["importance"]),
        strict=True,
    )
)
SYMBOLS = 50
"""Distinct characters of the Penn Treebank's training file: what parameters are counted with."""

SHADES = ("#9ECAE1", "#56A0CE", "#0072B2", "#084A85", "#03254C")
"""Units from few to many."""

HEADER = [
    "architecture", "units", "parame-\nters", "paper: loss,\nexposure", "test loss\n(nats/char)",
    "skew-normal\nexposure (bits)", "exact or imp.-\nsampled (bits)", "rank 1\nin",
]  # fmt: skip
WIDTHS = [0.21, 0.05, 0.085, 0.11, 0.155, 0.155, 0.16, 0.075]


@styled
def tab04_architectures(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Table 4: exposure and utility of architectures of equal size, ours beside the paper's."""
    frame = tidy_grids.by_architecture(table)
    rows = _rows(frame)
    figure = plotting.new_figure(5.3)
    grid = figure.add_gridspec(2, 2, height_ratios=[1.25, 1], width_ratios=[1.25, 1])
    listed, forest, utility = (figure.add_subplot(cell) for cell in (grid[0, :], grid[1, 0], grid[1, 1]))
    _listed(listed, frame, rows, reference, table)
    _forest(forest, frame, rows, reference)
    _utility(utility, frame, reference)
    mark = plotting.marks(reference[reference["series"] == "exposure"]) if len(reference) else "none"
    listed.set_title(f"(a) Architectures of 620,000 parameters (paper's values: {mark})", pad=8)
    forest.set_title(f"(b) Exposure, {plotting.models(len(frame))}")
    utility.set_title("(c) Exposure and utility, means")
    plotting.legend_below(figure, (forest, utility), 4)
    return figure


def _rows(frame: pd.DataFrame) -> list[str]:
    """Labels in the paper's order."""
    found = frame.drop_duplicates("label").assign(at=lambda f: f["family"].map(ORDER.index))
    return list(found.sort_values(["at", "model.layers"])["label"])


def _spread(values: pd.Series, digits: int = 1) -> str:
    """Mean, with Student's 95 % interval from 3 models on, else with the two values."""
    values = values.dropna()
    if not len(values):
        return "–"
    mean, low, high = statistics.t_interval(values)
    text = f"{mean:.{digits}f}"
    if len(values) > 2:
        return f"{text} [{low:.{digits}f}, {high:.{digits}f}]"
    return text + (f" ({values.min():.{digits}f}, {values.max():.{digits}f})" if len(values) == 2 else "")


def _listed(axes: Axes, frame: pd.DataFrame, rows: list[str], reference: pd.DataFrame, table: pd.DataFrame) -> None:
    """The table itself."""
    if not rows:
        return nothing(axes, "no model")
    options = table.dropna(subset=["run"]).drop_duplicates("run").set_index("run")
    cells = []
    for label in rows:
        group = frame[frame["label"] == label]
        spec = _spec(options.loc[group["run"].iloc[0]])
        paper = [plotting.value(reference, series, label)[0] for series in ("test loss", "exposure")]
        exact = ("≥ " if group["bound"].any() else "") + _spread(group["bits"])
        unknown = int((group["rank"].isna() & ~group["beaten"].eq(True)).sum())
        first = f"{int((group['rank'] == 1).sum())} of {len(group)}" + f" ({unknown} ?)" * bool(unknown)
        cells.append([
            label + " (ours)" * bool(np.isnan(paper[1])), str(spec.units), f"{parameter_count(spec, SYMBOLS):,}",
            "–" if np.isnan(paper[1]) else f"{paper[0]:.2f}, {paper[1]:.0f}",
            _spread(group["test_loss"], 2), _spread(group["skew_normal"]), exact, first,
        ])  # fmt: skip
    plotting.rendered_table(axes, cells, HEADER, WIDTHS, size=6)
    return None


def _spec(row: pd.Series) -> ModelSpec:
    """The model that a run's varied keys say."""
    names = ("architecture", "layers", "units", "embedding", "kernel", "heads")
    told = {name: row[f"model.{name}"] for name in names if f"model.{name}" in row and pd.notna(row[f"model.{name}"])}
    return ModelSpec.model_validate({k: v if k == "architecture" else int(v) for k, v in told.items()})


def _forest(axes: Axes, frame: pd.DataFrame, rows: list[str], reference: pd.DataFrame) -> None:
    """Per architecture every model's exposure, estimated and exact, their means, and the paper's value."""
    axes.set(xlabel="exposure (bits)")
    if not rows:
        return nothing(axes, "no model")
    place = {label: len(rows) - 1 - i for i, label in enumerate(rows)}
    for value, shift, name in (("skew_normal", 0.18, "skew-normal"), ("bits", -0.18, "exact or importance-sampled")):
        color = COLORS["skew_normal" if value == "skew_normal" else "exact"]
        y = frame["label"].map(place) + shift
        axes.scatter(frame[value], y, s=9, color=color, alpha=0.45, lw=0, zorder=3)
        means = frame.groupby("label")[value].mean()
        axes.scatter(means, means.index.map(place) + shift, s=26, marker="|", color=color, zorder=4, label=name)
        limits = plotting.intervals(frame.assign(y=y), "y", value)
        axes.hlines(limits["y"], limits["low"], limits["high"], color=color, lw=1, zorder=3)
    known = reference[(reference["series"] == "exposure") & reference["label"].isin(place)]
    if len(known):
        style = {"marker": "o", "s": 14, "color": COLORS["paper"], "zorder": 5}
        axes.scatter(known["y"], known["label"].map(place), label=f"paper ({plotting.marks(known)})", **style)
    plotting.ceiling(axes, float(frame["space_bits"].max()), vertical=True)
    axes.set_yticks(list(place.values()), list(place))
    axes.set_xlim(0, None)
    return None


def _utility(axes: Axes, frame: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Mean exposure against mean test loss: one point per architecture, the paper's in black."""
    axes.set(xlabel="test loss (nats/char)", ylabel="estimated exposure (bits)")
    if not len(frame):
        return nothing(axes, "no model")
    for family in ORDER:
        own = frame[frame["family"] == family].groupby("label")[["test_loss", "skew_normal"]].mean()
        if len(own):
            axes.scatter(
                own["test_loss"], own["skew_normal"], s=22, color=FAMILY_COLORS[family], label=family, zorder=4
            )
    wide = reference.pivot_table(index="label", columns="series", values="y")
    if {"test loss", "exposure"} <= set(wide):
        recurrent = wide.index.str.startswith(("GRU", "LSTM"))
        for part, marker, name in ((recurrent, "o", "recurrent"), (~recurrent, "^", "CNN, WaveNet")):
            axes.scatter(wide.loc[part, "test loss"], wide.loc[part, "exposure"], s=16, marker=marker, facecolor="none",
                         edgecolor=COLORS["paper"], lw=0.8, zorder=5, label=f"paper: {name}")  # fmt: skip
    axes.set_ylim(0, None)
    return None


@styled
def tab05_batch_units(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Table 5: exposure by batch size and units as heat maps, ours beside the paper's, and along the batch size."""
    frame = tidy_grids.by_batch_and_units(table)
    paper = reference[reference["series"] == "exposure"].assign(
        units=lambda f: f["label"].str.extract(r"(\d+)", expand=False).astype(float), batch=lambda f: f["x"]
    )
    figure = plotting.new_figure(5.6)
    grid = figure.add_gridspec(2, 3, height_ratios=[1.35, 1], width_ratios=[1, 1, 0.05])
    ours, theirs, bar = (figure.add_subplot(grid[0, i]) for i in range(3))
    along, losses = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
    scale = Normalize(0, float(np.nanmax([36.0, frame["skew_normal"].max() if len(frame) else 0])))
    sizes = [sorted({*paper[c].astype(int), *frame[c].astype(int)}) for c in ("batch", "units")]
    _heat(ours, frame, "skew_normal", sizes, scale)
    _heat(theirs, paper, "y", sizes, scale)
    figure.colorbar(ScalarMappable(scale, "viridis"), cax=bar, label="estimated exposure (bits)")
    n = f", {plotting.models(len(frame))}"
    ours.set_title(f"(a) Ours, skew-normal{n}")
    theirs.set_title(f"(b) The paper's ({plotting.marks(paper)})" if len(paper) else "(b) The paper's")
    _along(along, frame, "skew_normal", paper)
    _along(losses, frame, "test_loss", paper.iloc[:0])
    along.set(title="(c) Exposure along the batch size", ylabel="estimated exposure (bits)", ylim=(0, None))
    losses.set(title="(d) Test loss of the same models", ylabel="test loss (nats/char)")
    plotting.legend_below(figure, (along, losses), 5)
    return figure


def _heat(axes: Axes, frame: pd.DataFrame, value: str, sizes: list[list[int]], scale: Normalize) -> None:
    """Means as a heat map, written out with the range of the models below; cells that were not trained stay white."""
    batches, units = sizes
    axes.set(xlabel="units per layer", ylabel="batch size")
    axes.grid(False)
    if not len(frame):
        return nothing(axes, "no model")
    groups = frame.dropna(subset=[value]).groupby(["batch", "units"])[value]
    means = groups.mean().unstack().reindex(index=batches, columns=units)
    axes.imshow(means.to_numpy(), cmap="viridis", norm=scale, aspect="auto")
    for (batch, unit), values in groups:
        at = units.index(int(unit)), batches.index(int(batch))
        text = f"{values.mean():.1f}" + (f"\n{values.min():.0f}–{values.max():.0f}" if len(values) > 1 else "")
        light = scale(values.mean()) < 0.6
        axes.text(*at, text, ha="center", va="center", fontsize=5.8, color="white" if light else "black")
    axes.set_xticks(range(len(units)), units)
    axes.set_yticks(range(len(batches)), batches)
    return None


def _along(axes: Axes, frame: pd.DataFrame, value: str, paper: pd.DataFrame) -> None:
    """A line per number of units against the batch size: ours solid, with every model; the paper's dashed."""
    axes.set(xlabel="batch size", xscale="log")
    if not len(frame):
        return nothing(axes, "no model")
    shades = dict(zip(sorted(frame["units"].unique()), SHADES, strict=False))
    for units, group in frame.groupby("units"):
        color = shades[units]
        jitter = 1 + 0.03 * (list(shades).index(units) - 1)
        axes.scatter(group["batch"] * jitter, group[value], s=8, color=color, alpha=0.6, lw=0, zorder=3)
        means = group.groupby("batch")[value].mean()
        axes.plot(means.index * jitter, means, "-", color=color, lw=1.3, zorder=4, label=f"{units} units, ours")
        own = paper[paper["units"] == units].sort_values("batch")
        if len(own):
            style = {"color": color, "ms": 2.5, "mfc": COLORS["paper"], "mec": COLORS["paper"], "lw": 0.8}
            axes.plot(own["batch"], own["y"], "--o", label=f"{units} units, paper", **style)
    ticks = sorted({*frame["batch"], *paper["batch"].astype(int)} if len(paper) else set(frame["batch"]))
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    return None
