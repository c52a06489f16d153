"""Panels on single sentences under a pair of models (B1, B3). Of PTB only what the post itself quotes is ever shown."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from memorization import plotting, statistics
from memorization.gates import sentences
from memorization.panels import nothing
from memorization.panels_privacy import ARMS, NAMES
from memorization.plotting import COLORS

SHARES = {
    "N": (NAMES[False], ARMS[False], "-"),
    "D": (NAMES[True], ARMS[True], "-"),
    "both": ("both", "#222222", "-"),
    "only N": ("only N", COLORS["importance"], "-"),
    "chance": ("both, were they independent", COLORS["muted"], (0, (1, 1.5))),
}
LISTED = 7
"""Largest gaps in B3's list."""


def decisions(lines: pd.DataFrame, at: np.ndarray) -> pd.DataFrame:
    """Shares (percent) of one pair's lines that each model accepts at float64[n] thresholds (nats per character)."""
    n, d = (lines[arm].to_numpy()[:, None] <= at for arm in ("N", "D"))
    shares = {"N": n, "D": d, "both": n & d, "only N": n & ~d}
    frame = pd.DataFrame({name: 100 * accepted.mean(axis=0) for name, accepted in shares.items()})
    kappa = [sentences.kappa(n[:, i], d[:, i]) for i in range(len(at))]
    return frame.assign(threshold=at, chance=frame["N"] * frame["D"] / 100, kappa=kappa)


def sweep(lines: pd.DataFrame, points: int = 160) -> pd.DataFrame:
    """`decisions` of every pair over one range of thresholds, with `pair`."""
    at = np.linspace(*np.quantile(lines[["N", "D"]], [0.002, 1.0]), points)
    return pd.concat([decisions(own, at).assign(pair=pair) for pair, own in lines.groupby("pair")], ignore_index=True)


def acceptance(axes: Axes, swept: pd.DataFrame, lines: pd.DataFrame, held: pd.DataFrame, share: float) -> None:
    """Share of training lines accepted against the threshold; where both models accept `share` of them."""
    axes.set(xlabel="threshold: mean loss of the sentence (nats/char)", ylabel="sentences accepted (%)", ylim=(0, 101))
    for column, (name, color, dashes) in SHARES.items():
        summary = plotting.intervals(swept, "threshold", column)
        axes.fill_between(summary["threshold"], summary["low"], summary["high"], color=color, alpha=0.18, lw=0)
        axes.plot(summary["threshold"], summary["mean"], color=color, ls=dashes, lw=1.3, label=name)
    crossings = [sentences.threshold(own, share) for _, own in lines.groupby("pair")]
    at = float(np.mean(crossings))
    axes.axvline(
        at, color=COLORS["paper"], lw=0.8, ls=(0, (4, 3)), label=f"both accept {100 * share:.0f} %: {at:.2f} nats/char"
    )
    axes.axhline(100 * share, color=COLORS["paper"], lw=0.5, ls=(0, (4, 3)))
    if len(held):
        beyond = 100 * (np.maximum(held["N"], held["D"]) <= at).mean()
        axes.plot([], [], " ", label=f"both then accept {beyond:.0f} % of {held['index'].nunique()} test sentences")


def agreement(axes: Axes, swept: pd.DataFrame, lines: pd.DataFrame, share: float) -> None:
    """Cohen's kappa against the share that both accept: one absolute threshold, or each model's own quantile."""
    axes.set(xlabel="both accept (% of sentences)", ylabel="Cohen's kappa", ylim=(-0.05, 1.03))
    for i, (_, own) in enumerate(swept.groupby("pair")):
        one = own.dropna(subset=["kappa"])
        label = "one threshold for both" if i == 0 else None
        axes.plot(one["both"], one["kappa"], color=COLORS["exact"], lw=1, alpha=0.8, label=label)
    quantiles = np.linspace(0.02, 0.995, 120)
    for i, (_, own) in enumerate(lines.groupby("pair")):
        n, d = (own[arm].to_numpy()[:, None] <= np.quantile(own[arm], quantiles) for arm in ("N", "D"))
        kappa = [sentences.kappa(n[:, k], d[:, k]) for k in range(len(quantiles))]
        label = "each model's own quantile" if i == 0 else None
        axes.plot(100 * (n & d).mean(axis=0), kappa, color=COLORS["sampled"], lw=0.9, ls="--", alpha=0.8, label=label)
    axes.axvline(100 * share, color=COLORS["paper"], lw=0.8, ls=(0, (4, 3)))
    axes.set_xlim(0, 101)


