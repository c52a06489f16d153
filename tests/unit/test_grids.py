"""Tables 4 and 5: claims on made-up tables, drawings, sizes of the models, and what is refused."""

import pandas as pd
import pytest
from synthetic_grids import architectures, batches

from memorization import backends, figures_grids, tidy, tidy_grids
from memorization.errors import UserError
from memorization.expansion import PAPERS as FOLDER
from memorization.expansion import load_paper
from memorization.gates import grids
from memorization.specs import ModelSpec, RunSpec
from memorization.weights import parameter_count

REFERENCE = FOLDER / "secret_sharer" / "reference.csv"


def reference(figure):
    return tidy.read_reference(REFERENCE, figure)


def memorise(table, value="skew_normal", seeds=10):
    return grids.recurrent_memorise_more(table, None, value=value, rows=9, seeds=seeds)


def larger(table, seeds=10):
    return grids.larger_batches_memorise_more(table, None, low=16, high=128, units=150, seeds=seeds)


def turns(table, seeds=10):
    peaks = {150: 512, 200: 128, 250: 128}
    return grids.batch_effect_turns_over(table, None, peaks=peaks, last=1024, seeds=seeds)


# --- claims -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["skew_normal", "bits"])
def test_recurrent_rows_above_all_others_are_found(value):
    outcome = memorise(architectures(), value)
    assert outcome.verdict_supported is True
    assert outcome.estimate > 0.9
    assert outcome.n == 10


def test_two_seeds_suffice_for_a_difference_that_large():
    assert memorise(architectures(replicates=2)).verdict_supported is True


def test_one_row_out_of_order_contradicts_only_with_the_planned_seeds():
    shifted = {"cnn": 37.0}
    assert memorise(architectures(shift=shifted)).verdict_supported is False
    assert memorise(architectures(replicates=2, shift=shifted)).verdict_supported is None


def test_the_opposite_is_a_contradiction_with_few_seeds_too():
    opposite = {"gru": 10.0, "lstm": 10.0, "cnn": 30.0, "wavenet": 30.0}
    assert memorise(architectures(replicates=2, shift=opposite)).verdict_supported is False


def test_the_transformer_is_in_neither_group():
    assert memorise(architectures(shift={"transformer": 60.0})).verdict_supported is True
    assert memorise(architectures(shift={"transformer": 0.5})).verdict_supported is True


def test_missing_rows_leave_it_open():
    outcome = memorise(architectures(drop=("wavenet",)))
    assert outcome.verdict_supported is None
    assert "7 of 9" in outcome.summary


def test_losses_of_recurrent_rows():
    better = grids.recurrent_predict_better
    assert better(architectures(), None, rows=9, seeds=10).verdict_supported is True
    worse = architectures(replicates=2, loss={"gru": 1.5, "lstm": 1.5})
    assert better(worse, None, rows=9, seeds=10).verdict_supported is False
    assert better(architectures(drop=("cnn",)), None, rows=9, seeds=10).verdict_supported is None


def test_equal_losses_of_recurrent_rows():
    def equal(table):
        return grids.recurrent_losses_equal(table, None, margin=0.03, rows=4, seeds=10).verdict_supported

    assert equal(architectures()) is True
    assert equal(architectures(loss={"gru": 1.27})) is False
    assert equal(architectures(replicates=2)) is None
    assert equal(architectures(replicates=3, loss={"gru": 1.2})) is None


def test_a_rise_with_the_batch_size_is_found_with_its_ratio():
    outcome = larger(batches())
    assert outcome.verdict_supported is True
    assert outcome.estimate == pytest.approx(26 / 8, rel=0.2)
    assert outcome.low < outcome.estimate < outcome.high
    assert "largest at 128" in outcome.summary


def test_no_rise_is_a_result_with_the_planned_seeds_only():
    assert larger(batches(effect=0.0)).verdict_supported is False
    assert larger(batches(effect=0.0, replicates=2)).verdict_supported is None
    assert larger(batches(effect=-2.0, turn=0, replicates=3)).verdict_supported is False


