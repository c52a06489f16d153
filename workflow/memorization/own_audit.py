"""The plan of `snakemake audit`: workflow/audit/audit.yaml, expanded for a text of the user's own.

A block like those of figures.yaml, and the same expansion: an audit is a figure whose data set and canary the user
names. It stands apart from workflow/papers/ because it replicates no paper: no claims, no published values, no fixed
data.
"""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from pathlib import Path

from pydantic import Field

from memorization.canaries import CHECKED, HOLES, LETTER, LETTERS, CanaryFormat
from memorization.cells import Cell
from memorization.configuration import ROOT, Config, read_yaml, validate
from memorization.data import own
from memorization.data.registry import DatasetSpec, own_dataset
from memorization.dotted import merge
from memorization.errors import UserError
from memorization.expansion import Plan, expand_alone
from memorization.figure_specs import FigureSpec
from memorization.spec_base import Positive, Strict
from memorization.specs import AttackSpec

AUDIT = ROOT / "workflow" / "audit" / "audit.yaml"
WHERE = "workflow/audit/audit.yaml"

PAPER = "audit"
"""What stands in a paper's place in the names of files."""


class AuditSpec(Strict):
    """audit.yaml."""

    characters: dict[str, Positive] = Field(description="Scale -> leading characters of the text that are used.")
    figure: FigureSpec


def plan(config: Config) -> tuple[Plan, own.OwnText]:
    """What an audit of `config.corpus` runs, and the text. Raises UserError for a text or a canary that will not do."""
    if config.tables == "published":
        raise UserError("config: an audit trains models of its own; leave out tables=published")
    spec = _spec()
    text = own.read(Path(config.corpus), spec.characters[config.scale])
    told = config.canary or spec.figure.base["canary"]["format"]
    canary = CanaryFormat.parse(told)
    settings = {
        "corpus": {"dataset": text.name, "symbols": symbols(canary) + own.RARE},
        "canary": {"format": told},
    }
    figure = spec.figure.model_copy(update={"base": merge(spec.figure.base, settings)})
    planned = expand_alone(_one_back_end(config, figure), PAPER, text.name, figure, WHERE, {text.name})
    _check_canary(canary, planned.figures[PAPER, text.name].cells)
    own.require_new(text, canary)
    return planned, text


def characters(scale: str) -> int:
    """How many leading characters of a text are used at a scale."""
    return _spec().characters[scale]


def datasets(text: own.OwnText | None) -> dict[str, DatasetSpec]:
    """What the registry does not know: the user's text, if there is one."""
    return {} if text is None else {text.name: own_dataset(len(text.parts["train"]))}


def symbols(canary: CanaryFormat) -> str:
    """Every character that a canary may have, sorted: a model must be able to read a secret that the text's own
    characters do not spell.
    """
    fixed = "".join(canary.parts).replace(LETTER, LETTERS).replace(CHECKED, HOLES["d"])
    return "".join(sorted(set(fixed).union(*("".join(hole) for hole in canary.holes))))


def full_steps(canary: CanaryFormat) -> int:
    """Model steps of a walk over all fills: prefixes shorter than a whole canary (search.tree)."""
    branches = []
    for hole, part in zip(canary.holes, canary.parts[1:], strict=True):
        branches += [len(hole)] + [1] * len(part.replace(CHECKED, "0").replace(LETTER, "x"))
    return sum(accumulate([1, *branches[:-1]], mul))


def queries_to_try_all(planned: Plan) -> int:
    """Model steps of trying every secret that may stand in one canary's place, all in one walk: of an audit's plan."""
    return full_steps(CanaryFormat.parse(next(iter(planned.runs.values())).canary.format))


def _spec() -> AuditSpec:
    return validate(AuditSpec, read_yaml(AUDIT), WHERE)


def _one_back_end(config: Config, figure: FigureSpec) -> Config:
    able = [name for name in config.backends if name in figure.backends]
    if not able:
        raise UserError(f"config/config.yaml: backends: an audit needs one of {', '.join(figure.backends)}")
    return config.model_copy(update={"backends": (able[0],)})


def _check_canary(canary: CanaryFormat, cells: Sequence[Cell]) -> None:
    """Raises UserError for a format that cannot be planted, told apart or ranked exactly."""
    run, attack = cells[0].run, cells[0].attack or AttackSpec()
    where = f"canary {canary.text!r}"
    if canary.wordy:
        raise UserError(
            f"{where}: {{w}} and {{n}} stand for words, but the audit's models read characters; use {{d}} or {{l}}"
        )
    if LETTER not in canary.text:
        raise UserError(
            f"{where}: {run.canary.count} different secrets are planted, each needs words of its own: put "
            "{x}{x}{x}{x} where they may differ"
        )
    length = len(canary.render([0] * len(canary.holes)).replace(LETTER, "x"))
    if length + 2 > run.training.sequence_length:
        raise UserError(
            f"{where}: {length} characters and two line ends do not fit a window of "
            f"{run.training.sequence_length}; cut it"
        )
    if full_steps(canary) > attack.exact_steps:
        raise UserError(
            f"{where}: {canary.size:,} possible secrets; every rank is computed exactly, within {attack.exact_steps:,} "
            f"steps of a model, but these need {full_steps(canary):,}: use fewer or smaller holes"
        )
