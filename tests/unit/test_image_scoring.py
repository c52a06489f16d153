"""Scores of single images, and the gallery of those that private training does not learn."""

import numpy as np
import pandas as pd
import pytest

from memorization import digit_gallery
from memorization.data.images import ImageData
from memorization.digit_gallery import gallery, neighbour_distance, pick, picture, pixels
from memorization.errors import UserError
from memorization.image_scoring import score_images
from memorization.specs import ScoreSpec


class Brightness:
    """A classifier whose loss is `slope` times the image's mean, right about bright images."""

    def __init__(self, slope):
        self.slope = slope

    def losses(self, images, labels):
        mean = images.mean((1, 2)).astype(np.float64)
        return self.slope * mean, mean > 0.5


@pytest.fixture
def data():
    rng = np.random.default_rng(1)
    images = np.rint(rng.random((60, 28, 28)) * np.linspace(50, 255, 60)[:, None, None]).astype(np.float32) / 255
    labels = np.arange(60) % 3
    return ImageData(images, labels, images[:5] / 2, labels[:5], classes=10)


def test_scores_are_by_contract(data):
    scores = score_images([Brightness(1.0), Brightness(3.0)], data, ScoreSpec(train_examples=7, test_examples=99))
    assert len(scores) == 2 * (7 + 5)
    second = scores[(scores["replicate"] == 1) & (scores["split"] == "train")]
    np.testing.assert_allclose(second["loss_nats"], 3 * data.train[:7].mean((1, 2)), rtol=1e-6)
    assert list(second["index"]) == list(range(7))
    assert list(second["label"]) == ["0", "1", "2", "0", "1", "2", "0"]
    assert second["trained"].all()
    assert not scores.loc[scores["split"] == "test", "trained"].any()
    assert set(scores["correct"]) <= {0.0, 1.0}
    assert len(score_images([Brightness(1.0)], data, ScoreSpec(train_examples=0))) == 0


def both(data, normal, private):
    spec = ScoreSpec(train_examples=60, test_examples=3)
    arms = {False: normal, True: private}
    frames = [score_images([Brightness(s) for s in slopes], data, spec).assign(private=p) for p, slopes in arms.items()]
    return pd.concat(frames, ignore_index=True)


def test_gaps_are_means_over_the_replicates_that_both_arms_have(data):
    rows = pick(both(data, normal=[1.0, 2.0, 9.0], private=[3.0, 5.0]))
    brightness = data.train.mean((1, 2))
    assert len(rows) == 60
    assert set(rows["seeds"]) == {2}
    own = brightness[rows["index"]]
    np.testing.assert_allclose(rows["loss_normal_nats"], 1.5 * own, rtol=1e-6)
    np.testing.assert_allclose(rows["gap_nats"], 2.5 * own, rtol=1e-6)
    assert rows["gap_nats"].is_monotonic_decreasing
    # Both replicates rank by brightness: ranks 60, 59, ... and a perfect agreement.
    assert list(rows["mean_rank"]) == list(range(60, 0, -1))
    assert 12 * rows["mean_rank"].var(ddof=0) / (60**2 - 1) == pytest.approx(1)


def test_kendalls_w_from_mean_ranks():
    """Against its definition, 12 S / (m^2 (n^3 - n)) with rank sums."""
    rng = np.random.default_rng(0)
    losses = rng.random((5, 8))
    frames = [
        pd.DataFrame({"private": p, "replicate": k, "index": range(8), "label": "1", "loss_nats": losses[k] * p})
        for p in (False, True)
        for k in range(5)
    ]
    rows = pick(pd.concat(frames))
    sums = losses.argsort(1).argsort(1).sum(0) + 5
    expected = 12 * ((sums - sums.mean()) ** 2).sum() / (5**2 * (8**3 - 8))
    assert 12 * rows["mean_rank"].var(ddof=0) / (8**2 - 1) == pytest.approx(expected)


def test_gallery_shows_the_ends_of_every_class(data):
    rows = gallery(both(data, normal=[1.0], private=[2.0]), data)
    brightness = data.train.mean((1, 2))
    for label in range(3):
        members = np.flatnonzero(data.labels == label)
        shown = rows[rows["label"] == str(label)].set_index("kind")["index"]
        assert shown["typical"] == members[brightness[members].argmin()]
        assert shown["outlier"] == members[brightness[members].argmax()]
    assert (rows["kind"] != "").sum() == 6
    assert ((rows["pixels_hex"] != "") == (rows["kind"] != "")).all()
    first = rows.iloc[0]
    np.testing.assert_array_equal(picture(first["pixels_hex"]) / np.float32(255), data.train[first["index"]])
    assert rows["neighbour_distance"].notna().all()


def test_arms_that_do_not_fit_are_user_errors(data):
    scores = both(data, normal=[1.0], private=[2.0])
    with pytest.raises(UserError, match="no scores of private models"):
        pick(scores[~scores["private"]])
    with pytest.raises(UserError, match="must share replicates and scored images"):
        pick(scores[~(scores["private"] & (scores["index"] == 3))])


def test_neighbour_distance_against_all_pairs(data, monkeypatch):
    monkeypatch.setattr(digit_gallery, "CHUNK", 4)
    asked = np.array([50, 3, 4, 5, 8, 11, 14, 17, 20])
    flat = data.train.reshape(60, -1).astype(np.float64)
    expected = []
    for i in asked:
        others = [j for j in range(60) if j != i and data.labels[j] == data.labels[i]]
        expected.append(np.sort(np.linalg.norm(flat[others] - flat[i], axis=1))[2])
    np.testing.assert_allclose(neighbour_distance(data.train, data.labels, asked, k=3), expected, rtol=1e-9)
    assert np.isnan(neighbour_distance(data.train, data.labels, asked, k=20)).all()
    assert len(pixels(data.train, asked)[0]) == 2 * 784
