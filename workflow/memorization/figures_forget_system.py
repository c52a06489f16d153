"""R1 of Learn to Forget (number of ours): the service, drawn from the configuration, and what its messages tell."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from memorization import panels_forget, plotting, tidy_forget
from memorization.panels_forget import set_name
from memorization.plotting import COLORS, styled

LIGHT, WARM, GREY = "#E8F1F8", "#FBE9DF", "#EEEEEE"
BOXES = {
    "data": (0.02, 0.62, 0.2, 0.3, LIGHT),
    "third": (0.02, 0.2, 0.2, 0.24, LIGHT),
    "generator": (0.28, 0.2, 0.22, 0.3, WARM),
    "local": (0.28, 0.62, 0.22, 0.3, LIGHT),
    "slot": (0.59, 0.42, 0.13, 0.28, "#FFFFFF"),
    "others": (0.59, 0.02, 0.13, 0.24, GREY),
    "server": (0.78, 0.26, 0.21, 0.44, GREY),
}
"""Name -> left, bottom, width, height (of the panel), colour."""
TEXTS = {
    "data": "user 0's data\n$D_0$ ⊃ $D_e$ (to forget)\n{examples} examples,\n{forget} of them in $D_e$",
    "third": "third-party data $D_3$\n{third} examples that\nnobody trains on",
    "generator": "dummy-gradient\ngenerator ({generator})\nmin KL($p^*$ ‖ f) + λ Σ ω|δ|\n{rounds} rounds",
    "local": "ordinary training\nlocal epochs: {epochs},\nbatches of {batch}",
    "slot": "upload slot\nof user 0:\nsame shape,\nsame weight",
    "others": "users 1 to {last}\n{others}",
    "server": "server, unchanged\nθ ← θ − Σ ($n_u$/N) upload\n{messages} messages and\n{megabytes} MB per round",
}
VERSION = "v1: the common procedure stays as it is, its security is not lowered (verified, its abstract)"
ARROWS = (
    ("data", "local", COLORS["exact"], "$D_0$"),
    ("data", "generator", COLORS["canary"], "$D_e$"),
    ("third", "generator", COLORS["canary"], "$p^*$"),
    ("local", "slot", COLORS["exact"], "     update"),
    ("generator", "slot", COLORS["canary"], "dummy\nupdate δ"),
    ("slot", "server", "#444444", ""),
    ("others", "server", "#444444", ""),
)


@styled
def r01_system(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """R1: what every party holds and sends; how well a server that saw single updates could tell the dummy ones."""
    figure = panels_forget.begin(3.0, "R1", VERSION)
    if panels_forget.unmeasured(figure, table):
        return figure
    left, right = figure.subplots(1, 2, width_ratios=[2.5, 1])
    frame = tidy_forget.rows(table)
    _system(left, _words(frame))
    left.set_title(f"(a) The service, with the numbers of {_first(frame)}")
    found = tidy_forget.last(tidy_forget.measured(frame, "auc_update"))
    found = found[found["method"].isin(("base", "forsaken"))]
    right.set_title("(b) Updates told apart")
    if not panels_forget.missing(right, found, "no updates were compared"):
        _told_apart(right, found)
    plotting.legend_below(figure, (right,), 4)
    return figure


def _first(frame: pd.DataFrame) -> str:
    return set_name(sorted(frame["dataset"].unique())[0]) if len(frame) else "nothing"


def _words(frame: pd.DataFrame) -> dict[str, str]:
    """The numbers that the boxes name, of the first data set; a dash where the table does not say."""
    own = frame[frame["dataset"] == frame["dataset"].min()] if len(frame) else frame
    asked = own[own["method"] == "forsaken"]

    def said(rows: pd.DataFrame, column: str, form: str = "{:,.0f}") -> str:
        known = column in rows and rows[column].notna().any()
        return form.format(rows[column].dropna().iloc[0]) if known else "–"

    def mean(measure: str, *parts: str, scale: float = 1.0) -> str:
        values = tidy_forget.of_base(tidy_forget.measured(own, measure, *parts))
        return f"{values.mean() * scale:,.3g}" if len(values) else "–"

    users = said(own, "data.users")
    return {
        "examples": said(own, "data.examples_per_user"),
        "forget": mean("oracle_n_confidence", "forget"),
        "third": said(own, "data.third_party"),
        "generator": said(asked, "request.generator", "{}"),
        "rounds": said(asked, "request.rounds"),
        "epochs": said(own, "training.local_epochs"),
        "batch": said(own, "training.batch_size"),
        "last": str(int(users) - 1) if users.isdigit() else "–",
        "others": {"train": "train on", "idle": "stay idle"}.get(said(asked, "request.others", "{}"), "–"),
        "messages": mean("messages_per_round"),
        "megabytes": mean("bytes_per_round", scale=1e-6),
    }


def _system(axes: Axes, words: dict[str, str]) -> None:
    """Boxes and arrows in the unit square."""
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()
    for name, (x, y, width, height, color) in BOXES.items():
        style = {"boxstyle": "round,pad=0,rounding_size=0.015", "fc": color, "ec": "#666666", "lw": 0.7}
        axes.add_patch(FancyBboxPatch((x, y), width, height, **style))
        axes.text(x + width / 2, y + height / 2, TEXTS[name].format(**words), ha="center", va="center", fontsize=5.4)
    for begin, end, color, label in ARROWS:
        _arrow(axes, BOXES[begin][:4], BOXES[end][:4], color, label)


def _arrow(axes: Axes, begin: tuple, end: tuple, color: str, label: str) -> None:
    """From the right edge of one box to the left edge of another."""
    start = (begin[0] + begin[2], begin[1] + begin[3] / 2)
    stop = (end[0], end[1] + end[3] / 2)
    axes.add_patch(FancyArrowPatch(start, stop, arrowstyle="-|>", mutation_scale=7, color=color, lw=1.0, zorder=3))
    # Beside the arrow, on the side that its slope leaves free.
    up = stop[1] <= start[1]
    middle = ((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2 + (0.03 if up else -0.03))
    side = {"ha": "left" if stop[1] != start[1] else "center", "va": "bottom" if up else "top"}
    axes.text(*middle, label, color=color, fontsize=5.6, zorder=4, **side)


def _told_apart(axes: Axes, found: pd.DataFrame) -> None:
    """AUC by norm and by direction, per data set, of dummy and of ordinary updates."""
    sets = sorted(found["dataset"].unique())
    for method, marker, name in (("forsaken", "D", "dummy updates"), ("base", "o", "ordinary updates")):
        for part, color, shift in (("norm", COLORS["exact"], -0.15), ("cosine", COLORS["canary"], 0.15)):
            for place, dataset in enumerate(sets):
                own = found[(found["dataset"] == dataset) & (found["method"] == method) & (found["part"] == part)]
                style = {"marker": marker, "mfc": color if method == "forsaken" else "white", "ms": 3.2}
                panels_forget.dots(axes, place + shift, own["value"], color, **style)
        fill = COLORS["muted"] if method == "forsaken" else "white"
        axes.plot([], [], marker, color=COLORS["muted"], mfc=fill, ms=3.2, label=name)
    for part, color in (("norm", COLORS["exact"]), ("direction", COLORS["canary"])):
        axes.plot([], [], color=color, lw=3, label=f"by {part}")
    axes.axhline(0.5, color="#444444", lw=0.7, zorder=1)
    axes.set_xticks(range(len(sets)), [set_name(dataset) for dataset in sets], rotation=30, ha="right", fontsize=6)
    axes.set(ylabel="AUC", ylim=(-0.03, 1.03), xlim=(-0.5, len(sets) - 0.5))
