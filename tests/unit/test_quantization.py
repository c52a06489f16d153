"""Eight-bit weights: against PyTorch's own quantisation, on disk, and under both back ends."""

import json

import numpy as np
import pytest

from memorization import backends, quantization
from memorization import weights as weight_files
from memorization.errors import UserError
from memorization.runs import Run
from memorization.specs import ModelSpec, RunSpec
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary(tuple("\n 0123456789abcdefghijklmnopqrstuvwxyz"))
MODEL = ModelSpec(layers=2, units=24, embedding=11)


def initial(model=MODEL, seed=0):
    return weight_files.initial_weights(model, len(VOCABULARY), np.random.default_rng(seed))


def test_halves_are_rounded_to_even_and_the_largest_weight_is_127():
    weights = {"m": np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5], [-1.27, 0.635, 0, 0, 0, 0]], dtype=np.float32)}
    integers, scales = quantization.quantize(weights)
    assert integers["m"].dtype == np.int8
    assert integers["m"][0].tolist() == [127, 0, 2, 2, 0, -2]
    assert integers["m"][1, 0] == -127
    np.testing.assert_allclose(scales["m"], [1, 0.01], rtol=1e-6)


def test_a_row_of_zeros_stays_zero_and_vectors_are_left_alone():
    weights = {"m": np.zeros((2, 3), dtype=np.float32), "bias": np.ones(2, dtype=np.float32)}
    integers, scales = quantization.quantize(weights)
    assert integers.keys() == scales.keys() == {"m"}
    assert not quantization.dequantize(integers, scales)["m"].any()


def test_every_weight_is_within_half_a_step():
    weights = initial()
    integers, scales = quantization.quantize(weights)
    for name, array in quantization.dequantize(integers, scales).items():
        assert array.dtype == np.float32
        error = np.abs(array - weights[name])
        assert (error <= 0.5001 * scales[name][:, None]).all()
        assert error.max() > 0


def test_weights_that_are_not_finite_are_one_clear_line():
    with pytest.raises(UserError, match="m: not finite"):
        quantization.quantize({"m": np.array([[np.nan, 1.0]])})


@pytest.mark.parametrize("shape", [(7, 33), (5, 4, 3)])
def test_equals_pytorchs_quantisation_per_channel(shape):
    """Scales by torch.ao's observer, integers by torch.quantize_per_channel."""
    torch = pytest.importorskip("torch")
    from torch.ao.quantization.observer import PerChannelMinMaxObserver

    array = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    integers, scales = quantization.quantize({"m": array})
    observer = PerChannelMinMaxObserver(
        ch_axis=0, dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=-127, quant_max=127
    )
    observer(torch.from_numpy(array))
    expected, zeros = observer.calculate_qparams()
    np.testing.assert_allclose(scales["m"], expected.numpy(), rtol=1e-6)
    assert not zeros.any()
    theirs = torch.quantize_per_channel(torch.from_numpy(array), expected, zeros, 0, torch.qint8)
    np.testing.assert_array_equal(integers["m"], theirs.int_repr().numpy())
    ours = quantization.dequantize(integers, scales)["m"]
    np.testing.assert_allclose(ours, theirs.dequantize().numpy(), rtol=1e-6, atol=1e-8)


@pytest.fixture
def finished(tmp_path):
    """A run folder with two replicates that nobody trained."""
    spec = RunSpec(model=MODEL, replicates=2)
    weight_files.save(weight_files.stack([initial(seed=k) for k in (0, 1)]), tmp_path)
    record = {"backend": "torch", "spec": spec.model_dump(mode="json"), "vocabulary": VOCABULARY.symbols}
    (tmp_path / "run.json").write_text(json.dumps(record))
    return tmp_path


def test_the_stored_file_has_integers_and_is_a_quarter_of_the_size(tmp_path):
    model = ModelSpec()
    stacked = weight_files.stack([initial(model, k) for k in (0, 1)])
    weight_files.save(stacked, tmp_path)
    quantization.write_quantized(tmp_path, tmp_path / "q")
    with np.load(tmp_path / "q" / quantization.FILE) as archive:
        assert archive["lstm.weight_hh_l1"].dtype == np.int8
        assert archive["lstm.weight_hh_l1.scale"].shape == (2, 800)
        assert archive["output.bias"].dtype == np.float32
    before, after = ((tmp_path / part).stat().st_size for part in (weight_files.FILE, f"q/{quantization.FILE}"))
    assert before / after > 3.8


def test_what_is_read_back_is_the_rounded_model(finished, tmp_path):
    quantization.write_quantized(finished, tmp_path / "q")
    quantization.write_dequantized(tmp_path / "q", tmp_path / "back")
    back = weight_files.load(tmp_path / "back", MODEL, len(VOCABULARY))
    for k in (0, 1):
        weights = initial(seed=k)
        expected = weights | quantization.dequantize(*quantization.quantize(weights))
        for name, array in expected.items():
            np.testing.assert_array_equal(back[name][k], array, err_msg=name)


NEEDS = {"torch": lambda: pytest.importorskip("torch"), "tf": lambda: pytest.importorskip("tensorflow")}


@pytest.mark.parametrize("name", NEEDS)
def test_a_run_gives_models_of_8_bit_weights_in_every_back_end(finished, tmp_path, name):
    NEEDS[name]()
    record = json.loads((finished / "run.json").read_text())
    (finished / "run.json").write_text(json.dumps(record | {"backend": name}))
    run = Run.open(finished)
    ids = np.random.default_rng(2).integers(0, len(VOCABULARY), (5, 30))
    plain, rounded = run.models(), run.models("int8", tmp_path / "kept")
    quantization.write_dequantized(tmp_path / "kept", tmp_path / "by_hand")
    by_hand = backends.load(name).load(tmp_path / "by_hand", run.spec, VOCABULARY)
    for k in (0, 1):
        bits = rounded[k].log_perplexity(ids)
        np.testing.assert_allclose(bits, by_hand[k].log_perplexity(ids), rtol=1e-6)
        assert np.abs(bits - plain[k].log_perplexity(ids)).max() > 1e-4
        np.testing.assert_allclose(bits, plain[k].log_perplexity(ids), rtol=0.02)
