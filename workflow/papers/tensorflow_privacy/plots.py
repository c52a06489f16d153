"""The figures of the TensorFlow Privacy announcement: one function per key, draw(table, reference) -> Figure.

`table` is the figure's tidy table (all sources), `reference` the rows of reference.csv for that figure. N is the model
trained without privacy, D the one with it.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import (
    panels_images,
    panels_privacy,
    panels_sentences,
    plotting,
    tidy,
    tidy_privacy,
)
from memorization.gates import images, published, sentences
from memorization.panels import nothing
from memorization.panels_privacy import ARMS, NAMES
from memorization.plotting import COLORS, styled

SHARE = 0.98
"""Of the training sequences that both models accept (the post: over 98 %)."""


def _pairs(lines: pd.DataFrame) -> str:
    n = lines["pair"].nunique()
    return f"{n} pair" + "s" * (n != 1)


@styled
def b1_agreement(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """B1: what share of the training sentences N, D, both, and only N accept, for every threshold."""
    lines = sentences.trained_lines(table)
    figure = plotting.new_figure(3.1)
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    if len(lines):
        held = tidy_privacy.sentences(table).query("split == 'test'")
        swept = panels_sentences.sweep(lines)
        panels_sentences.acceptance(left, swept, lines, held, SHARE)
        panels_sentences.agreement(right, swept, lines, SHARE)
    else:
        for axes in (left, right):
            nothing(axes, "no sentence scored under both models")
    paper, mark = plotting.value(reference, "accepted by both")
    left.set_title(f"(a) {lines['index'].nunique()} training sentences, {_pairs(lines)}")
    right.set_title("(b) Agreement beyond chance")
    if np.isfinite(paper):
        right.axvline(paper, color=COLORS["paper"], lw=0.8, ls=(0, (4, 3)), label=f"paper: over {paper:.0f} % ({mark})")
    plotting.legend_below(figure, (left, right), 3)
    return figure


@styled
def b2_losses(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """B2: test loss of N and D while training, and the pairs at the end beside the paper's."""
    curves = tidy.rows(table, "curves").sort_values("epoch")
    curves = curves.assign(private=tidy_privacy.private(curves))
    pairs = tidy_privacy.losses(table)
    figure = plotting.new_figure(2.9)
    left, right = figure.subplots(1, 2, width_ratios=[1.6, 1])
    for is_private, group in curves.groupby("private"):
        for kind, dashes in (("test", "-"), ("train", ":")):
            plotting.band(left, group, "epoch", f"{kind}_loss_nats", ARMS[is_private], f"{NAMES[is_private]}, {kind}",
                          shade=kind == "test", ls=dashes, lw=1.2)  # fmt: skip
    left.set(xlabel="epoch", ylabel="loss (nats/char)")
    left.set_title(f"(a) Learning curves{_guarantee(table)}")
    _pair_losses(right, pairs, reference)
    right.set_title(f"(b) Test loss at the end, {_pairs(pairs)}")
    plotting.legend_below(figure, (left, right), 3)
    return figure


def _guarantee(table: pd.DataFrame) -> str:
    """What the private arm's noise guarantees, in words for a title."""
    rows = tidy_privacy.trainings(table)
    rows = rows[rows["private"] & rows["classic_rdp"].notna()]
    if not len(rows):
        return ""
    row = rows.iloc[0]
    return f" (D: σ = {row['noise_multiplier']:g}, nominal ε = {panels_privacy.number(row['classic_rdp'])})"


def _pair_losses(axes: Axes, pairs: pd.DataFrame, reference: pd.DataFrame) -> None:
    axes.set(xlim=(-0.5, 1.5), ylabel="test loss (nats/char)")
    axes.set_xticks([0, 1], ["N", "D"])
    paper = [plotting.value(reference, "test loss", name) for name in ("non-private", "private")]
    if np.isfinite(paper[0][0]):
        axes.plot([0, 1], [p[0] for p in paper], "o--", color=COLORS["paper"], ms=3, mfc="white", lw=0.9, mew=0.7,
                  label=f"paper: {paper[0][0]:.2f} and {paper[1][0]:.2f} ({paper[0][1]})")  # fmt: skip
    if not len(pairs):
        return nothing(axes, "no pair of models")
    for i, (_, pair) in enumerate(pairs.iterrows()):
        label = "one pair (same seed)" if i == 0 else None
        axes.plot([0, 1], [pair["N"], pair["D"]], color=COLORS["muted"], lw=0.7, marker="o", ms=3, label=label)
    mean, low, high = plotting.statistics.t_interval(pairs["gap"])
    limits = f" [{low:+.3f}, {high:+.3f}]" if len(pairs) > 2 else ""
    axes.plot([], [], " ", label=f"D − N = {mean:+.3f}{limits} nats, {100 * mean / pairs['N'].mean():+.1f} %")
    return None