def test_columns_that_do_not_reach_both_ends_leave_it_open():
    assert larger(batches(sizes=(16, 32, 64))).verdict_supported is None


def test_the_turn_over():
    assert turns(batches()).verdict_supported is True
    assert turns(batches(turn=-3.0)).verdict_supported is False
    assert turns(batches(turn=0.0, replicates=3)).verdict_supported is None
    assert turns(batches(sizes=(16, 32, 64, 128))).verdict_supported is None


# --- tables and drawings ------------------------------------------------------------------------------------------


def test_one_row_per_model_with_the_kept_epochs_loss():
    frame = tidy_grids.by_architecture(architectures(replicates=3))
    assert len(frame) == 30
    assert set(frame["epoch"]) == {2.0}
    assert set(frame["label"]) - {"transformer, 3 layers"} == set(
        reference("tab04_architectures").query("series == 'exposure'")["label"]
    )


@pytest.mark.parametrize("replicates", [1, 2, 5])
def test_drawings(replicates):
    for table, draw in ((architectures(replicates), "tab04_architectures"), (batches(replicates), "tab05_batch_units")):
        figure = getattr(figures_grids, draw)(table, reference(draw))
        figure.canvas.draw()
        texts = [text.get_text() for axes in figure.axes for text in axes.texts]
        tables = [one for axes in figure.axes for one in axes.tables]
        texts += [cell.get_text().get_text() for one in tables for cell in one.get_celld().values()]
        assert any("619,440" in text for text in texts) or draw.startswith("tab05")
        assert any("32.5" in text for text in texts) or draw.startswith("tab04")


@pytest.mark.parametrize("draw", ["tab04_architectures", "tab05_batch_units"])
def test_drawings_of_empty_tables(draw):
    empty = pd.DataFrame({"source": [], "figure": [], "run": []})
    getattr(figures_grids, draw)(empty, reference(draw).iloc[:0]).canvas.draw()


# --- sizes and refusals -------------------------------------------------------------------------------------------


def test_every_row_of_table_4_has_the_papers_units_and_size():
    """About 620,000 parameters, +- 5,000, over PTB's 50 characters (brief, section 3.13)."""
    spec = load_paper("secret_sharer")
    cells = spec.figures["tab04_architectures"].cells
    units = reference("tab04_architectures").query("series == 'units'").set_index("label")["y"]
    for cell in cells:
        model = ModelSpec.model_validate({key.removeprefix("model."): value for key, value in cell.items()})
        assert abs(parameter_count(model, 50) - 620_000) <= 5_000, cell
        label = f"{tidy_grids.NAMES[model.architecture]}, {model.layers} layer{'s' * (model.layers > 1)}"
        assert model.architecture == "transformer" or model.units == units[label]
    assert len(cells) == 10


@pytest.mark.parametrize("architecture", ["cnn", "wavenet", "transformer"])
def test_tensorflow_refuses_what_it_has_not(architecture):
    spec = RunSpec.model_validate({"model": {"architecture": architecture}})
    backends.require_able("torch", spec, "here")
    with pytest.raises(UserError, match=f"here: model.architecture: back end 'tf' has no '{architecture}'.*torch"):
        backends.require_able("tf", spec, "here")


def test_both_back_ends_have_grus():
    spec = RunSpec.model_validate({"model": {"architecture": "gru"}})
    for backend in backends.BACKENDS:
        backends.require_able(backend, spec, "here")


def test_private_training_is_the_lstms():
    tree = {"model": {"architecture": "gru"}, "privacy": {}, "training": {"gradient_clip": None}}
    with pytest.raises(ValueError, match=r"privacy: only for model\.architecture lstm, not gru"):
        RunSpec.model_validate(tree)


def test_heads_must_divide_units():
    with pytest.raises(ValueError, match="units 10: must be a multiple of heads, 4"):
        ModelSpec(architecture="transformer", units=10)
