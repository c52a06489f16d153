"""The workflow's progress: what it counts, and how it estimates the time left."""

import io
import logging

import pytest
from rich.console import Console

from memorization import monitor
from memorization.configuration import ROOT, load_config
from memorization.data.registry import registry
from memorization.expansion import dataset_names, expand


def record(event: str, **fields) -> logging.LogRecord:
    made = logging.LogRecord("snakemake", logging.INFO, "", 0, "", None, None)
    made.__dict__.update(event=event, **fields)
    return made


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(monitor.time, "monotonic", lambda: now[0])
    return now


def test_time_left_is_learned_from_finished_work(clock, capsys):
    units = {("train", "a"): 10.0, ("train", "b"): 30.0}
    watch = monitor.Monitor(units, cores=1, console=Console(file=io.StringIO()))
    watch.emit(record("run_info", stats={"train": 2, "total": 2}))
    watch.emit(record("job_info", jobid=1, rule_name="train", wildcards={"run": "a"}, rule_msg="Training a"))
    clock[0] = 20.0
    watch.emit(record("job_finished", job_id=1))
    watch.emit(record("job_info", jobid=2, rule_name="train", wildcards={"run": "b"}, rule_msg="Training b"))
    # 10 units took 20 s, so 30 units take 60 s, of which 15 have passed.
    clock[0] = 35.0
    assert watch.estimator.seconds_left() == pytest.approx(45.0)
    assert watch.summary() == "1 of 2 jobs done, 1 running, about 45 s left"
    assert "finished  Training a in 20 s" in capsys.readouterr().err


def test_a_failed_job_is_counted_and_teaches_nothing(clock):
    watch = monitor.Monitor({}, cores=2, console=Console(file=io.StringIO()))
    watch.emit(record("run_info", stats={"figure": 2, "total": 2}))
    watch.emit(record("job_info", jobid=1, rule_name="figure", wildcards={}, rule_msg="Drawing"))
    watch.emit(record("job_error", jobid=1))
    assert "1 failed" in watch.summary()
    assert not watch.estimator.seen


def test_a_job_that_is_tried_again_has_not_failed(clock):
    watch = monitor.Monitor({}, cores=2, console=Console(file=io.StringIO()))
    watch.emit(record("run_info", stats={"figure": 2, "total": 2}))
    info = record("job_info", jobid=1, rule_name="figure", wildcards={}, rule_msg="Drawing")
    for event in (info, record("job_error", jobid=1), info, record("job_finished", job_id=1)):
        watch.emit(event)
    assert watch.summary().startswith("1 of 2 jobs done, 0 running, about")


def test_time_left_of_a_queue_is_told_by_its_pace(clock):
    """What waits in a queue has begun as far as Snakemake knows: 100 s after its submission it has not worked 100 s."""
    units = {("train", name): 20.0 for name in "abcd"}
    watch = monitor.Monitor(units, cores=100, console=Console(file=io.StringIO()), queued=True)
    watch.emit(record("run_info", stats={"train": 4, "total": 4}))
    for number, name in enumerate("abc"):
        watch.emit(record("job_info", jobid=number, rule_name="train", wildcards={"run": name}, rule_msg="Training"))
    clock[0] = 100.0
    watch.emit(record("job_finished", job_id=0))
    # A quarter of equal jobs took 100 s; two wait in the queue, one has not been submitted.
    assert watch.estimator.seconds_left() == pytest.approx(300.0)


def test_errors_and_warnings_are_never_hidden():
    assert monitor.routine(record("job_finished"))
    assert monitor.routine(record(""))
    assert not monitor.routine(record("job_error"))
    warning = record("")
    warning.levelno = logging.WARNING
    assert not monitor.routine(warning)


def test_every_run_of_the_plan_has_work():
    plan = expand(load_config({"scale": "reduced"}), dataset_names())
    units = monitor.work(plan, registry(ROOT / "config" / "datasets.yaml"))
    assert {run for rule, run in units if rule == "train"} == set(plan.runs)
    assert all(value >= 1 for value in units.values())
