"""Initial weights, the model file and progress: no torch needed."""

import io

import numpy as np
import pytest

from memorization import weights as weight_files
from memorization.errors import UserError
from memorization.progress import Progress, duration
from memorization.specs import ModelSpec
from memorization.streams import stream


def test_paper_model_has_the_papers_size():
    """Brief section 5: 50 characters, embedding 154, one bias vector per gate: 623K."""
    assert weight_files.parameter_count(ModelSpec(), 50) == 622_550


def test_initial_weights_follow_pytorch_defaults():
    model = ModelSpec(units=64, embedding=40)
    weights = weight_files.initial_weights(model, 50, stream(0, 0, "init"))
    assert {name: a.shape for name, a in weights.items()} == weight_files.shapes(model, 50)
    assert all(a.dtype == np.float32 for a in weights.values())
    assert weights["embedding.weight"].std() == pytest.approx(1, rel=0.05)
    for name in ("lstm.weight_ih_l0", "lstm.weight_hh_l1", "lstm.bias_ih_l0", "output.weight"):
        assert 0.9 / 8 < np.abs(weights[name]).max() <= 1 / 8
        assert weights[name].std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.1)
    assert not weights["lstm.bias_hh_l0"].any()


def test_one_hot_input_has_no_embedding_and_a_wider_first_layer():
    """2 x 200 units, 50 characters: (50 + 200 + 1) 800 + (200 + 200 + 1) 800 + (200 + 1) 50."""
    model = ModelSpec(embedding=None)
    shapes = weight_files.shapes(model, 50)
    assert "embedding.weight" not in shapes
    assert shapes["lstm.weight_ih_l0"] == (800, 50)
    assert weight_files.parameter_count(model, 50) == 531_650
    weights = weight_files.initial_weights(model, 50, stream(0, 0, "init"))
    assert {name: a.shape for name, a in weights.items()} == shapes


@pytest.mark.parametrize("embedding", [4, None])
def test_names_and_shapes_load_into_torch_modules(embedding):
    torch = pytest.importorskip("torch")
    weights = weight_files.initial_weights(ModelSpec(units=6, embedding=embedding), 9, stream(0, 0, "init"))
    lstm = torch.nn.LSTM(embedding or 9, 6, 2)
    lstm.load_state_dict(
        {n.removeprefix("lstm."): torch.from_numpy(a) for n, a in weights.items() if n.startswith("lstm.")}
    )


def test_save_and_load_are_inverse(tmp_path):
    model = ModelSpec(units=3, embedding=2)
    stacked = weight_files.stack([weight_files.initial_weights(model, 5, stream(0, k, "init")) for k in range(2)])
    weight_files.save(stacked, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
    loaded = weight_files.load(tmp_path, model, 5)
    assert loaded.keys() == stacked.keys()
    for name, array in stacked.items():
        np.testing.assert_array_equal(loaded[name], array)


def test_truncated_model_file_is_reported(tmp_path):
    model = ModelSpec(units=3, embedding=2)
    weight_files.save(weight_files.stack([weight_files.initial_weights(model, 5, stream(0, 0, "init"))]), tmp_path)
    path = tmp_path / weight_files.FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        weight_files.load(tmp_path, model, 5)


def test_plain_progress_prints_seldom_and_estimates_the_rest():
    now, log = [0.0], io.StringIO()
    with Progress(100, "training", done=50, interval_s=10, stream=log, clock=lambda: now[0]) as progress:
        for _ in range(25):
            now[0] += 1
            progress.advance(1, note="loss 1.2")
        assert progress.left_s() == pytest.approx(25)
        assert log.getvalue().splitlines() == [
            "training: 60%, 10 s so far, about 40 s left, loss 1.2",
            "training: 70%, 20 s so far, about 30 s left, loss 1.2",
        ]
    assert log.getvalue().splitlines()[-1] == "training: 75%, 25 s so far, about 25 s left, loss 1.2"


def test_terminal_progress_draws_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    with Progress(4, "training", stream=screen) as progress:
        progress.advance(4, note="done")
    assert "training" in screen.getvalue()


@pytest.mark.parametrize(("seconds", "text"), [(48.2, "48 s"), (720, "12 min"), (12_240, "3.4 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text
