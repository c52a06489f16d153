"""Verdicts: what they need, what they refuse, and that each test can say yes and no."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import synthetic_tables as synthetic
import yaml
from papers_paths import PAPERS

from memorization import claims, tidy
from memorization.errors import UserError
from memorization.figure_specs import ClaimSpec
from memorization.gates import outcome
from memorization.statistics import Interval

REFERENCE = tidy.read_reference(PAPERS / "secret_sharer" / "reference.csv")
TREE = REFERENCE[REFERENCE["figure"] == "fig09_search_tree"].reset_index(drop=True)


def claim(test="tree_is_exact", paper="verified", scales=("reduced",), **parameters):
    return ClaimSpec(id="c", statement="s", test=test, paper=paper, scales=scales, parameters=parameters)


def run(test, table, **parameters):
    return claims.TESTS[test](table, TREE, **parameters)


def test_row_has_its_columns_and_reproduces_the_tree():
    row = claims.evaluate(claim(rounding=0.01), synthetic.tree(), TREE, "reduced")
    assert (row["verdict"], row["figure"], row["n"]) == ("reproduced", "fig09_search_tree", 10)
    assert row["estimate"] == pytest.approx(0.007, abs=5e-4)
    fields = {f.name for f in dataclasses.fields(outcome.Outcome)} - {"verdict_supported", "summary"}
    assert fields <= set(row)


def test_stand_in_data_are_never_judged():
    table = synthetic.tree()
    table.loc[0, "data_source"] = "standin"
    row = claims.evaluate(claim(rounding=0.01), table, TREE, "reduced")
    assert (row["verdict"], row["ours"], row["estimate"]) == (claims.NOT_EVALUATED, "", None)


def test_other_scales_are_not_testable():
    row = claims.evaluate(claim(scales=("paper",), rounding=0.01), synthetic.tree(), TREE, "reduced")
    assert (row["verdict"], row["reason"]) == (claims.NOT_TESTABLE, "needs scale paper")


@pytest.mark.parametrize(
    ("paper", "reason"),
    [
        ("9 (unverified)", "target unverified: the paper's value (unverified)"),
        ("9 (unverified; up to 10, secondary)", "target unverified: the paper's value (secondary or unverified)"),
        ("2.5 (verified, digitised); about 3 (unverified)", "part of the paper's values are unverified"),
    ],
)
def test_unverified_targets_say_so(paper, reason):
    row = claims.evaluate(claim(paper=paper, rounding=0.01), synthetic.tree(), TREE, "reduced")
    assert row["verdict"] == "reproduced"
    assert row["reason"].startswith(reason)


@pytest.mark.parametrize("paper", ["9 (verified, v1)", "9 (derived from verified values)", "a control of ours"])
def test_verified_targets_and_controls_need_no_note(paper):
    assert claims.evaluate(claim(paper=paper, rounding=0.01), synthetic.tree(), TREE, "reduced")["reason"] == ""


def test_no_claim_of_the_paper_rests_on_an_unverified_value_silently():
    """By hand from figures.yaml: these have no verified target, and their verdicts must say so."""
    blocks = yaml.safe_load((PAPERS / "secret_sharer" / "figures.yaml").read_text())["figures"].values()
    listed = [c for block in blocks for c in block.get("claims", [])]
    doubtful = {c["id"] for c in listed if claims.target_note(c["paper"]).startswith("target unverified:")}
    assert doubtful == {
        "skew_normal_fits",
        "search_cost_falls",
        "skew_normal_error",
        "non_private_memorises",
        "exposure_ignores_epsilon",
        "dp_costs_utility",
        "enron_secrets_extracted",
        "enron_secrets_memorised",
        "strategies_differ",
        "a_extractable_at_nine",
        "more_insertions_more_exposure",
        "surrogate_trend",
        "five_insertions_reach_the_ceiling",
        "quantisation_no_effect",
        "exposure_rises_with_insertions",
        "weight_decay_no_effect",
        "optimizers_equal",
        "bagging_no_effect",
        "digits_more_exposed",
        "short_of_extraction_at_16",
        "dropout_no_effect",
    }


def test_errors_inside_a_test_are_not_blamed_on_the_parameters(monkeypatch):
    def broken(table, reference):
        raise TypeError("bad argument")

    monkeypatch.setitem(claims.TESTS, "broken", broken)
    with pytest.raises(TypeError, match="bad argument"):
        claims.evaluate(claim("broken"), synthetic.tree(), TREE, "reduced")


def test_mistakes_in_the_yaml_are_user_errors():
    with pytest.raises(UserError, match="no test 'nonsense'"):
        claims.evaluate(claim("nonsense"), synthetic.tree(), TREE, "reduced")
    with pytest.raises(UserError, match="parameters of tree_is_exact"):
        claims.evaluate(claim(roundin=0.01), synthetic.tree(), TREE, "reduced")


def test_a_wrong_tree_is_not_reproduced():
    table = synthetic.tree()
    table.loc[table["node"] == "ab", "log_perplexity_bits"] += 0.02
    assert run("tree_is_exact", table, rounding=0.01).verdict_supported is False
    table = synthetic.tree()
    table["on_greedy_path"] = table["on_best_path"]
    assert run("greedy_misses_best", table, best="ab").verdict_supported is False
    assert run("greedy_misses_best", synthetic.tree(), best="ab").verdict_supported is True


@pytest.mark.parametrize(
    ("interval", "n", "expected"),
    [
        (Interval(3, 2.5, 3.5), 3, True),
        (Interval(3, 1, 6), 3, None),
        (Interval(3, 1, 6), 10, True),
        (Interval(6, 5.5, 7), 3, False),
        (Interval(6, 4, 8), 3, None),
        (Interval(6, 4, 8), 10, False),
        (Interval(3, np.nan, np.nan), 2, None),
    ],
)
def test_within(interval, n, expected):
    assert outcome.within(interval, 2, 5, n, planned=10) is expected


def test_rank_one_share():
    table = synthetic.finished("tab01_most_likely_fills", 20)
    exact = (table["method"] == "exact") & (table["kind"] == "inserted")
    parameters = {"share": 0.8, "worst_rank": 10, "seeds": 20}
    assert run("rank_one_share", table, **parameters).verdict_supported is False  # 20 of 20: interval above .80
    table.loc[exact & (table["replicate"] < 4), "rank"] = 7
    found = run("rank_one_share", table, **parameters)
    assert found.verdict_supported is True
    assert (found.estimate, found.n) == (0.8, 20)
    table.loc[exact & (table["replicate"] == 0), "rank"] = 11
    assert run("rank_one_share", table, **parameters).verdict_supported is False
    few = table[table["replicate"] < 5]
    assert run("rank_one_share", few, **parameters).verdict_supported is None


def test_models_whose_walk_did_not_finish_are_not_dropped():
    """20 fine ranks out of 25 are no evidence while five are open, and evidence against once one is known to be bad."""
    table = synthetic.finished("tab01_most_likely_fills", 25)
    exact = (table["method"] == "exact") & (table["kind"] == "inserted")
    table.loc[exact & (table["replicate"] < 4), "rank"] = 7
    unfinished = exact & (table["replicate"] >= 20)
    parameters = {"share": 0.8, "worst_rank": 10, "seeds": 20}
    base = {"low": 29.0, "high": 37.0, "seeds": 20}
    assert run("rank_one_share", table, **parameters).verdict_supported is True
    table.loc[unfinished, ["algorithm", "rank", "rank_low", "rank_high"]] = ["bounds", np.nan, 1, 10**6]
    assert run("rank_one_share", table, **parameters).verdict_supported is None
    assert run("rank_one_share", table[~unfinished], **parameters).verdict_supported is None
    assert run("base_exposure", table, **base).verdict_supported is None  # 16 of 25: p = .11; 21 of 25: p < .001
    table.loc[unfinished & (table["replicate"] == 20), "rank_low"] = 500
    assert run("rank_one_share", table, **parameters).verdict_supported is False
    table.loc[unfinished, "rank_low"] = 500
    assert run("base_exposure", table, **base).verdict_supported is False


def test_base_exposure_and_gap():
    table = synthetic.finished("tab01_most_likely_fills", 20)
    assert run("base_exposure", table, low=29.0, high=37.0, seeds=20).verdict_supported is True
    assert run("base_exposure", table, low=10.0, high=20.0, seeds=20).verdict_supported is False
    assert run("runner_up_gap", table, low=1.3, high=12.0, seeds=20).verdict_supported is True
    assert run("runner_up_gap", table, low=8.0, high=12.0, seeds=20).verdict_supported is False


def test_ks_needs_the_papers_sample():
    table = synthetic.finished("fig02_log_perplexity_distribution", 8)
    assert run("skew_normal_ks", table, alpha=0.1, references=10**6, seeds=20).verdict_supported is None
    table.loc[table["source"] == "fit", "ks_p_bootstrap"] = 0.001
    assert run("skew_normal_ks", table, alpha=0.1, references=1000, seeds=20).verdict_supported is False
    table.loc[table["source"] == "fit", "ks_p_bootstrap"] = 0.5
    assert run("skew_normal_ks", table, alpha=0.1, references=1000, seeds=20).verdict_supported is True
    table.loc[table["source"] == "fit", "ks_p_bootstrap"] = np.nan
    assert run("skew_normal_ks", table, alpha=0.1, references=1000, seeds=20).verdict_supported is None


def test_jumps():
    method = {"method": "skew_normal", "seeds": 10}
    found = run("jump_at_canary", synthetic.per_batch(5, batches=10), **method)
    assert found.verdict_supported is True
    assert found.estimate == pytest.approx(4.0)
    assert "epoch 1: +4; epoch 2: +4; epoch 3: +4" in found.summary
    assert run("jump_at_canary", synthetic.per_batch(4, batches=10), **method).verdict_supported is None
    assert run("jump_at_canary", synthetic.per_batch(10, batches=10, jump=-0.1), **method).verdict_supported is False


def test_a_jump_needs_the_step_before():
    table = synthetic.per_batch(5, batches=10)
    sparse = table[(table["step"] % 10 != 0)]  # nothing measured right before the canary's mini-batches
    assert run("jump_at_canary", sparse, method="skew_normal", seeds=10).verdict_supported is None


def test_controls_do_not_jump():
    table = synthetic.per_batch(10, batches=10)
    parameters = {"method": "sampled", "margin": 1.0, "seeds": 10}
    assert run("controls_no_jump", table, **parameters).verdict_supported is True
    rise = (table["kind"] == "control") & (table["holds_canary"] == True)  # noqa: E712
    table.loc[rise, "exposure_bits"] += 3
    assert run("controls_no_jump", table, **parameters).verdict_supported is False


def test_exposure_after_epoch():
    table = synthetic.per_batch(10, batches=10, jump=4.0)
    parameters = {"method": "skew_normal", "epoch": 1.0, "seeds": 10}
    assert run("exposure_after_epoch", table, low=2.0, high=6.0, **parameters).verdict_supported is True
    assert run("exposure_after_epoch", table, low=10.0, high=12.0, **parameters).verdict_supported is False
    parameters["epoch"] = 9.0
    assert run("exposure_after_epoch", table, low=2.0, high=6.0, **parameters).verdict_supported is None


def test_overtraining():
    table = synthetic.per_epoch(5)
    plateau = {"method": "skew_normal", "share": 0.9, "seeds": 10}
    assert run("plateau_at_loss_minimum", table, margin=5.0, **plateau).verdict_supported is True
    assert run("plateau_at_loss_minimum", table, margin=0.5, **plateau).verdict_supported is False
    rising = {"method": "skew_normal", "early": 10.0, "late": 40.0, "seeds": 10}
    assert run("overfitting_does_not_raise", table, margin=2.0, **rising).verdict_supported is True
    late = (table["epoch"] == 40) & (table["source"] == "measures")
    table.loc[late, "exposure_bits"] += 8
    assert run("overfitting_does_not_raise", table, margin=2.0, **rising).verdict_supported is False
    short = synthetic.per_epoch(5, epochs=8)
    assert run("overfitting_does_not_raise", short, margin=2.0, **rising).verdict_supported is None
    assert run("plateau_at_loss_minimum", short, margin=3.0, **plateau).verdict_supported is None


def test_noise_has_no_plateau():
    table = synthetic.per_epoch(5)
    noise = (table["source"] == "measures") & (table["kind"] == "inserted")
    table.loc[noise, "exposure_bits"] = np.where(table.loc[noise, "epoch"] == 10, 3.0, 1.0)  # 90 % of "maximum" at 10
    plateau = {"method": "skew_normal", "share": 0.9, "margin": 3.0, "seeds": 5}
    found = run("plateau_at_loss_minimum", table, **plateau)
    assert (found.verdict_supported, found.n) == (None, 0)
    table.loc[noise, "exposure_bits"] *= 8
    assert run("plateau_at_loss_minimum", table, **plateau).verdict_supported is True


def test_early_stopping():
    table = synthetic.per_epoch(5, exact=False)
    parameters = {"methods": ["exact", "skew_normal"], "seeds": 10}
    found = run("early_stopping_insufficient", table, **parameters)
    assert found.verdict_supported is True
    assert found.summary.startswith("skew_normal")
    table.loc[table["source"] == "measures", "exposure_bits"] = 0.2
    assert run("early_stopping_insufficient", table, **parameters).verdict_supported is False


def test_importance_sampling_without_a_hit_is_not_an_exposure():
    table = synthetic.per_epoch(5, epochs=12)
    parameters = {"methods": ["exact", "importance", "skew_normal"], "seeds": 10}
    table = table[table["method"] != "exact"]
    assert run("early_stopping_insufficient", table, **parameters).summary.startswith("importance")
    table.loc[(table["method"] == "importance") & (table["replicate"] == 0), "rank"] = 1
    assert run("early_stopping_insufficient", table, **parameters).summary.startswith("skew_normal")


def test_search_cost():
    table = synthetic.searches("fig10_search_cost", 100)
    assert run("search_speed_up", table, exposure=33.0, orders=3.0, seeds=10).verdict_supported is True
    assert run("search_speed_up", table, exposure=33.0, orders=6.0, seeds=10).verdict_supported is False
    assert run("search_speed_up", table, exposure=90.0, orders=3.0, seeds=10).verdict_supported is None
    assert run("search_cost_falls", table, seeds=10).verdict_supported is True
    cheap = table["source"] == "extraction"
    table.loc[cheap, ["sequential_equivalent", "provable", "extracted"]] = [10, False, False]
    table.loc[table["method"] == "exact", "algorithm"] = "bounds"
    found = run("search_cost_falls", table, seeds=10)  # nothing but lower bounds: no order is known
    assert (found.verdict_supported, found.estimate) == (False, 0.0)


def test_extraction():
    table = synthetic.searches("fig11_extraction_threshold", 300, low=20.0)
    parameters = {"midpoint": 30.0, "tolerance": 1.5, "never": 31.0, "always": 33.0}
    found = run("extraction_threshold", table, models=100, **parameters)
    assert found.verdict_supported is True
    assert found.low < found.estimate < found.high
    shifted = parameters | {"midpoint": 25.0}
    assert run("extraction_threshold", table, models=100, **shifted).verdict_supported is False
    assert run("extraction_threshold", table, models=1000, **parameters).verdict_supported is None
    assert run("extraction_is_rank_one", table, models=10).verdict_supported is True
    wrong = table.copy()
    wrong.loc[wrong["source"] == "extraction", "extracted"] = True
    assert run("extraction_is_rank_one", wrong, models=10).verdict_supported is False
    open_ = table.copy()  # bounds that leave rank 1 open agree with anything, so they must not count
    open_.loc[open_["method"] == "exact", ["algorithm", "rank_low", "rank_high"]] = ["bounds", 1, 10**9]
    assert run("extraction_is_rank_one", open_, models=1).verdict_supported is None


def test_undecided_searches_cannot_tip_the_threshold():
    table = synthetic.searches("fig11_extraction_threshold", 200, low=25.0, high=36.0)
    parameters = {"midpoint": 31.0, "tolerance": 1.5, "never": 31.0, "always": 33.0, "models": 20}
    assert run("extraction_threshold", table, **parameters).verdict_supported is True
    late = table["run"] >= f"{20:012x}"  # half the models: neither proven nor walked
    table.loc[late & (table["source"] == "extraction"), ["extracted", "provable"]] = False
    gave_up = late & (table["method"] == "exact")
    table.loc[gave_up, ["algorithm", "rank", "rank_low", "rank_high"]] = ["bounds", np.nan, 1, 10**9]
    found = run("extraction_threshold", table, **parameters)
    assert found.verdict_supported is None
    assert "100 undecided" in found.summary
    failing = synthetic.searches("fig11_extraction_threshold", 30, low=5.0, high=20.0)
    assert run("extraction_threshold", failing, **parameters).verdict_supported is None


def trial(**changes):
    """The one row of `tidy.trials` after changes to a model's rows: {source or method: {column: value}}."""
    table = synthetic.searches("fig11_extraction_threshold", 1, low=20.0, high=20.1)
    for where, columns in changes.items():
        chosen = (table["source"] == where) | ((table["method"] == where) & (table["kind"] == "inserted"))
        for column, value in columns.items():
            table.loc[chosen, column] = value
    (row,) = tidy.trials(table).to_dict("records")
    return row


