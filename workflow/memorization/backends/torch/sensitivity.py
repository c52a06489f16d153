"""Loss-sensitivity of a finished training, as rows of details.csv (A Closer Look, section 3.2, Figures 3 and 4).

The training is run again from its streams: nothing has to be kept while it runs, and an interruption changes nothing.
"""

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memorization.backends.details import Details
from memorization.backends.torch.unrolled import Layers, Unrolled, derivatives
from memorization.classifier_models import initial_weights
from memorization.classifier_specs import ClassifierRunSpec
from memorization.data.labelled import batch_count, batches
from memorization.gini import gini, log_spaced, running_means
from memorization.streams import stream

if TYPE_CHECKING:
    from memorization.backends.torch.classifier_group import DeviceData

NORMS = {"l1": 1.0, "l2": 2.0, "linf": float("inf")}
"""The paper reports the first and says that the others are very similar (U1)."""
FLOATS = 60_000_000
"""Derivatives held at a time: replicates are measured in chunks of about that many numbers."""

log = logging.getLogger(__name__)


def record(spec: ClassifierRunSpec, shown: "DeviceData", device: torch.device, details: Details) -> None:
    """Add what `spec.measure.sensitivity` asks for, of all replicates, to `details`.

    gini_<norm>         step t; over examples, of the norm's mean over the updates up to t (part "") and of the norm at
                        t (part "now")
    sensitivity_l1      replicate -1, item = example: mean over updates and replicates
    sensitivity_class   item i, other j: mean over updates and over the examples of class j of || dL(y = i) / dx ||_1

    Means over updates interpolate between the measured ones (`gini.running_means`).
    """
    wanted, data = spec.measure.sensitivity, shown.data
    per_epoch = batch_count(spec, len(data.train))
    steps = max(1, round(spec.training.epochs * per_epoch))
    times = log_spaced(steps, wanted.times)
    end = {"step": steps, "epoch": steps / per_epoch}
    terms = _terms(shown.given, data.classes if wanted.classes else None)
    chunk = max(1, FLOATS // (len(times) * terms.numel() * data.train[0].size))
    sums = np.zeros(len(data.train))
    log.info("loss-sensitivity: back through %d updates of %d models, %d at a time", steps, spec.replicates, chunk)
    for first in range(0, spec.replicates, chunk):
        members = list(range(first, min(first + chunk, spec.replicates)))
        found = derivatives(unrolled(spec, shown, members, steps, device), times, terms, direct=wanted.direct)
        for member, one in zip(members, found, strict=True):
            norms = {name: _norms(one.sum(0), order) for name, order in NORMS.items()}
            _add_gini(details, member, times, norms, per_epoch)
            sums += running_means(times)[-1] @ norms["l1"]
            if wanted.classes:
                _add_classes(details, member, running_means(times)[-1], _norms(one, NORMS["l1"]), data.given, end)
    details.add("sensitivity_l1", "train", sums / spec.replicates, item=np.arange(len(sums)), **end)


def unrolled(
    spec: ClassifierRunSpec, shown: "DeviceData", members: list[int], steps: int, device: torch.device
) -> Unrolled:
    """The first `steps` updates of some replicates, from the same streams as their training."""
    data, examples = shown.data, len(shown.data.train)
    drawn = [initial_weights(spec.model, data.shape, data.classes, stream(spec.seed, k, "init")) for k in members]
    names = [*(f"hidden{n}" for n in range(1, spec.model.layers + 1)), "output"]
    start: Layers = [
        (_stacked([w[f"{name}.weight"].T for w in drawn], device), _stacked([w[f"{name}.bias"] for w in drawn], device))
        for name in names
    ]
    epochs = range(1, -(-steps // batch_count(spec, examples)) + 1)
    schedules = [[rows for epoch in epochs for rows in batches(spec, k, epoch, examples)][:steps] for k in members]
    return Unrolled(
        start=start,
        images=shown.train.flatten(1),
        labels=shown.given,
        batches=[_stacked(list(rows), device) for rows in zip(*schedules, strict=True)],
        rates=[spec.training.learning_rate] * steps,
    )


def _stacked(arrays: list[np.ndarray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)


def _terms(given: Tensor, classes: int | None) -> Tensor:
    """The mean loss as one term [1, N], or as the terms of its classes [K, N], which add up to it."""
    if classes is None:
        return torch.full((1, len(given)), 1 / len(given), device=given.device)
    return functional.one_hot(given, classes).T.float() / len(given)


def _norms(derivative: Tensor, order: float) -> np.ndarray:
    """float64[..., K, N] of [..., K, N, D]."""
    return torch.linalg.vector_norm(derivative, ord=order, dim=-1).double().cpu().numpy()


def _add_gini(details: Details, member: int, times: list[int], norms: dict[str, np.ndarray], per_epoch: int) -> None:
    """norms: name -> float64[K, N]."""
    for name, values in norms.items():
        for part, shown in (("", running_means(times) @ values), ("now", values)):
            for t, value in zip(times, gini(shown), strict=True):
                details.add(f"gini_{name}", part, value, replicate=member, step=t, epoch=t / per_epoch)


def _add_classes(
    details: Details, member: int, weights: np.ndarray, values: np.ndarray, given: np.ndarray, end: dict[str, Any]
) -> None:
    """weights: float64[K]; values: float64[C, K, N]. Classes without an example have no row."""
    means = np.einsum("k,ikn->in", weights, values)
    for j in np.unique(given):
        column = means[:, given == j].mean(axis=1)
        items = np.arange(len(column))
        details.add("sensitivity_class", "train", column, replicate=member, item=items, other=int(j), **end)
