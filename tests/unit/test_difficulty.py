"""Variance ratios of per-example success, structure of filters, and the classifiers' shapes and initial values."""

import numpy as np
import pytest

from memorization import classifier_models, filters
from memorization.classifier_specs import ClassifierRunSpec, ClassifierSpec
from memorization.configuration import ROOT
from memorization.data.registry import registry
from memorization.difficulty import spread
from memorization.errors import UserError
from memorization.monitor import assumed_seconds
from memorization.preflight import expected_examples

RNG = np.random.default_rng


def test_the_ratio_is_the_variance_over_the_binomials():
    """Fig 1's statistic, written down once more."""
    rng = RNG(0)
    correct = rng.random((20, 300)) < rng.random(300)
    rates = correct.mean(0)
    wanted = rates.var(ddof=1) / (rates.mean() * (1 - rates.mean()) / 20)
    found = spread(correct, np.zeros(300, dtype=int), 10, RNG(1))
    assert found.ratio == pytest.approx(wanted)
    assert found.within == pytest.approx(wanted)
    assert found.ratios.shape == found.withins.shape == (10,)


def test_within_classes_the_rates_are_compared_with_their_classes():
    rng = RNG(0)
    labels = rng.integers(3, size=600)
    correct = rng.random((30, 600)) < np.array([0.1, 0.5, 0.9])[labels]
    found = spread(correct, labels, 200, RNG(1))
    rates = correct.mean(0)
    share = [(labels == c).mean() for c in range(3)]
    variance = sum(((rates[labels == c] - rates[labels == c].mean()) ** 2).sum() for c in range(3)) / (600 - 3)
    means = [rates[labels == c].mean() for c in range(3)]
    binomial = sum(s * m * (1 - m) / 30 for m, s in zip(means, share, strict=True))
    assert found.within == pytest.approx(variance / binomial)
    # Classes differ, examples of a class do not.
    assert found.ratio > 5
    assert 0.8 < found.within < 1.2


def test_independent_examples_have_ratio_one_and_the_interval_holds_it():
    held = 0
    for seed in range(40):
        rng = RNG(seed)
        found = spread(rng.random((100, 500)) < 0.6, rng.integers(10, size=500), 100, RNG(seed + 1000))
        low, high = np.quantile(found.ratios, [0.025, 0.975])
        held += low <= 1 <= high
        assert 0.7 < found.ratio < 1.3
    assert held >= 36


def test_resampled_ratios_vary_around_the_ratio_and_not_above_it():
    """Copies of a run would add about 1 to every resampled ratio."""
    rng = RNG(3)
    correct = rng.random((50, 400)) < rng.beta(4, 4, size=400)
    found = spread(correct, np.zeros(400, dtype=int), 400, RNG(4))
    assert np.mean(found.ratios) == pytest.approx(found.ratio, rel=0.03)
    others = [
        spread(rng_.random((50, 400)) < RNG(5).beta(4, 4, size=400), np.zeros(400, dtype=int), 0, RNG(0)).ratio
        for rng_ in map(RNG, range(100, 160))
    ]
    # The spread of the resampled ratios is that of repeated experiments on the same examples.
    assert np.std(found.ratios) == pytest.approx(np.std(others), rel=0.5)


def test_small_classes_do_not_shrink_the_ratio():
    """Three examples a class: a variance by their number instead of two would be a third too small."""
    labels = np.repeat(np.arange(100), 3)
    found = [spread(RNG(s).random((40, 300)) < 0.4, labels, 0, RNG(0)).within for s in range(20)]
    assert np.mean(found) == pytest.approx(1, abs=0.1)


def test_runs_that_agree_wholly_have_the_largest_ratio():
    correct = np.tile(RNG(0).random(200) < 0.5, (10, 1))
    assert spread(correct, np.zeros(200, dtype=int), 0, RNG(0)).ratio == pytest.approx(10 * 200 / 199)


