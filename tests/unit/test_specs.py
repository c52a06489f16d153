"""Specifications: strictness, identity, expansion."""

import pytest

from memorization.configuration import load_config, validate
from memorization.dotted import merge, shrink
from memorization.errors import UserError
from memorization.expansion import Plan, expand
from memorization.federated_specs import FederatedRunSpec
from memorization.figure_specs import FigureSpec
from memorization.spec_base import canonical_json
from memorization.specs import AttackSpec, RunSpec


def run_spec(**tree) -> RunSpec:
    return validate(RunSpec, tree, "test.yaml")


def test_run_id_is_pinned():
    # A golden value: if it changes, every finished run anywhere is orphaned. Then raise NUMERICS_VERSION on purpose.
    assert RunSpec().run_id == "f445958a81eb"
    assert AttackSpec().attack_id == "6c7bd5a3d2a6"


def test_run_id_depends_on_content_not_on_spelling():
    written = run_spec(training={"epochs": 20, "learning_rate": 1.0e-3})
    assert written.run_id == RunSpec().run_id
    assert run_spec(seed=1).run_id != RunSpec().run_id
    assert RunSpec.model_validate_json(canonical_json(written)) == written


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (
            {"training": {"learning_rate": "1e-3"}},
            r"test.yaml: training.learning_rate: '1e-3'.*YAML reads 1e-3 as text",
        ),
        (
            {"training": {"batchsize": 3}},
            r"unknown key 'training.batchsize'; allowed here: optimizer, learning_rate, batch_",
        ),
        ({"training": {"optimizer": "rmspop"}}, r"training.optimizer: 'rmspop'.*'rmsprop', 'adam', 'sgd',"),
        ({"training": {"shuffle": "no"}}, r"training.shuffle: 'no'"),
        ({"corpus": {"fraction": 0.0}}, r"corpus.fraction: 0.0.*greater than 0"),
        ({"canary": {"format": "Hello {q}"}}, r"canary: .*unknown: \['q'\]"),
        ({"canary": {"fill": "12"}}, r"'12' does not fill the format"),
        ({"replicates": 2.5}, r"replicates: 2.5"),
        ({"colour": 1}, r"unknown key 'colour'; allowed here: replicates, seed, task, corpus, canary"),
    ],
)
def test_mistakes_are_named(tree, said):
    with pytest.raises(UserError, match=said):
        run_spec(**tree)


def test_specs_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        RunSpec().seed = 3


def test_caps_only_shrink():
    spec = run_spec(training={"epochs": 3.0}, replicates=7)
    small = shrink(spec, {"training.epochs": 10, "replicates": 4, "training.patience": 2}, "here")
    assert (small.training.epochs, small.replicates, small.training.patience) == (3.0, 4, None)
    with pytest.raises(UserError, match=r"unknown key 'training\.epoch'"):
        shrink(spec, {"training.epoch": 10}, "here")


def test_caps_reach_into_lists():
    requests = [{"method": "retrain", "rounds": 3}, {"method": "ascent"}]
    spec = FederatedRunSpec(task="federated", requests=requests, model={"units": (16, 64)})
    small = shrink(spec, {"requests.rounds": 5, "model.units": 32}, "here")
    assert [request.rounds for request in small.requests] == [3, 5]
    assert small.model.units == (16, 32)
    with pytest.raises(UserError, match=r"unknown key 'requests\.round'"):
        shrink(spec, {"requests.round": 5}, "here")


def test_merge_is_deep_and_leaves_its_arguments_alone():
    low = {"a": {"b": 1, "c": 2}}
    assert merge(low, {"a": {"c": 3}}) == {"a": {"b": 1, "c": 3}}
    assert low == {"a": {"b": 1, "c": 2}}


def expanded(monkeypatch, figure: dict, scale: str = "paper") -> Plan:
    """The plan of a paper with the one figure given."""
    from memorization import expansion

    paper = expansion.PaperSpec(
        title="t",
        citation="c",
        figures={"fig": validate(FigureSpec, {"title": "t", "sources": ["curves"], **figure}, "f")},
    )
    monkeypatch.setattr(expansion, "load_paper", lambda name: paper)
    return expand(load_config({"scale": scale, "papers": ["p"]}), {"ptb"})


