"""What a plan would cost: counted operations, rates from recorded jobs, and predictions beside what was recorded."""

import functools
import json

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from memorization import costs
from memorization.costing import counts, display, rates, records
from memorization.data.registry import registry
from memorization.errors import UserError
from memorization.expansion import dataset_names, expand

DATASETS = registry(ROOT / "config" / "datasets.yaml")


@functools.cache
def plan_of(scale, *figures):
    """Of everything, or of figures of the Secret Sharer's in PyTorch; each once: reading YAML takes seconds."""
    only = {"papers": ["secret_sharer"], "figures": list(figures), "backends": ["torch"]} if figures else {}
    return expand(costs.configured(scale).model_copy(update=only), dataset_names())


@pytest.fixture(scope="module")
def recorded():
    return records.read()


@pytest.fixture(scope="module")
def reduced():
    return plan_of("reduced")


@functools.cache
def jobs_at(scale):
    figures = plan_of(scale).figures.values()
    return {key: job for figure in figures for key, job in costs.jobs_of(figure, DATASETS).items()}


def test_counts_of_a_training_by_hand():
    plan = plan_of("reduced", "fig08_overtraining")
    (spec,) = plan.runs.values()
    found = counts.training(spec, DATASETS["ptb"])
    tokens = DATASETS["ptb"].files["ptb.train.txt"].bytes * spec.corpus.fraction * spec.training.epochs
    assert found["steps"] == pytest.approx(tokens * spec.replicates / spec.training.batch_size * 2)
    # Two LSTM layers of 200 units with one bias vector per direction, on inputs of 154, and 50 outputs.
    per_token = 800 * (154 + 200 + 2) + 800 * (200 + 200 + 2) + 50 * 201
    assert found["products"] == pytest.approx(tokens * spec.replicates * per_token / 1e9)
    assert found["moments"] == spec.replicates * (spec.training.epochs + 1)
    assert counts.weights(spec, DATASETS["ptb"]) == per_token + 50 * 154


def test_twice_the_epochs_are_twice_the_work():
    """In every task, of what grows with training."""
    for spec in {spec.task: spec for spec in plan_of("paper").runs.values()}.values():
        if spec.task == "federated_text":
            spec = spec.model_copy(update={"relearn_rounds": 0})
        tree = spec.model_dump()
        tree["training"]["rounds" if "rounds" in tree["training"] else "epochs"] *= 2
        if "requests" in tree:
            tree["requests"] = tuple({**request, "rounds": 2 * request["rounds"]} for request in tree["requests"])
        dataset = DATASETS[spec.dataset]
        once, twice = (counts.training(s, dataset) for s in (spec, type(spec).model_validate(tree)))
        assert twice["products"] == pytest.approx(2 * once["products"]), spec.task
        assert twice["steps"] == pytest.approx(2 * once["steps"]), spec.task


def test_every_job_of_every_scale_can_be_described_and_has_work():
    for scale in costs.SCALES:
        jobs = jobs_at(scale)
        assert all(np.isfinite([job[name] for name in job if name in records.COUNTED]).all() for job in jobs.values())
        assert all(job["products"] > 0 for job in jobs.values() if job["kind"] == "train")


def made_up(rate=0.5, n=12):
    """Jobs of two classes that take `rate` and three times as much per unit of products, and 4 s each before that."""
    rows = []
    for i in range(n):
        for backend, factor in (("torch", 1), ("tf", 3)):
            about = {"kind": "train", "task": "text", "backend": backend, "architecture": "lstm", "private": False}
            about |= {"unit": "character", "run": f"{i}{backend}", "part": "", "scale": "reduced", "device": "cpu"}
            counted = {"job": 1.0, "replicates": 1.0, "products": float(i + 1) ** 2}
            sizes = {"weights_mb": i + 1.0, "models_mb": i + 1.0, "batch_mb": 0.0}
            took = factor * (4 + rate * counted["products"])
            measured = {"seconds": took, "memory_mb": 300 + 8.0 * (i + 1), "disk_mb": 1 + (i + 1.0)}
            rows.append({**about, "hardware": "h", **measured, **counted, **sizes})
    return pd.DataFrame(rows, columns=records.COLUMNS)


