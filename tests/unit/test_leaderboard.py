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
from memorization.expansion import dataset_names, expand, load_paper
from memorization.gates import leaderboard

NONE = pd.DataFrame(columns=list(tidy.REFERENCE))
MORE = {"retrained": {"canary.insertions": 0}, "more privacy": {"privacy.epsilon": 89.0, "private": True}}
NULL = {"retrained": -23.6, "more privacy": -23.6}
"""Bits from the undefended level of 25 to the null mean."""


def board(shift=None, federated=False, **options):
    """A leaderboard's table: every cell of text_defences, two more, and federations where asked for. Unless told
    otherwise the loss is least before the end, so that early stopping stops.
    """
    options = {"falling": False} | options
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
    path = tidy_leaderboard.path(board(noise=0.0, models=1, falling=True))
    assert path["epoch"].tolist() == [2, 4, 6, 8]
    assert path["bits"].tolist() == pytest.approx([6.25, 12.5, 18.75, 25])
    at_two = path["bits_per_character"].iloc[0]
    losses = [2.3 / np.log(2), 2.13 / np.log(2), at_two, 2.10 / np.log(2), 1.9 / np.log(2), np.nan]
    rows = pd.DataFrame({"pair": "0/0", "bits_per_character": losses})
    found = tidy_leaderboard.at_equal_loss(rows, path)
    assert found["least"].tolist() == pytest.approx([np.nan, np.nan, 6.25, 6.25, 25, np.nan], nan_ok=True)
    assert found["most"].tolist() == pytest.approx([np.nan, np.nan, 6.25, 12.5, 25, np.nan], nan_ok=True)
    assert tidy_leaderboard.at_equal_loss(rows.assign(pair="9/9"), path).isna().all().all()
    bound = tidy_leaderboard.at_equal_loss(rows, path.assign(bound=path["epoch"] == 4))
    assert bound["most"].tolist() == pytest.approx([np.nan, np.nan, 6.25, np.inf, 25, np.nan], nan_ok=True)


def test_a_measured_untrained_model_counts():
    path = tidy_leaderboard.path(board(noise=0.0, models=1, falling=True))
    start = path.head(1).assign(epoch=0.0, bits=0.7, bits_per_character=2.16 / np.log(2))
    rows = pd.DataFrame({"pair": "0/0", "bits_per_character": np.array([2.3, 2.13]) / np.log(2)})
    found = tidy_leaderboard.at_equal_loss(rows, pd.concat([start, path]))
    assert found.to_numpy().tolist() == [pytest.approx([0.7, 0.7]), pytest.approx([0.7, 6.25])]


def test_a_model_whose_loss_still_falls_was_not_stopped():
    rows = tidy_leaderboard.board(board(falling=True, models=3))
    stopping = rows[rows["defence"] == "stopping"]
    assert len(stopping) == 3
    assert stopping[["bits", "bits_per_character"]].isna().all().all()
    assert not stopping["first"].any()
    rows = tidy_leaderboard.board(board(models=3, noise=0.0))
    assert rows.loc[rows["defence"] == "stopping", "bits"].tolist() == pytest.approx([18.75] * 3)


def test_what_was_learned_is_a_share_of_what_undefended_training_gains():
    table = board(noise=0.0, loss={"dropout": 0.08, "privacy": 0.16}, falling=True, federated=True)
    start = {"source": "curves", "backend": "torch", "run": "one", "step": 0, "epoch": 0.0, "test_loss_nats": 3.0,
             "private": False, "replicates": 5, "kept": False}  # fmt: skip
    table = pd.concat([table, pd.DataFrame([{**start, "replicate": k} for k in range(5)])], ignore_index=True)
    rows = tidy_leaderboard.changes(tidy_leaderboard.board(table))
    learned = rows.groupby(["setup", "label"])["learned"].mean()
    assert learned["central", "no defence"] == 1
    assert learned["central", "dropout 20 %"] == pytest.approx(0.5, abs=0.01)
    assert learned["central", "differential privacy, ε = 5.26"] == pytest.approx(0, abs=0.01)
    assert learned["federated", "Forsaken"] == pytest.approx(1, abs=0.03)
    without = tidy_leaderboard.changes(tidy_leaderboard.board(federations.table()))
    assert without["learned"].isna().all()