@styled
def b3_divergent_sentences(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """B3: the gap between D and N of every trained sentence, and the post's six among them."""
    lines, six = sentences.trained_lines(table), sentences.quoted(reference)
    odd = tidy.rows(table, "lines").drop_duplicates("index")
    gaps = lines.groupby("index")[["N", "D", "gap"]].mean().reset_index()
    columns = [c for c in odd if c in tidy.kinds("lines")]
    gaps = gaps.merge(odd[columns], on="index", how="left")
    figure = plotting.new_figure(5.0)
    grid = figure.add_gridspec(2, 2, height_ratios=[1.65, 1], width_ratios=[1, 1.12])
    left, right, below = (figure.add_subplot(cell) for cell in (grid[0, 0], grid[0, 1], grid[1, :]))
    panels_sentences.oddness(left, gaps, six)
    panels_sentences.largest_gaps(right, gaps)
    mark = plotting.marks(reference[reference["series"] == "rare sentence"]) if len(six) else "none"
    panels_sentences.six_sentences(below, gaps, six, mark)
    left.set_title(f"(a) {panels_sentences.correlations(lines, odd) or 'Gap and oddness'}")
    right.set_title("(b) Largest gaps (nats/char; by line, no text)", pad=8)
    below.set_title(f"(c) The paper's sentences, mean of {_pairs(lines)}", pad=8)
    plotting.legend_below(figure, (left,), 3)
    return figure


@styled
def b4_copies(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """B4: exposure of a canary against the number of its copies, N and D; B4b: against the nominal epsilon."""
    frame, controls = tidy_privacy.canaries(table), tidy_privacy.controls(table)
    figure = plotting.new_figure(3.1)
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1], sharey=True)
    panels_privacy.copies_against_exposure(left, frame, controls)
    panels_privacy.epsilon_against_exposure(right, frame, controls)
    right.set_ylabel("")
    enough, mark = plotting.value(reference, "copies for complete memorisation")
    if np.isfinite(enough):
        left.axvline(enough, color=COLORS["paper"], lw=0.8, ls=(0, (4, 3)), zorder=1,
                     label=f"paper: N complete, D nothing, at {enough:.0f} copy ({mark})")  # fmt: skip
    left.set_title(f"(a) Exposure against copies, {plotting.models(tidy.count_models(table))}")
    right.set_title("(b) … and against ε (D only)")
    plotting.legend_below(figure, (left, right), 3)
    return figure


