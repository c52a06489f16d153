"""The defence leaderboard: what every defence leaves of a canary against what it costs in utility."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import plotting, statistics, tidy_defences, tidy_leaderboard
from memorization.panels import nothing
from memorization.plotting import styled

CLASSES = {
    "none": ("no defence", "#000000"),
    "stopping": ("early stopping", "#9A9A9A"),
    "8 bits": ("8-bit weights", "#56B4E9"),
    "dropout": ("regularisation", "#E69F00"),
    "weight decay": ("regularisation", "#E69F00"),
    "sanitise": ("sanitising the text", "#009E73"),
    "privacy": ("differential privacy", "#0072B2"),
    "retrained": ("unlearning", "#CC79A7"),
    "unlearning": ("unlearning", "#CC79A7"),
}
"""Defence -> class and its colour."""
HEADER = ["", "defence", "exposure, 95 %\n(bits)", "at rank 1", "loss\n(bits/char.)", "cost, 95 %\n(bits/char.)",
          "stopped at that\nloss (bits)"]  # fmt: skip
WIDTHS = [0.04, 0.27, 0.15, 0.09, 0.1, 0.21, 0.14]
LINEAR = 0.02
"""Cost in bits per character below which the axis is linear."""


def summarised(table: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, the least exposed first and the undefended last, by set-up and canary: mean bits with Student's
    95 % interval (low, high), n, first (models whose canary has rank 1), bound (whose exposure is only known to be at
    least that), loss, cost with its interval, learned (mean share of the undefended model's gain), stopped (mean
    exposure of the undefended model at equal loss, the lesser of the two measurements around it; NaN unless every model
    of the arm has one), number. Of an early stopping that never stopped the values are NaN and n is 0.
    """
    rows = tidy_leaderboard.changes(tidy_leaderboard.board(table))
    stopped = pd.Series(np.nan, index=rows.index)
    own = (rows["setup"] == "central") & (rows["canary"] == "digits")
    stopped[own] = tidy_leaderboard.at_equal_loss(rows[own], tidy_leaderboard.path(table))["least"]
    rows = rows.assign(stopped=stopped)
    listed, most = [], tidy_defences.ceilings(table)
    for arm, group in rows.groupby(tidy_leaderboard.ARM):
        ceiling = most.get(arm[1], np.inf) if arm[0] == "central" else np.inf
        bits, cost = (statistics.t_interval(group[name].dropna()) for name in ("bits", "loss_change"))
        listed.append({
            **dict(zip(tidy_leaderboard.ARM, arm, strict=True)),
            "bits": bits.estimate, "low": bits.low, "high": min(bits.high, ceiling), "n": int(group["bits"].count()),
            "first": int(group["first"].sum()), "bound": int(group["bound"].sum()),
            "loss": group["bits_per_character"].mean(), "cost": cost.estimate, "cost_low": cost.low,
            "cost_high": cost.high, "stopped": group["stopped"].mean(skipna=False),
            "learned": group["learned"].mean(),
        })  # fmt: skip
    if not listed:
        return pd.DataFrame(columns=[*tidy_leaderboard.ARM, "bits", "cost", "number"])
    frame = pd.DataFrame(listed)
    order = {"setup": ["central", "federated"], "canary": ["digits", "letters"]}
    keys = [frame[name].map(values.index) for name, values in order.items()]
    frame = frame.assign(_setup=keys[0], _canary=keys[1], _plain=frame["defence"] == "none")
    frame = frame.sort_values(["_canary", "_setup", "_plain", "bits"], ignore_index=True)
    return frame.drop(columns=["_setup", "_canary", "_plain"]).assign(number=range(1, len(frame) + 1))


