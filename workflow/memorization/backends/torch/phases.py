"""A cell that works in phases, with a checkpoint between them; and what it remembers from one to the next."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from memorization.backends import checkpoint
from memorization.backends.details import Details
from memorization.backends.torch.unlearning import Case, History
from memorization.federated_specs import RequestSpec
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


def remembered(state: dict[str, Any], requests: Sequence[RequestSpec], device: torch.device) -> dict[str, Any]:
    """Fields `base`, `history` and `dummies` of a `Case`, from a cell's state."""
    norms = {requests[number]: own for number, own in state["dummies"].items()}
    return {
        "base": torch.from_numpy(state["base"]).to(device),
        "history": History.restored(state["history"], device),
        "dummies": {request: [torch.from_numpy(a).to(device) for a in own] for request, own in norms.items()},
    }


def dummy_norms(case: Case) -> dict[int, list[np.ndarray]]:
    """`Case.dummies` as plain values, by the number of the request."""
    numbers = {own: number for number, own in enumerate(case.spec.requests)}
    return {numbers[own]: [array.cpu().numpy() for array in norms] for own, norms in case.dummies.items()}
