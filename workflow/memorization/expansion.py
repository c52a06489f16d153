"""From figures.yaml to cells: `defaults -> base -> grid -> scale caps -> RunSpec`, pure and fast (every job parses it).

A cell is one run under one back end, with the attack it is asked to stand and the keys that vary within its figure.
"""

import copy
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import Field

from memorization import backends
from memorization.configuration import ROOT, Config, load_scale, read_yaml, validate
from memorization.dotted import get_dotted, has_key, merge, set_dotted, shrink
from memorization.errors import UserError
from memorization.figure_specs import FigureSpec, ScaleOverride, ScaleSpec
from memorization.specs import TASKS, AttackSpec, ScoreSpec, Strict, Trainable

S = TypeVar("S", bound=Strict)

EXPERIMENT = frozenset({"base", "grid", "grids", "cells", "attack", "score", "scales"})
"""The fields of a figure that say what is run."""

PARTS: dict[str, type[Strict]] = {"attack": AttackSpec, "score": ScoreSpec}
"""First word of a dotted key (of a cell, a grid, a cap) that is not about the run but about what is asked of it."""

DATA_PART = {
    "text": "corpus",
    "image": "data",
    "translation": "pairs",
    "classification": "data",
    "federated": "data",
    "federated_text": "data",
}
"""Task -> the part of its specification that names the data set."""

PAPERS = ROOT / "workflow" / "papers"


class PaperSpec(Strict):
    """One workflow/papers/<paper>/figures.yaml."""

    title: str
    citation: str
    run: dict[str, Any] = Field({}, description="What all of the paper's runs of the same task start from.")
    attack: dict[str, Any] = Field({}, description="What all of its attacks start from.")
    figures: dict[str, FigureSpec]


@dataclass(frozen=True)
class Cell:
    """One run of one figure under one back end."""

    backend: str
    run: Trainable
    attack: AttackSpec | None
    score: ScoreSpec | None
    varied: dict[str, Any]


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


def load_paper(name: str) -> PaperSpec:
    """workflow/papers/<name>/figures.yaml, validated. Raises UserError for an unknown paper."""
    if name not in known_papers():
        known = ", ".join(known_papers())
        raise UserError(f"config/config.yaml: papers: unknown paper {name!r}; known: {known}")
    path = PAPERS / name / "figures.yaml"
    return validate(PaperSpec, read_yaml(path), _where(name))


def _where(paper: str, key: str = "") -> str:
    return f"workflow/papers/{paper}/figures.yaml" + (f": {key}" if key else "")


def _add(plan: Plan, paper: str, spec: PaperSpec, key: str, figure: FigureSpec, datasets: set[str]) -> None:
    where = _where(paper, key)
    for backend in figure.backends:
        backends.require_known(backend, f"{where}: backends")
    static = set(figure.sources) == {"static"}
    parts = [] if static else _borrowed(plan, figure, where) if figure.cells_of else [(spec, figure)]
    cells = [cell for own, part in parts for cell in _cells(plan, own, part, where, datasets)]
    if len(figure.cells_of) > 1:  # figures share runs
        first = {}
        for cell in cells:
            first.setdefault(_identity(cell), cell)
        cells = list(first.values())
    plan.figures[paper, key] = Figure(paper, key, figure, tuple(cells))
    for cell in cells:
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


def _cells(plan: Plan, spec: PaperSpec, figure: FigureSpec, where: str, datasets: set[str]) -> Iterator[Cell]:
    narrowed = figure.scales.get(plan.config.scale, ScaleOverride())
    caps = [{k: v for k, v in plan.scale.caps.items() if k not in narrowed.uncapped}, narrowed.caps]
    same_task = figure.base.get("task", "text") == spec.run.get("task", "text")
    base = {"": merge(spec.run if same_task else {}, figure.base)}
    base |= {} if figure.attack is None else {"attack": merge(spec.attack, figure.attack)}
    base |= {} if figure.score is None else {"score": figure.score}
    for varied in _grid(figure, narrowed, where, plan.scale.cells):
        trees = copy.deepcopy(base)
        for dotted, value in varied.items():
            if dotted in PARTS and value is None:  # nothing is asked of this cell
                trees.pop(dotted, None)
                continue
            _set_varied(trees, dotted, value, where)
        if narrowed.dataset is not None:
            part = DATA_PART.get(trees[""].get("task", "text"), "corpus")
            trees[""].setdefault(part, {})["dataset"] = narrowed.dataset
        run = _capped(_scaled(_run(trees[""], where), narrowed.factors, where), caps, where)
        attack, score = (
            _capped(validate(kind, trees[name], f"{where}: {name}"), caps, where, name) if name in trees else None
            for name, kind in PARTS.items()
        )
        if run.dataset not in datasets:
            known = ", ".join(sorted(datasets))
            raise UserError(f"{where}: {DATA_PART[run.task]}.dataset: unknown {run.dataset!r}; known: {known}")
        dumps = {"": run.model_dump()} | {
            n: part.model_dump() for n, part in (("attack", attack), ("score", score)) if part is not None
        }
        keys = [key for key in dict.fromkeys([*varied, *itertools.chain(*figure.grids)]) if key not in PARTS]
        shown = {key: get_dotted(dumps[part], rest) for key in keys for part, rest in [_part_of(key)]}
        for backend in plan.config.backends:
            if backend in (narrowed.backends or figure.backends):
                backends.require_able(backend, run, where)
                yield Cell(backend, run, attack, score, shown)


