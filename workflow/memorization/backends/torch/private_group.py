"""Private training of one replicate: Poisson batches, clipped sums (private.py), and Opacus for noise and update."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memorization.backends.torch.group import Group
from memorization.backends.torch.lstm import Dropout
from memorization.backends.torch.optimizers import BETAS, DECAY, EPSILON
from memorization.backends.torch.private import Clipper
from memorization.data.corpora import TrainingCorpus
from memorization.privacy_file import Mechanism
from memorization.sampling import poisson_batches, shuffled_batches
from memorization.specs import OptimisationSpec, RunSpec
from memorization.streams import stream


class PrivateOptimizer:
    """torch.optim's SGD, RMSprop or Adam inside Opacus' optimiser, which adds the noise and divides by the batch size.

    Per step the update is that of (sum + N(0, (noise_multiplier * clip)^2)) / mechanism.batch_size, with the sum of
    clipped gradients that `step` is given. `accountant` is Opacus' RDP accountant, told of every step: a second opinion
    on privacy.csv. The noise is an ordinary pseudo-random generator's, not a cryptographic one's, as in TF Privacy.
    """

    def __init__(self, parameters: Sequence[Tensor], training: OptimisationSpec, mechanism: Mechanism) -> None:
        # Imported here: it takes seconds, and only private training needs it.
        from opacus.accountants import RDPAccountant
        from opacus.optimizers import DPOptimizerFastGradientClipping

        self.parameters = list(parameters)
        self.generator = torch.Generator(self.parameters[0].device)
        options = {
            "rmsprop": (torch.optim.RMSprop, {"alpha": DECAY, "eps": EPSILON}),
            "adam": (torch.optim.Adam, {"betas": BETAS, "eps": EPSILON}),
            "sgd": (torch.optim.SGD, {}),
        }
        kind, constants = options[training.optimizer]
        rates = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
        # The class for ghost clipping: it takes clipped sums as they are instead of clipping per-example gradients.
        self.optimizer = DPOptimizerFastGradientClipping(
            kind(self.parameters, **rates, **constants),
            noise_multiplier=mechanism.noise_multiplier,
            max_grad_norm=mechanism.clip,
            expected_batch_size=mechanism.batch_size,
            loss_reduction="mean",
            generator=self.generator,
        )
        self.accountant = RDPAccountant()
        self.optimizer.attach_step_hook(self.accountant.get_optimizer_hook_fn(mechanism.sample_rate))

    def seed(self, rng: np.random.Generator) -> None:
        """Draw the noise from here on from a generator seeded by `rng`."""
        self.generator.manual_seed(int(rng.integers(2**63)))

    def step(self, sums: Sequence[Tensor]) -> None:
        """One update from the parameters' sums of clipped gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        for parameter, gradient in zip(self.parameters, sums, strict=True):
            parameter.grad = gradient
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: torch.optim's moments, and the accountant's history."""
        moments = self.optimizer.state_dict()["state"]
        return {"moments": moments, "history": [list(entry) for entry in self.accountant.history]}

    def restore(self, state: dict[str, Any], rows: Tensor | None = None) -> None:
        """The inverse of `state`; with `rows` (the replicates that are kept) empty there is nothing to do."""
        if rows is not None and not len(rows):
            return
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["moments"], "param_groups": groups})
        self.accountant.history = [tuple(entry) for entry in state["history"]]


class PrivateGroup(Group):
    """One replicate in private training. Opacus draws one noise tensor per parameter from one generator, so that
    replicates in one block could not have noise of their own."""

    def __init__(
        self,
        spec: RunSpec,
        members: Sequence[int],
        corpora: Sequence[TrainingCorpus],
        device: torch.device,
        mechanism: Mechanism,
    ):
        """`mechanism` is what privacy.csv says. Raises ValueError for more than one member."""
        if len(members) != 1:
            raise ValueError(f"{len(members)} replicates in a private group: each needs its own (`blocks`)")
        self.mechanism = mechanism
        self._clipper = Clipper(spec.model.layers)
        super().__init__(spec, members, corpora, device)

    def _make_optimizer(self) -> PrivateOptimizer:
        return PrivateOptimizer(self.parameters, self.spec.training, self.mechanism)

    @property
    def batches(self) -> int:
        """Steps per epoch, as accounted for."""
        return self.mechanism.steps_per_epoch

    def _batches(self, epoch: int, batches: int) -> Iterator[np.ndarray]:
        """int64[B]: the windows of each of the epoch's first `batches` steps; with Poisson sampling B varies."""
        if self.spec.privacy.sampling == "shuffle":
            return islice(shuffled_batches(self.order(epoch)[0], self.mechanism.batch_size), batches)
        rng = stream(self.spec.seed, self.members[0], f"poisson-{epoch}")
        return poisson_batches(rng, self.data["train"].count, self.mechanism.sample_rate, batches)

    def train_epoch(self, epoch: int, batches: int) -> Iterator[np.ndarray]:
        """As `Group.train_epoch`; a step without windows still adds noise. An epoch without any has loss NaN."""
        self.optimizer.seed(stream(self.spec.seed, self.members[0], f"noise-{epoch}"))
        dropout, total, seen = self._dropout(epoch), torch.zeros(1, dtype=torch.float64, device=self.device), 0
        for rows in self._batches(epoch, batches):
            total += self._private_update(torch.from_numpy(rows)[None].to(self.device), dropout)
            seen += len(rows)
            yield rows[None]
        self.epoch_loss = (total / seen).cpu().numpy() if seen else np.full(1, np.nan)

    def _private_update(self, rows: Tensor, dropout: Dropout | None) -> Tensor:
        """One step of the optimiser; returns the sum of the windows' mean losses, float64[1]."""
        inputs, targets = self.data["train"].batch(rows)
        clipped = self._clipper(self.weights, inputs, targets, self.mechanism.clip, dropout)
        self.optimizer.step([clipped.gradients[name] for name, w in self.weights.items() if w.requires_grad])
        return clipped.losses.double().sum(1)