def test_grid_is_a_product_and_runs_are_shared(monkeypatch):
    plan = expanded(monkeypatch, {"grid": {"seed": [0, 1], "training.dropout": [0.0, 0.5]}})
    figure = plan.figures["p", "fig"]
    assert [c.varied for c in figure.cells] == [{"seed": s, "training.dropout": d} for s in (0, 1) for d in (0.0, 0.5)]
    assert len(plan.runs) == 4
    assert plan.backends == ["torch"]


def test_a_cell_may_ask_for_no_attack_and_no_score(monkeypatch):
    figure = {"attack": {}, "score": {}, "cells": [{"attack.quantize": "int8"}, {"attack": None, "score": None}]}
    plan = expanded(monkeypatch, figure)
    asked, spared = plan.figures["p", "fig"].cells
    assert asked.run == spared.run
    assert (asked.attack.quantize, asked.score is None) == ("int8", False)
    assert (spared.attack, spared.score, spared.varied) == (None, None, {})
    assert (len(plan.runs), len(plan.attacks), len(plan.scores)) == (1, 1, 1)


def test_a_figure_without_models_needs_no_back_end(monkeypatch):
    assert expanded(monkeypatch, {"sources": ["static"]}).backends == []


def test_scale_narrows_grid_and_numbers(monkeypatch):
    figure = {
        "grid": {"seed": [0, 1, 2]},
        "base": {"replicates": 20},
        "scales": {"reduced": {"grid": {"seed": [2]}, "caps": {"replicates": 3}}},
    }
    assert [c.run.seed for c in expanded(monkeypatch, figure).figures["p", "fig"].cells] == [0, 1, 2]
    (cell,) = expanded(monkeypatch, figure, "reduced").figures["p", "fig"].cells
    assert (cell.run.seed, cell.run.replicates) == (2, 3)
    assert cell.run.corpus.fraction <= 0.05


def test_several_grids_are_united_and_every_cell_tells_all_their_keys(monkeypatch):
    figure = {
        "grids": [{"seed": [0, 1], "training.dropout": [0.0, 0.5]}, {"replicates": [1, 2, 3]}],
        "base": {"replicates": 7},
        "scales": {
            "reduced": {"grid": {"training.dropout": [0.0], "replicates": [2]}},
            "smoke": {"grid": {"seed": []}},
        },
    }
    cells = expanded(monkeypatch, figure).figures["p", "fig"].cells
    assert len(cells) == 7
    assert cells[3].varied == {"seed": 1, "training.dropout": 0.5, "replicates": 7}
    assert cells[4].varied == {"replicates": 1, "seed": 0, "training.dropout": 0.0}
    small = expanded(monkeypatch, figure, "reduced").figures["p", "fig"].cells
    assert [(c.varied["seed"], c.varied["replicates"]) for c in small] == [(0, 5), (1, 5), (0, 2)]
    assert len(expanded(monkeypatch, figure, "smoke").figures["p", "fig"].cells) == 3


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (
            {"grid": {"seed": [0]}, "scales": {"paper": {"grid": {"seed": [5]}}}},
            r"\[5\] is not a subset of \[0\]",
        ),
        ({"base": {"corpus": {"dataset": "ptbb"}}}, r"corpus.dataset: unknown 'ptbb'; known: ptb"),
        ({"backends": ["jax"]}, r"unknown back end 'jax'; known: torch"),
        ({"grid": {"training.lr": [1]}}, r"unknown key 'training.lr'"),
        ({"grid": {"seed": [0]}, "cells": [{"seed": 1}]}, "either grid or cells"),
    ],
)
def test_mistakes_in_figures_are_named(monkeypatch, figure, said):
    with pytest.raises(UserError, match=said):
        expanded(monkeypatch, figure)