def test_no_change_from_a_lower_bound():
    rows = tidy_leaderboard.board(board(models=3))
    plain = (rows["defence"] == "none") & (rows["pair"] == "0/1") & (rows["canary"] == "digits")
    own = (rows["label"] == "dropout 20 %") & (rows["pair"] == "0/0")
    found = tidy_leaderboard.changes(rows.assign(bound=plain | own))
    dropout = found[found["label"] == "dropout 20 %"].set_index("pair")["bits_change"]
    assert dropout.isna().to_dict() == {"0/0": False, "0/1": True, "0/2": False}


def test_eight_bit_exposures_know_that_they_are_bounds():
    table = board(models=3)
    eight = (table["attack.quantize"] == "int8") & (table["source"] == "exposure")
    certain = table["method"].isin(["exact", "importance", "skew_normal"])
    table = table[~(eight & certain)].copy()
    table.loc[eight & (table["method"] == "sampled") & (table["kind"] == "inserted"), "extrapolated"] = True
    rows = tidy_leaderboard.board(table)
    assert rows.loc[rows["defence"] == "8 bits", "bound"].all()


# --- claims -------------------------------------------------------------------------------------------------------


def test_states_of_an_arm():
    def state(bits, arms=1, learned=1.0, bound=False):
        rows = [
            dict(zip(tidy_leaderboard.ARM, "abcd" + str(k), strict=True), bits=b, learned=learned, bound=bound)
            for k in range(arms)
            for b in bits
        ]
        return leaderboard.states(pd.DataFrame(rows), 3.0, 0.1).iloc[0]

    assert state([0.2, 1.1, 2.5]) == "protected"
    assert state([8.0, 12.0, 9.0]) == "exposed"
    assert state([0.2, 1.0, 9.0]) == "open"  # beyond the null, but not by the margin
    assert state([4.3, 4.5, 4.7]) == "open"
    assert state([8.0, 12.0, 9.0], arms=9) == "open"  # one in nine looks so by chance
    assert state([20.0, 21.0]) == "open"
    assert state([20.0, 21.0, np.nan]) == "open"
    assert state([0.2, 1.1, 2.5], learned=0.05) == leaderboard.NOTHING
    assert state([8.0, 12.0, 9.0], learned=0.05) == "exposed"
    assert state([0.2, 1.1, 2.5], learned=np.nan) == "protected"
    assert state([0.2, 1.1, 2.5], bound=True) == "open"


PRIVACY = {"defence": "privacy", "margin": 3.0}
LEARNED = {**PRIVACY, "least_learned": 0.1}


@pytest.mark.parametrize(
    ("changes", "apart", "expected"),
    [
        ({"shift": {"mask": 0.0}}, ["retrained"], True),
        ({}, ["sanitise", "retrained"], True),
        ({}, ["retrained"], False),  # masking protects too
        ({"shift": {"mask": 0.0}}, [], False),  # and so does retraining
        ({"shift": {"privacy": -10.0}}, ["sanitise", "retrained"], False),
        ({"models": 2}, ["sanitise", "retrained"], None),
        ({"loss": {"privacy": 0.1}}, ["sanitise", "retrained"], None),  # untrained 2.16 nats, undefended 2.05
        ({"shift": {"mask": 0.0}, "loss": {"retrained": 0.1}}, [], None),
        ({"falling": True}, ["sanitise", "retrained"], None),  # nobody was stopped early
        (
            {"level": 1.5, "shift": {"deduplicate": 0.0, "mask": 0.0, "privacy": 0.0, **dict.fromkeys(NULL, 0.0)}},
            [],
            None,
        ),
    ],
)
def test_only_protects(changes, apart, expected):
    assert verdict("only_protects", board(**changes), **LEARNED, level="5.26", apart=apart) is expected


