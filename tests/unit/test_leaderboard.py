"""The defence leaderboard: its table, each test saying yes, no and that it cannot, and its drawing."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import synthetic_defences as synthetic
import test_canary_forgetting as federations
from matplotlib.text import Text
from papers_paths import PAPERS

from memorization import figures_leaderboard, plotting, tidy, tidy_leaderboard
from memorization.claims import TESTS
from memorization.configuration import load_config
from memorization.expansion import dataset_names, expand
from memorization.gates import leaderboard

NONE = pd.DataFrame(columns=list(tidy.REFERENCE))
MORE = {"retrained": {"canary.insertions": 0}, "more privacy": {"privacy.epsilon": 89.0, "private": True}}
NULL = {"retrained": -23.6, "more privacy": -23.6}
"""Bits from the undefended level of 25 to the null mean."""


def board(shift=None, federated=False, **options):
    """A leaderboard's table: every cell of text_defences, two more, and federations where asked for."""
    table = synthetic.defended("defence_leaderboard", shift={**NULL, **(shift or {})}, more=MORE, **options)
    return pd.concat([table, federations.table()], ignore_index=True) if federated else table


def verdict(test, table, **parameters):
    return TESTS[test](table, NONE, **parameters, seeds=4).verdict_supported


# --- the table ----------------------------------------------------------------------------------------------------


def test_board_has_one_row_per_model_and_defence():
    rows = tidy_leaderboard.board(board(models=3, federated=True))
    assert rows.groupby(tidy_leaderboard.ARM).size().loc["central"].eq(3).all()
    labels = set(rows.loc[rows["setup"] == "central", "label"])
    assert {"no defence", "early stopping", "8-bit weights", "dropout 20 %", "retrained without it"} <= labels
    assert {"differential privacy, ε = 5.26", "differential privacy, ε = 89"} <= labels
    assert not {"adam", "sgd"} & set(rows["level"])  # no defences
    forgotten = rows[rows["setup"] == "federated"]
    assert set(forgotten["label"]) == set(tidy_leaderboard.UNLEARNING.values())  # and no placebo
    assert forgotten.groupby("label").size().eq(5).all()
    plain = forgotten[forgotten["defence"] == "none"]
    assert plain["bits"].mean() == pytest.approx(19, abs=1.5)
    assert plain["bits_per_character"].mean() == pytest.approx(2 / np.log(2), abs=0.05)


def test_changes_are_within_set_up_canary_and_seed():
    rows = tidy_leaderboard.changes(tidy_leaderboard.board(board(noise=0.0, loss={"dropout": 0.1}, federated=True)))
    means = rows.groupby(["setup", "canary", "label"])[["bits_change", "loss_change"]].mean()
    assert means.loc["central", "digits", "no defence"].tolist() == [0, 0]
    dropout = means.loc["central", "digits", "dropout 20 %"]
    assert dropout.tolist() == pytest.approx([0, 0.1 / np.log(2)])
    assert means.loc["central", "digits", "lines deduplicated"]["bits_change"] == pytest.approx(-8)
    assert means.loc["federated", "digits", "Forsaken"]["bits_change"] == pytest.approx(-17.5, abs=2)


def test_eight_bits_cost_what_rounding_adds_to_the_validation_loss():
    rows = tidy_leaderboard.changes(tidy_leaderboard.board(board(int8=(-2.0, 0.01))))
    rounded = rows[rows["label"] == "8-bit weights"]
    assert rounded["loss_change"].to_numpy() == pytest.approx(0.01 / np.log(2))


def test_stopping_at_an_equal_loss_is_read_off_the_undefended_path():
    table = board(noise=0.0, models=1)
    path = tidy_leaderboard.path(table)
    assert path["epoch"].tolist() == [0, 2, 4, 6, 8]
    assert path["bits"].tolist() == pytest.approx([1 / np.log(2), 6.25, 12.5, 18.75, 25])
    losses = np.array([2.3, 2.16, 2.12, 2.10, 2.08, 2.0, 1.9]) / np.log(
        2
    )  # of epochs before 0, 0, 2, 3, 4, 8, beyond 8
    rows = pd.DataFrame({"pair": "0/0", "bits_per_character": losses})
    found = tidy_leaderboard.at_equal_loss(rows, path)
    assert found.tolist() == pytest.approx([1.4427, 1.4427, 6.25, 9.375, 12.5, 25, 25], abs=1e-3)
    assert tidy_leaderboard.at_equal_loss(rows.assign(pair="9/9"), path).isna().all()


# --- claims -------------------------------------------------------------------------------------------------------


def test_states_of_an_arm():
    def state(bits, arms=1):
        rows = [
            dict(zip(tidy_leaderboard.ARM, "abcd" + str(k), strict=True), bits=b) for k in range(arms) for b in bits
        ]
        return leaderboard.states(pd.DataFrame(rows), 3.0).iloc[0]

    assert state([0.2, 1.1, 2.5]) == "protected"
    assert state([8.0, 12.0, 9.0]) == "exposed"
    assert state([0.2, 1.0, 9.0]) == "exposed"
    assert state([0.2, 1.0, 9.0], arms=9) == "open"  # one in nine looks so by chance
    assert state([20.0, 21.0]) == "open"


PRIVACY = {"defence": "privacy", "margin": 3.0}


@pytest.mark.parametrize(
    ("changes", "apart", "expected"),
    [
        ({"shift": {"mask": 0.0}}, ["retrained"], True),
        ({}, ["sanitise", "retrained"], True),
        ({}, ["retrained"], False),  # masking protects too
        ({"shift": {"mask": 0.0}}, [], False),  # and so does retraining
        ({"shift": {"privacy": -10.0}}, ["sanitise", "retrained"], False),
        ({"models": 2}, ["sanitise", "retrained"], None),
        (
            {"level": 1.5, "shift": {"deduplicate": 0.0, "mask": 0.0, "privacy": 0.0, **dict.fromkeys(NULL, 0.0)}},
            [],
            None,
        ),
    ],
)
def test_only_protects(changes, apart, expected):
    assert verdict("only_protects", board(**changes), **PRIVACY, level="5.26", apart=apart) is expected


