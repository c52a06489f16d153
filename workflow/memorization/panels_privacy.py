"""Panels on differential privacy: each draws into one Axes and survives missing rows.

Colours: N, trained without privacy, and D, with it; orange to green with the noise. Back ends differ in their markers.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from memorization import plotting, statistics
from memorization.gates import copies
from memorization.panels import nothing
from memorization.plotting import COLORS

ARMS = {False: "#D55E00", True: "#0072B2"}
"""private -> colour."""
NAMES = {False: "N: no privacy", True: "D: private"}
MARKERS = {"torch": "o", "tf": "s"}
BACK_ENDS = {"torch": "#0072B2", "tf": "#E69F00"}
NOISES = {0.001: "#56B4E9", 0.1: "#0072B2", 0.5: "#7B4B94", 1.0: "#009E73"}
"""noise multiplier -> colour of its line."""
CONVENTIONS = {"classic_rdp": "classic RDP", "rdp": "current RDP", "pld": "PLD"}


def number(value: float, digits: int = 3) -> str:
    """A number for a table: `–` where missing, `∞`, and powers of ten where it is large."""
    if pd.isna(value):
        return "–"
    if np.isinf(value):
        return "∞"
    if abs(value) < 1e5:
        return f"{value:.{digits}g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.1e}"
    mantissa, power = f"{value:.2g}".split("e") if "e" in f"{value:.2g}" else (f"{value:.0f}", "0")
    return f"{mantissa}·10$^{{{int(power)}}}$"


# --- copies -------------------------------------------------------------------------------------------------------


def copies_against_exposure(axes: Axes, frame: pd.DataFrame, controls: pd.DataFrame) -> None:
    """Exposure against the number of copies, a line per noise; rows of `tidy_privacy.canaries`."""
    axes.set(xlabel="copies of the canary", ylabel="exposure (bits)")
    if not len(frame):
        return nothing(axes, "no exposure was measured")
    plotting.null_band(axes, controls)
    plotting.ceiling(axes, frame["space_bits"].max())
    for noise, group in sorted(frame.groupby(frame["noise"].where(frame["private"], -1.0))):
        color = ARMS[False] if noise < 0 else NOISES.get(noise, COLORS["muted"])
        name = NAMES[False] if noise < 0 else f"D: σ = {noise:g}"
        mean = group.groupby("copies")["bits"].agg(["mean", "size"])
        axes.plot(mean.index, mean["mean"], color=color, lw=1.2, marker="_", ms=7, zorder=3,
                  label=f"{name}, n = {_range(mean['size'])} per count")  # fmt: skip
        axes.scatter(group["copies"], group["bits"], s=9, color=color, alpha=0.75, zorder=4, linewidths=0)
        low = group[group["bound"]]
        axes.plot(low["copies"], low["bits"], ls="", marker="$\\uparrow$", ms=5, color=color, zorder=5)
    if frame["bound"].any():
        axes.plot([], [], ls="", marker="$\\uparrow$", ms=5, color=COLORS["muted"], label="at least (sampled)")
    axes.set_xscale("symlog", base=2, linthresh=1, linscale=0.6)
    axes.set_xlim(-0.25, 1.4 * max(4, frame["copies"].max()))
    counts = sorted(frame["copies"].unique())
    axes.set_xticks(counts, [f"{c:g}" for c in counts])
    axes.minorticks_off()
    axes.set_ylim(-0.6, None)
    return None


def _range(sizes: pd.Series) -> str:
    return f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"


def epsilon_against_exposure(axes: Axes, frame: pd.DataFrame, controls: pd.DataFrame) -> None:
    """Exposure against the private training's epsilon, a marker per number of copies."""
    axes.set(xlabel="nominal ε of one record (classic RDP)", ylabel="exposure (bits)")
    frame = frame[frame["private"] & frame["classic_rdp"].notna()]
    if not len(frame):
        return nothing(axes, "no private training with its accounting")
    plotting.null_band(axes, controls, label=False)
    markers = dict(zip(sorted(frame["copies"].unique()), "oDs^vP*XhH<>", strict=False))
    for copies_, group in frame.groupby("copies"):
        x = group["classic_rdp"]
        style = {"marker": markers[copies_], "s": 14, "linewidths": 0.4, "edgecolor": "white", "zorder": 3}
        color = [NOISES.get(noise, COLORS["muted"]) for noise in group["noise"]]
        axes.scatter(x, group["bits"], c=color, **style)
        axes.scatter([], [], c=COLORS["muted"], label=f"{copies_:g} cop{'y' if copies_ == 1 else 'ies'}", **style)
    axes.set(xscale="log", ylim=(-0.6, None))
    return None


