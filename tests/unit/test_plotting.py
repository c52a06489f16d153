"""The style sheet's helpers: deterministic files, honest intervals, marks that can be seen."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from memorization import plotting


@pytest.fixture
def axes():
    return plotting.new_figure(2.0).subplots()


def reference(**columns):
    base = {"series": "s", "label": "l", "x": 1.0, "y": 2.0, "mark": "verified", "reading_error": np.nan}
    return pd.DataFrame([{**base, **row} for row in columns["rows"]])


def test_saving_twice_gives_the_same_bytes(tmp_path):
    @plotting.styled
    def draw():
        figure = plotting.new_figure(1.0, width=2.0)
        figure.subplots().plot([1, 2], [3, 4])
        plotting.footer(figure, "scale: smoke " * 60)
        return figure

    for name in ("a", "b"):
        plotting.save(draw(), tmp_path / f"{name}.pdf", tmp_path / f"{name}.png")
    for kind in ("pdf", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pdf", "a.png", "b.pdf", "b.png"]


def test_the_style_does_not_leak():
    before = mpl.rcParams["font.size"]
    plotting.styled(lambda: plotting.new_figure(1.0))()
    assert mpl.rcParams["font.size"] == before


def test_footer_stays_in_two_lines():
    figure = plotting.new_figure(2.0)
    plotting.footer(figure, "word " * 500)
    assert figure.texts[0].get_text().count("\n") == 1
    assert figure.texts[0].get_text().endswith("…")


def test_intervals_need_three_models():
    frame = pd.DataFrame({"x": [0, 0, 1, 1, 1], "y": [1.0, 2.0, 1.0, 2.0, 3.0]})
    found = plotting.intervals(frame, "x", "y")
    assert found["n"].tolist() == [2, 3]
    assert np.isnan(found["low"].iloc[0])
    assert found["low"].iloc[1] < 2 < found["high"].iloc[1]


def test_unverified_values_look_different(axes):
    rows = [{"mark": m, "x": float(i)} for i, m in enumerate(("verified", "verified (v1)", "unverified", "secondary"))]
    plotting.paper(axes, reference(rows=rows), "s", "paper")
    solid, open_ = (c.lines[0] for c in axes.containers)
    assert (solid.get_linestyle(), open_.get_linestyle()) == ("-", "--")
    assert open_.get_markerfacecolor() == "white" != solid.get_markerfacecolor()
    assert axes.get_legend_handles_labels()[1] == ["paper (verified; verified, v1)", "paper (secondary; unverified)"]


def test_points_without_a_position_are_not_drawn(axes):
    plotting.paper(axes, reference(rows=[{"x": np.nan}]), "s", "paper")
    assert not axes.containers


def test_null_band_falls_back_to_the_law(axes):
    plotting.null_band(axes, pd.DataFrame())
    assert "exponential law" in axes.get_legend_handles_labels()[1][0]
