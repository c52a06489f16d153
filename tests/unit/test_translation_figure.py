"""Figure 6: its claims can say yes, no and undecided, and it draws from full and gappy tables."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import synthetic_tables as synthetic
from papers_paths import PAPERS
from test_plots import words

from memorization import claims, tidy

FIGURE = "fig06_translation"
REFERENCE = tidy.read_reference(PAPERS / "secret_sharer" / "reference.csv", FIGURE)
PAPER = {0: 1.2, 1: 10, 2: 22, 4: 33, 8: 35, 16: 36}


def load_plots():
    spec = importlib.util.spec_from_file_location("plots", PAPERS / "secret_sharer" / "plots.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PLOTS = load_plots()


def table(levels=PAPER, seeds=5, hits=(), **options):
    """Skew-normal exposures near `levels`; models of (insertions, replicate) in `hits` have a likelier fill sampled."""
    rng, rows = np.random.default_rng(0), []
    for count, bits in levels.items():
        for k in range(seeds):
            about = {"replicate": k, "run": f"{count:012d}", "canary.insertions": count, "seed": 0}
            common = {**about, "fill": "012345678", "space_bits": synthetic.SPACE, "cost_bits": 100 - bits}
            own = {**common, "kind": "inserted", "index": 0, "references": 4000}
            estimate = max(0.05, bits + rng.normal(0, 0.6))
            beyond = estimate > 12 and (count, k) not in hits
            rows += [
                {**own, "method": "sampled", "exposure_bits": min(estimate, 12.0), "extrapolated": beyond},
                {**own, "method": "skew_normal", "exposure_bits": estimate, "extrapolated": estimate > 12},
            ]
            control = {**common, "kind": "control", "method": "sampled", "cost_bits": 100.0}
            rows += [{**control, "index": i, "exposure_bits": rng.exponential(1.44)} for i in range(20)]
    return synthetic.table(FIGURE, {"exposure": rows}, **options)


def judge(test, frame, **parameters):
    return claims.TESTS[test](frame, REFERENCE, **parameters)


MEMORISED = {"insertions": [4, 8], "bits": 29.9, "seeds": 5}


def test_exposures_like_the_papers_are_memorised():
    outcome = judge("pair_memorised", table(), **MEMORISED)
    assert outcome.verdict_supported is True
    assert outcome.n == 5
    assert outcome.estimate == pytest.approx(35, abs=1)
    assert "4 insertions: 3" in outcome.summary


def test_exposures_below_the_ceiling_are_not():
    low = PAPER | {4: 18, 8: 22}
    assert judge("pair_memorised", table(low), **MEMORISED).verdict_supported is False
    assert judge("pair_memorised", table(low | {8: 33}), **MEMORISED).verdict_supported is True


def test_two_seeds_decide_only_what_is_clear():
    assert judge("pair_memorised", table(PAPER | {4: 30.0, 8: 30.1}, seeds=2), **MEMORISED).verdict_supported is None
    outcome = judge("pair_memorised", table({0: 1.0, 1: 3.0}), **MEMORISED)
    assert (outcome.verdict_supported, outcome.summary) == (None, "no model with 4 insertions")


def test_a_likelier_fill_that_was_seen_outweighs_the_extrapolation():
    beaten = table(hits={(4, 0), (8, 3)})
    outcome = judge("pair_memorised", beaten, **MEMORISED)
    assert outcome.verdict_supported is False
    assert "1 of 5 with a likelier fill" in outcome.summary


@pytest.mark.parametrize(("rank_low", "expected"), [(1.0, True), (40.0, False)])
def test_importance_splitting_may_show_likelier_fills(rank_low, expected):
    frame = table()
    split = frame[(frame["method"] == "sampled") & (frame["kind"] == "inserted")].assign(
        method="importance", extrapolated=False, rank=2 * rank_low, rank_low=rank_low, exposure_bits=25.0
    )
    both = pd.concat([frame, split], ignore_index=True)
    assert judge("pair_memorised", both, **MEMORISED).verdict_supported is expected
    assert "importance splitting" in words(PLOTS.fig06_translation(both, REFERENCE))


def test_exposure_rises():
    rising = {"method": "skew_normal", "seeds": 5}
    assert judge("exposure_rises", table(seeds=2), **rising).verdict_supported is True
    assert judge("exposure_rises", table(dict.fromkeys(PAPER, 2.0)), **rising).verdict_supported is False
    assert judge("exposure_rises", table(seeds=1), **rising).verdict_supported is None


def test_a_pair_that_is_absent_is_null():
    limits = {"margin": 3.0, "seeds": 5}
    assert judge("absent_pair_is_null", table(), **limits).verdict_supported is True
    assert judge("absent_pair_is_null", table(PAPER | {0: 9}), **limits).verdict_supported is False
    assert judge("absent_pair_is_null", table(seeds=2), **limits).verdict_supported is None
    spread = table({0: 1.2}, seeds=3)
    own = (spread["kind"] == "inserted") & (spread["method"] == "sampled")
    spread.loc[own, "exposure_bits"] = [0.1, 0.2, 4.5]
    assert judge("absent_pair_is_null", spread, **limits).verdict_supported is None


@pytest.mark.parametrize("seeds", [1, 3])
def test_draws(seeds):
    figure = PLOTS.fig06_translation(table(seeds=seeds), REFERENCE)
    if seeds == 3:
        figure.set_dpi(40)
        figure.canvas.draw()
    text = words(figure)
    assert "paper" in text
    assert "control pairs" in text
    assert "29.9" in text


@pytest.mark.parametrize("missing", ["sampled", "skew_normal"])
def test_survives_a_missing_method(missing):
    frame = table(seeds=2)
    PLOTS.fig06_translation(frame[frame["method"] != missing], REFERENCE)


def test_says_when_there_is_nothing():
    frame = table(seeds=2)
    assert "no exposures" in words(PLOTS.fig06_translation(frame[frame["source"] == "none"], REFERENCE))
