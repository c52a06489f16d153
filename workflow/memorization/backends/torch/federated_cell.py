"""One cell of Learn to Forget: federations of all replicates are trained, shadow models for the oracles too, and every
request starts from the same trained models. The results are in details.csv.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from memorization import contracts, federated_models, forget_requests, membership
from memorization import weights as weight_files
from memorization.backends import checkpoint
from memorization.backends.details import Details
from memorization.backends.torch.federated import Server
from memorization.backends.torch.flat_models import FlatModels
from memorization.backends.torch.forgetting_record import Record
from memorization.backends.torch.holdings import Holdings
from memorization.backends.torch.phases import dummy_norms, remembered, work_off
from memorization.backends.torch.unlearning import (
    Case,
    History,
    Moment,
    Watch,
    ascent,
    forsaken,
    placebo,
    retrain,
    without_user,
)
from memorization.backends.torch.unlearning_baselines import federaser, sisa
from memorization.data.shares import Shares
from memorization.errors import UserError
from memorization.federated_specs import FederatedRunSpec, RequestSpec
from memorization.forgetting import Answers

METHODS: dict[str, Callable[[Case, RequestSpec], Iterator[Moment]]] = {
    "retrain": retrain,
    "forsaken": forsaken,
    "ascent": ascent,
    "federaser": federaser,
    "sisa": sisa,
    "without_user": without_user,
    "placebo": placebo,
}
"""`RequestSpec.method` -> its rounds."""
EVALUATIONS = 12
"""Rounds of the federation after which its curves are evaluated, log-spaced."""
FIRST = ("retrain", "forsaken")
"""Methods that others refer to: as the reference of distances, for the norms of their updates."""


class Cell:
    """Works in phases; `state` holds what later phases need as plain values, so that a checkpoint can follow each."""

    def __init__(self, spec: FederatedRunSpec, shares: Sequence[Shares], device: torch.device) -> None:
        self.spec, self.holdings, self.details = spec, Holdings(spec, shares, device), Details()
        self.state: dict[str, Any] = {"done": [], "shadow": [], "dummies": {}, "retrained": None}

    def phases(self) -> list[tuple[str, Callable[[], None]]]:
        """Name and work of each, in order."""
        shadows = [(f"shadow models {k}", lambda k=k: self._shadow(k)) for k in range(self.spec.replicates)]
        asked = sorted(enumerate(self.spec.requests), key=lambda pair: _turn(pair[1]))
        requests = [(f"request {n}: {r.method}", lambda n=n: self._request(n)) for n, r in asked]
        return [("training", self._train), *shadows, ("judging", self._judge), *requests]

    def _train(self) -> None:
        """Train the base models; remember what the server saw."""
        held = self.holdings
        federations, history, server = held.federations(held.users, "train"), History(), Server()
        rounds = self.spec.training.rounds
        shown = {0, *np.geomspace(1, rounds, EVALUATIONS).round().astype(int).tolist()}
        models, curves, began, watch = held.initial(), [], time.monotonic(), Watch()
        for round_ in range(rounds + 1):
            if round_:
                uploads = watch.timed(lambda now=models, j=round_: federations.uploads(now, j), 0.0)
                models = server.aggregate(models, uploads, federations.owners, federations.weights)
                history.add(held.models, uploads, len(models))
            if round_ in shown:
                curves += self._curve(models, round_, time.monotonic() - began)
        costs = {
            "messages_per_round": server.received.messages / len(models),
            "bytes_per_round": server.received.bytes / len(models),
            "seconds_all": watch.all / len(models),
        }
        self.state |= {"base": models.cpu().numpy(), "curves": curves, "costs": costs}
        self.state["history"] = history.state()

    def _curve(self, models: Tensor, round_: int, wall_s: float) -> list[dict[str, Any]]:
        """Rows of curves.csv. The training loss is that of (a sample of) what is retained; nothing validates."""
        rows, nan = [], float("nan")
        for k, answers in enumerate(self.holdings.answers(models.unsqueeze(1))):
            logs, labels = answers["test"]
            rows.append(
                {
                    "replicate": k,
                    "step": round_,
                    "epoch": float(round_ * self.spec.training.local_epochs),
                    "train_loss_nats": float(-membership.true_class(*answers["retain"]).mean()),
                    "validation_loss_nats": nan,
                    "test_loss_nats": float(-membership.true_class(logs, labels).mean()),
                    "validation_accuracy": nan,
                    "test_accuracy": float(np.mean(logs.argmax(1) == labels)),
                    "wall_s": wall_s,
                    "kept": round_ == self.spec.training.rounds,
                }
            )
        return rows

    def _shadow(self, replicate: int) -> None:
        self.state["shadow"].append(self.holdings.shadow_answers(replicate))

    def _judge(self) -> None:
        """The base models, by oracles that are calibrated now and never again."""
        forget_requests.record(self.details, self.spec.requests)
        self._record.base(self._before, self._case().history, self.state["costs"])

    def _request(self, item: int) -> None:
        """One request, from the base models."""
        case, request = self._case(), self.spec.requests[item]
        self._record.request(item, case, METHODS[request.method](case, request), self._before)
        self.state["retrained"] = self._record.retrained
        self.state["dummies"] = dummy_norms(case)

    @cached_property
    def _record(self) -> Record:
        record = Record(self.spec, self.holdings, self.holdings.oracles(self.state["shadow"]), self.details)
        record.retrained = self.state["retrained"]
        return record

    @cached_property
    def _before(self) -> list[Answers]:
        return self.holdings.answers(self._tensor(self.state["base"]).unsqueeze(1))

    def _case(self) -> Case:
        held, parts = self.holdings, self.holdings.parts
        return Case(
            spec=self.spec,
            models=held.models,
            examples=held.examples,
            users=held.users,
            forgotten=held.forgotten,
            forget=parts["forget"],
            kept=parts["kept"],
            third_party=parts["third_party"],
            initial=held.initial(),
            **remembered(self.state, self.spec.requests, held.device),
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.holdings.device)


def _turn(request: RequestSpec) -> int:
    """What others refer to goes first."""
    return FIRST.index(request.method) if request.method in FIRST else len(FIRST)


def train_federated(spec: FederatedRunSpec, shares: Sequence[Shares], run_dir: Path, device: torch.device) -> None:
    """Train, forget and judge; write model.npz (the models before any request), curves.csv, details.csv and an empty
    measures.csv into `run_dir`.

    Interrupted, it continues from the last checkpoint, after a phase, and ends with the same numbers but for times.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    data = [array for own in shares for part in (*own.users, own.third_party, own.shadow, own.test) for array in part]
    masks = [own.forget for own in shares]
    key = checkpoint.fingerprint(spec, [*data, *masks], f"torch {torch.__version__} {device.type}")
    cell = Cell(spec, shares, device)
    work_off(cell, run_dir, key, f"federations of {spec.replicates} seeds")
    _write(cell, run_dir)


