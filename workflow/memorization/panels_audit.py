"""The two pictures of an audit's page: exact exposures, planted against left out; epsilon, guaranteed and measured."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memorization.panels_bounds import SHADES
from memorization.panels_privacy import CONVENTIONS
from memorization.plotting import COLORS
from memorization.statistics import NULL_MEAN_BITS

KINDS = {"inserted": ("canary", "planted", -0.17), "excluded": ("control", "left out", 0.17)}
"""Kind of canary -> colour, name, and where it stands beside its arm."""


def exposures(axes: Axes, arms: pd.DataFrame, canaries: pd.DataFrame) -> None:
    """Every canary's exact exposure, by arm; the mean as a line.

    arms, canaries  `tidy_audit.arms` and `tidy_audit.exposures` of one table
    """
    for kind, (color, name, side) in KINDS.items():
        for place, run in enumerate(arms["run"]):
            bits = canaries.loc[(canaries["run"] == run) & (canaries["kind"] == kind), "exposure_bits"].dropna()
            spread = np.linspace(-0.13, 0.13, max(len(bits), 2))[: len(bits)]
            axes.scatter(
                place + side + spread, bits.sort_index(), s=4, lw=0, alpha=0.5, color=COLORS[color],
                label=name if place == 0 else None,
            )  # fmt: skip
            axes.plot(place + side + np.array([-0.15, 0.15]), [bits.mean()] * 2, color=COLORS[color], lw=2, zorder=3)
    ceiling = arms["space_bits"].iloc[0]
    axes.axhline(ceiling, color=COLORS["exact"], lw=0.8, ls=(0, (1, 1.5)), label=f"most possible, {ceiling:.1f} bits")
    axes.axhline(
        NULL_MEAN_BITS,
        color=COLORS["muted"],
        lw=0.8,
        ls=(0, (4, 3)),
        label=f"mean of a secret never seen, {NULL_MEAN_BITS:.2f} bits",
    )
    axes.set(ylabel="exposure (bits), exact", ylim=(-0.3, 1.08 * ceiling))
    _arms_below(axes, arms)


def epsilons(axes: Axes, arms: pd.DataFrame, bounds: pd.DataFrame) -> None:
    """Of every arm: epsilon accounted for, by each convention, above; what its models' canaries show, below.

    bounds  `tidy_audit.bounds` of the same table
    """
    finite = arms[list(CONVENTIONS)].to_numpy()[np.isfinite(arms[list(CONVENTIONS)].to_numpy())]
    top = 1.25 * max([*finite, arms["attainable"].max()])
    for place, arm in enumerate(arms.itertuples()):
        for convention, name in CONVENTIONS.items():
            value = getattr(arm, convention)
            style = {"color": SHADES[convention], "lw": 2}
            if np.isfinite(value):
                axes.plot([place - 0.25, place + 0.25], [value] * 2, label=f"guaranteed at most ({name})", **style)
        if np.isinf(arm.rdp):
            axes.text(place, top, "no guarantee (∞)", ha="center", va="top", color=COLORS["muted"])
        axes.plot(
            [place - 0.25, place + 0.25], [arm.attainable] * 2, color=COLORS["muted"], lw=0.8, ls=(0, (4, 3)),
            label="most that these canaries can show",
        )  # fmt: skip
        low = bounds.loc[bounds["run"] == arm.run, "epsilon_low"].to_numpy()
        spread = np.linspace(-0.12, 0.12, len(low)) if len(low) > 1 else np.zeros(len(low))
        axes.scatter(
            place + spread, low, s=22, color=COLORS["canary"], zorder=3, label="measured at least, one model each"
        )
    axes.set(ylabel="ε of one training window", ylim=(-0.03 * top, top))
    _arms_below(axes, arms)


def _arms_below(axes: Axes, arms: pd.DataFrame) -> None:
    axes.set_xticks(range(len(arms)), arms["arm"])
    axes.set_xlim(-0.5, len(arms) - 0.5)
