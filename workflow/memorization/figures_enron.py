"""Table 2 of The Secret Sharer: secrets in models of the mail of single users, beside the paper's."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from memorization import plotting, tidy, tidy_secrets
from memorization.panels import nothing
from memorization.plotting import COLORS, styled

HEADER = [
    "user", "type", "copies", "exposure (bits)", "skew-\nnormal", "extracted", "paper:\nexp.", "paper:\nextr.",
]  # fmt: skip
WIDTHS = [0.07, 0.08, 0.09, 0.3, 0.11, 0.17, 0.09, 0.09]


@styled
def tab02_enron(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """Table 2: letter, type, exposure, extracted or not, of planted secrets; never a secret itself."""
    rows = tidy_secrets.secrets(table)
    figure = plotting.new_figure(0.9 + 0.27 * max(len(rows), 6))
    listed, panel = figure.subplots(1, 2, width_ratios=[1.9, 1])
    if not len(rows):
        nothing(listed, "no secret")
        return figure
    _table(listed, rows, reference)
    _dots(panel, rows, reference, tidy.rows(table, "exposure"))
    models = plotting.models(rows[tidy.MODEL].drop_duplicates().shape[0])
    listed.set_title(f"(a) Planted synthetic secrets, {models}", pad=8)
    panel.set_title("(b) Exposure")
    plotting.legend_below(figure, [panel], 4)
    return figure


def exposure_text(row: pd.Series) -> str:
    """The surest that is known of a secret's exposure: exact, importance-sampled, sampled, or a bound, with log2|R|."""
    space = f" of {row['space_bits']:.1f}"
    if np.isfinite(row["exact"]):
        return f"{row['exact']:.1f}{space}"
    if np.isfinite(row["importance"]):
        return f"≈ {row['importance']:.1f} [{row['importance_low']:.1f}, {row['importance_high']:.1f}]{space}"
    if np.isfinite(row["sampled"]):
        # Without a likelier fill among the samples their number is all that is known.
        if row["extrapolated_sampled"]:
            return f"≥ {row['sampled_low']:.1f}{space}"
        return f"≈ {row['sampled']:.1f} [{row['sampled_low']:.1f}, {row['sampled_high']:.1f}]{space}"
    return "–"


def extracted_text(row: pd.Series) -> str:
    """yes, no, or that the search's budget does not tell."""
    if row["extracted"]:
        return "yes" if row["provable"] else "yes (unproven)"
    return "no" if row["provable"] or row["beaten_in_search"] or row["outranked"] else "not within budget"


def _table(axes: Axes, rows: pd.DataFrame, reference: pd.DataFrame) -> None:
    cells, before = [], None
    for number, (_, row) in enumerate(rows.iterrows(), start=1):
        flag = "*" if row["extrapolated_skew_normal"] is True else ""
        skew = "–" if pd.isna(row["skew_normal"]) else f"{row['skew_normal']:.1f}{flag}"
        copies = "–" if pd.isna(row["copies"]) else f"{row['copies']:.0f}"
        owner = "" if row["owner"] == before else row["owner"]
        before = row["owner"]
        told = [_of_paper(reference, series, number) for series in ("exposure", "extracted")]
        paper = ["–" if np.isnan(told[0]) else f"{told[0]:g}", "–" if np.isnan(told[1]) else "yes" if told[1] else "no"]
        cells.append([owner, row["kind"], copies, exposure_text(row), skew, extracted_text(row), *paper])
    won = frozenset((i, 5) for i, (_, row) in enumerate(rows.iterrows()) if row["extracted"])
    plotting.rendered_table(axes, cells, HEADER, WIDTHS, won, size=6.6)


def _of_paper(reference: pd.DataFrame, series: str, number: int) -> float:
    chosen = reference.loc[(reference["series"] == series) & (reference["x"] == number), "y"]
    return float(chosen.iloc[0]) if len(chosen) else np.nan


def _dots(axes: Axes, rows: pd.DataFrame, reference: pd.DataFrame, exposure: pd.DataFrame) -> None:
    """One line per secret: ours by every method, log2|R| as a tick, and the paper's."""
    y = np.arange(1, len(rows) + 1)
    axes.set(ylim=(len(rows) + 0.6, 0.4), xlabel="exposure (bits)")
    axes.set_yticks(y, [f"{r.owner} {r.kind}" for r in rows.itertuples()])
    controls = exposure[(exposure["kind"] == "control") & (exposure["method"] == "sampled")]
    if len(controls):
        low, high = controls["exposure_bits"].quantile([0.05, 0.95])
        axes.axvspan(low, high, color=COLORS["control"], alpha=0.25, lw=0, zorder=0, label="not planted, 5–95 %")
    axes.plot(rows["space_bits"], y, "|", ms=9, mew=1.2, color=COLORS["exact"], label="log$_2$|R|")
    for method, marker, offset in (("exact", "s", 0), ("importance", "D", -0.12), ("skew_normal", "o", 0.12)):
        known = rows[method].notna()
        if known.any():
            part, place = rows[known], y[known] + offset
            spread = np.abs(part[[f"{method}_low", f"{method}_high"]].to_numpy().T - part[method].to_numpy())
            style = {"fmt": marker, "ms": 3.6, "lw": 1, "color": COLORS[method], "zorder": 3}
            axes.errorbar(part[method], place, xerr=np.nan_to_num(spread), label=plotting.LABELS[method], **style)
    paper = reference[(reference["series"] == "exposure") & (reference["x"] <= len(rows))]
    if len(paper):
        style = {
            "marker": "o",
            "ms": 4.2,
            "mew": 0.8,
            "mfc": "white",
            "ls": "none",
            "color": COLORS["paper"],
            "zorder": 2,
        }
        axes.plot(paper["y"], paper["x"], label=f"paper, real secrets ({plotting.marks(paper)})", **style)
    axes.set_xlim(0, max(56.0, axes.get_xlim()[1]))
