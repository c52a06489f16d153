"""Training all replicates of a cell, in any back end: epochs, evaluation, measuring, early stopping, checkpoints."""

import dataclasses
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from memorization import contracts
from memorization import weights as weight_files
from memorization.backends import checkpoint
from memorization.backends.base import Group
from memorization.backends.observer import Observer
from memorization.backends.recorder import Recorder
from memorization.progress import Progress
from memorization.specs import ImageRunSpec, Trainable

CHECKPOINT_S = 60.0
"""Least time between two checkpoints: fast epochs do not wait for the disk."""

Weights = dict[str, np.ndarray]

log = logging.getLogger(__name__)


@dataclass
class Best:
    """The lowest validation loss of one replicate so far, and its weights where they are to be kept."""

    loss: float
    epoch: float
    step: int
    weights: Weights = field(default_factory=dict)

    def beaten_by(self, loss: float) -> bool:
        return loss < self.loss or (math.isnan(self.loss) and not math.isnan(loss))


class Trainer:
    """One run. `train()` leaves model.npz, curves.csv and measures.csv in `run_dir`; with a `recorder` details.csv too.

    After an interruption the same call continues from the last checkpoint and ends with the same numbers bit by bit:
    every random decision of an epoch comes from a stream named after the epoch, so there is no generator to restore.
    """

    def __init__(
        self,
        spec: Trainable,
        groups: Sequence[Group],
        run_dir: Path,
        key: str,
        observer: Observer | None = None,
        recorder: Recorder | None = None,
    ):
        """`groups` hold all replicates; `key` (checkpoint.fingerprint) tells whether a checkpoint is of use."""
        self.spec, self.run_dir, self.key = spec, Path(run_dir), key
        self.observer, self.recorder = observer, recorder
        self.groups = list(groups)
        self.unit = self.groups[0].unit
        # Images have no validation set. Their test loss is shown and watched for divergence; it decides nothing.
        # A recorder evaluates after some epochs only.
        self.watched = "train" if recorder else "test" if isinstance(spec, ImageRunSpec) else "validation"
        self.batches = self.groups[0].batches
        self.total_steps = max(1, round(spec.training.epochs * self.batches))
        self.epoch = self.step = 0
        self.elapsed = 0.0
        self.curves: list[dict[str, Any]] = []
        self.best: dict[int, Best] = {}
        self.finished: dict[int, Weights] = {}

    def train(self) -> None:
        """Train to the end, or to where every replicate's patience ends."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self._resume(checkpoint.load(self.run_dir, self.key))
        self._clock = time.monotonic() - self.elapsed
        saved = time.monotonic()
        replicates = self.spec.replicates
        what = f"training {replicates} model{'s' if replicates > 1 else ''}"
        done = self.step * replicates
        with Progress(self.total_steps * replicates, what, done=done) as self.progress:
            if self.epoch == 0:
                self._measure("start")
                self._record({})
                if self.recorder:
                    self._clock = time.monotonic()
            while self.groups and self.step < self.total_steps:
                self._run_epoch()
                if self.groups and self.step < self.total_steps and time.monotonic() - saved >= CHECKPOINT_S:
                    checkpoint.save(self.run_dir, self._state())
                    saved = time.monotonic()
        self._write()

    def _run_epoch(self) -> None:
        """One epoch, or what is left of the last, of every group; then evaluation, measuring and stopping."""
        batches = min(self.batches, self.total_steps - self.step)
        self.epoch += 1
        seen: dict[int, bool] = {}
        train_losses: dict[int, float] = {}
        for group in self.groups:
            # Where a coin leaves canaries out, replicates differ by a batch; steps are counted as the first's.
            own = group.batches if batches == self.batches else min(batches, group.batches)
            seen |= self._train_group(group, own)
            train_losses |= dict(zip(group.members, map(float, group.epoch_loss), strict=True))
        self.step += batches
        self._record(train_losses)
        if self._is_due():
            for group in self.groups:
                for member in group.members:
                    self._measure_one(group, member, self.step, "epoch", seen[member])
        self._stop()

    def _train_group(self, group: Group, batches: int) -> dict[int, bool]:
        """Train one group for an epoch; returns per replicate whether it saw its canary."""
        seen = dict.fromkeys(group.members, False)
        every_batch = bool(self.observer) and self.observer.every == "batch"
        for number, windows in enumerate(group.train_epoch(self.epoch, batches), start=1):
            for row, member in enumerate(group.members):
                holds = bool(self.observer) and self.observer.holds_canary(member, windows[row])
                seen[member] |= holds
                if every_batch:
                    self._measure_one(group, member, self.step + number, "batch", holds)
            self.progress.advance(len(group.members))
        return seen

    def _measure(self, moment: str) -> None:
        if self.observer and self.observer.every not in ("none", "end") and not self.spec.measure.epochs:
            for group in self.groups:
                for member in group.members:
                    self._measure_one(group, member, self.step, moment, False)

    def _is_due(self) -> bool:
        """Whether to measure after this epoch."""
        every = self.observer.every if self.observer else "none"
        chosen = self.spec.measure.epochs if every == "epoch" else ()
        due = self.epoch in chosen if chosen else every == "epoch"
        return due or (every in ("end", "epoch") and self.step >= self.total_steps)

    def _measure_one(self, group: Group, member: int, step: int, moment: str, holds_canary: bool) -> None:
        self.observer.measure(group.model(member), member, step, step / self.batches, moment, holds_canary)

    def _record(self, train_losses: dict[int, float]) -> None:
        """Evaluate every replicate, add its row to the curves, and remember the best weights.

        The test loss is for plotting only; every choice rests on the validation loss.
        """
        wall = time.monotonic() - self._clock
        for group in self.groups:
            due = self.recorder is None or self.recorder.due(group, self.epoch, self._is_over())
            unknown = np.full(len(group.members), math.nan)
            nothing = {"loss_nats": unknown, "accuracy": unknown}
            validation, test = (group.evaluate(role) if due else nothing for role in ("validation", "test"))
            # What a recorder does takes long, and the last time it follows no training that it could be part of.
            wall = wall if self.recorder else time.monotonic() - self._clock
            for row, member in enumerate(group.members):
                self.curves.append(
                    {
                        "replicate": member,
                        "step": self.step,
                        "epoch": self.step / self.batches,
                        "train_loss_nats": train_losses.get(member, math.nan),
                        "validation_loss_nats": float(validation["loss_nats"][row]),
                        "test_loss_nats": float(test["loss_nats"][row]),
                        "validation_accuracy": float(validation["accuracy"][row]),
                        "test_accuracy": float(test["accuracy"][row]),
                        "wall_s": wall,
                    }
                )
                self._warn_if_diverged(member, self.curves[-1][f"{self.watched}_loss_nats"])
                if self.epoch:
                    self._compare(group, member, float(validation["loss_nats"][row]))
            if self.recorder is not None:
                self._record_details(group, validation if due else None)
        rows = self.curves[-sum(len(group.members) for group in self.groups) :]
        mean = float(np.mean([row[f"{self.watched}_loss_nats"] for row in rows]))
        self.progress.advance(0, note=f"epoch {self.step / self.batches:.4g}, {self.watched} {mean:.3f} {self.unit}")

    def _record_details(self, group: Group, validation: Mapping[str, np.ndarray] | None) -> None:
        passed = self.step / self.batches
        self.recorder.record(group, self.epoch, self.step, passed, self._is_over(), validation)

    def _is_over(self) -> bool:
        return self.step >= self.total_steps

    def _warn_if_diverged(self, member: int, loss: float) -> None:
        if self.epoch and not math.isfinite(loss):
            log.warning(
                "replicate %d: %s loss is %s after epoch %d: training diverged", member, self.watched, loss, self.epoch
            )

    def _compare(self, group: Group, member: int, loss: float) -> None:
        if member in self.best and not self.best[member].beaten_by(loss):
            return
        keep = self.spec.training.keep == "best_validation"
        weights = group.weights_of(member) if keep else {}
        self.best[member] = Best(loss, self.step / self.batches, self.step, weights)

    def _stop(self) -> None:
        """Take replicates off whose validation loss has not improved for `patience` epochs, and those that have fitted
        where that ends their training.
        """
        for group in self.groups:
            done = set() if self.recorder is None else self.recorder.finished(group)
            done |= self._impatient(group)
            for member in done:
                self.finished[member] = group.weights_of(member)
            if done:
                group.drop(done)
            self.progress.advance(len(done) * (self.total_steps - self.step))
        self.groups = [group for group in self.groups if group.members]

    def _impatient(self, group: Group) -> set[int]:
        patience = self.spec.training.patience
        if patience is None:
            return set()
        return {k for k in group.members if self.step - self.best[k].step >= patience * self.batches}

    def _state(self) -> dict[str, Any]:
        return {
            "fingerprint": self.key,
            "epoch": self.epoch,
            "step": self.step,
            "elapsed": time.monotonic() - self._clock,
            "curves": self.curves,
            "measures": self.observer.rows if self.observer else {},
            "best": {k: dataclasses.asdict(best) for k, best in self.best.items()},
            "finished": self.finished,
            "groups": [group.state() for group in self.groups],
            "recorder": self.recorder.state() if self.recorder else {},
        }

    def _resume(self, content: dict[str, Any] | None) -> None:
        if content is None:
            return
        self.epoch, self.step, self.elapsed = content["epoch"], content["step"], content["elapsed"]
        self.curves = content["curves"]
        if self.observer:
            self.observer.rows = content["measures"]
        if self.recorder:
            self.recorder.restore(content["recorder"])
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
        weight_files.save(weight_files.stack([chosen[k] for k in range(self.spec.replicates)]), self.run_dir)
        contracts.write("curves", self._curves_frame(), self.run_dir)
        rows = self.observer.rows if self.observer else {column: [] for column in contracts.columns("measures")}
        contracts.write("measures", pd.DataFrame(rows), self.run_dir)
        if self.recorder:
            self.recorder.write(self.run_dir)
        checkpoint.remove(self.run_dir)

    def _curves_frame(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.curves)
        if self.spec.training.keep == "best_validation":
            kept = frame["replicate"].map({member: best.step for member, best in self.best.items()})
        else:
            kept = frame.groupby("replicate")["step"].transform("max")
        return frame.assign(kept=frame["step"] == kept).sort_values(["replicate", "step"], kind="stable")
