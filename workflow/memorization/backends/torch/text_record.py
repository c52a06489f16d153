"""What is written down of federations of language models: exposure of the canary, losses; rows of details.csv."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from memorization.backends.details import Details
from memorization.backends.torch.architectures import language_model
from memorization.backends.torch.text_federation import TextHoldings
from memorization.backends.torch.unlearning import Moment
from memorization.canaries import CanaryFormat
from memorization.federated_text_specs import FederatedTextRunSpec
from memorization.search.tree import Tree
from memorization.search.walk import Rank, rank_in


class TextRecord:
    """Ranks canaries and adds what it finds to `details`."""

    def __init__(self, spec: FederatedTextRunSpec, holdings: TextHoldings, details: Details) -> None:
        self.spec, self.holdings, self.details = spec, holdings, details
        self._format = CanaryFormat.parse(spec.canary.format)

    def ranks(self, models: Tensor) -> list[Rank]:
        """The exact rank of every replicate's canary among all fills, by its global model of [R, P]."""
        found = []
        arrays = self.holdings.models.arrays(models)
        for k, own in enumerate(self.holdings.shares):
            model = language_model(self.spec.model, {name: a[k] for name, a in arrays.items()}, own.vocabulary)
            tree = Tree.plant(model, self._format.tokens(own.vocabulary))
            found.append(rank_in(tree, own.fill, max_steps=self.spec.measure.walk_steps))
        return found

    def state_of(self, models: Tensor, *, item: int, step: int) -> None:
        """Exposure, rank and log-perplexity of the canary, and the test loss."""
        found = self.ranks(models)
        self._add("exposure_bits", "", [rank.exposure_bits for rank in found], item, step)
        self._add("canary_rank", "", [rank.rank for rank in found], item, step)
        bits = [rank.cost_bits + rank.prefix_cost_bits for rank in found]
        self._add("canary_log_perplexity_bits", "", bits, item, step)
        self._add("loss_nats", "test", self.holdings.test_losses(models), item, step)

    def request(self, item: int, moments: Iterator[Moment]) -> Tensor:
        """Everything about one request; returns the models [R, P] that it ends with."""
        request = self.spec.requests[item]
        shown = self.due(request.rounds)
        for moment in moments:
            models = moment.members[:, 0]
            if request.method in ("retrain", "federaser") or moment.step in shown:
                self.state_of(models, item=item, step=moment.step)
            self._add("seconds_client", "", np.full(len(models), moment.seconds_client), item, moment.step)
            self._add("seconds_all", "", np.full(len(models), moment.seconds_all), item, moment.step)
            if moment.divergence is not None:
                self._add("kl_to_target", "forget", moment.divergence, item, moment.step)
        return models

    def relearned(self, models: Tensor, *, item: int, step: int) -> None:
        """Exposure when the text has been back for `step` rounds."""
        self._add("exposure_relearned", "", [rank.exposure_bits for rank in self.ranks(models)], item, step)

    def due(self, rounds: int) -> set[int]:
        """After which of so many rounds exposure is measured: at most spec.measure.rounds, the last included."""
        count = min(rounds, self.spec.measure.rounds)
        return set(np.linspace(0, rounds, count + 1).round().astype(int)[1:].tolist())

    def _add(self, measure: str, part: str, values, item: int, step: int) -> None:
        epoch = float(step * self.spec.training.local_epochs)
        replicates = np.arange(len(values))
        self.details.add(measure, part, values, step=step, epoch=epoch, replicate=replicates, item=item)
