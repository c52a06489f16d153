"""Loss-sensitivity of whole runs: what goes into details.csv, of the training that was."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from memorization import contracts, gini, weights  # noqa: E402
from memorization.backends.details import Details  # noqa: E402
from memorization.backends.torch import sensitivity  # noqa: E402
from memorization.backends.torch.classifier_group import DeviceData, train_classifiers  # noqa: E402
from memorization.backends.torch.unrolled import Replay, derivatives  # noqa: E402
from memorization.classifier_specs import ClassifierRunSpec  # noqa: E402
from memorization.data.labelled import LabelledData  # noqa: E402
from memorization.noise import GaussianImages  # noqa: E402

CPU = torch.device("cpu")
EXAMPLES, CLASSES, STEPS = 30, 3, 13


def make_spec(classes="own", matrix=False, **options):
    return ClassifierRunSpec.model_validate(
        {
            "task": "classification",
            "replicates": 3,
            "data": {"train_examples": EXAMPLES, "classes": classes},
            "model": {"units": 6},
            "training": {"learning_rate": 0.3, "batch_size": 8, "epochs": STEPS / 4},
            "measure": {"evaluations": 1, "sensitivity": {"times": 4, "classes": matrix}},
        }
        | options
    )


def make_data(classes=CLASSES):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((EXAMPLES, 1, 3, 3)).astype(np.float32)
    labels = np.arange(EXAMPLES) % classes
    clean = np.zeros(EXAMPLES, dtype=bool)
    gaussian = GaussianImages.like(images, "scalar")
    return LabelledData(images, labels, labels, clean, images[:9], labels[:9], classes, 1.0, gaussian)


def recorded(spec, data):
    details = Details()
    sensitivity.record(spec, DeviceData(data, CPU), CPU, details)
    return contracts.check("details", details.frame())


def test_what_is_unrolled_is_the_training(tmp_path):
    spec, data = make_spec(), make_data()
    train_classifiers(spec, data, tmp_path, CPU)
    run = sensitivity.unrolled(spec, DeviceData(data, CPU), [0, 1, 2], STEPS, CPU)
    trained, replayed = weights.read(tmp_path), Replay(run).last
    assert len(run.batches) == STEPS
    for name, (weight, bias) in zip(("hidden1", "hidden2", "output"), replayed, strict=True):
        np.testing.assert_allclose(weight.mT, trained[f"{name}.weight"], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(bias, trained[f"{name}.bias"], rtol=1e-4, atol=1e-6)
    frame = contracts.read("details", tmp_path)
    assert set(frame.loc[frame["measure"] == "gini_l1", "replicate"]) == {0, 1, 2}


def test_rows_are_norms_of_the_derivatives():
    spec, data = make_spec(matrix=True), make_data()
    frame, times = recorded(spec, data), gini.log_spaced(STEPS, 4)
    run = sensitivity.unrolled(spec, DeviceData(data, CPU), [0, 1, 2], STEPS, CPU)
    found = derivatives(run, times, torch.full((1, EXAMPLES), 1 / EXAMPLES))[:, 0].numpy()
    norms = np.abs(found).sum(-1)
    now = frame[(frame["measure"] == "gini_l1") & (frame["part"] == "now")]
    wide = now.pivot(index="replicate", columns="step", values="value")
    assert list(wide.columns) == times
    np.testing.assert_allclose(wide, gini.gini(norms), rtol=1e-4)
    largest = frame[(frame["measure"] == "gini_linf") & (frame["part"] == "now")]
    np.testing.assert_allclose(largest["value"], gini.gini(np.abs(found).max(-1)).ravel(), rtol=1e-4)
    means = np.einsum("k,rkn->rn", gini.running_means(times)[-1], norms)
    own = frame[frame["measure"] == "sensitivity_l1"].sort_values("item")
    np.testing.assert_allclose(own["value"], means.mean(0), rtol=1e-4)
    mean = frame[(frame["measure"] == "gini_l1") & (frame["part"] == "") & (frame["step"] == STEPS)]
    np.testing.assert_allclose(mean["value"], gini.gini(means), rtol=1e-4)


def test_class_matrix_is_terms_by_examples():
    """At a rate of almost nothing only the direct term is left: a class depends on its own examples."""
    training = {"learning_rate": 1e-9, "batch_size": 8, "epochs": 0.25}
    frame = recorded(make_spec(matrix=True, training=training), make_data())
    cells = frame[(frame["measure"] == "sensitivity_class") & (frame["replicate"] == 1)]
    matrix = cells.pivot(index="item", columns="other", values="value").to_numpy()
    assert matrix.shape == (CLASSES, CLASSES)
    assert np.diag(matrix).min() > 1e3 * matrix[~np.eye(CLASSES, dtype=bool)].max()
    run = recorded(make_spec(matrix=True), make_data())
    later = run[(run["measure"] == "sensitivity_class")].groupby(["item", "other"])["value"].mean().unstack()
    assert later.to_numpy()[0, 1] > 1e-3 * later.to_numpy()[0, 0]


def test_unique_classes_and_chunks_change_nothing(monkeypatch):
    spec, data = make_spec("unique"), make_data(EXAMPLES)
    together = recorded(spec, data)
    monkeypatch.setattr(sensitivity, "FLOATS", 1)
    alone = recorded(spec, data)
    np.testing.assert_allclose(together["value"], alone["value"], rtol=1e-4)
    assert together.drop(columns="value").equals(alone.drop(columns="value"))


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("training", {"training": {"optimizer": "momentum"}}),
        ("dropout", {"training": {"dropout": 0.5}}),
        ("stop_when_fit", {"training": {"stop_when_fit": True}}),
        ("mlp", {"model": {"architecture": "cnn"}}),
        ("subset", {"data": {"subset": 0.7}}),
        ("data.classes own", {"data": {"classes": "unique"}}),
    ],
)
def test_what_cannot_be_unrolled_is_refused(part, options):
    with pytest.raises(ValueError, match=part):
        make_spec(matrix=True, **options)


def test_critical_examples_are_recorded_one_by_one_at_the_end(tmp_path):
    critical = {"radii": [40.0, 120.0], "iterations": 3, "parts": ["train"], "times": 1, "each": True}
    spec = make_spec(measure={"evaluations": 1, "critical": critical})
    train_classifiers(spec, replace(make_data(), scale=1 / 255), tmp_path, CPU)
    frame = contracts.read("details", tmp_path)
    each = frame[frame["measure"] == "critical_40"]
    assert set(each["step"]) == {STEPS}
    assert each.groupby("replicate")["item"].nunique().tolist() == [EXAMPLES] * 3
    share = frame[(frame["measure"] == "csr_40") & (frame["step"] == STEPS)].set_index("replicate")["value"]
    np.testing.assert_allclose(each.groupby("replicate")["value"].mean(), share.sort_index())
    assert 0 < share.mean() < frame.loc[frame["measure"] == "critical_120", "value"].mean()