@styled
def defence_leaderboard(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Exposure against cost of central and of federated models, and all of it as a ranking."""
    rows = summarised(table)
    figure = plotting.new_figure(3.1 + 0.16 * max(len(rows), 4))
    grid = figure.add_gridspec(2, 2, height_ratios=[2.5, 0.35 + 0.16 * max(len(rows), 4)], width_ratios=[1.9, 1])
    left, right, below = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1]), figure.add_subplot(grid[1, :])
    central = rows[(rows["setup"] == "central") & (rows["canary"] == "digits")]
    federated = rows[rows["setup"] == "federated"]
    _stopping_path(left, table)
    _points(left, central, "no model was defended")
    _points(right, federated, "no federation was asked to forget")
    plotting.ceiling(left, tidy_defences.ceilings(table)["digits"])
    for axes, value in ((left, "validation"), (right, "test")):
        plotting.null_band(axes, tidy_defences.controls(table), label=axes is left)
        axes.set_xlabel(f"cost: change of {value} loss\n(bits per character)")
        axes.set_ylim(-0.5, None)
    left.set_ylabel("exposure (bits)")
    margin, _ = plotting.value(reference, "margin", "exposure")
    left.set_title("(a) One model, trained on the text")
    right.set_title("(b) Federation, another size")
    least, _ = plotting.value(reference, "least learned", "loss")
    _ranking(below, rows, margin, least)
    plotting.legend_below(figure, (left, right), 4)
    return figure


def _points(axes: Axes, rows: pd.DataFrame, why: str) -> None:
    """A numbered point per arm, with its intervals from three models on."""
    rows = rows.dropna(subset=["cost"])
    if not len(rows):
        return nothing(axes, why)
    axes.set_xscale("symlog", linthresh=LINEAR)
    for row in rows.itertuples():
        name, color = CLASSES[row.defence]
        few = row.n < 3
        style = {"fmt": "o", "ms": 8.5, "color": color, "mec": "white", "mew": 0.4, "elinewidth": 0.8, "alpha": 0.9}
        xerr = None if few or row.defence == "none" else [[row.cost - row.cost_low], [row.cost_high - row.cost]]
        yerr = None if few else [[row.bits - max(row.low, 0)], [row.high - row.bits]]
        axes.errorbar(row.cost, row.bits, yerr=yerr, xerr=xerr, label=name, zorder=3, **style)
    most = max(rows["cost"].max(), LINEAR)
    ticks = [tick for tick in (-0.1, 0, 0.01, 0.1, 1, 3) if min(rows["cost"].min(), 0) * 3 <= tick <= 3 * most]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(min(2 * rows["cost"].min(), -LINEAR), 2.2 * most)
    _numbers(axes, rows)
    return None


def _numbers(axes: Axes, rows: pd.DataFrame) -> None:
    """Every point's number in the table: inside it, or beside a point that several arms share."""
    shared = rows.assign(x=(rows["cost"] / LINEAR).round(1), y=rows["bits"].round(1)).groupby(["x", "y"], sort=False)
    for _, same in shared:
        place = (same["cost"].iloc[0], same["bits"].iloc[0])
        if len(same) == 1:
            axes.annotate(str(same["number"].iloc[0]), place, color="white", fontsize=5.6, ha="center", va="center",
                          zorder=6, weight="bold")  # fmt: skip
        else:
            axes.annotate(", ".join(map(str, same["number"])), place, (-7, 0), textcoords="offset points",
                          fontsize=5.6, ha="right", va="center", zorder=6, weight="bold")  # fmt: skip


def _stopping_path(axes: Axes, table: pd.DataFrame) -> None:
    """The undefended models while they train, where exposure was measured: what stopping them costs and leaves."""
    rows = tidy_leaderboard.board(table)
    plain = rows[(rows["setup"] == "central") & (rows["canary"] == "digits") & (rows["defence"] == "none")]
    final = plain.drop_duplicates("pair").set_index("pair")["bits_per_character"]
    label = "undefended training, stopped (dots: measured)"
    for pair, own in tidy_leaderboard.path(table).groupby("pair"):
        cost = own["bits_per_character"] - final[pair]
        axes.plot(cost, own["bits"], color="#444444", lw=0.9, ls=(0, (4, 2)), marker=".", ms=4, zorder=1, label=label)


def _ranking(axes: Axes, rows: pd.DataFrame, margin: float, least: float) -> None:
    """Arms as a table, by set-up and exposure; in colour what lies within the margin of the null mean, unless it has
    gained less than the share `least` of what the undefended model gains (marked).
    """
    if not len(rows):
        axes.set_axis_off()
        return nothing(axes, "nothing was measured")
    cells, chosen = [], set()
    for place, row in enumerate(rows.itertuples()):
        prefix = "letters: " * (row.canary == "letters") + "federation: " * (row.setup == "federated")
        if not row.n:
            cells.append([str(row.number), f"{prefix}{row.label}: loss still falling", *["–"] * 5])
            continue
        nothing_learned = row.learned < least
        cost = "–" if row.defence == "none" else _interval(row.cost, row.cost_low, row.cost_high, row.n, "{:+.3f}")
        stopped = "–" if np.isnan(row.stopped) or row.defence == "none" else f"{row.stopped:.1f}"
        bits = "≥ " * (row.bound > 0) + _interval(row.bits, max(row.low, 0), row.high, row.n, "{:.1f}")
        loss = f"{row.loss:.3f}" + " †" * nothing_learned
        cells.append([str(row.number), prefix + row.label, bits, f"{row.first} of {row.n}", loss, cost, stopped])
        below = row.n > 2 and row.high < statistics.NULL_MEAN_BITS + margin
        if below and not nothing_learned and not row.bound:
            chosen |= {(place, column) for column in range(len(HEADER))}
    plotting.rendered_table(axes, cells, HEADER, WIDTHS, frozenset(chosen), size=6.4)
    told = f"coloured: shown to be within {margin:g} bits of what was not inserted; †: has learned nothing"
    axes.set_title(told, size=7, loc="right", pad=2)
    return None


def _interval(value: float, low: float, high: float, n: int, form: str) -> str:
    told = form.format(value)
    return f"{told} [{form.format(low)}, {form.format(high)}]" if n > 2 else told
