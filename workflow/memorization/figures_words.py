"""Figures 1, 3 and 4 of The Secret Sharer: word-level models. draw(table, reference) -> Figure, as in plots.py."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from memorization import panels, plotting, tidy, tidy_words
from memorization.gates.words import strategies
from memorization.plotting import COLORS, styled

BAND, REACH = 0.01, 0.1
"""Of the rule that picks A and B (`tidy_words.pick`)."""
DRAWS = 400
"""Bootstrap samples of the Pareto front."""
MARKERS = {"exact": "o", "importance": "D", "sampled": "s", "skew_normal": "^"}
"""Marker of a model by the method that its exposure was measured with; skew-normal ones are open."""
PAPER_BITS = 144.24
"""log2|R| of the paper's canary, 267,735^8: its values are drawn as shares of it."""
STRATEGY = {"A": COLORS["canary"], "B": COLORS["exact"]}
NAMES = {
    "model.layers": "layers",
    "model.units": "units",
    "model.embedding": "embedding",
    "training.learning_rate": "learning rate",
    "training.dropout": "dropout",
    "training.batch_size": "batch size",
    "training.epochs": "epochs",
    "training.weight_decay": "weight decay",
}


def _controls(table: pd.DataFrame) -> pd.DataFrame:
    measures = tidy.rows(table, "measures")
    return measures[(measures["kind"] == "control") & (measures["method"] == "sampled")]


def _models(axes: Axes, models: pd.DataFrame, x: str, color: str) -> None:
    """One small dot per model."""
    for method, marker in MARKERS.items():
        own = models[models["method"] == method]
        face = "white" if method == "skew_normal" else color
        axes.scatter(
            own[x], own["bits"], s=9, marker=marker, facecolor=face, edgecolor=color, lw=0.6, alpha=0.75, zorder=3
        )


def _method_legend(axes: Axes, models: pd.DataFrame) -> None:
    for method, marker in MARKERS.items():
        count = int((models["method"] == method).sum())
        if count:
            face = "white" if method == "skew_normal" else COLORS["muted"]
            name = "skew-normal" if method == "skew_normal" else plotting.LABELS[method]
            axes.scatter([], [], s=12, marker=marker, facecolor=face, edgecolor=COLORS["muted"], lw=0.7,
                         label=f"{name}: {plotting.models(count)}")  # fmt: skip


def _share(reference: pd.DataFrame, space: float) -> pd.DataFrame:
    """The paper's exposures, as the same share of our log2|R|: spaces of words differ with the vocabulary."""
    bits = reference["y_unit"] == "bits"
    return reference.assign(y=reference["y"].where(~bits, reference["y"] * space / PAPER_BITS))


def _front(axes: Axes, models: pd.DataFrame, found: pd.DataFrame) -> None:
    """The Pareto front of mean perplexity and mean exposure, and where its bootstrap samples lie."""
    grid = np.linspace(found["perplexity"].min(), found["perplexity"].max(), 200)

    def lowest(frame: pd.DataFrame) -> np.ndarray:
        below = frame["perplexity"].to_numpy()[None, :] <= grid[:, None]
        return np.where(below, frame["bits"].to_numpy()[None, :], np.inf).min(axis=1)

    if models.groupby("setting").size().max() > 1:
        samples = np.array([lowest(frame) for frame in tidy_words.resampled(models, DRAWS)])
        low, high = np.percentile(samples, [5, 95], axis=0, method="nearest")
        high = np.where(np.isfinite(high), high, models["bits"].max())
        axes.fill_between(grid, low, high, step="post", color=COLORS["sampled"], alpha=0.18, lw=0, zorder=1,
                          label="its 90 % bootstrap over models")  # fmt: skip
    axes.step(grid, lowest(found), where="post", color=COLORS["sampled"], lw=1.3, zorder=2, label="Pareto front")


