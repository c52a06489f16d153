"""What is written down of federations and of their requests: rows of details.csv."""

from collections.abc import Iterator, Sequence

import numpy as np

from memorization import forgetting
from memorization.backends.details import Details
from memorization.backends.torch.holdings import Holdings
from memorization.backends.torch.unlearning import Case, History, Moment
from memorization.federated_specs import FederatedRunSpec
from memorization.forgetting import Answers
from memorization.membership import Oracles
from memorization.streams import stream

BASE = -1
"""`item` of the model before any request."""


class Record:
    """Judges models by oracles that were calibrated beforehand, and adds what it finds to `details`."""

    def __init__(
        self, spec: FederatedRunSpec, holdings: Holdings, oracles: Sequence[Oracles], details: Details
    ) -> None:
        self.spec, self.holdings, self.oracles, self.details = spec, holdings, oracles, details
        self.retrained: list[Answers] | None = None
        """Answers of the reference, from the first request for retraining on."""

    def base(self, before: Sequence[Answers], history: History, costs: dict[str, float]) -> None:
        """The trained models; what one federation's training cost (measure -> value); ordinary updates of user 0."""
        for k, answers in enumerate(before):
            rows = forgetting.judge_before(self.oracles[k], answers)
            forgetting.write(self.details, rows, replicate=k, step=0)
        for measure, value in costs.items():
            self._add(measure, "", np.full(len(before), value), item=BASE, step=0)
        self._add_likeness(np.stack(history.norms), np.stack(history.cosines), item=BASE, step=0)

    def request(self, item: int, case: Case, moments: Iterator[Moment], before: Sequence[Answers]) -> None:
        """Everything about one request, round by round."""
        request, looks = self.spec.requests[item], []
        for moment, is_last in _marked(moments):
            answers = self.holdings.answers(moment.members)
            if moment.step == 0:
                before = answers
                self._own_base(item, before)
                continue
            if request.method == "retrain" and self.retrained is None:
                self.retrained = answers
            self._judge(item, moment.step, before, answers, is_last)
            self._distances(item, moment.step, answers)
            self._costs(item, moment)
            if moment.norms is not None:
                looks.append((moment.norms, moment.cosines))
                self._add("update_norm", "user", moment.norms[:, 0], item=item, step=moment.step)
                self._add("update_norm", "others", moment.norms[:, 1:].mean(1), item=item, step=moment.step)
            if is_last and looks:
                self._add_likeness(*(np.stack(part) for part in zip(*looks, strict=True)), item=item, step=moment.step)

    def _own_base(self, item: int, before: Sequence[Answers]) -> None:
        """Of a request that starts from other models than the federation's."""
        for k, answers in enumerate(before):
            rows = forgetting.judge_before(self.oracles[k], answers)
            rows = [row for row in rows if row.measure != "confidence_density"]
            forgetting.write(self.details, rows, replicate=k, step=0, item=item)

    def _judge(self, item: int, step: int, before: Sequence[Answers], after: Sequence[Answers], is_last: bool) -> None:
        name = "retrain" if self.spec.requests[item].method == "retrain" else "after"
        for k, oracles in enumerate(self.oracles):
            rows = forgetting.judge_after(
                oracles,
                before[k],
                after[k],
                stream(self.spec.seed, k, f"bootstrap-{item}"),
                resamples=self.spec.oracle.bootstrap if is_last else 0,
                densities=name if is_last else None,
            )
            forgetting.write(self.details, rows, replicate=k, step=step, epoch=self._epoch(step), item=item)

    def _distances(self, item: int, step: int, answers: Sequence[Answers]) -> None:
        """Mean total variation between the posteriors of the model and of the retrained one."""
        if self.retrained is None:
            return
        for part in ("forget", "test"):
            both = [(np.exp(a[part][0]), np.exp(b[part][0])) for a, b in zip(answers, self.retrained, strict=True)]
            values = [0.5 * np.abs(own - other).sum(1).mean() for own, other in both]
            self._add("output_distance_to_retrain", part, np.array(values), item=item, step=step)

    def _costs(self, item: int, moment: Moment) -> None:
        """Seconds and traffic of one federation. All replicates work side by side, so that each has an equal share of
        one measured time: as many values, but one measurement.
        """
        costs = {
            "seconds_client": moment.seconds_client,
            "seconds_all": moment.seconds_all,
            "messages_per_round": moment.messages,
            "bytes_per_round": moment.bytes,
            "bytes_stored": moment.stored,
        }
        for measure, value in costs.items():
            self._add(measure, "", np.full(self.spec.replicates, value), item=item, step=moment.step)
        for measure, part, values in (
            ("kl_to_target", "forget", moment.divergence),
            ("masked_sum_error", "", moment.mask_error),
        ):
            if values is not None:
                self._add(measure, part, values, item=item, step=moment.step)

    def _add_likeness(self, norms: np.ndarray, cosines: np.ndarray, *, item: int, step: int) -> None:
        """How well the server could tell user 0's updates from the others', of features float64[rounds, R, users]: AUC
        by norm (its being larger) and by cosine with the others (its being smaller). Not with a single user.
        """
        for part, values in (("norm", norms), ("cosine", -cosines)):
            for k in range(values.shape[1]):
                own, others = (v[np.isfinite(v)] for v in (values[:, k, 0], values[:, k, 1:]))
                if len(own) and len(others):
                    self._add("auc_update", part, np.array([forgetting.auc(own, others)]), item=item, step=step, at=k)

    def _add(self, measure: str, part: str, values: np.ndarray, *, item: int, step: int, at: int | None = None) -> None:
        """One value per replicate, or of replicate `at`."""
        replicate = np.arange(len(values)) if at is None else at
        epoch = self._epoch(step)
        self.details.add(measure, part, values, step=step, epoch=epoch, replicate=replicate, item=item)

    def _epoch(self, step: int) -> float:
        """Epochs of the others' local training in so many rounds."""
        return float(step * self.spec.training.local_epochs)


def _marked(moments: Iterator[Moment]) -> Iterator[tuple[Moment, bool]]:
    """Every moment, and whether it is the last."""
    earlier = next(moments, None)
    for moment in moments:
        yield earlier, False
        earlier = moment
    if earlier is not None:
        yield earlier, True
