"""What cannot be run is refused while the plan is made, in one line that says what is possible."""

import errno

import pytest

from memorization import backends, expansion, preflight
from memorization.configuration import ROOT, load_config
from memorization.data.registry import registry
from memorization.errors import UserError

DATASETS = registry(ROOT / "config" / "datasets.yaml")
PAPER, FIGURE = "tensorflow_privacy", "b2_losses"


@pytest.fixture
def plan(monkeypatch):
    """A plan of one figure with one cell, the dotted keys of which are given."""
    paper = expansion.load_paper(PAPER)

    def make(cell):
        figure = paper.figures[FIGURE].model_copy(update={"cells": [cell]})
        changed = paper.model_copy(update={"figures": {FIGURE: figure}})
        monkeypatch.setattr(expansion, "load_paper", lambda name: changed)
        config = {"papers": [PAPER], "scale": "paper", "backends": ["torch"]}
        return expansion.expand(load_config(config), set(DATASETS))

    return make


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"privacy.epsilon": 0.001}, r"privacy\.epsilon: 0\.001 cannot be reached: .* at least 0\.0113"),
        (
            {"privacy.epsilon": 1.0e40},
            r"privacy\.epsilon: 1e\+40 .* in 14940 steps .* at most 8\.22e\+15",
        ),
        ({"privacy.epsilon": 1.0, "privacy.noise_multiplier": 1.0}, "either noise_multiplier or epsilon, not both"),
        ({"privacy.clip": -1.0}, r"privacy\.clip: -1\.0 is not allowed: .* greater than 0"),
        ({"privacy.noise_multiplier": 0.0}, r"privacy\.noise_multiplier: 0\.0 is not allowed: .* greater than 0"),
        ({"training.batch_size": 100_000}, r"training\.batch_size 100000: the data have 63770 examples"),
        ({"training.optimizer": "lion"}, r"training\.optimizer: 'lion' .* 'rmsprop', 'adam', 'sgd'"),
        ({"training.gradient_clip": 5.0}, r"training\.gradient_clip must be null under privacy"),
        ({"corpus.dataset": "mnist"}, "task text: data set 'mnist' holds images"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_run_is_refused(plan, cell, message):
    with pytest.raises(UserError, match=message) as caught:
        preflight.check(plan(cell), DATASETS)
    assert f"{PAPER}/figures.yaml: {FIGURE}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_back_end_lacks_is_refused_with_who_has_it(plan, monkeypatch):
    monkeypatch.setitem(backends.LACKS, "torch", {"training.optimizer": ("adam",)})
    with pytest.raises(UserError, match=r"back end 'torch' has no 'adam'; those that have: tf"):
        plan({})


@pytest.mark.parametrize("cell", [{"privacy.epsilon": 0.5}, {"privacy.epsilon": 1.0e9}, {"privacy": None}, {}])
def test_what_can_be_run_is_accepted(plan, cell):
    preflight.check(plan(cell), DATASETS)


def test_the_committed_figures_pass_at_every_scale():
    for scale in ("smoke", "reduced", "paper", "trial"):
        preflight.check(expansion.expand(load_config({"scale": scale}), set(DATASETS)), DATASETS)


def test_folders_are_made_and_one_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    preflight.require_writable([tmp_path / "a" / "b", tmp_path])
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/c: no file can be made in it \(.+\): mend that"):
        preflight.require_writable([tmp_path / "file" / "c"])

    def refuse(**options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(preflight.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match=r"may not be written \(Read-only file system\): make the folder writable"):
        preflight.require_writable([tmp_path])