def oddness(axes: Axes, gaps: pd.DataFrame, six: pd.DataFrame) -> None:
    """Mean gap D - N of every trained line against its 5-gram loss under the other lines; the quoted ones marked."""
    axes.set(xlabel="5-gram loss of the sentence (nats/char)", ylabel="gap D − N (nats/char)")
    gaps = gaps.dropna(subset=["fivegram_nats"])
    if not len(gaps):
        return nothing(axes, "no sentence scored under both models")
    axes.axhline(0, color="#444444", lw=0.7)
    axes.scatter(gaps["fivegram_nats"], gaps["gap"], s=6, color=COLORS["model"], alpha=0.6, linewidths=0,
                 label=f"{len(gaps)} trained sentences")  # fmt: skip
    for kind, color in (("rare", COLORS["canary"]), ("common", COLORS["sampled"])):
        own = gaps[gaps["index"].isin(six.loc[six["kind"] == kind, "index"])]
        label = f"{kind} in the post: {len(own)} of {(six['kind'] == kind).sum()} trained"
        axes.scatter(own["fivegram_nats"], own["gap"], s=34, facecolor="none", edgecolor=color, lw=1.4, label=label)
        for _, line in own.iterrows():
            axes.annotate(f"line {line['index']:.0f}", (line["fivegram_nats"], line["gap"]), xytext=(-4, 5), ha="right",
                          textcoords="offset points", fontsize=6, color=color)  # fmt: skip
    return None


def correlations(lines: pd.DataFrame, odd: pd.DataFrame) -> str:
    """`Spearman 0.45 [0.41, 0.49], n = 5` of gap and oddness over seeds, for a title."""
    joined = lines.merge(odd[["index", "fivegram_nats"]], on="index").dropna(subset=["fivegram_nats"])
    rho = [stats.spearmanr(own["gap"], own["fivegram_nats"]).statistic for _, own in joined.groupby("pair")]
    if not rho:
        return ""
    low, high = statistics.t_interval(rho)[1:]
    limits = f" [{low:.2f}, {high:.2f}]" if len(rho) > 2 else ""
    return f"Spearman {np.mean(rho):.2f}{limits}, {len(rho)} pair" + "s" * (len(rho) != 1)


def largest_gaps(axes: Axes, gaps: pd.DataFrame) -> None:
    """The sentences with the largest gaps by line number and oddness, without their text."""
    if not len(gaps):
        return nothing(axes, "no sentence scored under both models")
    header = ["line", "gap", "N", "D", "chars", "5-gram", "<unk>", "numbers", "not in\ntest"]
    cells = [
        [f"{r['index']:.0f}", *(f"{r[c]:.2f}" for c in ("gap", "N", "D")), f"{r['characters']:.0f}",
         f"{r['fivegram_nats']:.2f}", *(f"{r[c]:.0%}" for c in ("unk_share", "number_share", "rare_share"))]
        for _, r in gaps.sort_values("gap", ascending=False)[:LISTED].iterrows()
    ]  # fmt: skip
    typical = gaps[["gap", "N", "D", "characters", "fivegram_nats", "unk_share", "number_share", "rare_share"]].median()
    cells.append(["median", *(f"{typical[c]:.2f}" for c in ("gap", "N", "D")), f"{typical['characters']:.0f}",
                  f"{typical['fivegram_nats']:.2f}",
                  *(f"{typical[c]:.0%}" for c in ("unk_share", "number_share", "rare_share"))])  # fmt: skip
    plotting.rendered_table(axes, cells, header, [0.13, 0.1, 0.1, 0.1, 0.1, 0.12, 0.11, 0.13, 0.11], size=6.2)
    return None


def six_sentences(axes: Axes, gaps: pd.DataFrame, six: pd.DataFrame, mark: str) -> None:
    """The post's own sentences, with both losses where they were trained on."""
    place = gaps.set_index("index")["gap"].rank(ascending=False)
    found = gaps.set_index("index")
    cells = []
    for row in six.sort_values(["kind", "index"]).itertuples():
        text = row.text if len(row.text) <= 62 else row.text[:60] + "…"
        told = ["–", "–", "–", "not in the trained share"]
        if row.index in found.index:
            line = found.loc[row.index]
            told = [f"{line[c]:.2f}" for c in ("N", "D")] + [
                f"{line['gap']:+.2f}",
                f"{place[row.index]:.0f} of {len(place)}",
            ]
        cells.append([row.kind, f"{row.index:,}", text, *told])
    header = ["in the post", "PTB line", f"sentence as quoted ({mark})", "N", "D", "gap", "rank of the gap"]
    plotting.rendered_table(axes, cells, header, [0.08, 0.07, 0.46, 0.06, 0.06, 0.07, 0.17], size=6.2)
