"""What every specification is made of: strict models, field types, canonical JSON and the ids that follow from it.

A field added later is marked `LATER`: while it holds its default it is left out of the hash, so that a new option
renames no run that exists.
"""

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from memorization import NUMERICS_VERSION

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Above = Annotated[float, Field(gt=0)]


def _listed(value: Any) -> Any:
    """`--config figures=fig08_overtraining` means a list of one."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""A name, or a list of names."""

LATER: dict[str, Any] = {"later": True}
"""`json_schema_extra` of a field that was added after runs had been named."""


class Strict(BaseModel):
    """Unknown keys and silently converted types are errors (YAML reads 1e-3 as text: write 1.0e-3)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Trainable(Strict):
    """What any run has, whatever is trained: `replicates` models that differ only in their random streams."""

    replicates: Positive = 10
    seed: Count = 0

    @property
    def run_id(self) -> str:
        """Twelve hex digits of the SHA-256 of the canonical JSON and the numerics version."""
        return digest(self, NUMERICS_VERSION)


def canonical_json(spec: BaseModel) -> str:
    """Sorted keys, no spaces: the text that is stored. Every field is there but `LATER` ones at their default."""
    return json.dumps(_named(spec, spec.model_dump(mode="json")), sort_keys=True, separators=(",", ":"))


def _named(spec: BaseModel, tree: dict[str, Any]) -> dict[str, Any]:
    """`tree`, the dump of `spec`, without what was added later and holds its default."""
    kept = {}
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        later = isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("later")
        if not later or value != field.default:
            kept[name] = _named(value, tree[name]) if isinstance(value, BaseModel) else tree[name]
    return kept


def digest(spec: BaseModel, version: int) -> str:
    """Twelve hex digits identifying `spec` under a numerics version."""
    return hashlib.sha256(f"{version}:{canonical_json(spec)}".encode()).hexdigest()[:12]
