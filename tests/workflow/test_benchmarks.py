"""`snakemake benchmarks` in a fresh copy of the repository: all of it runs, the page is complete. No time is judged."""

import json
import subprocess

import bench_table
import pytest
from comparisons import load

from conftest import borrow, snakemake

CLOSED = "http://127.0.0.1:9"
OFFLINE = {"HTTP_PROXY": CLOSED, "HTTPS_PROXY": CLOSED, "http_proxy": CLOSED, "https_proxy": CLOSED, "NO_PROXY": None}
QUICK = ("benchmarks=quick", "scale=smoke", "backends=[torch]")
"""TensorFlow's ways are compiled for half a minute: they are left to who measures."""


@pytest.fixture(scope="module")
def measured(clone, built, tmp_path_factory):
    """The folder in which the benchmarks ran, without network and mirror."""
    place = borrow(clone, built, tmp_path_factory.mktemp("benchmarks") / "repository")
    ended = snakemake(
        place, "--cores", "1", "benchmarks", "--workflow-profile", "none", "--config", *QUICK,
        MEMORIZATION_DATA=None, **OFFLINE,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]
    return place


def test_every_declared_comparison_is_in_the_table_with_ratios_that_follow_from_its_times(measured):
    results, (_, comparisons) = measured / "results" / "benchmarks", load()
    absent = json.loads((results / "record.json").read_text())["absent"]
    assert set(absent.values()) <= {"this back end was not asked for"}
    assert bench_table.faults(bench_table.read(results / "benchmarks.csv"), comparisons, absent) == []


def test_the_page_has_every_comparison_and_its_plot(measured):
    results = measured / "results" / "benchmarks"
    page = (results / "README.md").read_text()
    for comparison in (one for one in load()[1] if not one.optional):
        assert f"\n## {comparison.title}\n" in page
        if comparison.plot:
            assert f"]({comparison.key}.png)" in page
            assert (results / f"{comparison.key}.png").read_bytes()[:4] == b"\x89PNG"
    assert "Not measured with TensorFlow" in page
    assert str(measured) not in page


def test_no_committed_file_is_touched_and_nothing_is_trained_or_drawn_for_it(measured):
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=measured, capture_output=True, text=True, check=True)
    # The borrowed environments are links, which .gitignore's folders do not match.
    assert [line for line in changed.stdout.splitlines() if not line.endswith(".venv")] == []
    assert not list(measured.glob("results/*/runs"))
    assert not list(measured.glob("results/*/report.html"))
