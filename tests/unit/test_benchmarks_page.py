"""The benchmarks' table, plots and page from invented timings; what is declared for `snakemake benchmarks`."""

import bench_adapters
import bench_page
import bench_plots
import bench_table
import numpy as np
import pytest
from comparisons import PATH, SIZES, Comparison, load

from memorization.errors import UserError

ABOUT = {"device": "cpu", "hardware": "a machine", "versions": "torch 1", "commit": "abc", "date": "2026-01-01"}
STEP = Comparison(
    key="step", title="A step", what="What.", base="theirs", item="step", unit="steps", backends=("torch", "tf")
)
GROWTH = Comparison(
    key="growth", title="Growth (of it)", what="What.", base="theirs", item="character", unit="characters",
    group=("batch", "units"), grows="batch", lines="units", remarks=("A remark.",), below_half={"ours": "of its gates"},
)  # fmt: skip
RECORD = {"quick": False, "seconds": 90, "absent": {"step/tf": "not built"}, "overhead": {}}


def line(benchmark, way, seconds, items=1, **sizes):
    return {"benchmark": benchmark, "way": way, "seconds": seconds, "items": items, **sizes}


def step_lines():
    return [line("step", "theirs", [2.0, 4.0], 10), line("step", "ours, quick", [1.5, 1.0, 2.0], 10)]


def growth_lines():
    """Ours: half the time per character at units 8, three times at 16, whatever the batch."""
    found = []
    for batch in (2, 4):
        for units, factor in ((8, 0.5), (16, 3.0)):
            found.append(line("growth", "theirs", [1.0 * batch], 10 * batch, batch=batch, units=units))
            share = {"matrix_fraction": 0.7 if units == 8 else 0.3}
            found.append(line("growth", "ours", [factor * batch], 10 * batch, batch=batch, units=units) | share)
    return found


@pytest.fixture
def table():
    return bench_table.tidy(bench_table.rows(step_lines() + growth_lines(), "torch", ABOUT), (STEP, GROWTH))


def test_ratios_are_of_time_per_item_to_the_base_of_the_same_sizes(table):
    ours = table[table["way"] == "ours, quick"].iloc[0]
    assert (ours["seconds_min"], ours["seconds_median"], ours["repeats"]) == (1.0, 1.5, 3)
    assert (ours["ratio"], ours["ratio_median"], ours["per_second"]) == (0.5, 0.5, 10.0)
    grown = table[(table["benchmark"] == "growth") & (table["way"] == "ours")]
    expected = {(2, 8): 0.5, (2, 16): 3, (4, 8): 0.5, (4, 16): 3}
    assert grown.set_index(["batch", "units"])["ratio"].to_dict() == pytest.approx(expected)
    assert bench_table.faults(table, (STEP, GROWTH), RECORD["absent"]) == []


def test_items_count_where_they_differ():
    rows = [line("step", "theirs", [1.0], 10), line("step", "ours", [1.0], 40)]
    table = bench_table.tidy(bench_table.rows(rows, "torch", ABOUT), (STEP,))
    assert table.set_index("way")["ratio"].to_dict() == {"theirs": 1.0, "ours": 0.25}


def test_further_rounds_are_further_repeats_and_undeclared_lines_are_left_out():
    rows = bench_table.rows([*step_lines(), *step_lines(), line("other", "x", [1.0]), {"note": 1}], "torch", ABOUT)
    table = bench_table.tidy(rows, (STEP,))
    assert table.set_index("way")["repeats"].to_dict() == {"theirs": 4, "ours, quick": 6}


def test_parts_have_a_base_each():
    both = STEP.model_copy(update={"group": ("part",)})
    rows = [line("step", w, [s], part=p) for p, w, s in
            (("a", "theirs", 1.0), ("a", "ours", 2.0), ("b", "theirs", 4.0), ("b", "ours", 1.0))]  # fmt: skip
    table = bench_table.tidy(bench_table.rows(rows, "torch", ABOUT), (both,))
    assert table[table["way"] == "ours"].set_index("part")["ratio"].to_dict() == {"a": 2.0, "b": 0.25}


