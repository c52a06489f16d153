"""From figures.yaml to a plan: every figure with its cells (cells.py), every run once; fast (every job parses it).

A cell is one run under one back end, with the attack it is asked to stand and the keys that vary within its figure.
"""

import hashlib
import itertools
from dataclasses import dataclass, field

from memorization import backends
from memorization.cells import Cell, PaperSpec, cells
from memorization.configuration import ROOT, Config, load_scale, read_yaml, validate
from memorization.errors import UserError
from memorization.figure_specs import FigureSpec, ScaleSpec
from memorization.specs import AttackSpec, ScoreSpec, Trainable

EXPERIMENT = frozenset({"base", "grid", "grids", "cells", "attack", "score", "scales"})
"""The fields of a figure that say what is run."""

PAPERS = ROOT / "workflow" / "papers"


@dataclass(frozen=True)
class Figure:
    """A figure of a paper with its cells at the chosen scale."""

    paper: str
    key: str
    spec: FigureSpec
    cells: tuple[Cell, ...]


@dataclass
class Plan:
    """Everything one invocation may make. `runs` and `attacks` are shared between figures by id."""

    config: Config
    scale: ScaleSpec
    papers: dict[str, PaperSpec]
    figures: dict[tuple[str, str], Figure] = field(default_factory=dict)
    runs: dict[str, Trainable] = field(default_factory=dict)
    attacks: dict[str, AttackSpec] = field(default_factory=dict)
    scores: dict[str, ScoreSpec] = field(default_factory=dict)
    sources: dict[str, PaperSpec] = field(default_factory=dict)

    def source(self, paper: str) -> PaperSpec:
        """A paper whose figures others borrow, read once: YAML takes longer than all the rest."""
        if paper not in self.sources:
            self.sources[paper] = self.papers.get(paper) or load_paper(paper)
        return self.sources[paper]

    @property
    def backends(self) -> list[str]:
        """The back ends that some figure's cells need."""
        return sorted({cell.backend for figure in self.figures.values() for cell in figure.cells})

    @property
    def on_missing(self) -> str:
        """What to do when a data set cannot be had: "standin" or "error"."""
        choice = self.config.data.on_missing
        return self.scale.on_missing if choice == "auto" else choice


def known_papers() -> list[str]:
    """Folders of workflow/papers/ that hold a figures.yaml."""
    return sorted(p.parent.name for p in PAPERS.glob("*/figures.yaml"))


def expand(config: Config, datasets: set[str]) -> Plan:
    """Every figure, cell, run and attack that `config` asks for. Raises UserError before anything is run.

    datasets: the names that config/datasets.yaml knows.
    """
    for backend in config.backends:
        backends.require_known(backend, "config/config.yaml: backends")
    plan = Plan(config, load_scale(config.scale), {name: load_paper(name) for name in config.papers})
    for paper, spec in plan.papers.items():
        for key, figure in spec.figures.items():
            if not config.figures or key in config.figures:
                _add(plan, paper, spec, key, figure, datasets)
    if missing := set(config.figures) - {key for _, key in plan.figures}:
        known = ", ".join(key for spec in plan.papers.values() for key in spec.figures)
        raise UserError(f"config/config.yaml: figures: unknown {sorted(missing)}; known: {known}")
    return plan


def expand_alone(config: Config, paper: str, key: str, figure: FigureSpec, where: str, datasets: set[str]) -> Plan:
    """A plan of one figure that stands in no figures.yaml (`snakemake audit`). `where` begins its error messages."""
    plan = Plan(config, load_scale(config.scale), {})
    paper_spec = PaperSpec(title=figure.title, citation="", figures={key: figure})
    _add(plan, paper, paper_spec, key, figure, datasets, where)
    return plan


def load_paper(name: str) -> PaperSpec:
    """workflow/papers/<name>/figures.yaml, validated. Raises UserError for an unknown paper."""
    if name not in known_papers():
        known = ", ".join(known_papers())
        raise UserError(f"config/config.yaml: papers: unknown paper {name!r}; known: {known}")
    path = PAPERS / name / "figures.yaml"
    return validate(PaperSpec, read_yaml(path), _where(name))


def _where(paper: str, key: str = "") -> str:
    return f"workflow/papers/{paper}/figures.yaml" + (f": {key}" if key else "")


def _add(
    plan: Plan, paper: str, spec: PaperSpec, key: str, figure: FigureSpec, datasets: set[str], where: str | None = None
) -> None:
    where = where or _where(paper, key)
    for backend in figure.backends:
        backends.require_known(backend, f"{where}: backends")
    static = set(figure.sources) == {"static"}
    parts = [] if static else _borrowed(plan, figure, where) if figure.cells_of else [(spec, figure)]
    found = [cells(plan.config, plan.scale, own, part, where, datasets) for own, part in parts]
    mine = list(itertools.chain.from_iterable(found))
    if len(figure.cells_of) > 1:  # figures share runs
        first = {}
        for cell in mine:
            first.setdefault(_identity(cell), cell)
        mine = list(first.values())
    plan.figures[paper, key] = Figure(paper, key, figure, tuple(mine))
    for cell in mine:
        plan.runs[cell.run.run_id] = cell.run
        if cell.attack:
            plan.attacks[cell.attack.attack_id] = cell.attack
        if cell.score:
            plan.scores[cell.score.score_id] = cell.score


def _identity(cell: Cell) -> tuple[str, ...]:
    """What makes two cells of different figures the same row of files."""
    asked = (cell.attack.attack_id if cell.attack else "", cell.score.score_id if cell.score else "")
    return (cell.backend, cell.run.run_id, *asked)


def _borrowed(plan: Plan, figure: FigureSpec, where: str) -> list[tuple[PaperSpec, FigureSpec]]:
    """Paper and figure of every part of the experiment: the figures that `cells_of` names, each under those back ends
    of its own that this figure draws, then `more_cells` on what the first of them starts from.
    """
    if figure.model_fields_set & EXPERIMENT:
        taken = ", ".join(sorted(EXPERIMENT))
        raise UserError(f"{where}: cells_of: {taken} then come from that figure: leave them out")
    parts = []
    for name in figure.cells_of:
        paper, _, key = name.partition("/")
        source = plan.source(paper) if paper in known_papers() else None
        if source is None or key not in source.figures or source.figures[key].cells_of:
            raise UserError(f"{where}: cells_of: no figure {name!r} with cells of its own; write <paper>/<figure>")
        taken = {field: getattr(source.figures[key], field) for field in EXPERIMENT}
        both = tuple(backend for backend in figure.backends if backend in source.figures[key].backends)
        parts.append((source, figure.model_copy(update={**taken, "backends": both})))
    if figure.more_cells:
        paper, first = parts[0]
        scales = {name: scale.model_copy(update={"cells": None}) for name, scale in first.scales.items()}
        own = {"cells": figure.more_cells, "grid": {}, "grids": [], "scales": scales}
        parts.append((paper, first.model_copy(update=own)))
    return parts


def dataset_names() -> set[str]:
    """The keys of config/datasets.yaml."""
    return set(read_yaml(ROOT / "config" / "datasets.yaml"))


def code_digest() -> str:
    """Twelve hex digits of the package's source: cheap rules (tables, figures, claims) are redone when it changes.

    Trainings are not: what changes their numbers raises NUMERICS_VERSION, which is part of the run id.
    """
    digest = hashlib.sha256()
    for path in sorted((ROOT / "workflow" / "memorization").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
