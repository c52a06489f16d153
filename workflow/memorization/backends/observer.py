"""Exposure measured while training (Secret Sharer Figs 7 and 8)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from memorization import contracts
from memorization.backends.base import LanguageModel
from memorization.canaries import CanaryFormat
from memorization.data.corpora import TrainingCorpus, canary_windows
from memorization.specs import RunSpec
from memorization.streams import stream


class Observer:
    """Asks memorization.exposure for each replicate's exposure and collects the rows of measures.csv.

    Controls and references are drawn once per replicate, so that a curve over time compares like with like.
    """

    def __init__(self, spec: RunSpec, corpora: Sequence[TrainingCorpus]):
        self.spec, self.corpora, self.every = spec, corpora, spec.measure.every
        self.columns = list(contracts.columns("measures"))
        self.rows: dict[str, list[Any]] = {column: [] for column in self.columns}
        self._formats = [CanaryFormat.parse(c.canary.format or spec.canary.format, c.vocabulary.words) for c in corpora]
        self._holding = [canary_windows(c.canary.positions, spec.training.sequence_length) for c in corpora]
        self._fills: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def fills(self, replicate: int) -> tuple[np.ndarray, np.ndarray]:
        """Controls and references, int64[n, holes] each."""
        if replicate not in self._fills:
            inserted, measure, fmt = self.corpora[replicate].canary.fill, self.spec.measure, self._formats[replicate]
            self._fills[replicate] = tuple(
                fmt.sample(stream(self.spec.seed, replicate, f"measure-{kind}"), count, exclude=inserted)
                for kind, count in (("controls", measure.controls), ("references", measure.references))
            )
        return self._fills[replicate]

    def holds_canary(self, replicate: int, windows: np.ndarray) -> bool:
        """Whether an insertion lies in one of these windows of the training text."""
        return bool(np.isin(windows, self._holding[replicate]).any())

    def measure(
        self, model: LanguageModel, replicate: int, step: int, epoch: float, moment: str, holds_canary: bool
    ) -> None:
        """Add the rows of one model at one moment."""
        from memorization import exposure

        controls, references = self.fills(replicate)
        frame = exposure.measure(
            model,
            self._formats[replicate],
            self.corpora[replicate].canary.fill,
            controls,
            references,
            exact_steps=self.spec.measure.exact_steps,
            bootstrap=0,
            rng=stream(self.spec.seed, replicate, f"measure-{step}"),
        )
        frame = frame.assign(replicate=replicate, step=step, epoch=epoch, moment=moment, holds_canary=holds_canary)
        for column, values in frame[self.columns].to_dict("list").items():
            self.rows[column] += values