def test_a_table_survives_the_disk(table, tmp_path):
    bench_table.write(table, tmp_path / "benchmarks.csv")
    read = bench_table.read(tmp_path / "benchmarks.csv")
    assert list(read.columns) == bench_table.COLUMNS
    np.testing.assert_allclose(read["ratio"], table["ratio"], rtol=1e-4)
    assert bench_table.faults(read, (STEP, GROWTH), RECORD["absent"]) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t[t["benchmark"] != "growth"], "growth (torch): needs 'theirs' and another way"),
        (lambda t: t[t["way"] != "ours, quick"], "step (torch): needs"),
        (lambda t: t.assign(seconds_min=np.nan), "finite and positive"),
        (lambda t: t.assign(seconds_min=-1.0), "finite and positive"),
        (lambda t: t.assign(seconds_median=1e-9), "above its median"),
        (lambda t: t.assign(ratio=2 * t["ratio"]), "base is not 1"),
        (lambda t: t.assign(ratio=np.where(t["way"] == "ours", 5.0, t["ratio"])), "do not follow from the times"),
        (lambda t: t.assign(ratio=np.where(t["way"] == "ours", np.nan, t["ratio"])), "without a base"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(table, spoil, said):
    found = bench_table.faults(spoil(table), (STEP, GROWTH), RECORD["absent"])
    assert any(said in line for line in found), found


def test_a_back_end_that_is_missing_without_a_reason_is_a_fault(table):
    assert any(line.startswith("step (tf): needs") for line in bench_table.faults(table, (STEP, GROWTH), {}))


def test_the_page_says_base_machine_ratios_and_what_is_missing(table):
    page = bench_page.page(table, (STEP, GROWTH), RECORD)
    assert "[A step](#a-step) | PyTorch | theirs (per step) | ours, quick: 0.5 × |" in page
    assert "](#growth-of-it) | PyTorch | theirs (per character) | ours: 0.5 to 3 × |" in page
    assert "| a machine | torch 1 | `abc` | 2026-01-01 |" in page
    assert "*Not measured with TensorFlow: not built.*" in page
    assert "| 16 | 2 | 10, 1 × | 3.33, 3 × |" in page
    assert "- A remark." in page
    assert "![A step](step.png)" in page
    assert "mean nothing" not in page
    assert "mean nothing" in bench_page.page(table, (STEP, GROWTH), RECORD | {"quick": True})


def test_the_page_names_what_is_slower_and_what_is_below_half(table):
    page = bench_page.page(table, (STEP, GROWTH), RECORD)
    assert "- Growth (of it), batch 2, units 16: theirs is 3 times as fast as ours." in page
    assert "units 8: theirs" not in page
    assert "| ours [1] | batch 2: 70%, 2: 30%, 4: 70%, 4: 30% |" in page
    assert "1. of its gates" in page


def test_nothing_slower_is_said_too():
    table = bench_table.tidy(bench_table.rows(step_lines(), "torch", ABOUT), (STEP,))
    assert "Nowhere in this run" in bench_page.page(table, (STEP,), RECORD)


@pytest.mark.parametrize(
    ("seconds", "text"), [(3e-9, "3 ns"), (2.5e-4, "250 µs"), (0.02, "20 ms"), (12.0, "12 s"), (7.2e3, "2 h"),
                          (1e6, "11.6 days")]
)  # fmt: skip
def test_durations(seconds, text):
    assert bench_plots.duration(seconds) == text


@pytest.mark.parametrize("comparison", [STEP, GROWTH], ids=["bars", "growth"])
def test_plots_show_every_way(table, comparison):
    figure = bench_plots.draw(table[table["benchmark"] == comparison.key], comparison)
    shown = {t.get_text() for axes in figure.axes for t in axes.get_yticklabels()}
    shown |= {t.get_text() for legend in figure.legends for t in legend.get_texts()}
    expected = {"theirs", "ours, quick"} if comparison is STEP else {"ours, 8 units", "theirs, 16 units (1 ×)"}
    assert expected <= shown


def test_measurements_of_the_walk_become_ways_and_ranks_that_were_not_found_are_left_out():
    rates = dict.fromkeys(bench_adapters.WAYS, 100.0) | {"walk_candidates": 8000.0, "fraction_of_product_rate": 0.4}
    printed = [{"measurement": name, "x": "", "value": value} for name, value in rates.items()]
    for digits, rank in ((3, 1.0), (4, float("nan"))):
        printed += [{"measurement": "pruned_rank_seconds", "x": digits, "value": 0.5},
                    {"measurement": "pruned_rank", "x": digits, "value": rank}]  # fmt: skip
    lines = bench_adapters.lines("bench_walk", printed)
    ratio = {one["way"]: one["seconds"][0] / one["items"] for one in lines if one["benchmark"] == "exact_walk"}
    assert ratio["our model, prefix cached"] / ratio["ours, the walk"] == pytest.approx(80)
    grown = [(one["way"], one["space"], one["seconds"]) for one in lines if one["benchmark"] == "walk_growth"]
    assert grown == [("ours, branch and bound", 1000, [0.5]), (bench_adapters.ENUMERATION, 1000, [10.0])]


def test_every_declared_script_is_there_and_measures_what_is_declared():
    scripts, comparisons = load()
    assert {one.key for one in comparisons if not one.optional} == {
        key for script in scripts for key in script.measures
    }
    for script in scripts:
        assert (PATH.parent / script.file).exists()
    for comparison in comparisons:
        assert set(comparison.group) <= {*SIZES, "backend", "part"}
        assert {comparison.grows, comparison.lines} <= {*SIZES, ""}
        measuring = {s.environment for s in scripts if comparison.key in s.measures}
        assert measuring == set(comparison.backends) or comparison.optional
    assert len({comparison.title for comparison in comparisons}) == len(comparisons)


def test_a_comparison_that_no_script_measures_is_refused(tmp_path):
    text = PATH.read_text().replace("measures: [classifiers]", "measures: []")
    (tmp_path / "comparisons.yaml").write_text(text)
    with pytest.raises(UserError, match=r"declared or measured only: \['classifiers'\]"):
        load(tmp_path / "comparisons.yaml")


def test_a_steps_parts_tell_the_devices_rate_and_give_trainings_their_share_of_it():
    step = {"part": "step", "flops": 4e9, "seconds": 2.0, "rate": 2e9, "of_peak": 0.25, "units": 8, "batch": 2}
    printed = [{"part": "product", "shape": "2 x 3 x 4", "flops": 1e9, "seconds": 0.5},
               {"part": "everything else", "seconds": -0.1}, step]  # fmt: skip
    parts = bench_adapters.lines("matrix_rate", [one | {"replicates": 1} for one in printed])
    assert [one["way"] for one in parts] == ["the whole step", bench_adapters.LARGE, "product (2 x 3 x 4)"]
    line = {"name": "training", "variant": "ours", "seconds": 2.0, "median_seconds": 3.0, "repeats": 5, "batch": 2}
    (trained,) = bench_adapters.lines("bench_training", [line | {"items_per_s": 50.0, "flops": 8e9}])
    assert (trained["items"], trained["seconds_median"]) == (100.0, 3.0)
    rows = bench_table.rows([*parts, trained], "torch", ABOUT)
    shares = {row["way"]: row["matrix_fraction"] for row in bench_adapters.with_fractions(rows)}
    assert shares[bench_adapters.LARGE] == pytest.approx(1)
    assert shares["ours"] == pytest.approx(0.5)  # 8e9 operations in 2 s, of 8e9 a second
    assert shares["the whole step"] == pytest.approx(0.25)


def test_growth_is_told_by_replicates_at_the_first_units_and_by_units_at_the_first_replicates():
    told = {"name": "growth", "variant": "ours", "seconds": 1.0, "median_seconds": 1.0, "repeats": 2, "batch": 2}
    printed = [told | {"items_per_s": 10.0, "flops": 1.0, "replicates": r, "units": u}
               for r, u in ((1, 200), (2, 200), (1, 400), (2, 400))]  # fmt: skip
    lines = bench_adapters.lines("bench_training_growth", printed)
    found = [(one["benchmark"], one["replicates"], one["units"]) for one in lines]
    assert found.count(("training_replicates", 2, 200)) == found.count(("training_units", 1, 400)) == 1
    assert len(found) == 4  # 1 x 200 in both, 2 x 400 in neither
