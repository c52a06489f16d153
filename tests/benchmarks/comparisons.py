"""What is compared with what (comparisons.yaml): the scripts that measure, and what must be found in their lines.

A script prints JSON lines with `benchmark`, `way`, `seconds` (the repeats' list), `items` (units of work per repeat),
the sizes of `SIZES`, and `part` where a comparison has parts. Ratios are of seconds per item, to the base of the group.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from memorization.configuration import read_yaml, validate
from memorization.errors import UserError
from memorization.spec_base import Names
from memorization.specs import Strict

PATH = Path(__file__).with_suffix(".yaml")
SIZES = ("units", "batch", "length", "replicates", "references", "canaries", "space", "chunk", "states")
"""Columns of sizes. space: number of fills of a canary's format."""

Environment = Literal["torch", "tf", "driver"]


class Script(Strict):
    """A script beside this file, the environment whose Python runs it, its arguments, the comparisons in its lines."""

    name: str
    script: str = Field("", description="Its file without .py; empty: as its name.")
    environment: Environment
    measures: Names
    full: str = ""
    quick: str = ""
    rounds: int = Field(1, description="Of full runs: scripts of more than one round take turns.")
    needs: str = Field("", description="A data set, given as --data FOLDER.")
    device: bool = Field(False, description="Takes --device.")

    @property
    def file(self) -> str:
        return f"{self.script or self.name}.py"


class Comparison(Strict):
    """One section of the page."""

    key: str = ""
    title: str
    what: str
    base: str | dict[str, str] = Field(description="The way that is 1; by back end where they differ.")
    item: str = Field(description="One of what is counted.")
    unit: str = Field(description="Many of them.")
    group: Names = Field(("backend",), description="Columns whose values a way and its base share.")
    grows: str = Field("", description="The size on the x axis of the growth plot; empty: bars.")
    lines: str = Field("", description="Of the growth plot: the size that tells lines of one way apart.")
    in_all: bool = Field(False, description="Of the growth plot: seconds of all items, not of each.")
    as_measured: bool = Field(False, description="Ways in the order in which they were measured, not by ratio.")
    shares: bool = Field(False, description="Ways are parts of the base: the table says what share of it each is.")
    in_short: bool = Field(True, description="A row of the page's summary.")
    backends: Names = ("torch",)
    same_work: bool = Field(True, description="All ways do the same: where a rival is faster, the page says so.")
    optional: bool = Field(False, description="Of no script: told of finished runs, where there are any.")
    plot: bool = True
    remarks: Names = Field((), description="Sentences below the tables.")
    below_half: dict[str, str] = Field({}, description="Way -> why it is below half of the matrix-product rate.")

    def base_of(self, backend: str) -> str:
        return self.base if isinstance(self.base, str) else self.base[backend]


class Declared(Strict):
    """comparisons.yaml."""

    scripts: list[Script]
    comparisons: dict[str, Comparison]


def load(path: Path = PATH) -> tuple[tuple[Script, ...], tuple[Comparison, ...]]:
    """Scripts and comparisons. Raises UserError for a mistake in the file, or a comparison that no script measures."""
    declared = validate(Declared, read_yaml(path), path.name)
    measured = {key for script in declared.scripts for key in script.measures}
    wanted = {key for key, one in declared.comparisons.items() if not one.optional}
    if unknown := measured ^ wanted:
        raise UserError(f"{path.name}: declared or measured only: {sorted(unknown)}; name each in both parts")
    named = tuple(one.model_copy(update={"key": key}) for key, one in declared.comparisons.items())
    return tuple(declared.scripts), named
