"""The benchmarks' page (Markdown): what is compared and where, ratios in tables, plots, what is slow and why."""

from typing import Any

import pandas as pd
from bench_plots import BACKENDS, duration, number, times
from comparisons import SIZES, Comparison

QUICK = "> **Tiny sizes (`benchmarks=quick`): this page shows that everything runs. Its numbers mean nothing.**"
HEAD = """# Benchmarks: against what one would run instead

{quick}One command, one run ({minutes}): `uv run snakemake --cores 1 benchmarks`; with
`--config benchmarks=publish` table, plots and page are put here. Every script runs alone, on one thread; the ways of a
comparison take turns (A B A B …), so that a busy machine slows all of them. **×** is the least time per unit of work as
a multiple of the base's: below 1 is faster than the base. Medians, repeats, sizes and versions of every row:
[`benchmarks.csv`](benchmarks.csv)."""
SLOWER = 1.02
"""Ratios within two per cent are no difference that least times of few repeats can show."""


def page(table: pd.DataFrame, comparisons: tuple[Comparison, ...], record: dict[str, Any]) -> str:
    """README.md. record: quick, seconds, absent {comparison/back end: why}, overhead {scale: Markdown}."""
    quick = QUICK + "\n\n" if record["quick"] else ""
    minutes = f"{max(record['seconds'] / 60, 0.1):.1f} minutes here"
    parts = [HEAD.format(quick=quick, minutes=minutes), machines(table), "## In short", *short(table, comparisons)]
    parts += ["## Where a rival is faster", slower(table, comparisons)]
    for optional in (False, True):
        for comparison in (one for one in comparisons if one.optional == optional):
            parts += section(table[table["benchmark"] == comparison.key], comparison, record["absent"])
        parts += [] if optional else fractions(table, comparisons)
    parts += overhead(record["overhead"])
    return "\n\n".join(filter(None, parts)) + "\n"


