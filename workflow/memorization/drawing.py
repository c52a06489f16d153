"""What the rules `table`, `figure` and `claims` do: from result files to one figure's table, picture and verdicts."""

import importlib.util
import json
from pathlib import Path

import pandas as pd

from memorization import claims as claim_tests
from memorization import contracts, plotting, runs, tables, tidy
from memorization.configuration import ROOT
from memorization.figure_specs import ClaimSpec, DetailsFilter


def table(figure: str, scale: str, sources: list[str], cells: str, results: str, path: str, details: str) -> None:
    """Write the tidy table of one figure. `cells`, and the filter `details`: JSON, as `tables.build` takes them."""
    wanted = DetailsFilter.model_validate_json(details)
    tables.write(tables.build(figure, scale, sources, json.loads(cells), results, wanted), path)


def draw(paper: str, figure: str, table_path: str, reference_path: str, pdf: str, png: str) -> None:
    """Draw `figure` with the function of that name in the paper's plots.py, stamp its footer, save PDF and PNG."""
    path = ROOT / "workflow" / "papers" / paper / "plots.py"
    spec = importlib.util.spec_from_file_location(f"{paper}_plots", path)
    plots = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plots)
    rows = tables.read(table_path)
    drawn = getattr(plots, figure)(rows, tidy.read_reference(reference_path, figure))
    plotting.footer(drawn, footer_text(rows))
    plotting.save(drawn, Path(pdf), Path(png))


def footer_text(rows: pd.DataFrame) -> str:
    """Scale, data, replicates and commit of a figure's table, as one line."""
    scale = rows["scale"].iloc[0]
    words = [f"scale: {scale}"]
    trained = rows[rows["backend"] != "none"]
    if len(trained):
        sources = trained[["dataset", "data_source"]].drop_duplicates().itertuples(index=False)
        data = ", ".join(f"{name} ({'STAND-IN DATA' if origin == 'standin' else origin})" for name, origin in sources)
        models = trained.groupby(["backend", "run"])["replicates"].first().sum()
        backends = ", ".join(sorted(trained["backend"].unique()))
        words += [f"data: {data}", f"{int(models)} models", f"back end: {backends}"]
    return " · ".join([*words, f"commit {runs.commit()}"])


def claims(paper: str, figure: str, specs: str, table_path: str, reference_path: str, path: str) -> None:
    """Test every claim of one figure; write one row per claim, with its verdict. `specs`: JSON list of ClaimSpec."""
    rows = tables.read(table_path)
    reference = tidy.read_reference(reference_path, figure)
    scale = rows["scale"].iloc[0]
    tested = [ClaimSpec.model_validate(spec) for spec in json.loads(specs)]
    found = [{"paper": paper, **claim_tests.evaluate(claim, rows, reference, scale)} for claim in tested]
    with contracts.atomic(Path(path)) as temporary:
        pd.DataFrame(found).to_csv(temporary, index=False)