BOUNDS = {"algorithm": "bounds", "rank": np.nan, "rank_low": 1, "rank_high": 10**8}
UNPROVEN = {"provable": False, "extracted": False, "best_fill": "", "sequential_equivalent": 7}


def test_outcomes_that_are_certain_without_the_searchs_proof():
    assert not trial(extraction=UNPROVEN, exact=BOUNDS)["decided"]
    likelier = {**UNPROVEN, "best_cost_bits": 20.0, "canary_cost_bits": 21.0}
    row = trial(extraction=likelier, exact=BOUNDS)
    assert (row["decided"], row["success"]) == (True, False)
    # 4 hits among 999 references of 10^9 fills; no hit leaves it open
    for rank, decided in ((5e6, True), (1e6, False)):
        row = trial(extraction=UNPROVEN, exact=BOUNDS, sampled={"rank": rank, "references": 999})
        assert (row["decided"], row["success"]) == (decided, False)
    for rank, decided in ((1.0, False), (1.01, True)):  # importance sampling drew no likelier fill, or one
        row = trial(extraction=UNPROVEN, exact=BOUNDS, importance={"rank": rank})
        assert (row["decided"], row["success"]) == (decided, False)
    first = {"algorithm": "pruned_walk", "rank": 1, "rank_low": 1, "rank_high": 1, "model_steps": 1234}
    row = trial(extraction=UNPROVEN, exact=first)
    assert (row["decided"], row["success"], row["bound"], row["queries"]) == (True, True, False, 1234)


