"""The file contracts of workflow/schemas/files.yaml, and atomic writing of files that keep them."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pandas as pd
import yaml

from memorization.errors import UserError

SCHEMAS = Path(__file__).parents[1] / "schemas" / "files.yaml"
_DTYPES = {"int": "int64", "float": "float64", "bool": "bool", "str": "object"}
_KINDS = {"int": "iu", "float": "fiu", "bool": "b", "str": "OUTS"}


@cache
def columns(name: str) -> dict[str, str]:
    """Column -> type of the file called `name` (without .csv)."""
    return yaml.safe_load(SCHEMAS.read_text())[name]


def check(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with the contract's columns in order. Raises ValueError naming what is missing, extra or mistyped."""
    wanted = columns(name)
    if set(frame.columns) != set(wanted):
        missing, extra = wanted.keys() - set(frame.columns), set(frame.columns) - wanted.keys()
        raise ValueError(f"{name}.csv: missing columns {sorted(missing)}, unexpected {sorted(extra)}")
    bad = [c for c, kind in wanted.items() if len(frame) and frame[c].dtype.kind not in _KINDS[kind]]
    if bad:
        raise ValueError(f"{name}.csv: wrong types: " + ", ".join(f"{c} is {frame[c].dtype}" for c in bad))
    return frame[list(wanted)]


def empty(name: str) -> pd.DataFrame:
    """A table without rows that keeps the contract `name`."""
    return pd.DataFrame({c: pd.Series(dtype=_DTYPES[kind]) for c, kind in columns(name).items()})


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved there only when the block ends well: no half-written file is ever seen.

    Raises UserError where the disk does not take it (`disk_error`).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise disk_error(error, path) from error
    finally:
        with suppress(OSError):  # none was begun, or the folder may not be written
            temporary.unlink()


def remove_leftovers(directory: Path) -> None:
    """Delete what `atomic` left in `directory` when a process was killed in its block. Nobody may be writing there."""
    for path in directory.glob(".*"):
        if re.fullmatch(r"\..+\.\d+", path.name):
            path.unlink(missing_ok=True)


def disk_error(error: OSError, path: Path) -> Exception:
    """A UserError for a full disk, an exceeded quota or file size, or a folder that may not be written; any other error
    unchanged, also one about a file elsewhere that may not be read: whoever reads it knows what it is.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{path}: the disk is full or its quota used up: free some space and run the same command again"
        )
    if error.errno == errno.EFBIG:
        return UserError(f"{path}: larger than files may be here: raise `ulimit -f` and run the same command again")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and _concerns(error, path):
        why = f"may not be written ({error.strerror})"
        return UserError(f"{path}: {why}: make the folder writable and run the same command again")
    return error


def _concerns(error: OSError, path: Path) -> bool:
    """Whether an error is about the folder of `path`, what lies in it, or a folder on the way to it."""
    if not isinstance(error.filename, (str, os.PathLike)):
        return True
    named, folder = Path(os.path.abspath(error.filename)), Path(os.path.abspath(path.parent))
    return named.is_relative_to(folder) or folder.is_relative_to(named)


def write(name: str, frame: pd.DataFrame, directory: Path) -> None:
    """Check `frame` against its contract and write directory/name.csv atomically."""
    with atomic(Path(directory) / f"{name}.csv") as path:
        check(name, frame).to_csv(path, index=False)


def read(name: str, directory: Path) -> pd.DataFrame:
    """directory/name.csv; columns of type str stay text ('007' is not 7)."""
    text = {c: str for c, kind in columns(name).items() if kind == "str"}
    frame = pd.read_csv(
        Path(directory) / f"{name}.csv",
        dtype=text,
        keep_default_na=False,
        na_values={c: [""] for c, kind in columns(name).items() if kind == "float"},
    )
    return frame
