"""Panels that set the accounted epsilon (an upper bound) beside what canaries measured (a lower bound, exposure)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memorization import plotting
from memorization.gates import privacy
from memorization.panels import nothing
from memorization.panels_privacy import ARMS, BACK_ENDS, CONVENTIONS, MARKERS
from memorization.plotting import COLORS

SHADES = {"classic_rdp": "#0072B2", "rdp": "#56B4E9", "pld": "#009E73"}


def edge(frame: pd.Series) -> float:
    """Where infinite epsilons are drawn on a logarithmic axis: two decades beyond the largest finite one."""
    finite = frame[np.isfinite(frame)]
    return 100 * max(finite.max() if len(finite) else 1.0, 10.0)


def epsilon_axis(axes: Axes, infinite: float, *, any_infinite: bool) -> None:
    """A logarithmic epsilon axis whose right end is labelled infinite."""
    axes.set_xscale("log")
    ticks = [10.0**k for k in range(0, int(np.log10(infinite)) - 1, 2 if infinite < 1e8 else 3)]
    names = [f"10$^{{{int(np.log10(t))}}}$" if t > 1 else "1" for t in ticks]
    axes.set_xticks([*ticks, infinite] if any_infinite else ticks, [*names, "∞"] if any_infinite else names)
    axes.minorticks_off()


def shared_edge(private: pd.DataFrame, table: pd.DataFrame) -> float:
    """`edge` of all epsilons that `bounds` or `exposure` draw."""
    listed = [private[c] for c in CONVENTIONS] + [privacy.null_rows(table, 1.0)["classic_rdp"]]
    return edge(pd.concat([part.astype(float) for part in listed]).dropna())


def bounds(axes: Axes, private: pd.DataFrame, other: pd.DataFrame, infinite: float) -> None:
    """Lower against upper bound of every audited private model; below the diagonal they are consistent. infinite:
    where an infinite epsilon is drawn.
    """
    axes.set(xlabel="ε accounted for (upper bound, nominal; one window)", ylabel="ε measured (lower bound, 95 %)")
    if not len(private):
        return nothing(axes, "no audited private model")
    values = pd.concat([private[c] for c in CONVENTIONS])
    highest = max(1.0, 1.25 * max(private["epsilon_low"].max(), other["epsilon_low"].max() if len(other) else 0))
    line = np.geomspace(0.3, infinite, 200)
    axes.fill_between(
        line, line, 1e3, color=COLORS["canary"], alpha=0.12, lw=0, label="impossible: measured above accounted"
    )
    axes.plot(line, line, color=COLORS["canary"], lw=0.8)
    for backend, group in private.groupby("backend", sort=False):
        for convention, name in CONVENTIONS.items():
            x = group[convention].replace(np.inf, infinite)
            style = {"s": 20, "marker": MARKERS.get(backend, "o"), "facecolor": "none", "lw": 1, "zorder": 3}
            label = f"{backend}, {name}, n = {int(x.notna().sum())}"
            axes.scatter(x, group["epsilon_low"], edgecolor=SHADES[convention], label=label, **style)
    if len(other):
        top = other["epsilon_low"].max()
        told = f"without privacy: up to {top:.2g}, n = {len(other)}"
        axes.axhline(top, color=ARMS[False], lw=1, ls=(0, (4, 3)), label=told)
    epsilon_axis(axes, infinite, any_infinite=bool(np.isinf(values).any()))
    axes.set(xlim=(0.3, 3 * infinite), ylim=(-0.05 * highest, highest))
    return None


def exposure(axes: Axes, table: pd.DataFrame, reference: pd.DataFrame, infinite: float) -> None:
    """Mean exposure of inserted canaries with its 90 % interval against epsilon, the paper's values, the null mean.
    infinite: where an infinite epsilon is drawn.
    """
    axes.set(xlabel="ε accounted for (classic RDP)", ylabel="mean exposure (bits)")
    rows = privacy.null_rows(table, 1.0)
    rows = rows[rows["private"]]
    if not len(rows):
        return nothing(axes, "no private training with canaries that a coin left out")
    null, _ = plotting.value(reference, "null mean")
    if np.isfinite(null):
        axes.axhspan(null - 1, null + 1, color=COLORS["control"], alpha=0.25, lw=0, label="null mean ±1 bit")
        axes.axhline(null, color=COLORS["muted"], lw=0.7)
    for i, (backend, group) in enumerate(rows.groupby("backend", sort=False)):
        x = group["classic_rdp"].replace(np.inf, infinite) * 1.25 ** (2 * i - 1)
        limits = np.abs(group[["low", "high"]].to_numpy().T - group["mean"].to_numpy())
        style = {"fmt": MARKERS.get(backend, "o"), "ms": 3.5, "lw": 1, "color": BACK_ENDS.get(backend, COLORS["muted"])}
        sizes = " to ".join(f"{n:.0f}" for n in sorted({group["n"].min(), group["n"].max()}))
        label = f"{backend}: inserted, 90 %, {sizes} canaries"
        axes.errorbar(x, group["mean"], yerr=limits, label=label, **style)
        axes.scatter(x, group["mean_out"], marker="_", s=30, color=style["color"], lw=1, label=f"{backend}: left out")
    plotting.paper(axes, reference, "exposure", "paper, one canary", line=False)
    epsilon_axis(axes, infinite, any_infinite=bool(np.isinf(rows["classic_rdp"]).any()))
    axes.set(xlim=(0.3, 3 * infinite), ylim=(0, None))
    return None
