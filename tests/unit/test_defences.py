"""Tables, tests of claims and drawings of defences and of Figure 5: each test can say yes, no, and that it cannot."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import synthetic_defences as synthetic
from matplotlib.text import Text
from papers_paths import PAPERS

from memorization import figures_defences, plotting, tidy, tidy_defences
from memorization.claims import TESTS

NONE = pd.DataFrame(columns=list(tidy.REFERENCE))


def run(test, table, **parameters):
    return TESTS[test](table, NONE, **parameters)


def no_effect(table, defence="dropout", canary="digits", **more):
    return run("defence_no_effect", table, defence=defence, canary=canary, margin=3.0, seeds=4, **more)


def lowers(table, defence="sanitise", canary="digits", **more):
    return run("defence_lowers", table, defence=defence, canary=canary, seeds=4, **more)


# --- tables -------------------------------------------------------------------------------------------------------


def test_arms_name_what_a_cell_varies():
    arms = tidy_defences.arms(synthetic.defended()).set_index("run")
    found = [tuple(arms.loc[f"{i:012x}"]) for i in range(len(synthetic.CELLS))]
    assert [(defence, level, canary) for _, defence, level, canary in found] == [
        ("none", "", "digits"),
        ("dropout", "0.2", "digits"),
        ("dropout", "0.5", "digits"),
        ("weight decay", "0.0001", "digits"),
        ("sanitise", "mask_digits", "digits"),
        ("sanitise", "deduplicate", "digits"),
        ("none", "", "letters"),
        ("sanitise", "mask_digits", "letters"),
        ("privacy", "5.26", "digits"),
        ("optimizer", "adam", "digits"),
        ("optimizer", "sgd", "digits"),
        ("sampling", "with_replacement", "digits"),
    ]


def test_the_undefended_run_of_two_cells_counts_once():
    frame = tidy_defences.epochs(synthetic.defended(models=2))
    assert not frame.duplicated([*tidy.MODEL, "step"]).any()
    assert len(tidy_defences.last(frame)) == 2 * len(synthetic.CELLS)


def test_stopping_is_where_the_validation_loss_is_least():
    table = synthetic.defended(models=1)
    worse = (table["source"] == "curves") & (table["epoch"] == 8)
    table.loc[worse, "validation_loss_nats"] = 3.0
    frame = tidy_defences.epochs(table)
    best = tidy_defences.stopped(frame[frame["run"] == "0" * 12])
    assert best["epoch"].tolist() == [6]  # epoch 7 was not measured
    assert best["bits"].iloc[0] == pytest.approx(0.75 * tidy_defences.last(frame)["bits"].iloc[0])


def test_losses_are_matched_on_the_way_down():
    """sgd's best loss is that of the others at epoch 4; their later epochs do not count, nor does sgd's own end."""
    table = synthetic.defended(models=1)
    sgd = (table["source"] == "curves") & (table["training.optimizer"] == "sgd")
    table.loc[sgd, "validation_loss_nats"] = table.loc[sgd, "epoch"].map(lambda e: 2.08 + 0.01 * abs(e - 6))
    frame = tidy_defences.matched(tidy_defences.variants(table, "optimizer")).set_index("optimizer")
    assert frame["epoch"].to_dict() == {"rmsprop": 4, "adam": 4, "sgd": 6}


def test_bits_fall_back_from_exact_to_importance_to_sampled():
    common = {"kind": "inserted", "index": 0, "algorithm": "pruned_walk", "rank": 9.0, "run": "r"}
    common |= {"extrapolated": False, "exposure_low_bits": np.nan}
    rows = [
        {**common, "model": 1, "method": "exact", "exposure_bits": 20.0},
        {**common, "model": 1, "method": "sampled", "exposure_bits": 9.0, "extrapolated": True},
        {**common, "model": 2, "method": "exact", "exposure_bits": 7.0, "algorithm": "bounds"},
        {**common, "model": 2, "method": "importance", "exposure_bits": 18.0},
        {**common, "model": 3, "method": "importance", "exposure_bits": 25.0, "extrapolated": True},
        {**common, "model": 3, "method": "sampled", "exposure_bits": 9.0, "extrapolated": True},
        {**common, "model": 3, "method": "skew_normal", "exposure_bits": 14.0},
        {**common, "model": 4, "method": "importance", "exposure_bits": 29.9, "rank": 1.0, "exposure_low_bits": 17.0},
        {**common, "model": 4, "method": "sampled", "exposure_bits": 9.0, "extrapolated": True},
    ]
    frame = tidy_defences.canary_bits(pd.DataFrame(rows), ["model"]).set_index("model")
    assert frame["bits"].to_dict() == {1: 20.0, 2: 18.0, 3: 9.0, 4: 17.0}
    assert frame["bound"].to_dict() == {1: False, 2: False, 3: True, 4: True}
    assert frame["rank"].dropna().to_dict() == {1: 9.0}
    assert frame["skew_normal"].dropna().to_dict() == {3: 14.0}


def test_losses_of_lines_are_weighed_by_their_characters():
    frame = tidy_defences.quantised(synthetic.defended(models=2))
    assert frame["loss_none"].tolist() == pytest.approx([2.0, 2.0])
    assert (frame["loss_int8"] - frame["loss_none"]).tolist() == pytest.approx([0.004, 0.004])


# --- claims -------------------------------------------------------------------------------------------------------


def test_no_effect_yes_no_and_open():
    assert no_effect(synthetic.defended()).verdict_supported is True
    down = synthetic.defended(shift={"dropout more": -9.0})
    found = no_effect(down)
    assert found.verdict_supported is False
    assert found.estimate == pytest.approx(-9, abs=0.5)
    assert no_effect(synthetic.defended(noise=8.0)).verdict_supported is None
    assert no_effect(synthetic.defended(models=2)).verdict_supported is None
    assert no_effect(synthetic.defended(), defence="pruning").verdict_supported is None


def test_no_effect_on_what_was_not_memorised_is_no_finding():
    found = no_effect(synthetic.defended(level=1.0, noise=0.1, shift={"mask": 0, "privacy": 0, "deduplicate": 0}))
    assert found.verdict_supported is None
    assert "nothing was memorised" in found.summary


def test_masking_is_judged_by_kind_of_canary():
    table = synthetic.defended()
    assert no_effect(table, "sanitise", "letters", level="mask_digits").verdict_supported is True
    assert no_effect(table, "sanitise", "digits", level="mask_digits").verdict_supported is False
    assert lowers(table, level="mask_digits").verdict_supported is True
    assert lowers(table, canary="letters", level="mask_digits").verdict_supported is False


def test_lowers_says_what_is_left_beyond_the_null():
    table = synthetic.defended()
    assert "not beyond the null law: mask_digits" in lowers(table, level="mask_digits").summary
    assert "not beyond" not in lowers(table, level="deduplicate").summary
    assert lowers(table, defence="privacy").verdict_supported is True
    assert lowers(synthetic.defended(shift={"deduplicate": 5.0}), level="deduplicate").verdict_supported is False
    assert lowers(synthetic.defended(shift={"deduplicate": 0.0}), level="deduplicate").verdict_supported is False
    few = synthetic.defended(models=3, shift={"deduplicate": -1.0}, noise=3.0)
    assert lowers(few, level="deduplicate").verdict_supported is None


def test_quantisation_yes_no_and_open():
    def judged(**options):
        table = synthetic.defended(**options)
        return run("quantisation_no_effect", table, margin=3.0, loss=0.02, seeds=8)

    kept = judged(level=40.0, models=8)
    assert kept.verdict_supported is True
    assert "rank 1 kept in 8 of 8" in kept.summary
    assert judged(level=40.0, models=3).verdict_supported is None  # three equal values prove nothing
    assert judged(level=40.0, models=8, int8=(-20.0, 0.0)).verdict_supported is False  # rank 1 lost
    assert judged(level=40.0, models=8, int8=(0.0, 0.1)).verdict_supported is False  # loss
    assert judged(level=20.0, models=8).verdict_supported is None  # never at rank 1
    assert judged(level=25.0, models=8, int8=(-9.0, 0.0)).verdict_supported is False
    assert judged(models=2).verdict_supported is None


def test_early_stopping_yes_no_and_open():
    assert run("stopping_insufficient", synthetic.defended(), seeds=4).verdict_supported is True
    low = synthetic.defended(level=0.2, noise=0.02, shift={"mask": 0, "privacy": 0, "deduplicate": 0})
    assert run("stopping_insufficient", low, seeds=4).verdict_supported is False
    assert run("stopping_insufficient", synthetic.defended(models=2), seeds=4).verdict_supported is None


def test_optimizers_yes_no_and_open():
    def judged(**options):
        return run("optimizers_equal", synthetic.defended(**options), margin=3.0, seeds=4)

    assert judged().verdict_supported is True
    assert judged(shift={"sgd": -15.0}).verdict_supported is False
    assert judged(noise=8.0).verdict_supported is None
    assert judged(models=2).verdict_supported is None
    null = judged(level=1.0, noise=0.05, shift={"mask": 0, "privacy": 0, "deduplicate": 0})
    assert null.verdict_supported is None
    assert "nothing was memorised by any" in null.summary


def test_bagging_yes_no_and_open():
    def judged(**options):
        return run("samplings_equal", synthetic.defended(**options), margin=3.0, seeds=4)

    found = judged()
    assert found.verdict_supported is True
    assert "1 of 1 pairs equivalent; 4 of 4 planned seeds" in found.summary
    assert judged(shift={"bagging": -15.0}).verdict_supported is False
    assert judged(shift={"sgd": -15.0}).verdict_supported is True  # optimisers are another claim
    assert judged(noise=8.0).verdict_supported is None
    assert judged(models=2).verdict_supported is None
    assert judged(level=1.0, noise=0.05, shift={"mask": 0, "privacy": 0, "deduplicate": 0}).verdict_supported is None


def test_bagging_is_matched_with_shuffling_alone():
    """Its loss ends higher, so that shuffling is taken at an earlier epoch; the comparison of optimisers stays."""
    table = synthetic.defended(models=1)
    before = tidy_defences.matched(tidy_defences.variants(table, "optimizer"))
    bagged = (table["source"] == "curves") & (table["training.sampling"] == "with_replacement")
    table.loc[bagged, "validation_loss_nats"] += 0.04
    frame = tidy_defences.matched(tidy_defences.variants(table, "sampling")).set_index("sampling")
    assert frame["epoch"].to_dict() == {"without_replacement": 6, "with_replacement": 8}
    pd.testing.assert_frame_equal(tidy_defences.matched(tidy_defences.variants(table, "optimizer")), before)


def test_insertions_yes_no_and_open():
    def judged(**options):
        return run("exposure_rises", synthetic.inserted(**options), method="skew_normal", seeds=3)

    assert judged().verdict_supported is True
    assert judged(slope=0.0).verdict_supported is False
    assert judged(slope=0.0, models=2).verdict_supported is None
    assert judged(levels=(0, 16)).verdict_supported is None


def test_extraction_yes_no_and_open():
    def judged(**options):
        return run("short_of_extraction", synthetic.inserted(**options), insertions=16, seeds=3)

    assert judged().verdict_supported is True
    assert judged(extracted=True).verdict_supported is False
    assert judged(models=2).verdict_supported is None
    assert judged(levels=(0, 4, 8)).verdict_supported is None


# --- drawings -----------------------------------------------------------------------------------------------------


def plots(paper):
    spec = importlib.util.spec_from_file_location(f"{paper}_plots", PAPERS / paper / "plots.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


FULL = {
    ("beyond", "defences"): synthetic.defended,
    ("secret_sharer", "text_defences"): synthetic.defended,
    ("secret_sharer", "fig05_character_state_of_the_art"): synthetic.inserted,
}


def draw(paper, key, table):
    return getattr(plots(paper), key)(table, tidy.read_reference(PAPERS / paper / "reference.csv", key))


def words(figure):
    return " ".join(t.get_text() for t in figure.findobj(Text))


@pytest.mark.parametrize(("paper", "key"), FULL)
@pytest.mark.parametrize("models", [1, 3])
def test_draws(paper, key, models):
    figure = draw(paper, key, FULL[paper, key](models=models))
    if models == 3:
        figure.set_dpi(40)
        figure.canvas.draw()
    assert figure.get_figwidth() <= plotting.WIDTH


@pytest.mark.parametrize(("paper", "key"), FULL)
def test_survives_single_sources_and_a_single_cell(paper, key):
    table = FULL[paper, key](models=2)
    for source in table["source"].unique():
        draw(paper, key, table[table["source"] == source])
    draw(paper, key, table[table["run"] == "0" * 12])


def test_every_defence_is_a_row_and_the_undefended_comes_first():
    table = synthetic.defended()
    rows = figures_defences.compared(table)
    assert set(rows["label"]) == {
        "no defence", "early stopping", "8-bit weights", "dropout 20 %", "dropout 50 %", "weight decay 0.0001",
        "digits masked", "lines deduplicated", "differential privacy, ε = 5.26",
    }  # fmt: skip
    text = words(draw("beyond", "defences", table))
    assert "letters: digits masked" in text
    ticks = [t.get_text() for t in draw("beyond", "defences", table).axes[0].get_yticklabels()]
    assert ticks[-1] == "no defence"
    assert ticks[:2] == ["letters: digits masked", "letters: no defence"]


def test_the_papers_words_stand_beside_ours():
    text = words(draw("secret_sharer", "text_defences", synthetic.defended(level=40.0)))
    assert "rank 1 before: 4 of 4, after: 4 of those" in text
    assert "paper: 1.18 → 1.19 nats, still rank 1 (unverified)" in text
    assert "ours: test loss 2.000 → 2.004 nats" in text
    assert np.isfinite(tidy_defences.ceilings(synthetic.defended())["letters"])


def test_bagging_stands_beside_the_optimisers_and_is_no_defence():
    axes = draw("secret_sharer", "text_defences", synthetic.defended()).axes[3]
    names = [tick.get_text().split("\n")[0] for tick in axes.get_xticklabels()]
    assert (sorted(names[:-2]), names[-2:]) == (["adam", "rmsprop", "sgd"], ["shuffled", "bagging"])
    table = synthetic.defended()
    table = table[~table["training.optimizer"].isin(["adam", "sgd"])]
    alone = draw("secret_sharer", "text_defences", table).axes[3]
    assert [tick.get_text().split("\n")[0] for tick in alone.get_xticklabels()] == ["shuffled", "bagging"]