@styled
def b5_outlier_digits(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """B5: per class the digit whose gap between D and N is nearest to zero, and the one with the largest."""
    found = images.digits(table)
    backends = list(found["backend"].unique()) if len(found) else []
    shown = [(b, kind) for b in backends for kind in ("typical", "outlier")]
    figure = plotting.new_figure(2.6 + 0.86 * max(len(shown), 1))
    grid = figure.add_gridspec(3, 1, height_ratios=[0.01, 0.86 * max(len(shown), 1), 2.4])
    heading = figure.add_subplot(grid[0])  # a title over ten columns would widen the first of them
    heading.set_axis_off()
    heading.set_title(
        "(a) Loss in nats without (N) and with privacy (D): gap nearest to zero and largest gap, by class"
    )
    _digits(figure, grid[1], found, shown)
    left, right = (figure.add_subplot(cell) for cell in grid[2].subgridspec(1, 2))
    if len(found):
        panels_images.gaps_by_oddness(left, found)
        panels_images.gaps_between_back_ends(right, found)
    else:
        for axes in (left, right):
            nothing(axes, "no digit scored under both models")
    left.set_title("(b) Gap and oddness of every scored digit")
    right.set_title("(c) The same digits in both back ends")
    for axes in (left, right):
        plotting.legend(axes, loc="upper left")
    return figure


def _digits(figure: Figure, place, found: pd.DataFrame, shown: list[tuple[str, str]]) -> None:
    """Rows of ten digits: the gap nearest to zero and the largest in each class, per back end."""
    if not shown:
        return nothing(figure.add_subplot(place), "no digits: the paper's picture needs scores of both models")
    cells = place.subgridspec(len(shown), 10, wspace=0.08)
    for i, (backend, kind) in enumerate(shown):
        rows = found[(found["backend"] == backend) & (found["kind"] == kind)].sort_values("label")
        for k, (_, row) in enumerate(rows.iterrows()):
            axes = figure.add_subplot(cells[i, k % 10])
            panels_images.digit(axes, row)
            if k == 0:
                axes.set_ylabel(f"{backend}\n{kind}", fontsize=6.5)
    return None


@styled
def b6_mnist_accuracy(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """B6: the published MNIST table, its epsilons by three conventions, and our accuracies."""
    found = images.accuracies(table)
    figure = plotting.new_figure(4.3)
    above, below = figure.subplots(2, 1, height_ratios=[1.25, 1])
    last = found.groupby(tidy.MODEL).tail(1)
    panels_images.mnist_table(above, last, tidy_privacy.trainings(table), reference)
    panels_images.learning_curves(below, found, reference)
    above.set_title("(a) Paper (verified) and ours; δ = 10$^{-5}$, batch 256", pad=8)
    below.set_title("(b) Test accuracy while training")
    plotting.legend_below(figure, (below,), 3)
    return figure


@styled
def b7_epsilon_conventions(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """B7: the published epsilons, recomputed by three conventions, beside Opacus' accountants (from the reference)."""
    rows = []
    ours = published.by_convention(table) if len(published.epsilons(table)) else pd.DataFrame()
    peers = {"Opacus rdp": "rdp", "Opacus prv": "prv", "Opacus gdp": "gdp"}
    for name, own in ours.iterrows():
        printed = [plotting.value(reference, s, name)[0] for s in ("published", "published, earlier README")]
        early = np.isnan(printed[0])
        told = {peer: plotting.value(reference, peer, name)[0] for peer in peers}
        shown = name.replace("noise", "σ =") + (" (earlier)" if early else "")
        rows.append({"name": shown, "published": printed[1] if early else printed[0], **own, **told})
    figure = plotting.new_figure(3.0)
    axes = figure.subplots()
    columns = {**{c: f"ours:\n{name}" for c, name in panels_privacy.CONVENTIONS.items()},
               **{peer: f"Opacus {name}\n(verified)" for peer, name in peers.items()}}  # fmt: skip
    if rows:
        panels_images.epsilon_table(axes, rows, columns)
    else:
        nothing(axes, "no epsilons in the table; the paper's are in reference.csv")
    axes.set_title("Published ε (paper, verified) and what it is by convention; δ = 10$^{-5}$, coloured: equal", pad=8)
    return figure


@styled
def b8_tutorial_privacy(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """B8: epsilon of the tutorial's language model against its noise, for its own and for the true sampling rate."""
    rows = published.epsilons(table)
    figure = plotting.new_figure(3.2, width=5.2)
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel="noise multiplier σ", ylabel="nominal ε at δ = 10$^{-5}$, 60 epochs")
    colors = {"classic_rdp": COLORS["skew_normal"], "rdp": COLORS["exact"], "pld": COLORS["sampled"]}
    if not len(rows):
        nothing(axes, "no epsilons in the table")
    for k, (series, own) in enumerate(rows.groupby("series", sort=False) if len(rows) else ()):
        for convention, color in colors.items():
            part = own[own["convention"] == convention].dropna(subset=["epsilon"]).sort_values("noise_multiplier")
            style = {
                "ls": "-" if k == 0 else "--",
                "lw": 1.2,
                "color": color,
                "marker": "o" if k == 0 else "s",
                "ms": 3,
            }
            label = f"{panels_privacy.CONVENTIONS[convention]}, {series}"
            axes.plot(part["noise_multiplier"], part["epsilon"], label=label, **style)
    for name, marker in (("dp-accounting RDP", "o"), ("dp-accounting PLD", "D")):
        style = {"line": False, "marker": marker, "ms": 6.5, "mfc": "none"}
        plotting.paper(axes, reference, name, f"paper's tutorial, {name.split()[-1]}", **style)
    axes.axvline(0.001, color=COLORS["muted"], lw=0.8, ls=(0, (1, 1.5)), label="as shipped: σ = 0.001")
    axes.axhspan(0, 10, color=COLORS["control"], alpha=0.2, lw=0, label="ε below 10")
    axes.set_title("What the tutorial's flags guarantee")
    plotting.legend_below(figure, (axes,), 2)
    return figure
