"""Training all replicates of a cell: epochs, evaluation, measuring hooks, early stopping, checkpoints."""

import dataclasses
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from memorization import contracts
from memorization import weights as weight_files
from memorization.backends.torch import checkpoint
from memorization.backends.torch.group import Group
from memorization.backends.torch.model import TorchLanguageModel
from memorization.backends.torch.observer import Observer
from memorization.data.corpora import TrainingCorpus
from memorization.progress import Progress
from memorization.specs import RunSpec

CHECKPOINT_S = 60.0
"""Least time between two checkpoints: fast epochs do not wait for the disk."""

log = logging.getLogger(__name__)


@dataclass
class Best:
    """The lowest validation loss of one replicate so far, and its weights where they are to be kept."""

    loss: float
    epoch: float
    step: int
    weights: dict[str, Tensor] = field(default_factory=dict)

    def beaten_by(self, loss: float) -> bool:
        return loss < self.loss or (math.isnan(self.loss) and not math.isnan(loss))


def blocks(replicates: int, device: torch.device) -> list[list[int]]:
    """Which replicates share a group: all on a GPU, none on a CPU (see group.py)."""
    everyone = list(range(replicates))
    return [everyone] if device.type == "cuda" else [[k] for k in everyone]


class Trainer:
    """One run. `train()` leaves model.npz, curves.csv and measures.csv in `run_dir`.

    After an interruption the same call continues from the last checkpoint and ends with the same numbers bit by bit:
    every random decision of an epoch comes from a stream named after the epoch, so there is no generator to restore.
    """

    def __init__(self, spec: RunSpec, corpora: Sequence[TrainingCorpus], run_dir: Path, device: torch.device):
        self.spec, self.run_dir, self.device = spec, Path(run_dir), device
        self.corpora = corpora
        self.groups = [
            Group(spec, block, [corpora[k] for k in block], device) for block in blocks(len(corpora), device)
        ]
        self.observer = Observer(spec, corpora)
        self.batches = self.groups[0].batches
        self.total_steps = max(1, round(spec.training.epochs * self.batches))
        self.epoch = self.step = 0
        self.elapsed = 0.0
        self.curves: list[dict[str, Any]] = []
        self.best: dict[int, Best] = {}
        self.finished: dict[int, dict[str, Tensor]] = {}

    def train(self) -> None:
        """Train to the end, or to where every replicate's patience ends."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        key = checkpoint.fingerprint(self.spec, self.corpora, self.device)
        self._resume(checkpoint.load(self.run_dir, key, self.device))
        self._clock = time.monotonic() - self.elapsed
        saved = time.monotonic()
        replicates = len(self.corpora)
        what = f"training {replicates} model{'s' if replicates > 1 else ''}"
        done = self.step * replicates
        with Progress(self.total_steps * replicates, what, done=done) as self.progress:
            if self.epoch == 0:
                self._measure("start")
                self._record({})
            while self.groups and self.step < self.total_steps:
                self._run_epoch()
                if self.groups and self.step < self.total_steps and time.monotonic() - saved >= CHECKPOINT_S:
                    checkpoint.save(self.run_dir, self._state(key))
                    saved = time.monotonic()
        self._write()

    def _run_epoch(self) -> None:
        """One epoch, or what is left of the last, of every group; then evaluation, measuring and stopping."""
        batches = min(self.batches, self.total_steps - self.step)
        self.epoch += 1
        seen: dict[int, bool] = {}
        train_losses: dict[int, float] = {}
        for group in self.groups:
            seen |= self._train_group(group, batches)
            train_losses |= dict(zip(group.members, map(float, group.epoch_loss), strict=True))
        self.step += batches
        self._record(train_losses)
        if self.spec.measure.every == "epoch":
            for group in self.groups:
                for member in group.members:
                    self._measure_one(group, member, self.step, "epoch", seen[member])
        self._stop()

    def _train_group(self, group: Group, batches: int) -> dict[int, bool]:
        """Train one group for an epoch; returns per replicate whether it saw its canary."""
        seen = dict.fromkeys(group.members, False)
        every_batch = self.spec.measure.every == "batch"
        for number, windows in enumerate(group.train_epoch(self.epoch, batches), start=1):
            for row, member in enumerate(group.members):
                holds = self.observer.holds_canary(member, windows[row])
                seen[member] |= holds
                if every_batch:
                    self._measure_one(group, member, self.step + number, "batch", holds)
            self.progress.advance(len(group.members))
        return seen

    def _measure(self, moment: str) -> None:
        if self.spec.measure.every != "none":
            for group in self.groups:
                for member in group.members:
                    self._measure_one(group, member, self.step, moment, False)

    def _measure_one(self, group: Group, member: int, step: int, moment: str, holds_canary: bool) -> None:
        model = TorchLanguageModel(group.weights_of(member), self.corpora[member].vocabulary)
        self.observer.measure(model, member, step, step / self.batches, moment, holds_canary)

    def _record(self, train_losses: dict[int, float]) -> None:
        """Evaluate every replicate, add its row to the curves, and remember the best weights.

        The test loss is for plotting only; every choice rests on the validation loss.
        """
        for group in self.groups:
            validation, test = group.evaluate("validation"), group.evaluate("test")
            for row, member in enumerate(group.members):
                self.curves.append(
                    {
                        "replicate": member,
                        "step": self.step,
                        "epoch": self.step / self.batches,
                        "train_loss_nats": train_losses.get(member, math.nan),
                        "validation_loss_nats": float(validation[row]),
                        "test_loss_nats": float(test[row]),
                        "wall_s": time.monotonic() - self._clock,
                    }
                )
                if self.epoch:
                    self._compare(group, member, float(validation[row]))
        rows = self.curves[-sum(len(group.members) for group in self.groups) :]
        mean = float(np.mean([row["validation_loss_nats"] for row in rows]))
        self.progress.advance(0, note=f"epoch {self.step / self.batches:.4g}, validation {mean:.3f} nats/character")

    def _compare(self, group: Group, member: int, loss: float) -> None:
        if not math.isfinite(loss):
            log.warning(
                "replicate %d: validation loss is %s after epoch %d: training diverged", member, loss, self.epoch
            )
        if member in self.best and not self.best[member].beaten_by(loss):
            return
        keep = self.spec.training.keep == "best_validation"
        weights = {name: array.clone() for name, array in group.weights_of(member).items()} if keep else {}
        self.best[member] = Best(loss, self.step / self.batches, self.step, weights)

    def _stop(self) -> None:
        """Take replicates off whose validation loss has not improved for `patience` epochs."""
        patience = self.spec.training.patience
        if patience is None:
            return
        for group in self.groups:
            done = {k for k in group.members if self.step - self.best[k].step >= patience * self.batches}
            for member in done:
                self.finished[member] = {name: w.clone() for name, w in group.weights_of(member).items()}
            if done:
                group.drop(done)
            self.progress.advance(len(done) * (self.total_steps - self.step))
        self.groups = [group for group in self.groups if group.members]

    def _state(self, key: str) -> dict[str, Any]:
        return {
            "fingerprint": key,
            "epoch": self.epoch,
            "step": self.step,
            "elapsed": time.monotonic() - self._clock,
            "curves": self.curves,
            "measures": self.observer.rows,
            "best": {k: dataclasses.asdict(best) for k, best in self.best.items()},
            "finished": self.finished,
            "groups": [group.state() for group in self.groups],
        }

    def _resume(self, content: dict[str, Any] | None) -> None:
        if content is None:
            return
        self.epoch, self.step, self.elapsed = content["epoch"], content["step"], content["elapsed"]
        self.curves, self.observer.rows = content["curves"], content["measures"]
        self.best = {k: Best(**best) for k, best in content["best"].items()}
        self.finished = content["finished"]
        groups = []
        for state in content["groups"]:
            group = next(g for g in self.groups if set(state["members"]) <= set(g.members))
            group.restore(state)
            groups.append(group)
        self.groups = groups
        log.info("continuing after epoch %d of %g", self.epoch, self.spec.training.epochs)

    def _write(self) -> None:
        """The run's files; the checkpoint goes last, so that a full disk costs no training."""
        chosen = {member: group.weights_of(member) for group in self.groups for member in group.members} | self.finished
        if self.spec.training.keep == "best_validation":
            chosen = {member: best.weights for member, best in self.best.items()}
        ordered = [{n: w.cpu().numpy() for n, w in chosen[k].items()} for k in range(len(self.corpora))]
        weight_files.save(weight_files.stack(ordered), self.run_dir)
        contracts.write("curves", self._curves_frame(), self.run_dir)
        contracts.write("measures", pd.DataFrame(self.observer.rows), self.run_dir)
        checkpoint.remove(self.run_dir)

    def _curves_frame(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.curves)
        if self.spec.training.keep == "best_validation":
            kept = frame["replicate"].map({member: best.step for member, best in self.best.items()})
        else:
            kept = frame.groupby("replicate")["step"].transform("max")
        return frame.assign(kept=frame["step"] == kept).sort_values(["replicate", "step"], kind="stable")
