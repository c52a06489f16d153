"""The cells of one figure: `defaults -> base -> grid -> scale caps -> RunSpec`, pure and fast (every job parses it)."""

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import Field

from memorization import backends
from memorization.configuration import Config, validate
from memorization.dotted import get_dotted, has_key, merge, set_dotted, shrink
from memorization.errors import UserError
from memorization.figure_specs import FigureSpec, ScaleOverride, ScaleSpec
from memorization.specs import TASKS, AttackSpec, ScoreSpec, Strict, Trainable

S = TypeVar("S", bound=Strict)

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


def cells(
    config: Config, scale: ScaleSpec, spec: PaperSpec, figure: FigureSpec, where: str, datasets: set[str]
) -> Iterator[Cell]:
    """A figure's cells at a scale. Raises UserError, which `where` begins, for what cannot be run."""
    narrowed = figure.scales.get(config.scale, ScaleOverride())
    caps = [{k: v for k, v in scale.caps.items() if k not in narrowed.uncapped}, narrowed.caps]
    same_task = figure.base.get("task", "text") == spec.run.get("task", "text")
    base = {"": merge(spec.run if same_task else {}, figure.base)}
    base |= {} if figure.attack is None else {"attack": merge(spec.attack, figure.attack)}
    base |= {} if figure.score is None else {"score": figure.score}
    for varied in _grid(figure, narrowed, where, scale.cells):
        trees = copy.deepcopy(base)
        for dotted, value in varied.items():
            if dotted in PARTS and value is None:  # nothing is asked of this cell
                trees.pop(dotted, None)
                continue
            _set_varied(trees, dotted, value, where)
        if narrowed.dataset is not None:
            part = DATA_PART.get(trees[""].get("task", "text"), "corpus")
            trees[""].setdefault(part, {})["dataset"] = narrowed.dataset
        run = _capped(scaled(_run(trees[""], where), narrowed.factors, where), caps, where)
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
        for backend in config.backends:
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


def scaled(spec: S, factors: dict[str, float], where: str) -> S:
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
