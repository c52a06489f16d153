"""The page of `snakemake audit`: one HTML file that needs nothing else, and the same numbers as CSV.

Nothing of the user's text stands on it, nor its file's name: counts and a checksum. Canaries are made up, and are not
shown either.
"""

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from memorization import contracts, panels_audit, plotting, runs, statistics, tables, tidy_audit

DPI = 130

TOO_MUCH = 0.1
"""Delta times the number of records: above, the guarantee lets so many records be given away that it says little."""

STYLE = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;color:#222;background:#fff}
h1{font-size:1.6rem;margin:.2em 0}h2{font-size:1.2rem;margin:1.6em 0 .4em}
.answer{background:#f4f4f4;border-left:4px solid #0072B2;padding:.6em 1em;margin:1em 0}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
th,td{border-bottom:1px solid #ddd;padding:.35em .6em;text-align:left;vertical-align:top}th{background:#f4f4f4}
td.n{text-align:right;white-space:nowrap}img{max-width:100%;height:auto}
code{overflow-wrap:anywhere}dt{font-weight:600;margin-top:.5em}dd{margin-left:1em}
"""


def write(table_path: str, provenance_path: str, html_path: str, csv_path: str, queries_to_try_all: int) -> None:
    """The page and its CSV from an audit's tidy table and its text's provenance.json.

    queries_to_try_all  model steps of one walk over all secrets (`own_audit.full_steps`)
    """
    table = tables.read(table_path)
    provenance = json.loads(Path(provenance_path).read_text(encoding="utf-8"))
    arms = tidy_audit.arms(table).assign(queries_to_try_all=queries_to_try_all)
    with contracts.atomic(Path(csv_path)) as temporary:
        about = arms.assign(scale=table["scale"].iloc[0], corpus_sha256=provenance["files"]["corpus"]["sha256"])
        about.to_csv(temporary, index=False, float_format="%.6g")
    with contracts.atomic(Path(html_path)) as temporary:
        temporary.write_text(page(table, arms, provenance), encoding="utf-8")


def page(table: pd.DataFrame, arms: pd.DataFrame, provenance: dict[str, Any]) -> str:
    """The whole page. `arms` are those of `tidy_audit` with column queries_to_try_all."""
    scale, backend = table["scale"].iloc[0], table["backend"].iloc[0]
    parts = [
        "<!doctype html><html lang=en><head><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>Memorisation audit</title><style>{STYLE}</style></head><body>",
        "<h1>What models trained on this text give away</h1>",
        f"<div class=answer>{''.join(f'<p>{line}</p>' for line in answers(arms))}</div>",
        _picture(_drawn(panels_audit.exposures, arms, tidy_audit.exposures(table)), "Exact exposure of every canary"),
        _picture(
            _drawn(panels_audit.epsilons, arms, tidy_audit.bounds(table)),
            "Epsilon of one window, guaranteed and measured",
        ),
        f"<h2>Numbers</h2><div class=wide>{numbers(arms)}</div>",
        "<h2>What was done</h2>",
        *(f"<p>{line}</p>" for line in method(table, arms, provenance)),
        f"<h2>Words</h2>{WORDS}",
        *(["<p>Scale smoke only tries every step: its numbers mean nothing.</p>"] if scale == "smoke" else []),
        f"<p>Scale {html.escape(scale)}; back end {html.escape(backend)}; commit {html.escape(runs.commit())}.</p>",
        "</body></html>\n",
    ]
    return "\n".join(parts)


def answers(arms: pd.DataFrame) -> list[str]:
    """What an arm showed, one sentence or two each. Nothing is judged: these are counts and bounds."""
    lines = []
    for arm in arms.itertuples():
        text = (
            f"<b>{html.escape(arm.arm[:1].upper() + arm.arm[1:])}:</b> a search gave back {arm.extracted} of "
            f"{arm.planted} planted secrets. Exposure of those planted: {arm.exposure_bits:.1f} of at most "
            f"{arm.space_bits:.1f} bits; of those left out: {arm.left_out_bits:.1f} (a secret "
            f"never seen: {statistics.NULL_MEAN_BITS:.2f} on average). "
        )
        if np.isinf(arm.rdp):
            text += f"No ε is guaranteed; the canaries show that it is at least {arm.epsilon_low:.2f}."
        else:
            least = min(value for value in (arm.classic_rdp, arm.rdp, arm.pld) if np.isfinite(value))
            text += (
                f"For {html.escape(_record(arm.unit))} ε is guaranteed to be at most {least:.2f}; the canaries show at "
                f"least {arm.epsilon_low:.2f}."
            )
            if arm.delta * arm.records > TOO_MUCH:
                text += (
                    f" But δ times the number of records is {arm.delta * arm.records:.2g}: too much for this guarantee "
                    "to say much."
                )
        lines.append(text)
    return lines


def numbers(arms: pd.DataFrame) -> str:
    """The table of all arms, one column each."""
    record = _record(next(filter(None, arms["unit"]), ""))
    rows = {
        "models": [f"{a.models}" for a in arms.itertuples()],
        "test loss (nats per character)": [f"{a.test_loss_nats:.3f}" for a in arms.itertuples()],
        "secrets planted, left out": [f"{a.planted}, {a.left_out}" for a in arms.itertuples()],
        "exposure of planted (bits; 95 % over models)": [
            f"{a.exposure_bits:.2f} [{a.exposure_bits_low:.2f}, {a.exposure_bits_high:.2f}]" for a in arms.itertuples()
        ],
        "exposure of left out (bits)": [f"{a.left_out_bits:.2f}" for a in arms.itertuples()],
        "planted of exact rank 1": [f"{a.first} of {a.planted}" for a in arms.itertuples()],
        "extracted by search": [f"{a.extracted} of {a.planted}" for a in arms.itertuples()],
        "queries per search (median, most)": [
            f"{a.queries_median:,.0f}, {a.queries_most:,.0f}" for a in arms.itertuples()
        ],
        "queries to try all secrets": [f"{a.queries_to_try_all:,}" for a in arms.itertuples()],
        "possible secrets": [f"{2**a.space_bits:,.0f}" for a in arms.itertuples()],
        f"ε guaranteed for {record}, classic RDP": [_number(a.classic_rdp) for a in arms.itertuples()],
        f"ε guaranteed for {record}, RDP of today": [_number(a.rdp) for a in arms.itertuples()],
        f"ε guaranteed for {record}, PLD": [_number(a.pld) for a in arms.itertuples()],
        "ε shown by canaries, at least (95 %)": [f"{a.epsilon_low:.2f}" for a in arms.itertuples()],
        "the most they could show": [f"{a.attainable:.2f}" for a in arms.itertuples()],
        "δ": [f"{a.delta:g}" for a in arms.itertuples()],
        "records (n)": ["–" if np.isnan(a.records) else f"{a.records:,.0f}" for a in arms.itertuples()],
        f"δ · n (should be well below 1; above {TOO_MUCH:g} is marked)": [_failing(a) for a in arms.itertuples()],
    }
    if arms["unfinished"].any():
        rows["canaries without an exact rank"] = [f"{a.unfinished}" for a in arms.itertuples()]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *arms["arm"]))
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>{''.join(f'<td class=n>{html.escape(cell)}</td>' for cell in cells)}</tr>"
        for name, cells in rows.items()
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def method(table: pd.DataFrame, arms: pd.DataFrame, provenance: dict[str, Any]) -> list[str]:
    """How the numbers came about, and what they do not say. Plain HTML paragraphs."""
    given, unit = provenance["files"]["corpus"], next(filter(None, arms["unit"]), "")
    record = f"; one record is {html.escape(_record(unit))}" if unit else ""
    return [
        f"<b>The text.</b> {given['bytes']:,} bytes, SHA-256 <code>{given['sha256']}</code>: "
        f"{html.escape(provenance['note'])}. Nothing of it is shown here.",
        "<b>Only a leading part is used</b>, so that an audit takes minutes. A model trained on more of the text meets "
        "each planted secret among more other text, and may be larger or trained otherwise: these numbers are of the "
        "models trained here. <code>--config scale=paper</code> uses up to ten million characters.",
        f"<b>The models.</b> Recurrent networks (LSTM) that predict the next character, {arms['models'].iloc[0]} of "
        "every kind, trained from the same starting points on the same text.",
        f"<b>The secrets.</b> Before training, {arms['canaries'].iloc[0]} made-up lines are drawn for each model, each "
        "with words of its own and digits at random; a coin decides on each whether it is planted, once. Those left "
        "out show what a model says of a secret that it never saw.",
        f"<b>Private training</b> clips every record's gradient and adds noise (DP-SGD{record}); the ε it guarantees "
        "is accounted for before training. It is for one record and takes the alphabet as known, which is read off the "
        "text without noise. A line longer than a record is always several, a shorter one may lie in two, and a line "
        "added or removed shifts all records after it: what stands in several records is protected less.",
    ]


WORDS = """<dl>
<dt>Exposure</dt>
<dd>How far up a secret stands among all secrets that might have been in its place, ordered by how likely the model
holds them: log2 of their number minus log2 of its rank. Computed over all of them, not estimated. At the most possible
value the model holds the planted secret likelier than any other.</dd>
<dt>Search, queries</dt>
<dd>A shortest-path search for the likeliest secret after the words around it, with a proof that none is likelier
(Carlini et al. 2019). A query asks the model for the probabilities of one next character. What trying every secret
takes stands beside it; there, secrets that begin alike share their first queries.</dd>
<dt>ε guaranteed for one record</dt>
<dd>The upper bound of differential privacy on what any attack can learn of one record, not of a line or a person, by
three ways of accounting for the same noise; each holds, so the smallest counts.</dd>
<dt>δ</dt>
<dd>What ε does not cover: a training that gives away each record with probability δ keeps the guarantee, and with n
records gives away δ · n of them on average. So δ should be well below 1/n.</dd>
<dt>ε, shown by canaries</dt>
<dd>A lower bound from guessing the coins of one training (Steinke, Nasr, Jagielski 2023), with 95 % confidence for all
models of a column at once. It says that the training protects no better than that; a small value does not say that it
protects well: other attacks may show more.</dd>
</dl>"""


def _record(unit: str) -> str:
    """What one record is, to be read after "for"."""
    return unit.replace("a training window", "one window", 1) or "one record"


def _failing(arm: Any) -> str:
    if np.isnan(arm.records):
        return "–"
    share = arm.delta * arm.records
    return f"{share:.2g}" + (" — too large" if share > TOO_MUCH else "")


def _number(value: float) -> str:
    return "none (∞)" if np.isinf(value) else "not computed" if np.isnan(value) else f"{value:.2f}"


@plotting.styled
def _drawn(draw: Any, arms: pd.DataFrame, rows: pd.DataFrame) -> Figure:
    figure = plotting.new_figure(2.9)
    axes = figure.subplots()
    draw(axes, arms, rows)
    plotting.legend_below(figure, [axes], 3)
    return figure


def _picture(figure: Figure, title: str) -> str:
    """The figure as an image that is part of the page."""
    stream = io.BytesIO()
    with mpl.rc_context({"savefig.dpi": DPI}):
        figure.savefig(stream, format="png", metadata={"Software": None})
    encoded = base64.b64encode(stream.getvalue()).decode()
    return f'<h2>{title}</h2><p><img alt="{title}" src="data:image/png;base64,{encoded}"></p>'
