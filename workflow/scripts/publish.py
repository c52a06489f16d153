"""Body of rule `publish`: copy a finished run's tables, previews and claims to where they are committed."""

import json
import sys
from pathlib import Path

import matplotlib.image
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization import contracts, readme, runs, tables
from memorization.report import rows

PUBLISHED = Path("paper_figures/published")
PREVIEW_STEP = 2
"""Previews keep every second pixel of the rendered PNG after averaging 2 x 2 blocks."""


def preview(source: Path, target: Path) -> None:
    """A smaller PNG for the README."""
    pixels = matplotlib.image.imread(source)
    height, width = (n - n % PREVIEW_STEP for n in pixels.shape[:2])
    blocks = pixels[:height, :width].reshape(
        height // PREVIEW_STEP, PREVIEW_STEP, width // PREVIEW_STEP, PREVIEW_STEP, -1
    )
    with contracts.atomic(target) as temporary:
        matplotlib.image.imsave(temporary, blocks.mean(axis=(1, 3)), format="png")


def training_records(table: pd.DataFrame, results: Path) -> dict[str, object]:
    """Versions and hardware of the runs a table was made from, each distinct one once."""
    pairs = table[["backend", "run"]].drop_duplicates().dropna() if "run" in table else pd.DataFrame()
    found = {}
    for backend, run in pairs.itertuples(index=False):
        record = json.loads((results / "runs" / backend / run / "run.json").read_text())
        found[json.dumps(record["environment"], sort_keys=True)] = record["environment"]
    return {"environments": list(found.values()), "runs": len(pairs)}


def earlier_records() -> dict[str, object]:
    """What is already published, per figure."""
    path = PUBLISHED / "published.json"
    return json.loads(path.read_text())["figures"] if path.exists() else {}


def with_earlier(claims: pd.DataFrame) -> pd.DataFrame:
    """`claims`, and the published ones of all other figures, ordered by paper and figure."""
    path = PUBLISHED / "claims.csv"
    if not path.exists():
        return claims
    earlier = pd.read_csv(path, dtype=str, keep_default_na=False)
    new = set(zip(claims["paper"], claims["figure"], strict=True))
    kept = [pair not in new for pair in zip(earlier["paper"], earlier["figure"], strict=True)]
    joined = pd.concat([claims, earlier[kept]], ignore_index=True).fillna("")
    return joined.sort_values(["paper", "figure"], key=lambda names: names.map(_paper_order), kind="stable")


def _paper_order(name: str) -> tuple[bool, str]:
    """Tables before figures, each by number, as the README lists them."""
    return (not name.startswith("tab"), name)


def main(scale: str, results: Path, table_paths: list[str], figure_paths: list[str], claims_path: str) -> None:
    """Copy everything, then write published.json beside it and the claims table into the README.

    Figures that this run did not draw (`--config figures=…`) keep their tables, records and claims.
    """
    about = earlier_records()
    for table_path, figure_path in zip(map(Path, table_paths), map(Path, figure_paths), strict=True):
        paper, figure = table_path.parent.name, table_path.stem
        table = tables.read(table_path)
        tables.write(table, PUBLISHED / paper / f"{figure}.csv")
        preview(figure_path, PUBLISHED / paper / f"preview_{figure}.png")
        about[f"{paper}/{figure}"] = {"scale": scale, **training_records(table, results)}
    claims = with_earlier(pd.read_csv(claims_path, dtype=str, keep_default_na=False))
    with contracts.atomic(PUBLISHED / "claims.csv") as temporary:
        claims.to_csv(temporary, index=False)
    record = {"published_with": runs.environment(), "figures": about}
    with contracts.atomic(PUBLISHED / "published.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    readme.update_claims(Path("README.md"), rows.completed(claims, rows.papers()))


if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        main(
            scale=snakemake.params.scale,  # noqa: F821
            results=Path(snakemake.params.results),  # noqa: F821
            table_paths=snakemake.input.tables,  # noqa: F821
            figure_paths=snakemake.input.figures,  # noqa: F821
            claims_path=snakemake.input.claims,  # noqa: F821
        )
