"""What is drawn: the blocks of figures.yaml with their claims, and what a scale narrows."""

from typing import Any, Literal

from pydantic import Field

from memorization.spec_base import Names
from memorization.specs import Above, Positive, Strict


class ClaimSpec(Strict):
    """One claim of the paper and the statistical test that decides it."""

    id: str
    statement: str
    test: str = Field(description="A function of claims.TESTS.")
    parameters: dict[str, Any] = Field({})
    paper: str = Field(description="The paper's value, as text, with its confidence mark.")
    scales: tuple[str, ...] = Field(("reduced", "paper"), strict=False, description="Where it can be tested.")


class ScaleOverride(Strict):
    """What one figure narrows at one scale: caps on numbers, a subset of its grid, or its first cells."""

    caps: dict[str, float | int] = Field({}, description="Dotted key -> largest value.")
    factors: dict[str, Above] = Field(
        {}, description="Dotted key -> factor on the run's number, before caps: settings that differ stay different."
    )
    grid: dict[str, list[Any]] = Field(
        {}, description="Dotted key -> a subset of its values, in every grid that has it."
    )
    cells: Positive | None = Field(None, description="Only the first so many cells.")
    backends: tuple[str, ...] | None = Field(None, strict=False, description="Only these of its back ends.")
    dataset: str | None = Field(None, description="A smaller data set that takes the place of the figure's.")
    uncapped: tuple[str, ...] = Field(
        (), strict=False, description="Dotted keys that the scale does not cap in this figure: its data are small."
    )


class DetailsFilter(Strict):
    """Which rows of `details` a figure's table takes over."""

    measures: tuple[str, ...] = Field(
        ("*",), strict=False, description="Patterns of <measure>/<part>, with * for any text: only those that match."
    )
    ends: bool = Field(False, description="Only the first and the last step of every replicate's item.")
    every: tuple[str, ...] = Field((), strict=False, description="With `ends`: of these patterns all steps.")
    items: tuple[int, ...] = Field((), strict=False, description="Only these items; [] means all.")
    first: tuple[str, ...] = Field((), strict=False, description="Of these patterns only the first replicate.")


class FigureSpec(Strict):
    """One block of figures.yaml."""

    title: str
    kind: Literal["figure", "table"] = "figure"
    backends: tuple[str, ...] = Field(("torch",), strict=False)
    cells_of: Names = Field(
        (),
        description="<paper>/<figure>, one or several, whose runs, attacks and scores it shows: base to scales come "
        "from there, back ends are those that both name.",
    )
    more_cells: list[dict[str, Any]] = Field(
        [], description="Beside `cells_of`: further cells, on what the first of those figures starts from."
    )
    base: dict[str, Any] = Field({}, description="Over the paper's own `run`.")
    grid: dict[str, list[Any]] = Field({}, description="Dotted key -> values; the cells are their product.")
    grids: list[dict[str, list[Any]]] = Field(
        [], description="Several grids instead, one after the other; what varies in any is recorded of all cells."
    )
    cells: list[dict[str, Any]] = Field(
        [],
        description="Explicit cells instead of a grid: dotted key -> value; `attack: null` asks for none.",
    )
    attack: dict[str, Any] | None = None
    score: dict[str, Any] | None = None
    sources: tuple[
        Literal[
            "curves",
            "measures",
            "details",
            "privacy",
            "exposure",
            "extraction",
            "top",
            "histogram",
            "fit",
            "audit",
            "scores",
            "lines",
            "digits",
            "estimates",
            "static",
        ],
        ...,
    ] = Field(strict=False, description="The result files whose rows make the figure's table.")
    details: DetailsFilter = Field(DetailsFilter(), description="Of source `details`, where not all of it is shown.")
    claims: tuple[ClaimSpec, ...] = Field((), strict=False)
    scales: dict[str, ScaleOverride] = Field({})


class ScaleSpec(Strict):
    """config/scales/<scale>.yaml: caps that every spec goes through. They only shrink numbers."""

    description: str
    on_missing: Literal["standin", "error"] = Field(description="When neither mirror nor network has the data.")
    caps: dict[str, float | int] = Field({}, description="Dotted key -> largest value.")
    cells: Positive | None = Field(None, description="Only the first so many cells of every figure.")
