"""A Closer Look's Figures 10 and 11: frontiers by hand, claims on made-up tables, drawings."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic_regularisers import regularised

from memorization import figures_closer_regularisers as drawings
from memorization import tidy_regularisers
from memorization.gates import closer_regularisers as gates
from memorization.tidy_regularisers import BOTH, KEYS


def best(table, name="dropout", combined=False, seeds=5):
    return gates.technique_is_best(table, None, best=name, combined=combined, fitted=0.99, seeds=seeds)


def differ(table, seeds=5):
    return gates.orderings_differ(table, None, settings=7, seeds=seeds)


def slows(table, seeds=5):
    return gates.regularisation_slows(table, None, seeds=seeds)


# --- the frontier -------------------------------------------------------------------------------------------------


def test_frontier_is_a_running_maximum_from_the_guess():
    xs, ys = gates.frontier([1.0, 0.5, 0.3], [0.4, 0.2, 0.3])
    np.testing.assert_allclose(xs, [0.1, 0.3, 0.5, 1.0])
    np.testing.assert_allclose(ys, [0.1, 0.3, 0.3, 0.4])


def test_area_by_hand():
    # Trapezia: (.1, .1) to (.5, .5), then flat to 1.
    assert gates.area([0.5, 1.0], [0.5, 0.5], 1.0) == pytest.approx((0.4 * 0.3 + 0.5 * 0.5) / 0.9)
    # An end between two points, and one beyond the last.
    assert gates.area([0.5, 0.9], [0.5, 0.9], 0.7) == pytest.approx(0.4)
    assert gates.area([0.5], [0.5], 0.9) == pytest.approx((0.4 * 0.3 + 0.4 * 0.5) / 0.8)


def test_a_model_worse_than_a_guess_counts_as_one():
    assert gates.area([0.5, 1.0], [0.02, 0.05], 1.0) == pytest.approx(0.1)


def test_capping_for_nothing_raises_the_area():
    points = tidy_regularisers.points(tidy_regularisers.trainings(regularised()))
    found = gates.areas(points, np.arange(5)[None]).iloc[0]
    assert list(found.index) == list(KEYS)
    assert found.idxmax() == BOTH
    assert found.drop(BOTH).idxmax() == "dropout"


# --- the tidy table -----------------------------------------------------------------------------------------------


def test_techniques_are_told_apart():
    frame = tidy_regularisers.trainings(regularised())
    assert set(frame["technique"]) == {"none", *KEYS}
    assert len(frame) == 2 * 13 * 5
    assert set(frame.loc[frame["technique"] == BOTH, "setting"]) == {"w 0.3, dropout 0.25", "w 0.6, dropout 0.25"}
    assert set(frame.loc[frame["technique"] == "dropout", "strength"]) == {0.3, 0.6}


def test_best_validation_and_final_training_accuracy():
    frame = tidy_regularisers.trainings(regularised(spread=0))
    one = frame[(frame["technique"] == "dropout") & (frame["strength"] == 0.6) & (frame["replicate"] == 0)]
    one = one.set_index("data")
    assert one.loc["randY", "accuracy"] == pytest.approx(0.2)
    assert one.loc["real", "validated"] == pytest.approx(0.42)
    assert one.loc["randY", "loss"] == pytest.approx(0.81)


def test_censored_times_are_the_last_epoch():
    frame = tidy_regularisers.trainings(regularised(slow=2.0))
    strong = frame[frame["strength"] == 0.6]
    assert strong["censored"].all()
    assert (strong["epochs"] == 20).all()
    assert not frame.loc[frame["technique"] == "none", "censored"].any()


def test_only_common_seeds_are_points():
    table = regularised()
    table = table[~((table["run"] == "000000000001") & (table["replicate"] == 4))]
    assert tidy_regularisers.points(tidy_regularisers.trainings(table)).fitted.shape == (13, 4)


# --- H13 ----------------------------------------------------------------------------------------------------------


def test_the_best_technique_is_found():
    single = best(regularised())
    assert single.verdict_supported is True
    assert single.low > 0
    assert best(regularised(), BOTH, combined=True).verdict_supported is True


def test_another_best_technique_contradicts():
    other = regularised(costs={"dropout": 0.9, "weight decay": 0.0})
    outcome = best(other)
    assert outcome.verdict_supported is False
    assert outcome.estimate < 0
    assert best(regularised(costs={BOTH: 0.9}), BOTH, combined=True).verdict_supported is False


def test_equal_techniques_are_not_the_claim():
    """Equal techniques and noise: found by chance or open, never contradicted; the other's lead is no dropout's."""
    equal = regularised(costs=dict.fromkeys(KEYS, 0.2), caps=dict.fromkeys(KEYS, 0.5), spread=0.05)
    outcome = best(equal, seeds=5)
    assert outcome.verdict_supported is (None if outcome.estimate > 0 else False)
    assert best(equal, seeds=10).verdict_supported is None


def test_without_memorisation_nothing_is_decided():
    outcome = best(regularised(base=0.9))
    assert outcome.verdict_supported is None
    assert "90.0 %" in outcome.summary


@pytest.mark.parametrize("options", [{"replicates": 2}, {"techniques": ("dropout", "weight decay")}])
def test_too_few_seeds_or_techniques_decide_nothing(options):
    assert best(regularised(**options)).verdict_supported is None


def test_spearman_against_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.integers(5, size=(2, 3, 7)).astype(float)
    expected = [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(gates.spearman(a, b), expected)


# --- H14 ----------------------------------------------------------------------------------------------------------

SELECTED = {"spread": 0.002}


def one_strength(table):
    return table[~(table[[key for key in KEYS.values() if key in table]] > 0.55).any(axis=1)]


def test_reversed_orderings_are_found():
    gaps = {"dropout": 0.001, BOTH: 0.4, "weight decay": 0.8}
    outcome = differ(one_strength(regularised(gaps=gaps, **SELECTED)))
    assert outcome.verdict_supported is True
    assert outcome.high < 1
    assert outcome.statistic >= 1


def test_equal_orderings_contradict():
    gaps = {name: 0.1 * (1 + i) for i, name in enumerate(KEYS)} | {"none": 0.01}
    table = regularised(gaps=gaps, **SELECTED)
    random = table["data.noise.kind"] == "labels"
    twin = table[~random].assign(**{"data.noise.kind": "labels"}, run=lambda f: "1" + f["run"].str[1:])
    outcome = differ(one_strength(pd.concat([table[~random], twin], ignore_index=True)))
    assert outcome.verdict_supported is False
    assert outcome.estimate == pytest.approx(1)


def test_noise_alone_is_no_other_ordering():
    """All settings equal: Spearman is far below 1, but no pair is reversed for sure."""
    equal = one_strength(regularised(techniques=tuple(KEYS), spread=0.05, gaps=dict.fromkeys(["none", *KEYS], 0.3)))
    rows = (equal["measure"] == "loss_nats") & (equal["data.noise.kind"] == "labels")
    equal.loc[rows, "value"] = 0.3 + np.random.default_rng(3).normal(0, 0.01, rows.sum())
    outcome = differ(equal)
    assert outcome.verdict_supported is not True
    assert outcome.statistic == 0


def test_orderings_need_the_settings_and_three_seeds():
    assert differ(one_strength(regularised(replicates=2))).verdict_supported is None
    assert differ(one_strength(regularised(techniques=("dropout",)))).verdict_supported is None


# --- U7 -----------------------------------------------------------------------------------------------------------


def test_slower_convergence_is_found_and_censoring_bounds_it():
    outcome = slows(regularised(slow=1.5))
    assert outcome.verdict_supported is True
    assert 0 < outcome.estimate < np.log2(1.5**2)
    censored = slows(regularised(slow=2.0))
    assert censored.verdict_supported is True
    assert "; 30 of 60 never fitted" in censored.summary
    assert "at least" in censored.summary
    assert "at least" not in slows(regularised(slow=1.5)).summary


def test_bounds_alone_show_no_absence_of_a_slowdown():
    """Regularised trainings stopped at the last epoch, where unregularised ones had only just fitted."""
    table = regularised(slow=1.0)
    fitted = table["measure"] == "fitted_epoch"
    regular = ~table[list(KEYS.values())].isna().all(axis=1)
    table.loc[fitted & ~regular, "value"] = table.loc[fitted, "epoch"].max()
    table.loc[fitted & regular, "value"] = np.nan
    outcome = slows(table)
    assert outcome.verdict_supported is None
    assert outcome.estimate == pytest.approx(0)


def test_faster_convergence_contradicts():
    assert slows(regularised(slow=0.6)).verdict_supported is False


def test_no_slowdown_with_the_planned_seeds_is_not_reproduced():
    assert slows(regularised(slow=1.0), seeds=5).verdict_supported is not True


def test_an_unregularised_training_that_never_fits_decides_nothing():
    table = regularised()
    none = table[list(KEYS.values())].isna().all(axis=1) & (table["measure"] == "fitted_epoch")
    table.loc[none, "value"] = np.nan
    assert slows(table).verdict_supported is None


# --- drawings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [drawings.fig10_regularisers, drawings.fig11_training_curves])
@pytest.mark.parametrize("options", [{}, {"replicates": 1}, {"techniques": ()}, {"slow": 9.0, "base": 0.8}])
def test_drawings_survive_what_may_be_missing(draw, options):
    table = regularised(**options)
    for part in (table, table[table["data.noise.kind"] == "none"]):
        draw(part, None).canvas.draw()
