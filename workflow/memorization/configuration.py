"""The user's configuration (config/config.yaml) and the reading of YAML with messages a user can act on."""

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from memorization.errors import UserError
from memorization.figure_specs import ScaleSpec
from memorization.spec_base import Names
from memorization.specs import Strict

T = TypeVar("T", bound=BaseModel)

ROOT = Path(__file__).parents[2]
"""The repository: config/ and workflow/ are found relative to it."""


class DataConfig(Strict):
    """Where data may come from."""

    on_missing: Literal["auto", "standin", "error"] = Field(
        "auto", description="When neither mirror nor network has a data set; auto: what the scale says."
    )
    trust_local: bool = Field(False, strict=False, description="Accept mirror files whose checksum differs.")


class Config(Strict):
    """config/config.yaml, one field per key."""

    scale: Literal["smoke", "reduced", "paper", "trial"] = Field("reduced", description="A file of config/scales/.")
    papers: Names = Field(
        ("secret_sharer", "tensorflow_privacy", "closer_look", "learn_to_forget", "beyond"),
        description="Folders of workflow/papers/.",
    )
    figures: Names = Field((), description="Only these figure keys; empty: all.")
    backends: Names = Field(("torch", "tf"), description="Back ends that train.")
    data: DataConfig = DataConfig()
    tables: Literal["run", "published"] = Field("run", description="Draw from own runs or from committed tables.")
    software: Literal["uv", "ambient"] = Field("uv", description="Build envs/ with uv, or use python as found.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where back ends compute.")
    warm: bool = Field(
        True, strict=False, description="Local jobs fork an interpreter that has its imports done (warm.py)."
    )
    corpus: str | None = Field(None, description="A text file of your own for `snakemake audit`; no papers then.")
    canary: str | None = Field(None, description="Of an audit: another format than that of workflow/audit/audit.yaml.")

    benchmarks: Literal["full", "quick", "publish"] = Field(
        "full", description="Of `snakemake benchmarks`: tiny sizes, or full ones and put where they are committed."
    )

    @field_validator("corpus", "canary")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None and not value.strip():
            raise ValueError("is empty; give it a value, or leave it out")
        return value


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in `path`, JSON where it is named so (YAML reads JSON's 1e-09 as text).

    Raises UserError for a missing file, broken YAML or JSON, or anything but a mapping.
    """
    try:
        loaded = json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{_name(path)}: no such file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{_name(path)}: not valid YAML: " + " ".join(str(error).split())) from None
    except json.JSONDecodeError as error:
        raise UserError(f"{_name(path)}: not valid JSON: {error}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{_name(path)}: expected keys and values, found {type(loaded).__name__}")
    return loaded


def validate(model: type[T], value: Any, where: str) -> T:
    """`value` as a `model`, or a UserError of one line per mistake: file, key, bad value, what is allowed."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        lines = [f"{where}: {_explain(model, mistake)}" for mistake in error.errors()]
        raise UserError("; ".join(lines)) from None


def load_config(overrides: dict[str, Any], told: dict[str, Any] | None = None) -> Config:
    """The configuration that Snakemake assembled from config.yaml and the command line.

    told  what the command line alone said. Snakemake reads `corpus=` as None, in config.yaml the word for "no audit"
    """
    for key in (key for key, value in (told or {}).items() if value is None):
        raise UserError(f"--config {key}= is empty; give it a value, or leave it out")
    return validate(Config, overrides, "config/config.yaml (or --config)")


def load_scale(name: str) -> ScaleSpec:
    """config/scales/<name>.yaml."""
    path = ROOT / "config" / "scales" / f"{name}.yaml"
    return validate(ScaleSpec, read_yaml(path), _name(path))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _explain(model: type[BaseModel], mistake: Any) -> str:
    key = ".".join(str(part) for part in mistake["loc"]) or "(top level)"
    value, message = mistake["input"], mistake["msg"]
    if mistake["type"] == "extra_forbidden":
        known = ", ".join(_fields(model, mistake["loc"][:-1]))
        return f"unknown key {key!r}; allowed here: {known}"
    if mistake["type"] == "value_error":  # of a whole part: its message says what does not go together
        return f"{key}: {message.removeprefix('Value error, ')}"
    hint = ""
    if mistake["type"] in {"float_type", "int_type"} and isinstance(value, str):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3, without quotes)"
    return f"{key}: {value!r} is not allowed: {message}{hint}"


def _fields(model: Any, location: tuple[Any, ...]) -> list[str]:
    """The keys of the model that `location` leads to (through fields, dicts and tuples of models)."""
    for part in location:
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or part not in model.model_fields:
            continue
        annotation = model.model_fields[part].annotation
        nested = [a for a in (annotation, *getattr(annotation, "__args__", ())) if isinstance(a, type)]
        model = next((a for a in nested if issubclass(a, BaseModel)), model)
    return list(model.model_fields)
