"""Live progress of a workflow: jobs done, running, failed, and an estimate of the time left.

A logging handler for Snakemake's own events. On a terminal it keeps one panel up to date; in a log it prints a plain
line whenever a training, an attack or a figure begins or ends. Everything else Snakemake says is left to it.
"""

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from memorization.classifier_models import multiplications
from memorization.classifier_specs import ClassifierRunSpec
from memorization.data.registry import DatasetSpec
from memorization.expansion import Plan
from memorization.federated_specs import FederatedRunSpec, passes
from memorization.federated_text_specs import FederatedTextRunSpec, characters_met
from memorization.preflight import expected_examples, tokens
from memorization.progress import duration
from memorization.specs import RunSpec, Trainable
from memorization.translation_specs import TranslationRunSpec

PRIOR_SECONDS = {"train": 1.0, "attack": 8.0, "fetch": 5.0, "score": 8.0}
"""Seconds per unit of work before anything has been observed. Replaced by what is measured."""

OTHER_PRIOR_SECONDS = 3.0
"""The same of other rules."""

STARTING_SECONDS = 10.0
"""Of a job of a cluster: two Snakemakes and the imports."""

CHARACTERS_PER_SECOND = 20_000
"""Training speed assumed for one core until a training has ended (2 x 200 LSTM)."""

MAILBOX_CHARACTERS = 300_000
"""What the owner of a mailbox has written, before it is read."""

SECONDS_PER_IMAGE_EPOCH = 15.0
"""60,000 MNIST images on one core, before anything has been observed."""

SECONDS_PER_PAIR, SECONDS_PER_PAIR_WEIGHT = 8e-4, 2e-8
"""Of a translator on one core: whatever its size, and for each weight that every token meets."""

SECONDS_PER_MULTIPLICATION = 1.5e-10
"""Of a classifier in training, for every image and multiplication of the forward pass: three passes."""

INPUTS = {"images": 28 * 28, "batches": 3 * 32 * 32, "rows": 500}
"""Kind of data -> features of an example in a federation, roughly."""
SECONDS_PER_PASS, SECONDS_PER_PASS_WEIGHT = 2e-6, 6e-10
"""Of a federation, for every example that a user's model meets in training, and for each of the model's weights."""

SMALL_UNITS, SMALL_CHARACTERS_PER_SECOND = 128, 120_000
"""Of a federated LSTM: units at which a layer's products take as long as all else, and speed without the products."""

BASE_WEIGHTS = 623_000
"""Of the 2 x 200 LSTM."""

QUIET = {"specify", "account", "all"}
"""Rules whose end is not worth a line."""

LONG = {"train", "attack", "score", "fetch"}
"""Rules whose begin is."""

ROUTINE = {"job_info", "job_started", "job_finished", "progress", "run_info", "resources_info", "shellcmd"}
"""Events that the monitor tells in its own way."""


def work(plan: Plan, datasets: dict[str, DatasetSpec]) -> dict[tuple[str, str], float]:
    """(rule, run id) -> units of work: seconds at the assumed speed for trainings, models for attacks."""
    units = {}
    for name, spec in plan.runs.items():
        units["train", name] = max(assumed_seconds(spec, datasets) * spec.replicates, 1.0)
        units["attack", name] = units["score", name] = float(spec.replicates)
    return units


