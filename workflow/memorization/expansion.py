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
    if figure.cells_of is not None:
        spec, figure = _borrowed(figure, where)
    for backend in figure.backends:
        backends.require_known(backend, f"{where}: backends")
    static = set(figure.sources) == {"static"}
    cells = [] if static else list(_cells(plan, spec, figure, where, datasets))
    plan.figures[paper, key] = Figure(paper, key, figure, tuple(cells))
    for cell in cells:
        plan.runs[cell.run.run_id] = cell.run
        if cell.attack:
            plan.attacks[cell.attack.attack_id] = cell.attack
        if cell.score:
            plan.scores[cell.score.score_id] = cell.score


def _borrowed(figure: FigureSpec, where: str) -> tuple[PaperSpec, FigureSpec]:
    """The paper and the figure, its experiments taken from the figure that `cells_of` names."""
    if figure.model_fields_set & EXPERIMENT:
        taken = ", ".join(sorted(EXPERIMENT))
        raise UserError(f"{where}: cells_of: {taken} then come from that figure: leave them out")
    paper, _, key = figure.cells_of.partition("/")
    source = load_paper(paper) if paper in known_papers() else None
    if source is None or key not in source.figures:
        raise UserError(f"{where}: cells_of: no figure {figure.cells_of!r}; write <paper>/<figure>")
    return source, figure.model_copy(update={name: getattr(source.figures[key], name) for name in EXPERIMENT})


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
    """`spec` with its numbers multiplied; whole ones are rounded, to one at least."""
    tree = spec.model_dump()
    for dotted, factor in factors.items():
        if not has_key(type(spec), dotted):
            raise UserError(f"{where}: scales: factors: unknown key {dotted!r}")
        value = get_dotted(tree, dotted)
        if value is not None:
            scaled = max(1, round(value * factor)) if isinstance(value, int) else float(f"{value * factor:.6g}")
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
