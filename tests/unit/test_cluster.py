"""What jobs ask a scheduler for, and the comparison with what they took."""

import itertools

import pytest

from memorization import cluster
from memorization.configuration import ROOT, load_config
from memorization.costing import rates, records
from memorization.data.registry import registry
from memorization.errors import UserError
from memorization.expansion import dataset_names, expand
from memorization.specs import AttackSpec


@pytest.fixture(scope="module")
def datasets():
    return registry(ROOT / "config" / "datasets.yaml")


@pytest.fixture(scope="module")
def plan():
    return expand(load_config({"scale": "reduced", "figures": ["fig11_extraction_threshold"]}), dataset_names())


def test_every_attempt_asks_for_more_memory_and_time():
    assert [cluster.memory_mb("reduced", attempt) for attempt in (1, 2, 3)] == [3000, 6000, 9000]
    assert cluster.memory_mb("paper", 1) > cluster.memory_mb("smoke", 1)
    asked = [cluster.minutes("smoke", 600, attempt) for attempt in (1, 2, 3)]
    assert asked == [50, 100, 150]


@pytest.fixture(scope="module")
def paper():
    return expand(load_config({"scale": "paper"}), dataset_names())


def test_no_job_of_the_papers_sizes_is_expected_to_need_more_than_it_asks_for(paper, datasets):
    """Beside `costs`, which adds what recorded jobs held beyond what is counted."""
    model = rates.Model(records.read())
    for figure in paper.figures.values():
        for cell in figure.cells:
            row = records.described("train", cell.backend, cell.run, None, datasets[cell.run.dataset])
            asked = cluster.memory_mb("paper", 1, cluster.counted_mb(cell.run, datasets, "train"))
            assert asked > model.memory_mb(row), (figure.key, cell.run.run_id)
    large = max(cluster.counted_mb(spec, datasets, "train") for spec in paper.runs.values())
    assert cluster.memory_mb("paper", 1, large) > 3 * cluster.memory_mb("paper", 1)


def test_advice_names_what_a_day_does_not_finish(paper, plan, datasets):
    without, long = cluster.advice(paper, datasets)
    assert "device=cuda" in without
    assert "fig04_utility" in long
    assert "fig08_overtraining" not in long
    assert cluster.advice(plan, datasets) == []


def test_no_job_asks_for_more_time_than_a_partition_gives():
    assert cluster.minutes("reduced", 1e7, 1) == cluster.minutes("reduced", 1e7, 3) == 24 * 60
    assert cluster.minutes("smoke", 0, 1) < cluster.minutes("paper", 0, 1) == cluster.OTHER_STARTING_MINUTES


def test_an_attack_may_need_its_whole_budget(plan):
    spec = next(iter(plan.runs.values()))
    small, large = (AttackSpec(exact_steps=steps) for steps in (1_000, 40_000_000))
    more = cluster.attack_seconds(spec, large) - cluster.attack_seconds(spec, small)
    assert more == pytest.approx(spec.replicates * (40_000_000 - 1_000) / cluster.STATES_PER_SECOND)


@pytest.mark.parametrize(("scale", "groups"), [("smoke", {"cell"}), ("reduced", {"cell", None}), ("paper", {None})])
def test_short_trainings_are_submitted_with_what_follows_and_long_ones_are_not(datasets, scale, groups):
    runs = expand(load_config({"scale": scale}), dataset_names()).runs
    assert {cluster.group(scale, spec, datasets) for spec in runs.values()} == groups


def benchmarks(folder, plan, datasets, seconds, megabytes):
    """Benchmark files as Snakemake writes them: a training and an attack of the plan's first run."""
    cell = next(cell for figure in plan.figures.values() for cell in figure.cells if cell.attack)
    for rule, name in (("train", ""), ("attack", f"-{cell.attack.attack_id}")):
        path = folder / "benchmarks" / rule / f"{cell.backend}-{cell.run.run_id}{name}.tsv"
        path.parent.mkdir(parents=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:00\t{megabytes}\n")
    return cell


def test_recorded_jobs_are_compared_with_what_they_would_have_asked_for(tmp_path, plan, datasets):
    cell = benchmarks(tmp_path, plan, datasets, 36_000.0, 1200.5)
    table = cluster.compare(tmp_path, plan, datasets, "reduced").set_index("rule")
    assert list(table["jobs"]) == [1, 1]
    assert list(table["in_time"]) == [0.0, 0.0]
    assert list(table["most_mb"]) == [1200.5, 1200.5]
    assert table.loc["train", "ratio"] == pytest.approx(36_000 / cluster.training_seconds(cell.run, datasets))
    assert table.loc["attack", "longest_min"] == 600


@pytest.mark.parametrize("megabytes", [21.5, "-"])
def test_memory_of_a_waiting_client_is_not_taken_for_a_jobs(tmp_path, plan, datasets, megabytes):
    benchmarks(tmp_path, plan, datasets, 1.0, megabytes)
    table = cluster.compare(tmp_path, plan, datasets, "reduced")
    assert list(table["measured_mb"]) == [0, 0]
    assert list(table["in_time"]) == [1.0, 1.0]


def test_a_folder_without_benchmarks_is_named(tmp_path, plan, datasets, capsys):
    with pytest.raises(UserError, match="no benchmarks of runs of scale reduced"):
        cluster.compare(tmp_path, plan, datasets, "reduced")
    assert cluster.main([str(tmp_path), "reduced"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_constants_leave_room_over_what_was_measured():
    """The largest peaks of the comment, in MB: a change of a constant must keep them below."""
    around = 400
    for scale, peak in (("smoke", 707), ("reduced", 1365), ("paper", 3006)):
        assert cluster.memory_mb(scale, 1) > 1.25 * (peak + around), scale
    limits = [cluster.minutes("paper", seconds, 1) for seconds in (1, 60, 600, 6_000)]
    assert all(later > earlier for earlier, later in itertools.pairwise(limits))
