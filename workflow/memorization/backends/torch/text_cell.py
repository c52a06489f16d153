"""One cell of federated language models: federations of all replicates are trained, asked to forget the canary in every
way, each from the same trained models, and then shown user 0's text again. The results are in details.csv.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from memorization import contracts, forget_requests
from memorization import weights as weight_files
from memorization.backends import checkpoint
from memorization.backends.base import LanguageModel
from memorization.backends.details import Details
from memorization.backends.torch.architectures import language_model
from memorization.backends.torch.federated import Server
from memorization.backends.torch.forgetting_record import BASE
from memorization.backends.torch.phases import dummy_norms, remembered, work_off
from memorization.backends.torch.text_federation import TextCase, TextHoldings, ascent
from memorization.backends.torch.text_record import TextRecord
from memorization.backends.torch.unlearning import Case, History, Moment, forsaken, placebo, retrain, without_user
from memorization.backends.torch.unlearning_baselines import federaser
from memorization.data.text_shares import TextShares, text_data
from memorization.federated_specs import RequestSpec
from memorization.federated_text_specs import FederatedTextRunSpec
from memorization.vocabulary import Vocabulary

METHODS: dict[str, Callable[[Case, RequestSpec], Iterator[Moment]]] = {
    "retrain": retrain,
    "forsaken": forsaken,
    "ascent": ascent,
    "federaser": federaser,
    "without_user": without_user,
    "placebo": placebo,
}
"""`RequestSpec.method` -> its rounds. federaser and without_user give up all of user 0's text, not only the canary."""
EVALUATIONS = 8
"""Rounds of the federation after which its curves are evaluated, log-spaced."""


class TextCell:
    """Works in phases (phases.py); what was remembered of a placebo's Forsaken is in `state` too."""

    def __init__(self, spec: FederatedTextRunSpec, shares: Sequence[TextShares], device: torch.device) -> None:
        self.spec, self.holdings, self.details = spec, TextHoldings(spec, shares, device), Details()
        self.state: dict[str, Any] = {"done": [], "dummies": {}, "after": {}}
        self._record = TextRecord(spec, self.holdings, self.details)

    def phases(self) -> list[tuple[str, Callable[[], None]]]:
        """Name and work of each, in order; Forsaken goes before the placebo that takes its norms."""
        numbered = sorted(enumerate(self.spec.requests), key=lambda pair: pair[1].method == "placebo")
        requests = [(f"request {n}: {r.method}", lambda n=n: self._request(n)) for n, r in numbered]
        again = [(f"relearning {n}: {r.method}", lambda n=n: self._relearn(n)) for n, r in numbered]
        return [("training", self._train), *requests, *(again if self.spec.relearn_rounds else [])]

    def _train(self) -> None:
        """Train the base models; remember what the server saw."""
        held = self.holdings
        federations, history, server = held.federations(held.users, "train"), History(), Server()
        rounds = self.spec.training.rounds
        shown = {0, *np.geomspace(1, rounds, EVALUATIONS).round().astype(int).tolist()}
        models, curves, began = held.initial(), [], time.monotonic()
        for round_ in range(rounds + 1):
            if round_:
                uploads = federations.uploads(models, round_)
                models = server.aggregate(models, uploads, federations.owners, federations.weights)
                history.add(held.models, uploads, len(models))
            if round_ in shown:
                curves += self._curve(held.test_losses(models), round_, time.monotonic() - began)
        self.state |= {"base": models.cpu().numpy(), "curves": curves, "history": history.state()}
        forget_requests.record(self.details, self.spec.requests)
        self._record.state_of(models, item=BASE, step=0)

    def _curve(self, losses: np.ndarray, round_: int, wall_s: float) -> list[dict[str, Any]]:
        """Rows of curves.csv; only the test loss is known."""
        nan = float("nan")
        return [
            {
                "replicate": k,
                "step": round_,
                "epoch": float(round_ * self.spec.training.local_epochs),
                "train_loss_nats": nan,
                "validation_loss_nats": nan,
                "test_loss_nats": float(loss),
                "validation_accuracy": nan,
                "test_accuracy": nan,
                "wall_s": wall_s,
                "kept": round_ == self.spec.training.rounds,
            }
            for k, loss in enumerate(losses)
        ]

    def _request(self, item: int) -> None:
        """One request, from the base models."""
        case, request = self._case(), self.spec.requests[item]
        models = self._record.request(item, METHODS[request.method](case, request))
        self.state["after"][item] = models.cpu().numpy()
        self.state["dummies"] = dummy_norms(case)

    def _relearn(self, item: int) -> None:
        """User 0's whole text comes back: ordinary rounds of all users, in the same orders after every request."""
        held, server = self.holdings, Server()
        federations, models = held.federations(held.users, "relearn"), self._tensor(self.state["after"][item])
        self._record.relearned(models, item=item, step=0)
        due = self._record.due(self.spec.relearn_rounds)
        for round_ in range(1, self.spec.relearn_rounds + 1):
            models = federations.round(models, round_, server)
            if round_ in due:
                self._record.relearned(models, item=item, step=round_)

    def _case(self) -> TextCase:
        held = self.holdings
        return TextCase(
            spec=self.spec,
            models=held.models,
            examples=held.examples,
            users=held.users,
            forgotten=held.forgotten,
            forget=held.forget,
            kept=held.kept,
            third_party=held.third_party,
            initial=held.initial(),
            **remembered(self.state, self.spec.requests, held.device),
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.holdings.device)


def train_federated_text(
    spec: FederatedTextRunSpec, shares: Sequence[TextShares], run_dir: Path, device: torch.device
) -> None:
    """Train, forget and relearn; write model.npz (the models before any request), curves.csv, details.csv and an empty
    measures.csv into `run_dir`.

    Interrupted, it continues from the last checkpoint, after a phase, and ends with the same numbers but for times.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    key = checkpoint.fingerprint(spec, text_data(shares), f"torch {torch.__version__} {device.type}")
    cell = TextCell(spec, shares, device)
    work_off(cell, run_dir, key, f"federated language models of {spec.replicates} seeds")
    base = cell.holdings.models.arrays(torch.from_numpy(cell.state["base"]))
    weight_files.save({name: array.numpy() for name, array in base.items()}, run_dir)
    contracts.write("curves", pd.DataFrame(cell.state["curves"]), run_dir)
    contracts.write("measures", contracts.empty("measures"), run_dir)
    cell.details.write(run_dir)
    checkpoint.remove(run_dir)


def load_federated_text(
    run_dir: Path, spec: FederatedTextRunSpec, vocabulary: Vocabulary, device: torch.device
) -> list[LanguageModel]:
    """The global models of a finished run before any request, one per replicate.

    Raises UserError if model.npz is missing or does not fit.
    """
    stacked = weight_files.load(run_dir, spec.model, len(vocabulary))
    return [
        language_model(spec.model, {n: torch.from_numpy(a[k]).to(device) for n, a in stacked.items()}, vocabulary)
        for k in range(spec.replicates)
    ]