def test_summary_tells_what_was_learned():
    own = {**LEARNED, "level": "5.26", "apart": ["sanitise", "retrained"]}
    table = board(loss={"privacy": 0.15}, falling=True, federated=True)
    said = TESTS["only_protects"](table, NONE, **own, seeds=4).summary
    assert "has learned nothing: differential privacy, ε = 5.26 (3.1)" in said
    assert "open: early stopping (loss still falling: not stopped)" in said
    assert "central: undefended 2.89, untrained 3.12" in said
    assert "federated: undefended 2.88, untrained unknown: whether any has learned is open" in said


def test_one_open_defence_leaves_the_claim_open():
    table = board()
    dropout = (table["source"] == "measures") & (table["run"] == f"{1:012x}") & (table["kind"] == "inserted")
    bits = table.loc[dropout, "replicate"].map({0: 0.2, 1: 1.0, 2: 9.0, 3: 3.0})
    table.loc[dropout, "exposure_bits"] = bits
    outcome = TESTS["only_protects"](table, NONE, **LEARNED, level="5.26", apart=["sanitise", "retrained"], seeds=4)
    assert outcome.verdict_supported is None
    assert "open: dropout 20 %" in outcome.summary


def test_unlearning_in_a_federation_counts_unless_set_apart():
    table = board(federated=True)
    own = {**LEARNED, "level": "5.26"}
    assert verdict("only_protects", table, **own, apart=["sanitise", "retrained"]) is False
    assert verdict("only_protects", table, **own, apart=["sanitise", "retrained", "unlearning"]) is True


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"shift": {"more privacy": -5.0}}, False),
        ({"shift": {"more privacy": -5.0}, "loss": {"privacy": 0.1}}, False),
        ({"loss": {"more privacy": 0.1}}, None),
        ({"models": 2}, None),
    ],
)
def test_all_protect(changes, expected):
    assert verdict("all_protect", board(**changes), **LEARNED, levels=["5.26", "89"]) is expected


def test_all_protect_asks_for_every_level():
    outcome = TESTS["all_protect"](board(), NONE, **LEARNED, levels=["5.26", "89", "1e+09"], seeds=4)
    assert outcome.verdict_supported is None
    assert "no model at 1e+09" in outcome.summary
    exposed = board(shift={"more privacy": -5.0})
    assert verdict("all_protect", exposed, **LEARNED, levels=["5.26", "89", "1e+09"]) is False


def test_the_levels_asked_for_are_planned_and_written_alike():
    claims = {claim.id: claim for claim in load_paper("beyond").figures["defence_leaderboard"].claims}
    levels = claims["privacy_protects_at_any_epsilon"].parameters["levels"]
    plan = expand(load_config({"scale": "reduced", "papers": ["beyond", "secret_sharer"]}), dataset_names())
    cells = plan.figures["beyond", "defence_leaderboard"].cells
    found = {f"{cell.run.privacy.epsilon:g}" for cell in cells if cell.run.privacy is not None}
    assert set(levels) == found
    reference = tidy.read_reference(PAPERS / "beyond" / "reference.csv", "defence_leaderboard")
    least = plotting.value(reference, "least learned", "loss")[0]
    shares = [claim.parameters["least_learned"] for claim in claims.values() if "least_learned" in claim.parameters]
    assert shares == [least] * 4


@pytest.mark.parametrize(
    ("changes", "apart", "expected"),
    [
        ({}, ["sanitise", "retrained"], True),
        ({}, ["retrained"], False),
        ({"noise": 8.0}, ["sanitise", "retrained"], None),
        ({"models": 2}, ["sanitise", "retrained"], None),
        ({"falling": True}, ["sanitise", "retrained"], None),
        ({"falling": True}, ["retrained"], False),
    ],
)
def test_others_do_not_lower(changes, apart, expected):
    table = board(**changes)
    table = table[~((table["source"] == "measures") & table["epoch"].isin([2, 4]))]
    same = (table["source"] == "measures") & (table["epoch"] == 6) & (table["kind"] == "inserted")
    table.loc[same, "exposure_bits"] *= 8 / 6  # what early stopping leaves is what there is at the end
    assert verdict("others_do_not_lower", table, **PRIVACY, apart=apart) is expected


