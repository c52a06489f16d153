"""Body of rule `figure`: draw one figure from its table, stamp its footer, save PDF and PNG."""

import importlib.util
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from memorization import plotting, runs, tables, tidy


def footer_text(table: pd.DataFrame) -> str:
    """Scale, data, replicates and commit, as one line."""
    scale = table["scale"].iloc[0]
    words = [f"scale: {scale}"]
    trained = table[table["backend"] != "none"]
    if len(trained):
        sources = trained[["dataset", "data_source"]].drop_duplicates().itertuples(index=False)
        data = ", ".join(f"{name} ({'STAND-IN DATA' if origin == 'standin' else origin})" for name, origin in sources)
        models = trained.groupby(["backend", "run"])["replicates"].first().sum()
        backends = ", ".join(sorted(trained["backend"].unique()))
        words += [f"data: {data}", f"{int(models)} models", f"back end: {backends}"]
    return " · ".join([*words, f"commit {runs.commit()}"])


def main(paper: str, figure: str, table_path: str, reference_path: str, pdf: str, png: str) -> None:
    """Draw `figure` with the function of that name in the paper's plots.py."""
    path = Path(__file__).parents[1] / "papers" / paper / "plots.py"
    spec = importlib.util.spec_from_file_location(f"{paper}_plots", path)
    plots = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plots)
    table = tables.read(table_path)
    drawn = getattr(plots, figure)(table, tidy.read_reference(reference_path, figure))
    plotting.footer(drawn, footer_text(table))
    plotting.save(drawn, Path(pdf), Path(png))


if __name__ == "__main__":
    with open(snakemake.log[0], "w") as sys.stderr:  # noqa: F821
        main(
            paper=snakemake.wildcards.paper,  # noqa: F821
            figure=snakemake.wildcards.figure,  # noqa: F821
            table_path=snakemake.input.table,  # noqa: F821
            reference_path=snakemake.input.reference,  # noqa: F821
            pdf=snakemake.output.pdf,  # noqa: F821
            png=snakemake.output.png,  # noqa: F821
        )