def _write(cell: Cell, run_dir: Path) -> None:
    """The run's files; the checkpoint goes last, so that a full disk costs no training."""
    models = cell.holdings.models
    base = federated_models.arrays(models.spec, models.inputs, models.classes, cell.state["base"])
    weight_files.save(base, run_dir)
    contracts.write("curves", pd.DataFrame(cell.state["curves"]), run_dir)
    contracts.write("measures", contracts.empty("measures"), run_dir)
    cell.details.write(run_dir)
    checkpoint.remove(run_dir)


def load_federated(run_dir: Path, spec: FederatedRunSpec, device: torch.device) -> list["GlobalModel"]:
    """The global models of a finished run before any request, one per replicate. Raises UserError where model.npz is
    missing or does not fit.
    """
    found = weight_files.read(run_dir)
    if "output.weight" not in found:
        raise UserError(f"{run_dir}: model.npz does not fit the run's spec: delete it and train again")
    classes = found["output.weight"].shape[1]
    inputs = found.get("hidden1.weight", found["output.weight"]).shape[2]
    stacked = weight_files.load_shaped(run_dir, federated_models.shapes(spec.model, inputs, classes))
    models = FlatModels(spec.model, inputs, classes)
    rows = torch.from_numpy(federated_models.joined(spec.model, inputs, classes, stacked)).to(device)
    return [GlobalModel(models, rows[k : k + 1]) for k in range(len(rows))]


class GlobalModel:
    """One federation's model: `backends.base.ImageClassifier`, for inputs float32[n, ...] in the network's units."""

    def __init__(self, models: FlatModels, row: Tensor) -> None:
        self.models, self.row = models, row

    def losses(self, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cross-entropies float64[n] in nats and bool[n]: classified rightly."""
        inputs = torch.from_numpy(images.reshape(len(images), -1)).to(self.row.device)
        logs = torch.log_softmax(self.models.logits(self.row, inputs).double(), 2)[0].cpu().numpy()
        return -membership.true_class(logs, labels), logs.argmax(1) == labels
