"""Tables 6 and 7 and the kinds of secrets: tidy rows, verdicts that can go either way, drawings."""

import importlib.util

import numpy as np
import pytest
import synthetic_canaries as synthetic
from matplotlib.text import Text
from papers_paths import PAPERS

from memorization import claims, figures_canaries, tidy, tidy_canaries

DASHES = {"formats": ["ooo-oo-oooo", "o-o-o-o-o-o-o-o-o"], "epoch": 10, "seeds": 10}
PHRASES = {"along": "phrases", "rises": False, "models": 100}
INSERTIONS = {"along": "insertions", "rises": True, "models": 100}


def test(name, table, **parameters):
    return claims.TESTS[name](table, None, **parameters)


test.__test__ = False


def fading(count, times):
    """Fewer of many phrases are extracted, more of often inserted ones."""
    return min(1.0, times / count**0.7)


@pytest.mark.parametrize(("text", "label"), synthetic.FORMATS.items())
def test_formats_are_spelt_as_in_the_paper(text, label):
    assert tidy_canaries.format_label(text) == label


@pytest.mark.parametrize(("text", "kind"), list(zip(synthetic.KINDS, tidy_canaries.KINDS.values(), strict=True)))
def test_kinds_are_recognised(text, kind):
    assert tidy_canaries.kind_of(text) == kind


def test_exposure_of_a_format_is_the_best_that_was_measured():
    table = synthetic.formats(2)
    frame = tidy_canaries.format_exposures(table)
    assert len(frame) == 6 * 2 * 2
    assert set(frame["method"]) == {"importance"}
    table.loc[table["method"] == "importance", "rank"] = 1  # no likelier fill was drawn: only a limit
    frame = tidy_canaries.format_exposures(table)
    assert set(frame["method"]) == {"sampled"}
    assert (frame["bound"] == (frame["bits"] >= 11)).all()
    table.loc[table["method"] == "importance", "exposure_low_bits"] = 12.5
    beyond = tidy_canaries.format_exposures(table).query("bound")
    assert len(beyond)
    assert (beyond["bits"] == 12.5).all()


def test_dashes():
    assert test("format_raises_exposure", synthetic.formats(), **DASHES).verdict_supported is True
    assert test("format_raises_exposure", synthetic.formats(dashes=-4), **DASHES).verdict_supported is False
    assert test("format_raises_exposure", synthetic.formats(dashes=0, noise=2), **DASHES).verdict_supported is None
    assert test("format_raises_exposure", synthetic.formats(12, 0, noise=2), **DASHES).verdict_supported is False
    assert test("format_raises_exposure", synthetic.formats(2), **DASHES).verdict_supported is None
    lacking = synthetic.formats()
    lacking = lacking[~lacking["canary.format"].str.startswith("{d}-")]
    assert "no measurement" in test("format_raises_exposure", lacking, **DASHES).summary


def test_format_effects_are_paired_by_seed():
    frame = tidy_canaries.format_exposures(synthetic.formats(3, dashes=4, noise=0.0))
    effects = tidy_canaries.format_effects(frame, 10.0)
    assert effects.shape == (3, 5)
    np.testing.assert_allclose(effects["ooo-oo-oooo"], 4)
    np.testing.assert_allclose(effects["ooooooooo <e>"], 0)


def test_later_is_more():
    epochs = {"early": 5, "late": 10, "seeds": 10}
    found = test("later_is_more_exposed", synthetic.formats(dashes=0), **epochs)
    assert found.verdict_supported is True
    assert found.estimate == pytest.approx(3, abs=0.5)
    assert test("later_is_more_exposed", synthetic.formats(dashes=0, later=-3), **epochs).verdict_supported is False
    unclear = synthetic.formats(3, dashes=0, later=-0.9, noise=2)
    assert test("later_is_more_exposed", unclear, **epochs).verdict_supported is None
    early = synthetic.formats()
    assert test("later_is_more_exposed", early[early["epoch"] == 5], **epochs).verdict_supported is None


def test_phrases_are_decided_by_proof_or_by_a_likelier_fill():
    frame = tidy_canaries.phrases(synthetic.interference(lambda c, n: 1.0, undecided=1))
    by_count = frame.groupby("phrases")[["extracted", "decided"]].mean()
    assert by_count.loc[1].tolist() == [0, 0]
    assert by_count.loc[10].tolist() == pytest.approx([0.9, 0.9])
    lost = tidy_canaries.phrases(synthetic.interference(lambda c, n: 0.0))
    assert lost["decided"].all()
    assert not lost["extracted"].any()
    shares = tidy_canaries.extractable(synthetic.interference(lambda c, n: 1.0, undecided=1))
    assert shares.loc[shares["phrases"] == 50, ["percent", "most"]].drop_duplicates().to_numpy().tolist() == [[98, 100]]