def grid(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all columns but the first to the right where they hold numbers."""
    marks = ["---"] + ["---:" if all(row[i][:1].isdigit() or not row[i] for row in rows) else "---"
                       for i in range(1, len(header))]  # fmt: skip
    lines = [header, marks, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def machines(table: pd.DataFrame) -> str:
    """What it was measured on and with, one row per environment."""
    found = table[["backend", "device", "hardware", "versions", "commit", "date"]].drop_duplicates()
    rows = [
        [BACKENDS.get(r.backend, r.backend), r.device, r.hardware, r.versions, f"`{r.commit}`", r.date]
        for r in found.itertuples()
    ]
    return grid(["environment", "device", "hardware", "versions", "commit", "date"], rows)


def spread(ratios: pd.Series) -> str:
    """One ratio, or the least and the largest over sizes."""
    low, high = times(ratios.min()), times(ratios.max())
    return low if low == high else f"{low.removesuffix(' ×')} to {high}"


def short(table: pd.DataFrame, comparisons: tuple[Comparison, ...]) -> list[str]:
    """The summary: per comparison and back end the base and every other way's ratio, over all sizes."""
    rows = []
    for comparison in (one for one in comparisons if one.in_short):
        for backend, part in table[table["benchmark"] == comparison.key].groupby("backend", sort=False):
            base = comparison.base_of(backend)
            others = [f"{way}: {spread(one['ratio'])}" for way, one in part.groupby("way", sort=False) if way != base]
            name = f"[{comparison.title}](#{anchor(comparison.title)})"
            rows.append([name, BACKENDS[backend], f"{base} (per {comparison.item})", "<br>".join(others)])
    return [grid(["comparison", "with", "1 ×", "against it"], rows)]


def anchor(title: str) -> str:
    """GitHub's anchor of a heading."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def slower(table: pd.DataFrame, comparisons: tuple[Comparison, ...]) -> str:
    """Every size at which some other way takes less than the quickest of ours, where both do the same."""
    lines = []
    for comparison in comparisons:
        part = table[table["benchmark"] == comparison.key]
        for sizes, group in part.groupby(list(comparison.group), sort=False, dropna=False):
            ours = group[group["way"].str.startswith("ours")]
            rivals = group[~group["way"].str.contains(r"\bours?\b")]
            if comparison.same_work and len(ours) and len(rivals):
                best, rival = ours.loc[ours["ratio"].idxmin()], rivals.loc[rivals["ratio"].idxmin()]
                if best["ratio"] > SLOWER * rival["ratio"]:
                    where = ", ".join(
                        f"{n} {v:,.0f}" for n, v in zip(comparison.group, sizes, strict=True) if n in SIZES
                    )
                    how = f"{rival['way']} is {best['ratio'] / rival['ratio']:.3g} times as fast as {best['way']}"
                    lines.append(f"- {comparison.title}{', ' * bool(where)}{where}: {how}.")
    return "\n".join(lines) or "Nowhere in this run (differences within two per cent aside)."


def section(part: pd.DataFrame, comparison: Comparison, absent: dict[str, str]) -> list[str]:
    """Heading, sentences, tables, remarks and plot of one comparison; nothing of an optional one that has no rows."""
    if comparison.optional and part.empty:
        return []
    found = [f"## {comparison.title}", comparison.what]
    for backend in comparison.backends:
        rows, why = part[part["backend"] == backend], absent.get(f"{comparison.key}/{backend}")
        if why:
            found.append(f"*Not measured with {BACKENDS[backend]}: {why}.*")
        elif len(rows):
            about = BACKENDS[backend] if len(comparison.backends) > 1 else ""
            same = [f"{name} {rows[name].iloc[0]:,.0f}" for name in SIZES if rows[name].nunique(dropna=False) == 1]
            fixed = ", ".join(text for text in same if not text.endswith("nan"))
            found.append("; ".join(filter(None, [about, fixed, f"1 × = {comparison.base_of(backend)}."])))
            found += [grown(rows, comparison)] if comparison.in_all else []
            found.append(sized(rows, comparison) if comparison.grows else listed(rows, comparison))
    if len(part) and comparison.remarks:
        found.append("\n".join(f"- {remark}" for remark in comparison.remarks))
    if len(part) and comparison.plot:
        found.append(f"![{comparison.title}]({comparison.key}.png)")
    return found


def values(row: Any) -> list[str]:
    """What a row says besides its time."""
    said = []
    if pd.notna(row["difference_bits"]):
        near = row["difference_bits"] < 1e-9
        said.append("same bits" if near else f"differs by {row['difference_bits']:.1g} bits")
    if pd.notna(row["weights_difference"]):
        said.append(
            f"weights differ by {row['weights_difference']:.1g}" if row["weights_difference"] else "same weights"
        )
    return said


def listed(rows: pd.DataFrame, comparison: Comparison) -> str:
    """One line per way, quickest first unless they have parts or an order of their own."""
    ordered = comparison.as_measured or comparison.shares or rows["part"].notna().any()
    rows, header = rows if ordered else rows.sort_values("ratio"), ["way", "time"]
    header += ["share"] if comparison.shares else [f"{comparison.unit}/s", "×", "× of medians", "repeats"]
    cells = []
    for _, r in rows.iterrows():
        line = [r["way"] if pd.isna(r["part"]) else f"{r['part']}: {r['way']}", duration(r["seconds_min"])]
        ratios = [number(r["per_second"]), times(r["ratio"]), times(r["ratio_median"]), f"{r['repeats']:.0f}"]
        line += [f"{r['ratio']:.1%}"] if comparison.shares else ratios
        cells.append([*line, percent(r["matrix_fraction"]), ", ".join(values(r))])
    return grid(*without_empty([*header, "of the matrix rate", "agreement"], cells))


def percent(share: float) -> str:
    return "" if pd.isna(share) else f"{share:.0%}"


def without_empty(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """Columns in which no row says anything are left out."""
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return [header[i] for i in kept], [[row[i] for i in kept] for row in rows]


def sized(rows: pd.DataFrame, comparison: Comparison) -> str:
    """One line per size, one column per way: rate and ratio."""
    varying = [name for name in SIZES if rows[name].nunique() > 1]
    ways = list(dict.fromkeys(rows["way"]))
    cells = []
    for sizes, group in rows.groupby(varying, dropna=False):
        named = {row["way"]: row for _, row in group.iterrows()}
        line = [f"{size:,.0f}" for size in sizes]
        for way in ways:
            row = named.get(way)
            line.append("" if row is None else ", ".join([cost(row, comparison), times(row["ratio"]), *values(row)]))
        cells.append(line)
    said = "Time, ×" if comparison.in_all else f"{comparison.unit.capitalize()}/s, ×"
    return f"{said}:\n\n" + grid([*varying, *ways], cells)


def grown(rows: pd.DataFrame, comparison: Comparison) -> str:
    """How many times as long each way takes at its largest size as at its smallest."""
    said = []
    for way, one in rows.sort_values(comparison.grows).groupby("way", sort=False):
        first, last = one.iloc[0], one.iloc[-1]
        if first[comparison.grows] < last[comparison.grows]:
            at = f"{first[comparison.grows]:,.0f} to {last[comparison.grows]:,.0f}"
            said.append(f"{way} {times(last['seconds_min'] / first['seconds_min'])} ({at})")
    return f"Growth of the time with {comparison.grows}: {'; '.join(said)}." if said else ""


def cost(row: Any, comparison: Comparison) -> str:
    """A rate, or the time of it all."""
    return duration(row["seconds_min"]) if comparison.in_all else number(row["per_second"])


def fractions(table: pd.DataFrame, comparisons: tuple[Comparison, ...]) -> list[str]:
    """Shares of the device's measured matrix-product rate, and why those below half are."""
    rows, reasons = [], []
    for comparison in (one for one in comparisons if not one.shares):
        known = table[table["matrix_fraction"].notna() & (table["benchmark"] == comparison.key)]
        for way, one in known.groupby("way", sort=False):
            if one["matrix_fraction"].min() < 0.5:
                why = comparison.below_half.get(way.split(",")[0], "not explained")
                reasons += [why] if why not in reasons else []
                way = f"{way} [{reasons.index(why) + 1}]"
            by = comparison.grows if one[comparison.grows or "items"].nunique() > 1 else ""
            each = [f"{r[by]:,.0f}: {percent(r['matrix_fraction'])}" if by else percent(r["matrix_fraction"])
                    for _, r in one.iterrows()]  # fmt: skip
            rows.append([comparison.title, way, f"{by} {', '.join(each)}".strip()])
    if not rows:
        return []
    what = (
        "Multiplications and additions per second of the matrix products that a way does, over those of a large square"
        f" float32 product on one thread, measured in the same run{peak_of(table)}. Numbers: why it is below half."
    )
    notes = "\n".join(f"{i}. {why}" for i, why in enumerate(reasons, 1))
    return ["## Share of the matrix-product rate", what, grid(["comparison", "way", "share"], rows), notes]


def peak_of(table: pd.DataFrame) -> str:
    """The device's rate in words, where it was measured."""
    known = table[table["operations_per_second"].notna()]
    return "".join(f" ({r.device}: {r.operations_per_second / 1e9:,.0f} GFLOP/s)" for r in known.itertuples())


def overhead(found: dict[str, str]) -> list[str]:
    """Of the finished runs that were at hand: overview and rules."""
    return [f"### Scale {scale}\n\n{text}" for scale, text in found.items()]