def test_rates_find_what_made_the_records_and_extrapolate():
    table = made_up()
    model = rates.Model(table)
    far = table.iloc[0].to_dict() | {"products": 1e5, "models_mb": 1e4, "run": "far"}
    assert model.seconds(far) == pytest.approx(4 + 0.5 * 1e5, rel=0.02)
    assert model.seconds(far | {"backend": "tf"}) == pytest.approx(3 * (4 + 0.5 * 1e5), rel=0.02)
    assert model.memory_mb(far) == pytest.approx(300 + 6 * 1 + 2 * 1e4)
    assert model.disk_mb(far) == pytest.approx(1e4, rel=0.02)
    # An architecture without records borrows its back end's level; a task without any is not guessed.
    assert model.seconds(far | {"architecture": "gru"}) == pytest.approx(4 + 0.5 * 1e5, rel=0.02)
    assert np.isnan(model.seconds(far | {"task": "image"}))


def test_a_slower_machine_is_told():
    own = made_up(n=6)
    own["seconds"] *= 2.5
    assert costs.speed(own, made_up()) == pytest.approx(2.5, rel=0.02)
    assert np.isnan(costs.speed(own.iloc[:2], made_up()))


def test_own_records_count_at_the_recorded_machines_speed():
    own = made_up(n=6)
    own["seconds"] *= 2.5
    known = made_up()
    assert costs.converted(own, known)["seconds"].to_numpy() == pytest.approx(made_up(n=6)["seconds"], rel=0.02)
    few = costs.converted(own.iloc[:2], known)  # too few to tell the speed: their seconds would be of another machine
    assert few["seconds"].isna().all()
    assert few["memory_mb"].tolist() == own["memory_mb"].iloc[:2].tolist()
    gpu = own.assign(device="gpu")
    assert costs.converted(gpu, known)["seconds"].tolist() == gpu["seconds"].tolist()
    assert not len(costs.converted(own.iloc[:0], known))


def test_a_machine_three_times_slower_changes_the_ratio_and_no_hours(recorded, monkeypatch):
    config = costs.configured().model_copy(update={"papers": ["secret_sharer"], "figures": ["fig08_overtraining"]})
    monkeypatch.setattr(costs, "own_records", lambda *_: recorded.iloc[:0])
    alone, unknown = costs.overview(config)
    slow = recorded[recorded["task"] == "text"].assign(seconds=3 * recorded["seconds"])
    monkeypatch.setattr(costs, "own_records", lambda *_: slow)
    with_own, slower = costs.overview(config)
    assert np.isnan(unknown)
    assert slower == pytest.approx(3, rel=0.1)
    assert with_own["cpu_h"].to_numpy() == pytest.approx(alone["cpu_h"].to_numpy(), rel=0.1)


def test_records_are_of_todays_counts(recorded):
    """Who changes what is counted records anew: `python -m memorization.costs --record results/…`."""
    jobs = jobs_at("reduced")
    own = recorded[recorded["scale"] == "reduced"]
    found = [(row, jobs[key]) for row in own.to_dict("records") if (key := tuple(row[k] for k in costs.KEY)) in jobs]
    assert len(found) > 0.8 * len(own)
    for row, job in found:
        for name in (*records.COUNTED, *records.SIZES):
            want = 0.0 if np.isnan(row[name]) else row[name]
            assert (job.get(name) or 0.0) == pytest.approx(want, rel=1e-3, abs=1e-9), (name, row["run"])


TOLERANCE = {"smoke": (1.5, 3.0), "reduced": (1.5, 3.0)}
"""Scale -> largest factor, either way, between predicted and recorded time: of all figures together, and of three in
four of them."""