# --- back ends ----------------------------------------------------------------------------------------------------


def backend_losses(axes: Axes, curves: pd.DataFrame) -> None:
    """Test loss while training, both arms in both back ends, with 95 % intervals."""
    axes.set(xlabel="epoch", ylabel="test loss (nats/char)")
    if not len(curves):
        return nothing(axes, "no training curves")
    for (backend, is_private), group in curves.groupby(["backend", "private"], sort=False):
        style = {"ls": "-" if backend == "torch" else "--", "shade": True, "lw": 1.2}
        label = f"{backend}, {NAMES[is_private]}"
        plotting.band(axes, group, "epoch", "test_loss_nats", ARMS[is_private], label, **style)
    return None


def backend_differences(axes: Axes, table: pd.DataFrame, value: str, margin: float) -> None:
    """tf - torch per model pair, mean and 90 % interval, against the equivalence margin."""
    unit = copies.SCALED[value][0]
    axes.set(xlabel=f"tf − torch: {value} ({unit})")
    frame = copies.differences(table, value)
    if not len(frame):
        return nothing(axes, f"no {value} in both back ends")
    axes.axvspan(-margin, margin, color=COLORS["control"], alpha=0.25, lw=0, label="margin of equivalence")
    axes.axvline(0, color="#444444", lw=0.7)
    for y, (is_private, group) in enumerate(frame.groupby("private")):
        interval, test = statistics.equivalence(group["difference"], -margin, margin)
        color = ARMS[is_private]
        axes.scatter(group["difference"], np.full(len(group), y - 0.18), s=9, color=color, alpha=0.7, linewidths=0)
        if np.isfinite(interval.low):
            axes.plot([interval.low, interval.high], [y, y], color=color, lw=1.4)
        axes.plot(interval.estimate, y, "o", color=color, ms=4)
        told = "–" if np.isnan(test.p_value) else f"{test.p_value:.2g}"
        axes.text(
            0.02, y + 0.22, f"TOST p = {told}, n = {len(group)}", transform=axes.get_yaxis_transform(), fontsize=6.5
        )
    shown = frame["private"].drop_duplicates().sort_values()
    axes.set_yticks(range(len(shown)), ["D" if s else "N" for s in shown])
    axes.set_ylim(-0.6, len(shown) - 0.4)
    widest = max(1.3 * margin, 1.15 * frame["difference"].abs().max())
    axes.set_xlim(-widest, widest)
    return None


def step_times(axes: Axes, final: pd.DataFrame) -> None:
    """Seconds per training step of a whole cell, as a multiple of torch without privacy."""
    axes.set(ylabel="time, torch N = 1")
    cell = final[final["step"] > 0].assign(per=lambda f: f["wall_s"] / f["step"])
    cell = cell.groupby(["private", "backend"])["per"].max()
    if (False, "torch") not in cell.index:
        return nothing(axes, "no torch training without privacy to compare with")
    relative = cell / cell[False, "torch"]
    for x, ((is_private, backend), times) in enumerate(relative.items()):
        axes.bar(x, times, color=ARMS[is_private], alpha=1 if backend == "torch" else 0.55, width=0.65)
        axes.text(x, times, f"{times:.2g}×", ha="center", va="bottom", fontsize=6.5)
    axes.set_xticks(range(len(relative)), [f"{b}\n{'D' if p else 'N'}" for p, b in relative.index])
    axes.set_ylim(0, 1.18 * relative.max())
    return None
