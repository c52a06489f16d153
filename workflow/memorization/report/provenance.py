"""Where a figure's numbers come from: scale, data, models and runs of its table; machines and versions of its runs."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

COLUMNS = {"scale", "backend", "run", "dataset", "data_source", "replicates"}
STANDIN = "standin"


@dataclass(frozen=True)
class Provenance:
    """What a figure's table says of itself: its scale, (data set, source) and (<backend>/<run>, models of it)."""

    scale: str
    data: tuple[tuple[str, str], ...] = ()
    counts: tuple[tuple[str, int], ...] = ()

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(run for run, _ in self.counts)

    @property
    def models(self) -> int:
        return sum(models for _, models in self.counts)


def of_table(path: Path) -> Provenance:
    """Of a table that `tables.write` wrote; nothing else of it is read."""
    text = dict.fromkeys(COLUMNS - {"replicates"}, str)
    rows = pd.read_csv(path, usecols=lambda name: name in COLUMNS, dtype=text, keep_default_na=False)
    return of_rows(rows)


def of_rows(rows: pd.DataFrame) -> Provenance:
    """Of a table in memory. Rows that no run made (back end "none", or without these columns) have a scale only."""
    scale = str(rows["scale"].iloc[0]) if "scale" in rows and len(rows) else ""
    trained = rows[rows["backend"] != "none"] if set(rows) >= COLUMNS else rows.iloc[:0]
    if not len(trained):
        return Provenance(scale)
    runs = trained.drop_duplicates(["backend", "run"]).sort_values(["backend", "run"])
    data = trained[["dataset", "data_source"]].drop_duplicates().sort_values(["dataset", "data_source"])
    names = runs["backend"] + "/" + runs["run"]
    models = pd.to_numeric(runs["replicates"]).astype(int)
    return Provenance(
        scale, tuple(data.itertuples(index=False, name=None)), tuple(zip(names, models.tolist(), strict=True))
    )


def environments(results: Path, runs: set[str]) -> list[dict[str, Any]]:
    """Each distinct machine with its versions that trained `runs` (results/runs/<backend>/<run>/run.json), most used
    first, with the number of its runs as "runs". Runs that are not there are left out.
    """
    counted: Counter[str] = Counter()
    for run in sorted(runs):
        path = Path(results) / "runs" / run / "run.json"
        if path.exists():
            counted[json.dumps(json.loads(path.read_text())["environment"], sort_keys=True)] += 1
    return [json.loads(text) | {"runs": n} for text, n in counted.most_common()]


def published_environments(record: Path, figures: list[str]) -> list[dict[str, Any]]:
    """The same of published figures (<paper>/<figure>), from published.json; "runs" then counts figures."""
    about = json.loads(Path(record).read_text())["figures"] if Path(record).exists() else {}
    counted: Counter[str] = Counter()
    for figure in figures:
        counted.update(json.dumps(e, sort_keys=True) for e in about.get(figure, {}).get("environments", ()))
    return [json.loads(text) | {"runs": n} for text, n in counted.most_common()]