@pytest.mark.parametrize("scale", TOLERANCE)
def test_predictions_without_a_figures_own_records_are_near_what_was_recorded(recorded, scale):
    found = costs.check(recorded, plan_of(scale), scale, DATASETS)
    if scale == "smoke" and not len(found):
        pytest.skip("no job of the smoke scale is recorded: python -m memorization.costs --record results/smoke …")
    assert len(found) >= 40
    whole, single = TOLERANCE[scale]
    known = found.dropna(subset=["predicted_h"])  # without its own records nothing is left of a task of one figure
    together = known["predicted_h"].sum() / known["recorded_h"].sum()
    assert 1 / whole < together < whole, display.check_table(found, scale)
    off = np.exp(np.abs(np.log(found["ratio"])))
    assert np.percentile(off.fillna(np.inf), 75) < single, display.check_table(found, scale)


def test_the_table_has_every_figure_and_counts_what_is_shared_once(recorded, reduced):
    table = costs.table(reduced, costs.Estimator(recorded), DATASETS)
    assert list(table["figure"]) == [*(key for _, key in reduced.figures), "all"]
    figures, whole = table.iloc[:-1], table.iloc[-1]
    assert 0 < whole["cpu_h"] < figures["cpu_h"].sum()
    assert whole["trainings"] == len({key for key in jobs_at("reduced") if key[0] == "train"})
    assert whole["memory_gb"] == pytest.approx(figures["memory_gb"].max())
    assert whole["disk_gb"] > figures["disk_gb"].max()
    text = display.overview_table(table.assign(scale="reduced"), 1.2)
    assert all(key in text for _, key in reduced.figures)
    assert "one: its own jobs took 1.2 times as long)" in text


def test_records_of_a_results_folder(tmp_path):
    """Two jobs of one run; one of a run that is gone is left out."""
    spec = next(iter(plan_of("smoke", "fig08_overtraining").runs.values()))
    results = tmp_path / "smoke"
    folder = results / "runs" / "torch" / spec.run_id
    folder.mkdir(parents=True)
    environment = {"cpu": "a CPU", "logical_cpus": 2}
    record = {"spec": spec.model_dump(mode="json"), "environment": environment, "device": "cuda:0"}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "model.npz").write_bytes(b"0" * 2_000_000)
    for kind, run in (("train", spec.run_id), ("train", "0" * 12)):
        path = results / "benchmarks" / kind / f"torch-{run}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("s\th:m:s\tmax_rss\n12.5\t0:00:12\t21.5\n")
    log = results / "logs" / "train" / f"torch-{spec.run_id}.log"
    log.parent.mkdir(parents=True)
    log.write_text("finished\npeak memory: 345 MB\n")
    (row,) = records.of_results(results, DATASETS).to_dict("records")
    assert (row["seconds"], row["memory_mb"], row["device"], row["hardware"]) == (12.5, 345, "gpu", "a CPU, 2 CPUs")
    assert row["disk_mb"] == pytest.approx(2.0, abs=0.01)
    cold = results / "benchmarks" / "train" / f"torch-{spec.run_id}.tsv"
    cold.write_text("s\th:m:s\tmax_rss\n12.5\t0:00:12\t400.5\n")
    log.write_text("finished\n")
    (alone,) = records.of_results(results, DATASETS).to_dict("records")
    assert alone["memory_mb"] == 400.5
    assert alone["seconds"] is None or np.isnan(alone["seconds"])
    path = tmp_path / "jobs.csv"
    records.write(pd.DataFrame([row], columns=records.COLUMNS), path)
    (again,) = records.read(path).to_dict("records")
    assert (again["run"], again["private"], again["seconds"]) == (spec.run_id, False, 12.5)
    path.write_text("a,b\n")
    with pytest.raises(UserError, match="record anew"):
        records.read(path)
    with pytest.raises(UserError, match="no records"):
        records.read(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.012"), (12345.6, "12,000"), (1.25, "1.2"), (0, "0"), (float("nan"), "-")]
)
def test_numbers_for_people(value, text):
    assert display.number(value) == text
