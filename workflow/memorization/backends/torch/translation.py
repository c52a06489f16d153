"""Translators in the PyTorch back end: training, and the log-perplexity of sentence pairs by teacher forcing."""

from collections.abc import Iterator, Sequence
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch

from memorization import weights as weight_files
from memorization.backends import checkpoint
from memorization.backends.torch.group import arrays, tensors
from memorization.backends.torch.optimizers import make_optimizer
from memorization.backends.torch.translator import Dropout, Translator, keep, padded, shapes
from memorization.backends.training import Trainer
from memorization.data.pairs import Lexicons, PairCorpus
from memorization.streams import stream
from memorization.translation_specs import TranslationRunSpec

EVALUATION_PAIRS = 256
"""Pairs per call without gradients."""


class TorchTranslator:
    """One trained translator, as seen by an attack."""

    def __init__(self, module: Translator) -> None:
        self.module = module.eval()

    @torch.no_grad()
    def log_perplexity(self, sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """float64[n]: bits of int64[n, T] `targets` given int64[n, S] `sources`: the sum over the target's tokens of
        -log2 Pr(token | source, tokens before it), without </s> (Secret Sharer Definition 1; teacher forcing).
        """
        device = self.module.output.weight.device
        found = []
        for first in range(0, len(sources), EVALUATION_PAIRS):
            given, wanted = (
                torch.from_numpy(a[first : first + EVALUATION_PAIRS]).to(device) for a in (sources, targets)
            )
            found.append(self.module.costs(given, wanted)[:, :-1].double().sum(1).cpu().numpy() / log(2))
        return np.concatenate(found) if found else np.zeros(0)


class TranslationGroup:
    """One replicate in training: `backends.base.Group`."""

    unit = "nats/token"

    def __init__(self, spec: TranslationRunSpec, member: int, corpus: PairCorpus, device: torch.device) -> None:
        self.spec, self.members, self.corpus, self.device = spec, [member], corpus, device
        self.module = Translator(spec.model, len(corpus.lexicons.source), len(corpus.lexicons.target))
        self.module.initialise(stream(spec.seed, member, "init"))
        self.module.to(device)
        self.lengths = {
            role: np.array([len(s) for s in getattr(corpus, role).sources]) for role in ("train", "validation", "test")
        }
        self._optimise()
        self.total = max(1, round(spec.training.epochs * self.batches))

    def _optimise(self) -> None:
        """A fresh optimiser."""
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(self.parameters, self.spec.training)

    @property
    def batches(self) -> int:
        """Mini-batches per epoch. Each length's last may be smaller: without it an epoch could miss the canary."""
        return len(_cut(self.lengths["train"], np.arange(len(self.corpus.train)), self.spec.training.batch_size))

    def order(self, epoch: int) -> list[np.ndarray]:
        """The mini-batches of epoch 1, 2, ...: numbers of pairs, int64[B] each, of sources of one length.

        Pairs are shuffled before they are cut into batches, and then the batches.
        """
        lengths, size = self.lengths["train"], self.spec.training.batch_size
        if not self.spec.training.shuffle:
            return _cut(lengths, np.arange(len(lengths)), size)
        rng = stream(self.spec.seed, self.members[0], f"shuffle-{epoch}")
        batches = _cut(lengths, rng.permutation(len(lengths)), size)
        return [batches[i] for i in rng.permutation(len(batches))]

    def _dropout(self, epoch: int) -> Dropout:
        """Inverted dropout from a generator seeded per epoch: nothing to store for resuming."""
        rate = self.spec.training.dropout
        if rate == 0:
            return keep
        generator = torch.Generator(self.device)
        generator.manual_seed(int(stream(self.spec.seed, self.members[0], f"dropout-{epoch}").integers(2**63)))
        return lambda values: values * torch.empty_like(values).bernoulli_(1 - rate, generator=generator).div_(1 - rate)

    def train_epoch(self, epoch: int, batches: int) -> Iterator[list[np.ndarray]]:
        """Train on the first `batches` mini-batches; yields after each [its pairs' numbers, int64[B]].

        `epoch_loss` then holds float64[1]: nats per target token, </s> included, of all that was trained on.
        """
        drop, seen = self._dropout(epoch), np.zeros(2)
        self.module.train()
        for number, rows in enumerate(self.order(epoch)[:batches]):
            self.optimizer.rate = self.rate((epoch - 1) * self.batches + number)
            seen += self._update(rows, drop)
            yield [rows]
        self.epoch_loss = np.array([seen[0] / seen[1]])

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, ...; with luong234 as tensorflow/nmt lowers it."""
        training = self.spec.training
        begin = self.total * 2 // 3
        interval = (self.total - begin) // 4
        if training.decay == "none" or step < begin or not interval:
            return training.learning_rate
        return training.learning_rate * 0.5 ** ((step - begin) // interval)

    def _update(self, rows: np.ndarray, drop: Dropout) -> tuple[float, int]:
        """One step of the optimiser on the pairs int64[B] `rows`; returns their summed loss before it, and tokens."""
        self.optimizer.zero_grad()
        costs, tokens = self._costs("train", rows, drop)
        total = costs.sum()
        (total / len(rows)).backward()
        if self.spec.training.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.spec.training.gradient_clip)
        self.optimizer.step()
        return total.item(), tokens

    def _costs(self, role: str, rows: np.ndarray, drop: Dropout = keep) -> tuple[torch.Tensor, int]:
        """Nats [B, t + 1] of some pairs' targets, and how many tokens those are, </s> included."""
        pairs = getattr(self.corpus, role)
        sources, targets = ([side[i] for i in rows.tolist()] for side in (pairs.sources, pairs.targets))
        tokens = sum(len(target) + 1 for target in targets)
        return self.module.costs(padded(sources, self.device), padded(targets, self.device), drop), tokens

    @torch.no_grad()
    def evaluate(self, role: str) -> dict[str, np.ndarray]:
        """Nats per target token, </s> included, on the validation or test pairs."""
        self.module.eval()
        lengths, total = self.lengths[role], np.zeros(2)
        for rows in _cut(lengths, np.arange(len(lengths)), EVALUATION_PAIRS):
            costs, tokens = self._costs(role, rows)
            total += costs.double().sum().item(), tokens
        return {"loss_nats": np.array([total[0] / total[1]]), "accuracy": np.full(1, np.nan)}

    def weights_of(self, member: int) -> dict[str, np.ndarray]:
        """A copy of the replicate's arrays."""
        return arrays(dict(self.module.state_dict()))

    def model(self, member: int) -> TorchTranslator:
        """The replicate as it is now."""
        return TorchTranslator(self.module)

    def drop(self, finished: set[int]) -> None:
        """Stop training."""
        self.members = [member for member in self.members if member not in finished]

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        weights = dict(self.module.state_dict())
        return arrays({"members": self.members, "weights": weights, "optimizer": self.optimizer.state()})

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        state = tensors(state, self.device)
        self.module.load_state_dict(state["weights"])
        self._optimise()
        self.optimizer.restore(state["optimizer"])


def _cut(lengths: np.ndarray, order: np.ndarray, size: int) -> list[np.ndarray]:
    """int64[B <= size] each: `order` in batches of one length, the order within each length kept."""
    ranked = order[np.argsort(lengths[order], kind="stable")]
    groups = np.split(ranked, np.flatnonzero(np.diff(lengths[ranked])) + 1)
    return [group[i : i + size] for group in groups for i in range(0, len(group), size)]


def train_translators(
    spec: TranslationRunSpec, corpora: Sequence[PairCorpus], run_dir: Path, device: torch.device
) -> None:
    """Train all replicates of `spec`; write model.npz, curves.csv and an empty measures.csv into `run_dir`.

    Interrupted, training continues from the checkpoint. On a GPU cuDNN decides whether a repeated run is equal bit by
    bit; on a CPU it is.
    """
    groups = [TranslationGroup(spec, k, corpus, device) for k, corpus in enumerate(corpora)]
    data = [array for c in corpora for part in (c.train, c.validation, c.test) for array in part.arrays()]
    key = checkpoint.fingerprint(spec, data, f"torch {torch.__version__} {device.type}")
    Trainer(spec, groups, run_dir, key).train()


def load_translators(
    run_dir: Path, spec: TranslationRunSpec, lexicons: Lexicons, device: torch.device
) -> list[TorchTranslator]:
    """The trained translators of a finished run, one per replicate. Raises UserError as `weights.load`."""
    sizes = len(lexicons.source), len(lexicons.target)
    stacked = weight_files.load_shaped(run_dir, shapes(spec.model, *sizes))
    models = []
    for k in range(spec.replicates):
        module = Translator(spec.model, *sizes)
        module.load_state_dict({name: torch.from_numpy(np.asarray(a[k])) for name, a in stacked.items()})
        models.append(TorchTranslator(module.to(device)))
    return models