def _part_of(dotted: str) -> tuple[str, str]:
    """("attack", "references") of "attack.references"; a key of the run itself belongs to part ""."""
    head, _, rest = dotted.partition(".")
    return (head, rest) if head in PARTS else ("", dotted)


def _set_varied(trees: dict[str, dict[str, Any]], dotted: str, value: Any, where: str) -> None:
    part, key = _part_of(dotted)
    if part not in trees:
        raise UserError(f"{where}: {dotted}: the figure has no {part}; add `{part}: {{}}` to it")
    set_dotted(trees[part], key, value)


def _run(tree: dict[str, Any], where: str) -> Trainable:
    """The specification that `tree` writes down, of the class of its task."""
    return validate(task_of(tree, where), tree, where)


def task_of(tree: dict[str, Any], where: str) -> type[Trainable]:
    """RunSpec or another class of specs.TASKS. Raises UserError for an unknown task."""
    task = tree.get("task", "text")
    if task not in TASKS:
        raise UserError(f"{where}: task: unknown {task!r}; known: {', '.join(TASKS)}")
    return TASKS[task]


def _scaled(spec: S, factors: dict[str, float], where: str) -> S:
    """`spec` with its numbers multiplied; whole ones are rounded, to one at least; 0 stays 0."""
    tree = spec.model_dump()
    for dotted, factor in factors.items():
        if not has_key(type(spec), dotted):
            raise UserError(f"{where}: scales: factors: unknown key {dotted!r}")
        value = get_dotted(tree, dotted)
        if value is not None:
            least = min(value, 1)  # none stays none
            scaled = max(least, round(value * factor)) if isinstance(value, int) else float(f"{value * factor:.6g}")
            set_dotted(tree, dotted, scaled)
    return validate(type(spec), tree, where) if factors else spec


def _capped(spec: S, caps: list[dict[str, float | int]], where: str, prefix: str = "") -> S:
    """`spec` under every cap that speaks of it. Caps of attacks and scores begin with `attack.` and `score.`."""
    for cap in caps:
        mine = {}
        for dotted, limit in cap.items():
            part, key = _part_of(dotted)
            kinds = [PARTS[part]] if part else list(TASKS.values())
            if not any(has_key(kind, key) for kind in kinds):
                raise UserError(f"{where}: cap on unknown key {dotted!r} (here or in config/scales/)")
            if part == prefix and has_key(type(spec), key):
                mine[key] = limit
        spec = shrink(spec, mine, where)
    return spec


def _grid(figure: FigureSpec, narrowed: ScaleOverride, where: str, most: int | None) -> list[dict[str, Any]]:
    """The figure's cells as dotted overrides, narrowed to a subset at this scale: its own number of them, or `most`."""
    if sum(map(bool, (figure.cells, figure.grid, figure.grids))) > 1:
        raise UserError(f"{where}: give either grid or cells or grids, only one of them")
    if figure.cells:
        return figure.cells[: narrowed.cells or most]
    grids = figure.grids or [figure.grid]
    for key, values in narrowed.grid.items():
        known = [value for grid in grids for value in grid.get(key, [])]
        if not set(values) <= set(known):
            raise UserError(f"{where}: scales: grid {key}: {values} is not a subset of {known}")
    cells = []
    for grid in grids:
        kept = {key: [v for v in narrowed.grid.get(key, values) if v in values] for key, values in grid.items()}
        cells += [dict(zip(kept, values, strict=True)) for values in itertools.product(*kept.values())]
    return cells[:most]


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
