"""Back ends by name. Each is imported only when it is asked for, in its own environment."""

import importlib
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from memorization.backends.base import Backend
from memorization.errors import UserError

BACKENDS = {"torch": "memorization.backends.torch", "tf": "memorization.backends.tf"}
"""Name -> module with the functions of `base.Backend`."""


def require_known(name: str, where: str) -> None:
    """Raises UserError, naming `where`, for a back end that does not exist."""
    if name not in BACKENDS:
        raise UserError(f"{where}: unknown back end {name!r}; known: {', '.join(BACKENDS)}")


@dataclass(frozen=True)
class AnyBut:
    """A set of values: all but one, and but None, which a specification without the key has."""

    only: Any

    def __contains__(self, value: Any) -> bool:
        return value is not None and value != self.only


LACKS: dict[str, dict[str, Container]] = {
    "tf": {
        "task": ("translation", "federated", "federated_text"),
        "text/model.architecture": ("cnn", "wavenet", "transformer"),
        "training.weight_dropout": AnyBut(0.0),
        "training.precision": AnyBut("float32"),
        "classification/training.optimizer": ("rmsprop", "adam", "adagrad", "adadelta"),
        "classification/training.adversarial": AnyBut(0.0),
        "measure.sensitivity": AnyBut(None),
    },
    "torch": {},
}
"""Back end -> dotted key of a specification, of any task or only of <task>/ -> values that it cannot do."""


def require_able(name: str, spec: BaseModel, where: str) -> None:
    """Raises UserError for a specification that back end `name` cannot train, saying what it can."""
    for key, values in LACKS.get(name, {}).items():
        task, _, dotted = key.rpartition("/")
        if task and task != spec.task:
            continue
        value: Any = spec
        for part in dotted.split("."):
            value = getattr(value, part, None)
        if value in values:
            able = [other for other in BACKENDS if value not in LACKS.get(other, {}).get(key, ())]
            choice = ", ".join(able) or "none"
            raise UserError(f"{where}: {dotted}: back end {name!r} has no {value!r}; those that have: {choice}")


def load(name: str) -> Backend:
    """The back end's module. Raises UserError when its library is not installed here."""
    require_known(name, "--backend")
    try:
        return importlib.import_module(BACKENDS[name])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("memorization"):
            raise
        raise UserError(
            f"back end {name!r}: {error.name} is not installed in this Python; use envs/{name}/.venv/bin/python "
            f"(snakemake builds it)"
        ) from None
