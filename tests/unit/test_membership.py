"""Membership oracles against brute force, closed forms and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from memorization import membership
from memorization.membership import DECAY, Logistic, calibrate, features, scaled_logit, shadow_members, threshold

SCORES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=30)


def answers(rng, shape, classes=4, sharpness=2.0):
    return special.log_softmax(rng.normal(size=(*shape, classes)) * sharpness, axis=-1)


@settings(deadline=None)
@given(SCORES, SCORES)
def test_no_threshold_tells_members_better_than_the_calibrated_one(members, others):
    members, others = np.array(members), np.array(others)

    def gain(border):
        return np.mean(members >= border) - np.mean(others >= border)

    found = threshold(members, others)
    scores = np.union1d(members, others)
    assert gain(found) == pytest.approx(max(gain(border) for border in scores))
    assert found == scores[0] or found not in scores  # no score sits on the border


def test_threshold_of_separated_scores_is_halfway():
    assert threshold(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 2.5


def test_scaled_logit_is_the_log_odds_of_the_true_class():
    rng = np.random.default_rng(0)
    logs, labels = answers(rng, (3, 20)), rng.integers(4, size=20)
    p = np.take_along_axis(np.exp(logs), np.broadcast_to(labels[:, None], (3, 20, 1)), -1)[..., 0]
    np.testing.assert_allclose(scaled_logit(logs, labels), np.log(p / (1 - p)), rtol=1e-9)


def test_scaled_logit_of_saturated_float32_answers_is_finite_and_exact():
    logs = special.log_softmax(np.array([[60.0, 0.0]]), axis=-1).astype(np.float32)
    assert scaled_logit(logs, np.array([0])) == pytest.approx(60)
    assert scaled_logit(logs, np.array([1])) == pytest.approx(-60)


def test_features_of_two_classes():
    logs = np.log([[0.9, 0.1], [0.25, 0.75]])
    found = features(logs, np.array([0, 0]))
    entropy = -np.sum(np.exp(logs) * logs, axis=1)
    odds = np.log([9, 1 / 3])
    np.testing.assert_allclose(found, [[*logs[0], entropy[0], odds[0], 1], [*logs[1, ::-1], entropy[1], odds[1], 0]])


def test_features_stay_finite_where_a_posterior_is_zero():
    with np.errstate(divide="ignore"):
        assert np.isfinite(features(np.log([[1.0, 0.0, 0.0]]), np.array([1]))).all()


def test_logistic_regression_agrees_with_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(2)
    x = rng.normal(size=(400, 3)) * [1, 5, 0.1] + [0, 3, 0]
    y = rng.random(400) < special.expit(x[:, 0] - 0.3 * x[:, 1])
    ours = Logistic.fit(x, y)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    theirs = linear.LogisticRegression(C=1 / (DECAY * len(x)), tol=1e-10, max_iter=1000).fit(z, y)
    np.testing.assert_allclose(ours.weights, [*theirs.coef_[0], theirs.intercept_[0]], atol=1e-3)
    np.testing.assert_allclose(ours.score(x), theirs.decision_function(z), atol=5e-3)


@pytest.mark.parametrize(("models", "examples"), [(2, 10), (16, 50), (3, 10)])
def test_shadow_models_know_half_of_the_examples_each(models, examples):
    members = shadow_members(np.random.default_rng(0), models, examples)
    assert (members.sum(axis=1) == examples // 2).all()
    pairs = models // 2
    assert (members[: 2 * pairs].sum(axis=0) == pairs).all()


def test_lira_scores_of_shadow_examples_leave_the_judged_model_out():
    rng = np.random.default_rng(4)
    logits, members = rng.normal(size=(6, 8)), shadow_members(rng, 6, 8)
    found = membership._left_out(logits, members)
    for model in range(6):
        for example in range(8):
            others = [s for s in range(6) if s != model and not members[s, example]]
            assert found[model, example] == pytest.approx(logits[model, example] - np.mean(logits[others, example]))


def test_with_two_shadow_models_lira_has_no_reference_for_non_members():
    members = shadow_members(np.random.default_rng(0), 2, 6)
    assert (np.isnan(membership._left_out(np.zeros((2, 6)), members)) == ~members).all()


def world(rng, hardness, boost, members, classes=3):
    """Log posteriors whose true class (0) has the logit -hardness, + boost where a model knows the example."""
    logits = np.zeros((*members.shape, classes))
    logits[..., 0] = -hardness + boost * members + 0.3 * rng.normal(size=members.shape)
    return special.log_softmax(logits, axis=-1)


def make_oracles(rng, boost=2.0, models=16, examples=300, spread=3.0, **options):
    """Oracles of a world of easy and hard examples, and that world's further examples: (hardness, model answers)."""
    members = shadow_members(rng, models, examples)
    shadow = world(rng, spread * rng.normal(size=examples), boost, members)
    hardness = spread * rng.normal(size=400)
    labels = np.zeros(400, dtype=np.int64)
    unseen = world(rng, hardness, boost, np.zeros((models, 400), dtype=bool))
    parts = {"forget": (unseen[:, :200], labels[:200]), "test": (unseen[:, 200:], labels[200:])}
    oracles = calibrate(shadow, np.zeros(examples, dtype=np.int64), members, parts, **options)
    known = np.arange(400) < 200
    target = world(rng, hardness, boost, known[None])[0]
    return oracles, {"forget": (target[:200], labels[:200]), "test": (target[200:], labels[200:])}, hardness


def test_oracles_tell_members_and_lira_does_so_where_examples_differ_in_hardness():
    oracles, target, _ = make_oracles(np.random.default_rng(5))
    assert oracles.names == membership.ORACLES
    advantage = {}
    for name in oracles.names:
        t, f = (oracles.positives(part, *target[part])[name].mean() for part in ("forget", "test"))
        advantage[name] = t - f
    assert all(value > 0 for value in advantage.values())
    assert advantage["lira"] > 0.9 > 0.6 > advantage["loss"]


def test_oracles_of_models_that_memorise_nothing_tell_nothing():
    oracles, target, _ = make_oracles(np.random.default_rng(6), boost=0.0)
    for name in oracles.names:
        t, f = (oracles.positives(part, *target[part])[name].mean() for part in ("forget", "test"))
        # Two shares of 200 each: s.d. of the difference at most 0.05.
        assert abs(t - f) < 0.15


def test_without_lira_there_are_three_oracles():
    oracles, target, _ = make_oracles(np.random.default_rng(7), lira=False)
    assert oracles.names == ("confidence", "loss", "shadow")
    assert set(oracles.positives("test", *target["test"])) == set(oracles.names)


def test_lira_is_calibrated_to_each_example_of_its_part():
    rng = np.random.default_rng(8)
    oracles, target, hardness = make_oracles(rng)
    np.testing.assert_allclose(oracles.expected["forget"], -hardness[:200] - np.log(2), atol=0.5)
    with pytest.raises(KeyError):
        oracles.positives("unknown", *target["test"])