def test_independent_weights_have_no_structure_and_smooth_ones_have():
    white = RNG(0).uniform(-1, 1, (4000, 5, 5, 3))
    assert filters.total_variation(white).mean() == pytest.approx(4 / 3, rel=0.03)
    assert filters.low_frequency_share(white).mean() == pytest.approx(9 / 25, rel=0.03)
    ramp = np.broadcast_to(np.arange(5.0)[:, None, None], (1, 5, 5, 1))
    assert filters.total_variation(ramp)[0] == pytest.approx(0.5 / 1.2)
    assert filters.low_frequency_share(np.ones((1, 5, 5, 1)))[0] == pytest.approx(1)
    checked = (np.indices((5, 5)).sum(0) % 2 * 2.0 - 1)[None, :, :, None]
    assert filters.low_frequency_share(checked)[0] < 0.2
    assert filters.total_variation(checked)[0] > 1.9
    for measure in (filters.total_variation, filters.low_frequency_share):
        np.testing.assert_allclose(measure(3 * white[:5]), measure(white[:5]))


PADDINGS = {  # brief section 5: parameters, multiplications of one image's way forward
    "valid_stride3": (1_170_386, 24.8),
    "same_stride3": (1_784_786, 93.5),
    "valid_stride2": (1_784_786, 58.4),
    "same_stride2": (4_856_786, 211.6),
}


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_cnn_has_the_sizes_of_the_brief(padding):
    model = ClassifierSpec(architecture="cnn", padding=padding)
    parameters, millions = PADDINGS[padding]
    assert classifier_models.parameter_count(model, (3, 32, 32), 10) == parameters
    assert classifier_models.multiplications(model, (3, 32, 32)) / 1e6 == pytest.approx(millions, abs=0.05)


def test_sixty_four_filters_of_zhangs_convention_have_zhangs_parameters():
    """Their small AlexNet has local response instead of batch normalisation: 1,387,786 without its arrays."""
    model = ClassifierSpec(architecture="cnn", padding="same_stride2", filters=64)
    arrays = classifier_models.shapes(model, (3, 32, 32), 10)
    assert sum(int(np.prod(s)) for name, s in arrays.items() if not name.startswith("norm")) == 1_387_786


def test_the_mlp_has_the_papers_parameters():
    assert classifier_models.parameter_count(ClassifierSpec(), (1, 28, 28), 10) == 20_037_642
    sixteen = ClassifierSpec(units=16)
    assert classifier_models.parameter_count(sixteen, (1, 14, 14), 10) == 3_594
    assert classifier_models.parameter_count(sixteen, (1, 14, 14), 1000) == 20_424


def test_initial_weights_are_keras_defaults():
    weights = classifier_models.initial_weights(ClassifierSpec(architecture="cnn", filters=20), (3, 32, 32), 10, RNG(0))
    bound = np.sqrt(6 / (25 * (20 + 20)))
    assert 0.98 * bound < np.abs(weights["conv2.weight"]).max() <= bound
    assert weights["conv2.weight"].std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    assert not weights["conv2.bias"].any()
    assert (weights["norm1.weight"] == 1).all()
    assert (weights["norm1.variance"] == 1).all()
    assert not weights["norm1.mean"].any()
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    assert {name for name in weights if not classifier_models.trained(name)} == {
        f"norm{n}.{what}" for n in range(1, 5) for what in ("mean", "variance")
    }
    assert {name for name in weights if classifier_models.decayed(name)} == {
        f"{layer}.weight" for layer in ("conv1", "conv2", "dense1", "dense2", "output")
    }


def test_images_too_small_for_the_cnn_are_a_one_line_error():
    with pytest.raises(UserError, match=r"padding valid_stride3: images of 28x28 pixels are too small"):
        classifier_models.shapes(ClassifierSpec(architecture="cnn"), (1, 28, 28), 10)


def test_the_plan_knows_how_long_a_classifier_takes_about():
    datasets = registry(ROOT / "config" / "datasets.yaml")

    def spec(**changes):
        tree = {"task": "classification", "training": {"epochs": 2.0}, "data": {"train_examples": 1000}}
        return ClassifierRunSpec.model_validate(tree | changes)

    assert expected_examples(spec(), datasets["mnist"]) == 1000
    assert expected_examples(spec(data={}), datasets["mnist"]) == 50_000
    once = assumed_seconds(spec(), datasets)
    assert 0.1 < once < 100
    assert assumed_seconds(spec(training={"epochs": 6.0}), datasets) == pytest.approx(3 * once)
    half = {"data": {"train_examples": 1000, "subset": 0.5}}
    assert assumed_seconds(spec(**half), datasets) == pytest.approx(once / 2)
    colour = spec(data={"dataset": "cifar10", "train_examples": 1000}, model={"architecture": "cnn"})
    assert assumed_seconds(colour, datasets) > once
    assert assumed_seconds(spec(model={"units": 64}), datasets) < once / 50
