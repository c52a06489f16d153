"""Panels on MNIST (B5, B6) and on published epsilons (B7, B8)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from memorization import plotting
from memorization.digit_gallery import picture
from memorization.panels import nothing
from memorization.panels_privacy import BACK_ENDS, MARKERS, number
from memorization.plotting import COLORS

ROWS = ("no privacy", "noise 1.3", "noise 1.1", "noise 0.7")
"""Rows of the published MNIST table, in its order."""


def digit(axes: Axes, row: pd.Series) -> None:
    """One image with its losses under N and D below it."""
    axes.imshow(picture(row["pixels_hex"]), cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for side in axes.spines.values():
        side.set(visible=True, color="#BBBBBB", linewidth=0.5)
    axes.set_xlabel(f"N {row['loss_normal_nats']:.2g}\nD {row['loss_private_nats']:.2g}", fontsize=5.6, labelpad=1.5)


def gaps_by_oddness(axes: Axes, images: pd.DataFrame) -> None:
    """Gap of every scored image against the distance to the tenth nearest image of its class."""
    axes.set(xlabel="distance to the 10th nearest of the class", ylabel="gap D − N (nats)")
    images = images.dropna(subset=["neighbour_distance"])
    if not len(images):
        return nothing(axes, "no distances were computed")
    for backend, group in images.groupby("backend", sort=False):
        rho = group["gap_nats"].corr(group["neighbour_distance"], method="spearman")
        color = BACK_ENDS.get(backend, COLORS["muted"])
        label = f"{backend}, {group['seeds'].iloc[0]:.0f} seeds: Spearman {rho:.2f}"
        axes.scatter(group["neighbour_distance"], group["gap_nats"], s=3, alpha=0.35, color=color, linewidths=0)
        axes.scatter([], [], s=12, color=color, label=label)
    axes.axhline(0, color="#444444", lw=0.7)
    return None


def gaps_between_back_ends(axes: Axes, images: pd.DataFrame) -> None:
    """The same image's gap in both back ends."""
    axes.set(xlabel="gap in torch (nats)", ylabel="gap in tf (nats)")
    wide = images.pivot_table(index=["index", "label"], columns="backend", values="gap_nats")
    if not {"torch", "tf"} <= set(wide.columns):
        return nothing(axes, "needs both back ends")
    wide = wide.dropna()
    rho = wide["torch"].corr(wide["tf"], method="spearman")
    label = f"{len(wide)} images: Spearman {rho:.2f}"
    axes.scatter(wide["torch"], wide["tf"], s=3, alpha=0.35, color=COLORS["importance"], linewidths=0)
    axes.scatter([], [], s=12, color=COLORS["importance"], label=label)
    ends = [wide.min().min(), wide.max().max()]
    axes.plot(ends, ends, color="#444444", lw=0.7)
    return None


def mnist_table(axes: Axes, found: pd.DataFrame, accounts: pd.DataFrame, reference: pd.DataFrame) -> None:
    """The published rows, their epsilon by three conventions, and our accuracies with the epochs they took.

    found: `gates.images.accuracies`' last rows; accounts: `tidy_privacy.trainings`.
    """
    header = ["row", "rate, clip,\nepochs", "ε\npublished", "classic /\nRDP / PLD", "paper:\naccuracy", "back\nend",
              "epochs\ntrained", "accuracy (%)\nmean ± s.d.", "n", "ε then: classic /\nRDP / PLD"]  # fmt: skip
    cells = []
    for name in ROWS:
        published = [_published(reference, name), *_paper(reference, name)]
        mine = found[found["name"] == name]
        if not len(mine):
            cells.append([*published, "–", "not trained", "at this scale", "–", "–"])
        for i, (backend, group) in enumerate(
            mine.sort_values("backend", ascending=False, kind="stable").groupby("backend", sort=False)
        ):
            spread = f" ± {group['accuracy'].std():.2f}" if len(group) > 1 else ""
            own = accounts[(accounts["backend"] == backend) & (accounts["run"] == group["run"].iloc[0])].iloc[0]
            then = " / ".join(number(own[c]) for c in ("classic_rdp", "rdp", "pld"))
            told = [backend, f"{group['epoch'].iloc[0]:g}", f"{group['accuracy'].mean():.2f}{spread}", str(len(group))]
            cells.append([*(published if i == 0 else [""] * 5), *told, then if own["private"] else "none"])
    plotting.rendered_table(axes, cells, header, [0.1, 0.12, 0.08, 0.13, 0.08, 0.06, 0.08, 0.13, 0.04, 0.17], size=6.2)


def _value(reference: pd.DataFrame, series: str, name: str) -> float:
    return plotting.value(reference, series, name)[0]


def _published(reference: pd.DataFrame, name: str) -> str:
    return name.replace("noise", "σ =")


def _paper(reference: pd.DataFrame, name: str) -> list[str]:
    settings = [_value(reference, series, name) for series in ("learning rate", "clip", "epochs")]
    conventions = [_value(reference, c, name) for c in ("classic RDP", "dp-accounting RDP", "dp-accounting PLD")]
    told = " / ".join(f"{value:.2f}" for value in conventions) if np.isfinite(conventions[0]) else "none"
    epsilon = _value(reference, "published epsilon", name)
    return [", ".join(number(v) for v in settings), f"{epsilon:.2f}" if np.isfinite(epsilon) else "none", told,
            f"{_value(reference, 'accuracy', name):.1f}"]  # fmt: skip


def learning_curves(axes: Axes, found: pd.DataFrame, reference: pd.DataFrame) -> None:
    """Test accuracy per epoch of every trained row, with the tutorial's expected output."""
    axes.set(xlabel="epoch", ylabel="test accuracy (%)")
    if not len(found):
        return nothing(axes, "no accuracy was measured")
    colors = dict(zip(ROWS, (COLORS["canary"], COLORS["importance"], COLORS["exact"], COLORS["sampled"]), strict=True))
    for (name, backend), group in found.groupby(["name", "backend"], sort=False):
        style = {"ls": "-" if backend == "torch" else "--", "marker": MARKERS.get(backend, "o"), "ms": 3}
        shown = name.replace("noise", "σ =")
        plotting.band(axes, group, "epoch", "accuracy", colors[name], f"{backend}, {shown}", lw=1.1, **style)
    plotting.paper(axes, reference, "expected output, accuracy", "paper: expected output, σ = 1.1", line=False)
    axes.set_xlim(-0.1, 1.05 * found["epoch"].max())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return None


def epsilon_table(axes: Axes, rows: list[dict], columns: dict[str, str]) -> None:
    """Epsilons as text; what equals the published value at its two decimals in colour.

    rows: dicts with `name`, `published` and `columns`' keys; NaN where a convention was not computed.
    """
    cells, equal = [], set()
    for i, row in enumerate(rows):
        cells.append([row["name"], f"{row['published']:.2f}"])
        for k, key in enumerate(columns):
            value = row.get(key, np.nan)
            cells[-1].append("–" if pd.isna(value) else f"{value:.3f}")
            if round(value, 2) == round(row["published"], 2):
                equal.add((i, 2 + k))
    width = 0.66 / len(columns)
    header = ["σ, epochs", "published", *columns.values()]
    plotting.rendered_table(axes, cells, header, [0.24, 0.1, *[width] * len(columns)], frozenset(equal), size=6.6)