@pytest.mark.parametrize(("bounds", "expected"), [([], False), (["dropout"], None), (["base"], None)])
def test_a_lower_bound_cannot_show_that_exposure_is_lowered(bounds, expected):
    """Dropout lowers it by 5 bits: shown by exposures, not by bounds of it, nor against bounds of the undefended."""
    table = board(shift={"dropout": -5.0, "deduplicate": 0.0, "mask": 0.0}, falling=True, noise=0.1)
    runs = [f"{list(synthetic.CELLS).index(cell):012x}" for cell in bounds]
    own = (table["source"] == "measures") & table["run"].isin(runs) & (table["kind"] == "inserted")
    sampled = own & (table["method"] == "sampled")
    value = table[own & (table["method"] == "importance")].set_index(["run", "replicate", "step"])["exposure_bits"]
    keys = pd.MultiIndex.from_frame(table.loc[sampled, ["run", "replicate", "step"]])
    table.loc[sampled, "exposure_bits"] = value.reindex(keys).to_numpy()
    table.loc[sampled, "extrapolated"] = True
    table = table[~(own & (table["method"] == "importance"))]
    assert verdict("others_do_not_lower", table, **PRIVACY, apart=["retrained"]) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"loss": {"privacy": 0.08, "more privacy": 0.06}}, True),
        ({"loss": {"privacy": 0.08, "more privacy": 0.06}, "shift": {"privacy": -5.0}}, False),
        ({"loss": {"privacy": 0.3, "more privacy": 0.3}}, None),  # at that loss nobody has learned anything
        ({"loss": {"privacy": 0.3, "more privacy": 0.06}}, True),
        ({"loss": {"privacy": 0.13, "more privacy": 0.06}}, None),  # it has, and no stopped model was measured there
        ({"loss": {"privacy": 0.13, "more privacy": 0.06}, "shift": {"more privacy": 0.0}}, False),
        ({"loss": {"privacy": 0.07, "more privacy": 0.06}, "shift": {"privacy": -9.5}}, None),  # between 12.5 and 18.75
        ({"models": 2, "loss": {"privacy": 0.06, "more privacy": 0.06}}, None),
    ],
)
def test_better_than_stopping(changes, expected):
    table = board(falling=True, **changes)
    assert verdict("better_than_stopping", table, defence="privacy", least_learned=0.1) is expected


def test_better_than_stopping_says_why_it_cannot_tell():
    table = board(falling=True, loss={"privacy": 0.13, "more privacy": 0.16})
    said = TESTS["better_than_stopping"](table, NONE, defence="privacy", least_learned=0.1, seeds=4).summary
    unmeasured = "5.26 (loss 3.08): no undefended model was measured at that loss"
    assert said == f"{unmeasured}; 89 (loss 3.12): has learned nothing"


@pytest.mark.parametrize("test", ["only_protects", "all_protect", "others_do_not_lower", "better_than_stopping"])
def test_nothing_is_decided_on_nothing(test):
    options = {
        "only_protects": LEARNED,
        "all_protect": {**LEARNED, "levels": ["5.26"]},
        "others_do_not_lower": PRIVACY,
        "better_than_stopping": {"defence": "privacy", "least_learned": 0.1},
    }[test]
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


def test_says_what_was_not_stopped_and_what_has_learned_nothing():
    _, said = draw(board(falling=True, loss={"privacy": 0.16}))
    assert "early stopping: loss still falling | – | –" in said
    assert f"{2.1615 / np.log(2):.3f} †" in said
    rows = figures_leaderboard.summarised(board(falling=True, loss={"privacy": 0.1, "more privacy": 0.15}))
    stopped = rows.set_index("label")["stopped"]
    assert stopped["differential privacy, ε = 5.26"] == pytest.approx(6.25, abs=0.3)
    assert np.isnan(stopped["differential privacy, ε = 89"])


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
        assert group["bits"][:-1].dropna().is_monotonic_increasing
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
