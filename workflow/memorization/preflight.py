"""Checks of a plan against the registry, before anything is run: batches that the data cannot fill, and epsilons that
the given steps cannot reach.

Sizes are the registry's (a stand-in may be smaller; then training itself says so).
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from memorization import contracts, privacy
from memorization.cells import DATA_PART
from memorization.classifier_specs import ClassifierRunSpec
from memorization.data.labelled import sizes
from memorization.data.registry import DatasetSpec
from memorization.data.shares import require_enough
from memorization.errors import UserError
from memorization.expansion import Plan
from memorization.federated_specs import FederatedRunSpec
from memorization.federated_text_specs import FederatedTextRunSpec
from memorization.specs import RunSpec, Trainable

FITTING = {
    "text": ("text", "mail"),
    "image": ("images",),
    "translation": ("pairs",),
    "classification": ("images", "batches"),
    "federated": ("images", "batches", "rows"),
    "federated_text": ("text",),
}
"""Task -> the kinds of data that it can be trained on."""


def check(plan: Plan, datasets: dict[str, DatasetSpec]) -> None:
    """Raises UserError naming the figure, the key and what is possible."""
    for (paper, key), figure in plan.figures.items():
        for spec in {cell.run.run_id: cell.run for cell in figure.cells}.values():
            dataset = datasets[spec.dataset]
            where = f"workflow/papers/{paper}/figures.yaml: {key}"
            if dataset.kind not in FITTING[spec.task]:
                raise UserError(f"{where}: task {spec.task}: data set {spec.dataset!r} holds {dataset.kind}")
            if isinstance(spec, FederatedRunSpec):
                _check_shares(spec, dataset, where)
                continue
            examples = expected_examples(spec, dataset)
            if examples is None or isinstance(spec, (ClassifierRunSpec, FederatedTextRunSpec)):
                continue  # a classifier's or a user's only batch may be smaller than batch_size
            if examples < spec.training.batch_size:
                raise UserError(
                    f"{where}: training.batch_size {spec.training.batch_size}: the data have {examples} examples; "
                    f"lower it or raise the fraction (now {fraction(spec):g})"
                )
            if spec.privacy is not None:
                privacy.check(spec, examples, where)


def _check_shares(spec: FederatedRunSpec, dataset: DatasetSpec, where: str) -> None:
    """Raises UserError where a federation wants more examples than the data set has, by the registry."""
    try:
        if dataset.examples is not None:
            require_enough(spec, dataset.examples)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def fraction(spec: Trainable) -> float:
    """The share of the training data that is used."""
    return getattr(spec, DATA_PART[spec.task]).fraction


def tokens(spec: RunSpec, dataset: DatasetSpec) -> int | None:
    """Tokens of the whole training file by the registry: characters (bytes) or words; None where silent."""
    if spec.corpus.unit == "word":
        return dataset.words
    return dataset.files[dataset.roles.train].bytes if dataset.kind == "text" else None


def expected_examples(spec: Trainable, dataset: DatasetSpec) -> int | None:
    """Training records by the registry: windows of a text (without canaries; of a federation one user's), images,
    pairs; None where silent.
    """
    if isinstance(spec, RunSpec):
        size = tokens(spec, dataset)
        return None if size is None else int(size * spec.corpus.fraction) // spec.training.sequence_length
    if isinstance(spec, FederatedTextRunSpec):
        whole = min(dataset.files[dataset.roles.train].bytes, spec.data.characters)
        return whole // spec.data.users // spec.training.sequence_length
    if dataset.examples is None:
        return None
    if isinstance(spec, FederatedRunSpec):
        return spec.data.users * spec.data.examples_per_user
    if isinstance(spec, ClassifierRunSpec):
        return sizes(spec.data, dataset.examples)[0]
    return int(dataset.examples * fraction(spec))


def require_writable(folders: Iterable[str | Path]) -> None:
    """Make `folders` where they are not there. Raises UserError for one in which no file can be made: a run would fail
    in its first job, and say so less clearly.
    """
    for folder in map(Path, folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"-")
        except OSError as error:
            known = contracts.disk_error(error, folder)
            other = UserError(f"{folder}: no file can be made in it ({error.strerror}): mend that and run it again")
            raise (known if isinstance(known, UserError) else other) from error
