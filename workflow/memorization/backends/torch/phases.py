"""A cell that works in phases, with a checkpoint between them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from memorization.backends import checkpoint
from memorization.backends.details import Details
from memorization.progress import Progress

CHECKPOINT_S = 60.0
"""Least time between two checkpoints."""


class Phased(Protocol):
    """state: what later phases need, as plain values; its "done" names those that are over."""

    state: dict[str, Any]
    details: Details

    def phases(self) -> list[tuple[str, Callable[[], None]]]:
        """Name and work of each, in order."""
        ...


def work_off(cell: Phased, run_dir: Path, key: str, what: str) -> None:
    """Do all phases that no checkpoint of `run_dir` has done (key: checkpoint.fingerprint; what: for the progress)."""
    if (content := checkpoint.load(run_dir, key)) is not None:
        cell.state, cell.details.parts = content["state"], content["details"]
    phases, saved = cell.phases(), time.monotonic()
    done = cell.state["done"]
    with Progress(len(phases), what, done=len(done)) as progress:
        for name, work in phases:
            if name in done:
                continue
            work()
            done.append(name)
            progress.advance(1, note=name)
            if time.monotonic() - saved >= CHECKPOINT_S:
                checkpoint.save(run_dir, {"fingerprint": key, "state": cell.state, "details": cell.details.parts})
                saved = time.monotonic()
