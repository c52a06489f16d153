"""The report as one web page that needs nothing else: every claim, every figure, and where they come from.

    python -m memorization.report.page results/<scale> paper_figures/<scale>

writes results/<scale>/report.html from what is there, as rule `report` does when everything is; a figure that has not
been drawn is left out.
"""

import re
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from memorization import contracts, runs
from memorization.cells import PaperSpec
from memorization.claims import VERDICTS
from memorization.configuration import ROOT
from memorization.data.registry import registry
from memorization.errors import UserError
from memorization.expansion import load_paper
from memorization.report import captions, pictures, provenance, rows, statements

TEMPLATES = ROOT / "workflow" / "report" / "page"
PUBLISHED = "paper_figures/published"


@dataclass(frozen=True)
class Places:
    """Where a run's files are: results/<scale>, paper_figures/<scale> and the folder of the tables."""

    results: Path
    figures: Path
    tables: Path

    @property
    def published(self) -> bool:
        return str(self.tables) == PUBLISHED

    @classmethod
    def of(cls, results: Path, figures: Path) -> "Places":
        """Tables are the committed ones where figures are drawn from them."""
        return cls(results, figures, Path(PUBLISHED) if str(figures) == PUBLISHED else results / "tables")


def write(places: Places, path: Path, drawn: bool = True) -> None:
    """The page at `path`, from claims.csv, the drawn figures and their tables; without figures where not `drawn`.

    Raises UserError where there is no claims.csv.
    """
    text = render(context(places, drawn))
    with contracts.atomic(path) as temporary:
        temporary.write_text(text)


def render(about: dict[str, Any]) -> str:
    """The page that workflow/report/page/ makes of `about` (see `context`)."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"slug": slug, "number": lambda value: f"{value:.2g}", "breaks": breaks}
    css, js = ((TEMPLATES / f"page.{kind}").read_text() for kind in ("css", "js"))
    return environment.get_template("page.html").render(css=css, js=js, **about)


def slug(text: str) -> str:
    """A name for a class of CSS or an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def breaks(name: str) -> Markup:
    """A name that may be broken after each of its underscores."""
    return Markup("_<wbr>").join(name.split("_"))


def context(places: Places, drawn: bool = True) -> dict[str, Any]:
    """Everything that the template shows; no figures where not `drawn`."""
    claims = _claims(places.results)
    keys = list(dict.fromkeys((claim["paper"], claim["figure"]) for claim in claims))
    specs = {name: load_paper(name) for name in dict.fromkeys(paper for paper, _ in keys)}
    figures = _figures(places, keys, specs, claims) if drawn else []
    came = [figure["came"] for figure in figures]
    everything = {run: models for c in came for run, models in c.counts}
    return {
        "claims": claims,
        "figures": figures,
        "papers": [_paper(name, spec, figures, claims) for name, spec in specs.items()],
        "verdicts": [v for v in (*VERDICTS, rows.NOT_RUN) if any(c["verdict"] == v for c in claims)],
        "counts": Counter(claim["verdict"] for claim in claims),
        "scales": list(dict.fromkeys(claim["scale"] for claim in claims)),
        "published": places.published,
        "standin": any(provenance.STANDIN in claim["data_source"].split(", ") for claim in claims),
        "runs": len({run for claim in claims for run in claim["runs"]}),
        "models": sum(everything.values()),
        "commit": runs.commit(),
        "datasets": _datasets({pair for c in came for pair in c.data}),
        "environments": _environments(places, figures, set(everything)),
    }


def _claims(results: Path) -> list[dict[str, Any]]:
    path = results / "claims.csv"
    if not path.exists():
        raise UserError(f"{path}: no such file; make it with `snakemake summary`")
    claims = [rows.typed(row) for row in rows.read(path).to_dict("records")]
    for claim in claims:
        claim["anchor"] = slug(f"claim-{claim['paper']}-{claim['figure']}-{claim['claim']}")
        claim["figure_anchor"] = claim["run_anchor"] = None
    return claims


def _figures(
    places: Places, keys: list[tuple[str, str]], specs: dict[str, PaperSpec], claims: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Each drawn figure as the template shows it; its claims are told where it is."""
    drawn = {key: places.figures / key[0] / f"{key[1]}.png" for key in keys}
    drawn = {key: path for key, path in drawn.items() if path.exists()}
    shown = pictures.embedded(list(drawn.values()))
    found = []
    for (paper, key), path in drawn.items():
        table = places.tables / paper / f"{key}.csv"
        came = provenance.of_table(table)
        title = specs[paper].figures[key].title
        caption = captions.as_html(captions.source(paper, key, came.scale))
        own = [claim for claim in claims if (claim["paper"], claim["figure"]) == (paper, key)]
        anchor = slug(f"figure-{paper}-{key}")
        for claim in own:
            claim |= {"figure_anchor": anchor, "run_anchor": f"{anchor}-runs"}
        found.append(
            {
                "paper": paper,
                "key": key,
                "anchor": anchor,
                "title": title,
                "picture": shown[path][0],
                "size": shown[path][1],
                "caption": caption,
                "alternative": captions.alternative(title, caption),
                "claims": own,
                "came": came,
                "table": str(table),
                "runs_folder": f"results/{came.scale}/runs",
            }
        )
    return found


def _paper(name: str, spec: PaperSpec, figures: list[dict[str, Any]], claims: list[dict[str, Any]]) -> dict[str, Any]:
    by_key = {(claim["paper"], claim["figure"], claim["claim"]): claim for claim in claims}
    listed = [
        asdict(statement) | {"claims": [by_key[key] for key in statement.claims if key in by_key]}
        for statement in statements.load(name)
    ]
    return {
        "key": name,
        "short": spec.title.split(":")[0],
        "title": spec.title,
        "citation": spec.citation,
        "figures": [figure for figure in figures if figure["paper"] == name],
        "counts": Counter(claim["verdict"] for claim in claims if claim["paper"] == name),
        "statements": listed,
    }


def _datasets(pairs: set[tuple[str, str]]) -> list[dict[str, Any]]:
    known = registry(ROOT / "config" / "datasets.yaml")
    found = []
    for name in sorted({name for name, _ in pairs} & known.keys()):
        sources = sorted({source for other, source in pairs if other == name})
        spec = known[name]
        found.append(
            {"name": name, "title": spec.title, "sources": sources, "licence": spec.licence, "citation": spec.citation}
        )
    return found


def _environments(places: Places, figures: list[dict[str, Any]], everything: set[str]) -> list[dict[str, Any]]:
    if places.published:
        names = [f"{figure['paper']}/{figure['key']}" for figure in figures]
        return provenance.published_environments(Path(PUBLISHED) / "published.json", names)
    return provenance.environments(places.results, everything)


def main(arguments: list[str]) -> int:
    """See the module's text. Returns the exit status."""
    try:
        places = Places.of(*map(Path, arguments))
        write(places, places.results / "report.html")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
