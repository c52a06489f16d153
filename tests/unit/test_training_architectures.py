"""Training of the architectures beside the LSTM: they learn, replicates stay apart, interrupted runs end the same."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from test_training import assert_equal_weights, fake_measure, make_spec, train  # noqa: E402

from memorization import contracts  # noqa: E402
from memorization.backends import training  # noqa: E402

ARCHITECTURES = ["gru", "cnn", "wavenet", "transformer"]
EVERYTHING = {"dropout": 0.2, "weight_decay": 1e-3, "optimizer": "adam", "learning_rate": 0.03, "patience": 1}


def spec_of(architecture, replicates=1, measure=None, **options):
    return make_spec(replicates, measure, {"architecture": architecture, "heads": 3}, **options)


@pytest.fixture(params=ARCHITECTURES)
def architecture(request):
    return request.param


@pytest.mark.parametrize("optimizer", ["rmsprop", "momentum"])
def test_loss_falls_on_a_repetitive_text(tmp_path, architecture, optimizer):
    rate = 0.1 if optimizer == "momentum" else 0.01
    _, curves = train(spec_of(architecture, epochs=8.0, optimizer=optimizer, learning_rate=rate), tmp_path)
    assert curves["validation_loss_nats"][0] == pytest.approx(np.log(38), rel=0.35)
    assert curves["train_loss_nats"][8] < 0.8 * curves["train_loss_nats"][1]


def test_a_replicate_is_bitwise_the_same_whatever_rides_along(tmp_path, architecture):
    alone, pair = (train(spec_of(architecture, n, **EVERYTHING), tmp_path / str(n)) for n in (1, 2))
    for name, array in pair[0].items():
        np.testing.assert_array_equal(array[:1], alone[0][name], err_msg=name)
    assert not np.array_equal(pair[0]["output.weight"][0], pair[0]["output.weight"][1])


def test_one_block_of_replicates_gives_the_same_training_up_to_rounding(tmp_path, monkeypatch, architecture):
    """The path that a GPU takes, on a CPU: all replicates in one group; patience takes some of them off it."""
    spec = spec_of(architecture, 3, epochs=4.0, **EVERYTHING)
    apart, apart_curves = train(spec, tmp_path / "apart")
    monkeypatch.setattr("memorization.backends.torch.blocks", lambda count, device, private=False: [list(range(count))])
    together, together_curves = train(spec, tmp_path / "together")
    assert apart_curves["step"].tolist() == together_curves["step"].tolist()
    for name in apart:
        np.testing.assert_allclose(together[name], apart[name], rtol=2e-2, atol=5e-3, err_msg=name)


def test_resuming_is_bitwise_the_same(tmp_path, monkeypatch, architecture):
    monkeypatch.setattr(training, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr("memorization.exposure.measure", fake_measure)
    measure = {"every": "epoch", "references": 20, "controls": 2}
    spec = spec_of(architecture, 2, measure, epochs=3.5, **EVERYTHING)
    whole, curves = train(spec, tmp_path / "whole")
    calls = []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) > 4:  # two replicates at the start and after the first epoch
            raise KeyboardInterrupt
        return fake_measure(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("memorization.exposure.measure", failing)
        with pytest.raises(KeyboardInterrupt):
            train(spec, tmp_path / "part")
    resumed, again = train(spec, tmp_path / "part")
    assert_equal_weights(resumed, whole)
    columns = [c for c in contracts.columns("curves") if c != "wall_s"]
    assert again[columns].equals(curves[columns])