def test_an_unproven_find_is_neither_a_success_nor_a_number_of_queries():
    row = trial(extraction={**UNPROVEN, "extracted": True}, exact=BOUNDS)
    assert (row["decided"], row["bound"], row["queries"]) == (False, True, 7)
    row = trial(extraction={**UNPROVEN, "extracted": True, "provable": True}, exact=BOUNDS)
    assert (row["decided"], row["success"], row["bound"]) == (True, True, False)


def test_skew_normal_error():
    table = synthetic.searches("fig11_extraction_threshold", 150, high=28.0)
    assert run("skew_normal_error", table, margin=3.0, seeds=20).verdict_supported is True
    assert run("skew_normal_error", table, margin=0.2, seeds=20).verdict_supported is False


def test_models_that_share_a_seed_are_one_unit():
    table = synthetic.searches("fig11_extraction_threshold", 120).drop(columns="seed")
    assert tidy.trials(table)["seed"].nunique() == 5


def test_rows_restore_types():
    table = synthetic.searches("fig10_search_cost", 6)
    search = tidy.rows(table, "extraction")
    assert search["extracted"].dtype == bool
    assert set(search["fill"]) == {"012345678"}
    assert search["replicate"].dtype == "int64"
    assert "space_bits" not in search
    bad = table.assign(fill=pd.to_numeric(table["fill"]))
    with pytest.raises(ValueError, match="was read as numbers"):
        tidy.rows(bad, "extraction")
