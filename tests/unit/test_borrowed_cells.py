"""A figure may show the experiments of others, of several, and add cells: `cells_of`, `more_cells`."""

import pytest

from memorization import expansion
from memorization.cells import PaperSpec
from memorization.configuration import load_config
from memorization.errors import UserError

TEXT = {"title": "t", "sources": ["curves"]}
SOURCE = {
    "title": "a",
    "citation": "c",
    "run": {"corpus": {"dataset": "ptb"}},
    "figures": {
        "one": {
            **TEXT, "base": {"canary": {"insertions": 4}}, "cells": [{"seed": 1}, {"seed": 2}, {"seed": 3}],
            "attack": {"references": 100},
            "scales": {"reduced": {"cells": 2, "factors": {"canary.insertions": 2}, "caps": {"training.epochs": 3}}},
        },
        "two": {
            **TEXT, "base": {"canary": {"insertions": 8}}, "cells": [{"seed": 1}, {"seed": 9}],
            "backends": ["torch", "tf"], "attack": {"references": 100},
            "scales": {"reduced": {"caps": {"training.epochs": 3}}},
        },
    },
}  # fmt: skip


@pytest.fixture
def plan(monkeypatch):
    """The plan of paper `a` above and of paper `b` with one figure, whose fields are given."""

    def make(scale="reduced", **figure):
        trees = {"a": SOURCE, "b": {"title": "b", "citation": "c", "figures": {"shown": {**TEXT, **figure}}}}
        papers = {name: PaperSpec.model_validate(tree) for name, tree in trees.items()}
        monkeypatch.setattr(expansion, "load_paper", papers.__getitem__)
        monkeypatch.setattr(expansion, "known_papers", lambda: sorted(papers))
        return expansion.expand(load_config({"papers": ["a", "b"], "scale": scale}), {"ptb"})

    return make


def shown(plan):
    return [(c.backend, c.run.seed, c.run.canary.insertions) for c in plan.figures["b", "shown"].cells]


def test_one_figure_or_several_and_a_run_of_both_once(plan):
    assert shown(plan(cells_of="a/one")) == [("torch", 1, 8), ("torch", 2, 8)]
    both = plan(cells_of=["a/one", "a/two"])
    assert shown(both) == [("torch", 1, 8), ("torch", 2, 8), ("torch", 9, 8)]
    assert len(both.runs) == 3


def test_back_ends_are_those_that_both_figures_name(plan):
    found = plan(cells_of=["a/one", "a/two"], backends=["torch", "tf"])
    assert shown(found)[2:] == [("tf", 1, 8), ("torch", 9, 8), ("tf", 9, 8)]
    assert shown(plan(cells_of=["a/one", "a/two"], backends=["tf"])) == [("tf", 1, 8), ("tf", 9, 8)]


def test_more_cells_start_from_the_first_figure_under_its_caps(plan):
    found = plan(
        cells_of=["a/one", "a/two"], more_cells=[{"canary.insertions": 0}, {"training.dropout": 0.5, "attack": None}]
    )
    *_, without, dropped = found.figures["b", "shown"].cells
    assert (without.run.canary.insertions, dropped.run.canary.insertions) == (0, 8)  # none stays none
    assert dropped.run.training.dropout == 0.5
    assert {without.run.training.epochs, dropped.run.training.epochs} == {3.0}
    assert without.attack.references == 100
    assert dropped.attack is None
    assert dropped.varied == {"training.dropout": 0.5}
    tried = plan(scale="trial", cells_of=["a/one", "a/two"], more_cells=[{"seed": 5}, {"seed": 6}])
    assert shown(tried) == [("torch", 1, 4), ("torch", 1, 8), ("torch", 5, 4)]


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ({"cells_of": ["a/one", "a/three"]}, r"no figure 'a/three' with cells of its own"),
        ({"cells_of": "a/one", "grid": {"seed": [1]}}, r"cells_of: .*grid.* come from that figure"),
        ({"cells_of": "b/shown"}, r"no figure 'b/shown' with cells of its own"),
    ],
)
def test_what_cannot_be_shown_is_one_line(plan, figure, said):
    with pytest.raises(UserError, match=said):
        plan(**figure)
