"""Back ends by name. Each is imported only when it is asked for, in its own environment."""

import importlib

from memorization.backends.base import Backend
from memorization.errors import UserError

BACKENDS = {"torch": "memorization.backends.torch"}
"""Name -> module with the functions of `base.Backend`."""


def require_known(name: str, where: str) -> None:
    """Raises UserError, naming `where`, for a back end that does not exist."""
    if name not in BACKENDS:
        raise UserError(f"{where}: unknown back end {name!r}; known: {', '.join(BACKENDS)}")


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