def assumed_seconds(spec: Trainable, datasets: dict[str, DatasetSpec]) -> float:
    """Of one replicate's training, roughly."""
    if isinstance(spec, FederatedRunSpec):
        inputs = spec.data.side**2 if spec.data.side else INPUTS[datasets[spec.dataset].kind]
        widths = [inputs, *(spec.model.units if spec.model.architecture == "mlp" else ()), 10]
        weights = sum(into * out for into, out in pairwise(widths))
        return passes(spec) * (SECONDS_PER_PASS + weights * SECONDS_PER_PASS_WEIGHT)
    if isinstance(spec, FederatedTextRunSpec):
        dataset = datasets[spec.dataset]
        met = characters_met(spec, dataset.files[dataset.roles.train].bytes)
        return met * (1 + spec.model.layers * spec.model.units**2 / SMALL_UNITS**2) / SMALL_CHARACTERS_PER_SECOND
    epochs = min(spec.training.epochs, 12.0) if spec.training.patience else spec.training.epochs
    if isinstance(spec, TranslationRunSpec):
        pairs = (datasets[spec.dataset].examples or 0) * spec.pairs.fraction
        numbers = spec.model.units * (14 * spec.model.layers * spec.model.units + spec.pairs.vocabulary)
        return epochs * pairs * (SECONDS_PER_PAIR + numbers * SECONDS_PER_PAIR_WEIGHT)
    if isinstance(spec, ClassifierRunSpec):
        dataset = datasets[spec.dataset]
        images = (expected_examples(spec, dataset) or 0) * spec.data.subset
        side, channels = (32, 3) if dataset.kind == "batches" else (spec.data.side or 28, 1)
        return epochs * images * multiplications(spec.model, (channels, side, side)) * SECONDS_PER_MULTIPLICATION
    if not isinstance(spec, RunSpec):
        return epochs * SECONDS_PER_IMAGE_EPOCH * (2 if spec.privacy else 1)
    dataset = datasets[spec.dataset]
    whole = (tokens(spec, dataset) or 0) if dataset.kind == "text" else MAILBOX_CHARACTERS
    size = (spec.model.units / 200) ** 2 * spec.model.layers / 2
    if spec.corpus.unit == "word":  # the softmax over the vocabulary counts for more than the layers
        size += spec.model.units * (spec.corpus.vocabulary or whole // 100) / BASE_WEIGHTS
    return whole * spec.corpus.fraction * epochs * size / CHARACTERS_PER_SECOND


@dataclass
class Job:
    """A job that has begun."""

    rule: str
    message: str
    units: float
    began: float = field(default_factory=lambda: time.monotonic())

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began


class Estimator:
    """Time left from units of work per rule; seconds per unit are learned from the jobs that end."""

    def __init__(self, units: dict[tuple[str, str], float], cores: int, queued: bool = False) -> None:
        """queued: jobs wait in a cluster's queue after they have begun, so that how long one took says little."""
        self.units = units
        self.cores = max(cores, 1)
        self.queued = queued
        self.began = time.monotonic()
        self.assumed_done = 0.0
        self.waiting: Counter[str] = Counter()
        self.running: dict[int, Job] = {}
        self.seen: dict[str, list[float]] = {}

    def begin(self, number: int, rule: str, run: str, message: str) -> Job:
        job = self.running[number] = Job(rule, message, self.units.get((rule, run), 1.0))
        self.waiting[rule] -= 1
        return job

    def end(self, number: int, learn: bool = True) -> Job | None:
        job = self.running.pop(number, None)
        if job and learn:
            total = self.seen.setdefault(job.rule, [0.0, 0.0])
            total[0] += job.elapsed
            total[1] += job.units
            self.assumed_done += self.assumed(job.rule, job.units)
        return job

    @staticmethod
    def assumed(rule: str, units: float) -> float:
        """Seconds of a job before anything has been observed, its start included."""
        return STARTING_SECONDS + units * PRIOR_SECONDS.get(rule, OTHER_PRIOR_SECONDS)

    def rate(self, rule: str) -> float:
        """Seconds per unit of work."""
        seconds, units = self.seen.get(rule, (0.0, 0.0))
        return seconds / units if units else PRIOR_SECONDS.get(rule, OTHER_PRIOR_SECONDS)

    def seconds_left(self) -> float:
        """All remaining work shared by the cores, but no less than the longest running job still needs."""
        if self.queued:
            return self.seconds_left_as_so_far()
        of_running = [max(j.units * self.rate(j.rule) - j.elapsed, 1.0) for j in self.running.values()]
        waiting = sum(max(n, 0) * self.rate(rule) * self.mean_units(rule) for rule, n in self.waiting.items())
        return max([(sum(of_running) + waiting) / self.cores, *of_running])

    def seconds_left_as_so_far(self) -> float:
        """Assumed seconds of what has not ended, at the pace of what has: of a queue nothing else is known."""
        of_running = sum(self.assumed(job.rule, job.units) for job in self.running.values())
        waiting = sum(max(n, 0) * self.assumed(rule, self.mean_units(rule)) for rule, n in self.waiting.items())
        pace = (time.monotonic() - self.began) / self.assumed_done if self.assumed_done else 1 / self.cores
        return (of_running + waiting) * pace

    def mean_units(self, rule: str) -> float:
        sizes = [units for (other, _), units in self.units.items() if other == rule] or [1.0]
        return sum(sizes) / len(sizes)


def routine(record: logging.LogRecord) -> bool:
    """Whether Snakemake's own terminal can spare `record`: what the monitor says, and notes without an event."""
    event = str(getattr(record, "event", "") or "")
    return record.levelno < logging.WARNING and (event in ROUTINE or not event)


def attach(logger: logging.Logger, monitor: "Monitor", dry_run: Callable[[], bool]) -> None:
    """Add `monitor` to Snakemake's logger once, and leave its terminal handler only what is not routine.

    The log file in .snakemake/log keeps everything. Until jobs are planned, and in a dry run (known only after
    parsing), Snakemake speaks as ever.
    """
    if any(type(handler) is Monitor for handler in logger.handlers):
        return
    for handler in logger.handlers:
        if getattr(handler, "name", "") == "DefaultStreamHandler":
            handler.addFilter(lambda record: dry_run() or not monitor.total or not routine(record))
    monitor.addFilter(lambda record: not dry_run())
    logger.addHandler(monitor)


class Monitor(logging.Handler):
    """A handler of Snakemake's events: see `attach`."""

    def __init__(
        self,
        units: dict[tuple[str, str], float],
        cores: int,
        console: Console | None = None,
        queued: bool = False,
    ) -> None:
        super().__init__(logging.INFO)
        self.estimator = Estimator(units, cores, queued)
        self.console = console or Console(stderr=True)
        self.total = self.done = 0
        self.broken: set[int] = set()
        self.live: Live | None = None

    def emit(self, record: logging.LogRecord) -> None:
        event = str(getattr(record, "event", "") or "")
        action = getattr(self, f"on_{event}", None)
        if action:
            try:
                action(record)
            except Exception:
                self.handleError(record)

    def on_run_info(self, record: logging.LogRecord) -> None:
        stats = {rule: int(count) for rule, count in record.stats.items() if rule != "total"}
        self.estimator.waiting.update(stats)
        self.total = sum(stats.values())
        if self.console.is_terminal and self.live is None:
            self.live = Live(get_renderable=self._panel, console=self.console, refresh_per_second=2, transient=True)
            self.live.start()

    def on_job_info(self, record: logging.LogRecord) -> None:
        wildcards = dict(getattr(record, "wildcards", None) or {})
        message = getattr(record, "rule_msg", None) or record.rule_name
        self.broken.discard(record.jobid)  # a job that failed is tried again
        job = self.estimator.begin(record.jobid, record.rule_name, wildcards.get("run", ""), message)
        if job.rule in LONG:
            self._say(f"started   {job.message}", job.rule)

    def on_job_finished(self, record: logging.LogRecord) -> None:
        self.done += 1
        if job := self.estimator.end(record.job_id):
            self._say(f"finished  {job.message} in {duration(job.elapsed)}", job.rule)
        if self.done + len(self.broken) >= self.total:
            self.close()

    def on_job_error(self, record: logging.LogRecord) -> None:
        self.broken.add(record.jobid)
        self.estimator.end(record.jobid, learn=False)

    def close(self) -> None:
        if self.live:
            self.live.stop()
            self.live = None
        super().close()

    def summary(self) -> str:
        """One line: done, running, failed, left."""
        failed = f", {len(self.broken)} failed" if self.broken else ""
        left = duration(self.estimator.seconds_left())
        return (
            f"{self.done} of {self.total} jobs done, {len(self.estimator.running)} running{failed}, about {left} left"
        )

    def _say(self, text: str, rule: str) -> None:
        if self.live is None and rule not in QUIET:
            print(f"{time.strftime('%H:%M:%S')}  {text}  [{self.summary()}]", file=sys.stderr, flush=True)

    def _panel(self) -> Group:
        lines = [
            Text(f"  {duration(job.elapsed):>8}  {job.message}", style="dim") for job in self.estimator.running.values()
        ]
        bar = ProgressBar(total=max(self.total, 1), completed=self.done, width=None)
        return Group(*lines, bar, Text(self.summary(), style="bold"))