def test_interference():
    table = synthetic.interference(fading)
    down, up = (test("extractable_share_trend", table, **p) for p in (PHRASES, INSERTIONS))
    assert down.verdict_supported is True
    assert down.high < 0
    assert up.verdict_supported is True
    assert up.low > 0
    rising = synthetic.interference(lambda c, n: 1 - fading(c, n))
    assert test("extractable_share_trend", rising, **PHRASES).verdict_supported is False
    assert test("extractable_share_trend", rising, **INSERTIONS).verdict_supported is False
    flat = synthetic.interference(lambda c, n: 0.5)
    assert test("extractable_share_trend", flat, **PHRASES).verdict_supported is None
    few = synthetic.interference(fading, counts=(1, 10), insertions=(5,), models=2)
    assert "6 models" in test("extractable_share_trend", few, **PHRASES).summary


def test_undecided_phrases_can_leave_interference_open():
    """All phrases of the large cells open: extracted they would contradict, not extracted they would support."""
    table = synthetic.interference(lambda c, n: 1.0 if c == 1 else 0.0, counts=(1, 10), models=4)
    assert test("extractable_share_trend", table, **PHRASES).verdict_supported is True
    table = table[table["source"] == "extraction"]
    open_ended = table["canary.count"] == 10
    table.loc[open_ended, ["best_cost_bits", "algorithm"]] = [np.nan, "shortest_path"]
    found = test("extractable_share_trend", table, **PHRASES)
    assert found.verdict_supported is None
    assert "undecided" in found.summary


def test_intervals_over_models_have_a_width_where_all_models_agree():
    frame = tidy_canaries.extractable(synthetic.interference(lambda c, n: 1.0, models=3))
    found = figures_canaries.cell_interval(frame.loc[(frame["phrases"] == 10) & (frame["insertions"] == 1), "percent"])
    assert found.estimate == 100
    assert found.low < 50


def test_kinds_of_secrets():
    table = synthetic.secrets()
    frame = tidy_canaries.secrets(table)
    assert frame.groupby("kind")["space_bits"].first()["card number"] == pytest.approx(np.log2(1e15))
    assert frame.loc[frame["kind"] == "password", "share"].tolist() == pytest.approx([40 / np.log2(36**8)] * 3)
    assert test("secrets_are_exposed", table, seeds=3).verdict_supported is True
    assert test("secrets_are_exposed", synthetic.secrets(bits=1.0), seeds=3).verdict_supported is False
    assert test("secrets_are_exposed", synthetic.secrets(bits=1.0), seeds=9).verdict_supported is None


def test_queries_for_secrets():
    cheap, dear = synthetic.secrets(bits=60.0), synthetic.secrets(bits=60.0, queries=1e7)
    found = test("secrets_need_few_queries", cheap, orders=4.0, seeds=6)
    assert found.verdict_supported is True
    assert found.estimate == pytest.approx(5, abs=0.5)
    assert test("secrets_need_few_queries", dear, orders=4.0, seeds=6).verdict_supported is False
    none = test("secrets_need_few_queries", synthetic.secrets(bits=5.0), orders=4.0, seeds=6)
    assert none.verdict_supported is None


DRAWN = {
    "secret_sharer/tab06_formats": synthetic.formats,
    "secret_sharer/tab07_interference": lambda: synthetic.interference(fading),
    "beyond/secret_kinds": synthetic.secrets,
}


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("part", ["all", "first", "none"])
def test_draws(name, part):
    paper, key = name.split("/")
    spec = importlib.util.spec_from_file_location(f"{paper}_plots", PAPERS / paper / "plots.py")
    plots = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plots)
    table = DRAWN[name]()
    if part == "first":
        table = table[(table["run"] == table["run"].iloc[0]) & (table["replicate"] == 0)]
    if part == "none":
        table = table.iloc[:0]
    figure = getattr(plots, key)(table, tidy.read_reference(PAPERS / paper / "reference.csv", key))
    figure.set_dpi(40)
    figure.canvas.draw()
    if part == "all":
        text = " ".join(t.get_text() for t in figure.findobj(Text))
        assert "paper" in text