@styled
def fig04_utility(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 4: exposure against test perplexity, one dot per setting, and what drives either."""
    figure = plotting.new_figure(3.6)
    left, right = figure.subplots(1, 2, width_ratios=[1.65, 1])
    left.set(xlabel="test perplexity (lower: more useful)", ylabel="exposure of a canary inserted 5 times (bits)")
    models = tidy_words.models(table)
    found = tidy_words.settings(models)
    left.set_title(f"(a) {len(found)} settings, {plotting.models(len(models))}")
    right.set_title("(b) What drives either")
    if not len(found):
        panels.nothing(left, "no measured model")
        panels.nothing(right, "no measured model")
        return figure
    space = models["space_bits"].max()
    plotting.null_band(left, _controls(table))
    plotting.ceiling(left, space)
    largest, mark = plotting.value(_share(reference, space), "largest exposure")
    plotting.paper_line(left, largest, mark, "paper's largest, as a share of log$_2$|R|")
    _front(left, models, found)
    _models(left, models.assign(perplexity=np.exp(models["loss"])), "perplexity", COLORS["model"])
    spread = models.groupby("setting")["bits"].agg(["min", "max"])
    left.vlines(found["perplexity"], spread["min"], spread["max"], color=COLORS["model"], lw=0.7, zorder=2)
    left.scatter(found["perplexity"], found["bits"], s=30, color=COLORS["model"], edgecolor="#222222", lw=0.6, zorder=4,
                 label="setting: mean, range over models")  # fmt: skip
    _method_legend(left, models)
    for name, number in zip("AB", tidy_words.pick(found, BAND, REACH) or (), strict=False):
        own = found.set_index("setting").loc[number]
        left.scatter(own["perplexity"], own["bits"], s=75, facecolor="none", edgecolor=STRATEGY[name], lw=1.6, zorder=5)
        left.annotate(name, (own["perplexity"], own["bits"]), xytext=(6, 4), textcoords="offset points", weight="bold",
                      color=STRATEGY[name], zorder=6)  # fmt: skip
    left.set_ylim(0, 1.06 * space)
    _drivers(right, table, models)
    plotting.legend_below(figure, (left, right), 3)
    return figure


def _drivers(axes: Axes, table: pd.DataFrame, models: pd.DataFrame) -> None:
    """Spearman's correlation of each hyperparameter with a setting's mean loss and mean exposure."""
    about = table.drop_duplicates(["backend", "run"]).merge(models[["backend", "run", "setting"]].drop_duplicates())
    values = about.groupby("setting")[[key for key in NAMES if key in about]].first()
    found = tidy_words.settings(models).set_index("setting")
    rows = [key for key in values if values[key].nunique() > 1]
    if len(found) < 5 or not rows:
        return panels.nothing(axes, "needs five settings")
    for place, key in enumerate(rows[::-1]):
        for column, color, shift in (("loss", COLORS["loss"], 0.17), ("bits", COLORS["canary"], -0.17)):
            rho = stats.spearmanr(values[key], found[column]).statistic
            half = 1.96 / np.sqrt(len(found) - 3)  # Fisher's z
            low, high = np.tanh(np.arctanh(np.clip(rho, -0.999, 0.999)) + np.array([-half, half]))
            name = {"loss": "with the test loss", "bits": "with exposure"}[column] if place == 0 else None
            axes.hlines(place + shift, low, high, color=color, lw=1)
            axes.plot(rho, place + shift, "o", ms=4, color=color, label=name)
    axes.axvline(0, color="#444444", lw=0.7)
    axes.set_yticks(range(len(rows)), [NAMES[key] for key in rows[::-1]])
    axes.set(xlim=(-1, 1), xlabel="Spearman's ρ over settings, 95 %")
    return None


@styled
def fig01_strategies(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 1: exposure against the number of insertions for two settings of about the same utility."""
    figure = plotting.new_figure(3.2, width=5.6)
    axes = figure.subplots()
    axes.set(xlabel="insertions of the canary (each number has canaries of its own)", ylabel="exposure (bits)")
    models = tidy_words.models(table)
    if not len(models):
        panels.nothing(axes, "no measured model")
        return figure
    shared = models.groupby("setting")["insertions"].apply(set)
    common = sorted(set.intersection(*shared)) if len(shared) == 2 else []
    names = strategies(models, 5 if 5 in common else common[-1]) if common else None
    space = models["space_bits"].max()
    plotting.null_band(axes, _controls(table))
    plotting.ceiling(axes, space)
    for name, number in zip("AB", names or tuple(models["setting"].unique()), strict=False):
        own = models[models["setting"] == number]
        perplexity = np.exp(own["loss"].mean())
        shift = own.assign(insertions=own["insertions"] + {"A": -0.06, "B": 0.06}[name])
        _models(axes, shift, "insertions", STRATEGY[name])
        summary = plotting.intervals(own, "insertions", "bits")
        label = f"{name}: mean (95 % t from 3 models), perplexity {perplexity:.0f}, {plotting.models(len(own))}"
        axes.plot(summary["insertions"], summary["mean"], color=STRATEGY[name], zorder=4, label=label)
        some = summary.dropna(subset=["low"])
        high = np.minimum(some["high"], space)
        axes.vlines(some["insertions"], some["low"], high, color=STRATEGY[name], lw=2.4, alpha=0.4, zorder=3)
    _method_legend(axes, models)
    plotting.paper(
        axes, _share(reference, space), "strategy A", "paper's A, as a share of log$_2$|R|", line=False, ms=5
    )
    axes.set_title("Exposure by insertions under two strategies")
    axes.set_ylim(0, 1.08 * space)
    plotting.legend_below(figure, (axes,), 2)
    return figure


@styled
def fig03_smart_compose(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Figure 3, a surrogate: exposure against insertions after one pass; Smart Compose itself is closed."""
    figure = plotting.new_figure(3.0, width=5.6)
    axes = figure.subplots()
    axes.set(xlabel="insertions of the canary", ylabel="exposure (bits)", xscale="log")
    axes.set_title("SURROGATE: a word model, one pass (Smart Compose is closed)")
    models = tidy_words.models(table)
    if not len(models):
        panels.nothing(axes, "no measured model")
        return figure
    space = models["space_bits"].max()
    plotting.null_band(axes, _controls(table))
    plotting.ceiling(axes, space)
    _models(axes, models, "insertions", COLORS["canary"])
    summary = plotting.intervals(models, "insertions", "bits")
    label = f"surrogate: mean (95 % t from 3 models), {plotting.models(len(models))}"
    axes.plot(summary["insertions"], summary["mean"], color=COLORS["canary"], zorder=4, label=label)
    some = summary.dropna(subset=["low"])
    axes.vlines(
        some["insertions"], some["low"], np.minimum(some["high"], space), color=COLORS["canary"], lw=2.4, alpha=0.4
    )
    _method_legend(axes, models)
    plotting.paper(axes, reference, "exposure", "paper, Smart Compose, in bits", line=False, ms=5)
    axes.set_ylim(0, 1.08 * space)
    plotting.legend_below(figure, (axes,), 2)
    return figure


NUMERAL = dict(zip(tidy_words.NUMERALS, (COLORS["canary"], COLORS["exact"]), strict=True))


@styled
def text_word_canaries(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """X6: the same numbers as digit tokens and as number words in word-level models, and how far they are apart."""
    figure = plotting.new_figure(3.2)
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    left.set(title="(a) Exposure", xlabel="insertions of the canary (each number has canaries of its own)")
    left.set_ylabel("exposure (bits)")
    right.set(title="(b) Digits minus number words", xlabel="insertions of the canary", ylabel="difference (bits)")
    found = tidy_words.numerals(table)
    if not len(found):
        panels.nothing(left, "no measured model")
        panels.nothing(right, "no measured model")
        return figure
    space, levels = found["space_bits"].max(), sorted(found["insertions"].unique())
    place = {n: x for x, n in enumerate(levels)}
    found = found.assign(place=found["insertions"].map(place))
    plotting.null_band(left, _controls(table))
    plotting.ceiling(left, space)
    for shift, (name, color) in zip((-0.1, 0.1), NUMERAL.items(), strict=True):
        own = found[found["numerals"] == name].assign(place=lambda f, shift=shift: f["place"] + shift)
        _models(left, own, "place", color)
        label = f"{name}: mean, 95 %, {plotting.models(len(own))}"
        _means(left, own.assign(place=own["place"] + 0.06), color, label, (0, space))
    for name, label in (("digits", "digit tokens"), ("number words", "number words")):
        bits, mark = plotting.value(reference, "X6 word level", label)
        _at_the_edge(left, bits, NUMERAL[name], f"paper: {name} ({mark})")
    _method_legend(left, found)
    _differences(right, found)
    for axes in (left, right):
        axes.set_xticks(range(len(levels)), [f"{n:g}" for n in levels])
        axes.set_xlim(-0.5, len(levels) - 0.4)
    left.set_ylim(-0.5, 1.08 * space)
    plotting.legend_below(figure, (left, right), 3)
    return figure


def _means(
    axes: Axes, frame: pd.DataFrame, color: str, label: str, within: tuple[float, float] = (-np.inf, np.inf)
) -> None:
    """Mean of `bits` at every `place`, with Student's 95 % interval from three models on, cut at what is possible."""
    summary = plotting.intervals(frame, "place", "bits")
    axes.plot(summary["place"], summary["mean"], "D", color=color, ms=4, mec="white", mew=0.5, zorder=5, label=label)
    some = summary.dropna(subset=["low"])
    axes.vlines(some["place"], *some[["low", "high"]].clip(*within).to_numpy().T, color=color, lw=2.4, alpha=0.4)


def _at_the_edge(axes: Axes, bits: float, color: str, label: str) -> None:
    """A value of the paper that belongs to no number of insertions: an open triangle at the right edge."""
    if np.isfinite(bits):
        place = axes.get_yaxis_transform()
        axes.plot(0.985, bits, "<", transform=place, mfc="white", mec=color, ms=6, label=label, zorder=6)


def _differences(axes: Axes, found: pd.DataFrame) -> None:
    """Pairs of models, and their mean at each number of insertions."""
    wide = found.pivot_table(index=["place", "pair"], columns="numerals", values="bits")
    wide = wide.reindex(columns=list(tidy_words.NUMERALS)).dropna()
    if not len(wide):
        return panels.nothing(axes, "no pair of models")
    pairs = (wide["digits"] - wide["number words"]).rename("bits").reset_index()
    axes.axhline(0, color="#444444", lw=0.7)
    axes.scatter(
        pairs["place"] - 0.08, pairs["bits"], s=9, color=COLORS["muted"], lw=0, alpha=0.8, label="pairs of models"
    )
    _means(axes, pairs.assign(place=pairs["place"] + 0.08), COLORS["muted"], f"mean, 95 %, {len(pairs)} pairs")
    return None
