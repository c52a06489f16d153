"""Every figure of the paper draws from full, tiny and gappy tables, and says what is missing."""

import importlib.util

import pytest
import synthetic_tables as synthetic
from matplotlib.text import Text
from papers_paths import PAPERS

from memorization import plotting, tidy

FOLDER = PAPERS / "secret_sharer"
SPEC = importlib.util.spec_from_file_location("secret_sharer_plots", FOLDER / "plots.py")
plots = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(plots)

FULL = {
    "tab01_most_likely_fills": synthetic.finished,
    "fig02_log_perplexity_distribution": synthetic.finished,
    "fig07_exposure_per_batch": lambda _, n: synthetic.per_batch(n, batches=4),
    "fig08_overtraining": lambda _, n: synthetic.per_epoch(n, epochs=7),
    "fig09_search_tree": lambda _, n: synthetic.tree(),
    "fig10_search_cost": lambda key, n: synthetic.searches(key, 6 * n),
    "fig11_extraction_threshold": lambda key, n: synthetic.searches(key, 6 * n),
}
"""Key -> made-up table of so many models (fig10, fig11: six times as many)."""


def draw(key, table):
    return getattr(plots, key)(table, tidy.read_reference(FOLDER / "reference.csv", key))


def words(figure):
    cells = [cell.get_text() for axes in figure.axes for table in axes.tables for cell in table.get_celld().values()]
    return " ".join(t.get_text() for t in figure.findobj(Text) + cells)


@pytest.mark.parametrize("key", FULL)
@pytest.mark.parametrize("models", [1, 3])
def test_draws(key, models):
    figure = draw(key, FULL[key](key, models))
    if models == 3:
        figure.set_dpi(40)
        figure.canvas.draw()
    assert figure.get_figwidth() <= plotting.WIDTH
    assert "paper" in words(figure)


@pytest.mark.parametrize("key", [k for k in FULL if k != "fig09_search_tree"])
@pytest.mark.parametrize("method", ["exact", "skew_normal"])
def test_survives_a_missing_method(key, method):
    table = FULL[key](key, 2)
    lacking = table[table["method"] != method] if "method" in table else table
    text = words(draw(key, lacking))
    if method == "exact" and key in ("fig10_search_cost", "fig11_extraction_threshold"):
        assert "exact exposure" in text
    if method == "exact" and key == "tab01_most_likely_fills":
        assert "walk not finished: 2" in text


@pytest.mark.parametrize("key", [k for k in FULL if k != "fig09_search_tree"])
def test_survives_single_sources(key):
    table = FULL[key](key, 2)
    for source in table["source"].unique():
        draw(key, table[table["source"] == source])


@pytest.mark.parametrize("key", FULL)
def test_caption_exists_and_names_the_scale(key):
    text = (FOLDER / "captions" / f"{key}.rst").read_text()
    assert 'snakemake.config["scale"]' in text
    assert "Paper" in text or "paper" in text


def test_fig09_shows_the_computed_values():
    text = words(draw("fig09_search_tree", synthetic.tree()))
    assert all(value in text for value in ("1.474 bits", "4.644 bits", "1.737 bits", "paper 1.47 (verified)"))


def test_fig10_marks_lower_bounds_and_the_full_walk():
    text = words(draw("fig10_search_cost", synthetic.searches("fig10_search_cost", 40)))
    assert "111,111,111" in text
    assert "lower bound: canary not reached" in text


def test_fig11_says_how_many_outcomes_are_open():
    table = synthetic.searches("fig11_extraction_threshold", 30)
    table.loc[(table["source"] == "extraction") & (table["replicate"] == 0), ["extracted", "provable"]] = False
    unfinished = (table["method"] == "exact") & (table["replicate"] == 0)
    table.loc[unfinished, ["algorithm", "rank", "rank_low", "rank_high"]] = ["bounds", None, 1, 10**9]
    text = words(draw("fig11_extraction_threshold", table))
    assert "not drawn: 6 (outcome not certain)" in text


def test_tab01_shows_ranks_that_are_only_bounded_or_estimated():
    table = synthetic.finished("tab01_most_likely_fills", 3)
    unfinished = (table["method"] == "exact") & (table["replicate"] == 0)
    table.loc[unfinished, ["algorithm", "rank", "rank_low", "rank_high"]] = ["bounds", None, 40, 10**6]
    text = words(draw("tab01_most_likely_fills", table))
    assert "exact rank: 1 in 2 of 2" in text
    assert "walk not finished: 1" in text
    assert "rank by importance sampling, 95 %" in text


def test_tab01_keeps_leading_zeros():
    table = synthetic.finished("tab01_most_likely_fills", 1)
    table.loc[(table["source"] == "top") & (table["position"] == 2), "fill"] = "000000007"
    assert "000000007" in words(draw("tab01_most_likely_fills", table))


def test_fig08_draws_no_mean_over_the_models_whose_walk_was_short():
    table = synthetic.per_epoch(3, epochs=7)
    assert "single models" not in words(draw("fig08_overtraining", table))
    dropped = (table["method"] == "exact") & (table["replicate"] == 0) & (table["epoch"] < 5)
    figure = draw("fig08_overtraining", table[~dropped])
    assert "exact, single models" in words(figure)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["exact, n = 3"].get_xdata().tolist() == [5, 6, 7]
    assert set(lines["exact, single models"].get_xdata()) == {0, 1, 2, 3, 4}
