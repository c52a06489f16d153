"""What is recorded of classifiers in training, by any back end: details.csv, and when a replicate has fitted.

A Closer Look at Memorization, sections 3 to 5. Pure NumPy: groups hand out losses and predictions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from memorization import difficulty, filters
from memorization.backends.details import ALL, Details
from memorization.classifier_specs import ClassifierRunSpec
from memorization.data.labelled import LabelledData, own_examples
from memorization.streams import stream

MANY = 10
"""With more replicates what happens to single examples is recorded as the mean over replicates."""
RESAMPLES = 200
"""Of runs, for the intervals of variance ratios."""


class ClassifierGroup(Protocol):
    """What a group (`backends.base.Group`) of classifiers can do besides; arrays' leading axis is its `members`."""

    members: list[int]

    def outcomes(self, examples: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Losses float64[R, N] in nats and predicted classes int64[R, N] of the (leading) training examples, with
        their given labels, in evaluation.
        """
        ...

    def fits(self, asked: np.ndarray) -> np.ndarray:
        """bool[R]: all own training examples are classified as their given labels, in evaluation; False where
        bool[R] `asked` is. May stop looking as soon as no asked one can fit.
        """
        ...

    def critical(self, epoch: int) -> Mapping[tuple[str, str], np.ndarray]:
        """(measure, part) -> float64[R] or, of single images, [R, N]: critical samples (`spec.measure.critical`)."""
        ...

    def weights_of(self, member: int) -> dict[str, np.ndarray]:
        """As of any group."""
        ...


def log_spaced(times: int, last: int) -> frozenset[int]:
    """At most `times` whole numbers from 1 to `last`, evenly spaced by their logarithms."""
    return frozenset(np.unique(np.rint(np.geomspace(1, max(last, 1), times)).astype(int)).tolist())


class Recorder:
    """Of all replicates of a run. `extras` add rows of their own when training has ended."""

    def __init__(
        self, spec: ClassifierRunSpec, data: LabelledData, extras: Sequence[Callable[[Details], None]] = ()
    ) -> None:
        self.spec, self.data, self.extras = spec, data, extras
        self.details = Details()
        last = math.ceil(spec.training.epochs)
        times = spec.measure.evaluations
        self._evaluated = frozenset(range(last + 1)) if times is None else log_spaced(times, last)
        critical = spec.measure.critical
        self._searched = log_spaced(critical.times, last) if critical else frozenset()
        self.examples = min(spec.measure.examples, len(data.train))
        shape = (spec.replicates, self.examples)
        self.fitted = np.full(spec.replicates, np.nan)
        self.ends = np.zeros((spec.replicates, 2))
        self.correct = np.zeros(shape, dtype=bool)
        self.learned = np.full(shape, np.nan)
        self.forgotten = np.zeros(shape)

    def due(self, group: ClassifierGroup, epoch: int, last: bool) -> bool:
        """Note which members have fitted after epoch 0, 1, ...; returns whether an evaluation is due."""
        rows = np.array(group.members)
        waiting = np.isnan(self.fitted[rows])
        if epoch and waiting.any():
            self.fitted[rows[group.fits(waiting)]] = epoch
        return epoch == 0 or last or epoch in self._evaluated or bool(self.finished(group))

    def finished(self, group: ClassifierGroup) -> set[int]:
        """The members that are not to be trained further."""
        if not self.spec.training.stop_when_fit:
            return set()
        return {member for member in group.members if not np.isnan(self.fitted[member])}

    def record(
        self,
        group: ClassifierGroup,
        epoch: int,
        step: int,
        passed: float,
        last: bool,
        validation: Mapping[str, np.ndarray] | None,
    ) -> None:
        """Add the rows of one group after epoch 0, 1, ..., that is `passed` epochs and `step` mini-batches.

        validation: `loss_nats` and `accuracy`, float64[R] each; None where no evaluation is due.
        """
        now = {"step": step, "epoch": passed}
        self.ends[group.members] = step, passed
        whole = validation is not None
        if whole or self.examples:
            losses, predicted = group.outcomes(None if whole else self.examples)
            self._follow(group.members, epoch, predicted[:, : self.examples])
        if whole:
            for name, values in validation.items():
                if len(self.data.validation):
                    self.details.add(name, "validation", values, replicate=group.members, **now)
            self._add_training(group.members, losses, predicted, now)
        if self.spec.measure.critical and (epoch == 0 or last or epoch in self._searched):
            for (measure, part), values in group.critical(epoch).items():
                if values.ndim == 1:
                    self.details.add(measure, part, values, replicate=group.members, **now)
                elif last:
                    items, members = np.arange(values.shape[1]), np.array(group.members)[:, None]
                    self.details.add(measure, part, values, replicate=members, item=items, **now)
        if epoch == 0 or last or self.finished(group):
            self._add_filters(group, epoch, last, now)

    def _add_training(
        self, members: Sequence[int], losses: np.ndarray, predicted: np.ndarray, now: dict[str, Any]
    ) -> None:
        """Accuracy and loss on the own training examples, and on those that are clean or not."""
        own = np.stack([self._own(member) for member in members])
        noise = self.data.corrupted
        for part, mask, labels in (
            ("train", own, self.data.given),
            ("clean", own & ~noise, self.data.given),
            ("corrupted", own & noise, self.data.given),
            ("corrupted_true", own & noise, self.data.true),
        ):
            count = mask.sum(axis=1)
            if part == "train" or (noise.any() and count.all()):
                right = ((predicted == labels) & mask).sum(axis=1) / count
                self.details.add("accuracy", part, right, replicate=members, **now)
                if part != "corrupted_true":  # these losses are against the given labels
                    mean = np.where(mask, losses, 0).sum(axis=1) / count
                    self.details.add("loss_nats", part, mean, replicate=members, **now)

    def _own(self, member: int) -> np.ndarray:
        """bool[N]: the examples that a replicate is trained on."""
        own = np.zeros(len(self.data.train), dtype=bool)
        own[own_examples(self.spec, member, len(own))] = True
        return own

    def _follow(self, members: Sequence[int], epoch: int, predicted: np.ndarray) -> None:
        """Keep up with the leading examples: which are right now, since when, and how often that was lost."""
        right = predicted == self.data.given[: self.examples]
        if epoch:
            self.forgotten[members] += self.correct[members] & ~right
            first = right & np.isnan(self.learned[members])
            self.learned[members] = np.where(first, epoch, self.learned[members])
            self.correct[members] = right

    def _add_filters(self, group: ClassifierGroup, epoch: int, last: bool, now: dict[str, Any]) -> None:
        """First-layer filters before training and after it (Fig 2)."""
        count = self.spec.measure.filters
        done = group.members if last or epoch == 0 else sorted(self.finished(group))
        for member in done if count else ():
            weight = group.weights_of(member)["conv1.weight"].transpose(0, 2, 3, 1)
            part = "trained" if epoch else "init"
            for name, value in (
                ("filter_tv", filters.total_variation(weight).mean()),
                ("filter_low_frequency", filters.low_frequency_share(weight).mean()),
            ):
                self.details.add(name, part, value, replicate=member, **now)
            shown = weight[:count].reshape(min(count, len(weight)), -1)
            items, others = np.indices(shown.shape)
            self.details.add("filter", part, shown, replicate=member, item=items, other=others, **now)

    def write(self, directory: Path) -> None:
        """Add what the whole training says, and write directory/details.csv."""
        for replicate, (value, (step, epoch)) in enumerate(zip(self.fitted, self.ends, strict=True)):
            self.details.add("fitted_epoch", "train", value, replicate=replicate, step=step, epoch=epoch)
        if self.examples:
            self._add_examples()
        for extra in self.extras:
            extra(self.details)
        self.details.write(directory)

    def _add_examples(self) -> None:
        """What became of each of the leading examples."""
        now = {"step": int(self.ends[:, 0].max()), "epoch": self.ends[:, 1].max()}
        items = np.arange(self.examples)
        shown = slice(self.examples)
        for name, part, values in (
            ("label", "given", self.data.given),
            ("label", "true", self.data.true),
            ("corrupted", "train", self.data.corrupted),
        ):
            self.details.add(name, part, values[shown], item=items, **now)
        fates = {"correct": self.correct, "learned_epoch": self.learned, "forgetting_events": self.forgotten}
        replicates = np.arange(len(self.correct))[:, None]
        for name, values in fates.items():
            if len(values) <= MANY:
                self.details.add(name, "train", values, replicate=replicates, item=items, **now)
            elif name != "correct":
                # Never learned: NaN, for the mean then has no value.
                self.details.add(name, "train", values.mean(axis=0), item=items, **now)
        self.details.add("p_correct", "train", self.correct.mean(axis=0), item=items, **now)
        self._add_spread(now)
        if self.spec.data.subset < 1:
            self._add_memorisation(items, now)

    def _add_spread(self, now: dict[str, Any]) -> None:
        """Variance ratios of p_correct (Fig 1): item -1 the runs' own, 0, 1, ... of resampled runs."""
        if len(self.correct) < MANY:
            return
        rng = stream(self.spec.seed, 0, "resample-runs")
        found = difficulty.spread(self.correct, self.data.given[: self.examples], RESAMPLES, rng)
        for name, one, many in (
            ("variance_ratio", found.ratio, found.ratios),
            ("variance_ratio_within", found.within, found.withins),
        ):
            self.details.add(name, "train", np.append(one, many), item=np.arange(-1, len(many)), **now)

    def _add_memorisation(self, items: np.ndarray, now: dict[str, Any]) -> None:
        """Feldman and Zhang 2020: how much likelier an example is right when it was trained on."""
        held = np.stack([self._own(k)[: self.examples] for k in range(len(self.correct))])
        with np.errstate(invalid="ignore"):
            inside = (self.correct & held).sum(axis=0) / held.sum(axis=0)
            outside = (self.correct & ~held).sum(axis=0) / (~held).sum(axis=0)
        counts = held.sum(axis=0)
        self.details.add("memorisation", "train", inside - outside, replicate=ALL, item=items, other=counts, **now)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        kept = ("fitted", "ends", "correct", "learned", "forgotten")
        return {name: getattr(self, name).copy() for name in kept} | {"parts": list(self.details.parts)}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.details.parts = list(state["parts"])
        for name in state.keys() - {"parts"}:
            setattr(self, name, state[name])