def test_one_open_defence_leaves_the_claim_open():
    table = board()
    dropout = (table["source"] == "measures") & (table["run"] == f"{1:012x}") & (table["kind"] == "inserted")
    bits = table.loc[dropout, "replicate"].map({0: 0.2, 1: 1.0, 2: 9.0, 3: 3.0})
    table.loc[dropout, "exposure_bits"] = bits
    outcome = TESTS["only_protects"](table, NONE, **PRIVACY, level="5.26", apart=["sanitise", "retrained"], seeds=4)
    assert outcome.verdict_supported is None
    assert "open: dropout 20 %" in outcome.summary


def test_unlearning_in_a_federation_counts_unless_set_apart():
    table = board(federated=True)
    own = {**PRIVACY, "level": "5.26"}
    assert verdict("only_protects", table, **own, apart=["sanitise", "retrained"]) is False
    assert verdict("only_protects", table, **own, apart=["sanitise", "retrained", "unlearning"]) is True


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"shift": {"more privacy": -5.0}}, False),
        ({"models": 2}, None),
    ],
)
def test_all_protect(changes, expected):
    assert verdict("all_protect", board(**changes), **PRIVACY) is expected


@pytest.mark.parametrize(
    ("changes", "apart", "expected"),
    [
        ({}, ["sanitise", "retrained"], True),
        ({}, ["retrained"], False),
        ({"noise": 8.0}, ["sanitise", "retrained"], None),
        ({"models": 2}, ["sanitise", "retrained"], None),
    ],
)
def test_others_do_not_lower(changes, apart, expected):
    assert verdict("others_do_not_lower", board(**changes), **PRIVACY, apart=apart) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"loss": {"privacy": 0.08, "more privacy": 0.06}}, True),
        ({"loss": {"privacy": 0.08, "more privacy": 0.06}, "shift": {"privacy": -5.0}}, False),
        ({"loss": {"privacy": 0.3, "more privacy": 0.3}}, None),  # at that loss nobody has learned anything
        ({"loss": {"privacy": 0.3, "more privacy": 0.06}}, True),
        ({"models": 2}, None),
    ],
)
def test_better_than_stopping(changes, expected):
    assert verdict("better_than_stopping", board(**changes), defence="privacy") is expected


@pytest.mark.parametrize("test", ["only_protects", "all_protect", "others_do_not_lower", "better_than_stopping"])
def test_nothing_is_decided_on_nothing(test):
    options = {"defence": "privacy"} if test == "better_than_stopping" else PRIVACY
    assert verdict(test, board(models=1)[:0], **options) is None
    assert verdict(test, board(models=1), **options) is None


# --- the drawing and the plan -------------------------------------------------------------------------------------


def draw(table):
    spec = importlib.util.spec_from_file_location("beyond_plots", PAPERS / "beyond" / "plots.py")
    plots = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plots)
    reference = tidy.read_reference(PAPERS / "beyond" / "reference.csv", "defence_leaderboard")
    figure = plots.defence_leaderboard(table, reference)
    cells = [cell.get_text() for axes in figure.axes for found in axes.tables for cell in found.get_celld().values()]
    return figure, " | ".join(text.get_text() for text in figure.findobj(Text) + cells)


@pytest.mark.parametrize("models", [1, 4])
def test_draws(models):
    figure, said = draw(board(models=models, federated=True))
    figure.canvas.draw()
    assert figure.get_figwidth() <= plotting.WIDTH
    for told in ("Federation, another size", "federation: Forsaken", "letters: digits masked", "8-bit weights"):
        assert told in said


def test_draws_what_there_is():
    whole = board(models=1, federated=True)
    for source in whole["source"].unique():
        draw(whole[whole["source"] == source])
    assert "no model was defended" in draw(whole[whole["source"] == "details"])[1]
    assert "no federation was asked to forget" in draw(board(models=1))[1]
    assert "nothing was measured" in draw(whole[:0])[1]


def test_the_ranking_puts_the_least_exposed_first():
    rows = figures_leaderboard.summarised(board(federated=True))
    for _, group in rows.groupby(["setup", "canary"], sort=False):
        assert group["bits"][:-1].is_monotonic_increasing
        assert group["defence"].iloc[-1] == "none"
    assert rows["number"].tolist() == list(range(1, len(rows) + 1))


@pytest.mark.parametrize("scale", ["smoke", "reduced", "paper"])
def test_it_trains_only_what_the_other_figures_do_not(scale):
    config = {"scale": scale, "figures": ["defence_leaderboard", "text_defences", "canary_unlearning"]}
    papers = ["beyond", "secret_sharer", "learn_to_forget"]
    plan = expand(load_config({**config, "papers": papers}), dataset_names())
    runs = {key: {cell.run.run_id for cell in figure.cells} for (_, key), figure in plan.figures.items()}
    own = runs["defence_leaderboard"] - runs["text_defences"] - runs["canary_unlearning"]
    assert runs["text_defences"] | runs["canary_unlearning"] < runs["defence_leaderboard"]
    assert len(own) == (3 if scale == "paper" else 4)  # at paper scale epsilon 89 is there already
    specs = [plan.runs[run] for run in own]
    assert [spec.canary.insertions for spec in specs if spec.privacy is None] == [0]
    central = {spec.corpus.fraction for spec in plan.runs.values() if spec.task == "text"}
    assert len(central) == 1
