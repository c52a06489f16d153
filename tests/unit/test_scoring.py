"""Losses of single lines: against one call per line, and what the table says of them."""

import numpy as np
import pytest

from memorization import contracts, scoring
from memorization.backends.controls import MarkovModel, UniformModel
from memorization.data.corpora import split_lines
from memorization.errors import UserError
from memorization.scoring import line_bits, score_lines
from memorization.specs import ScoreSpec
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of(["\nabcde "])


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    letters = np.array(list("abcde "))
    return {
        role: "".join("".join(rng.choice(letters, rng.integers(1, 60))) + "\n" for _ in range(count))
        for role, count in (("train", 90), ("test", 30))
    }


@pytest.mark.parametrize("rows", [1, 7, 2048])
@pytest.mark.parametrize("idle", [0.0, 0.1, 1.0])
def test_lines_together_cost_what_each_costs_alone(texts, monkeypatch, rows, idle):
    monkeypatch.setattr(scoring, "ROWS", rows)
    monkeypatch.setattr(scoring, "IDLE", idle)
    model, start = MarkovModel(VOCABULARY, 3, order=3), VOCABULARY.encode("\n")
    ids = [VOCABULARY.encode(line) for line in split_lines(texts["train"])]
    alone = [model.log_perplexity(np.concatenate([start, line])[None])[0] for line in ids]
    np.testing.assert_allclose(line_bits(model, start, ids), alone, rtol=1e-12)


def test_losses_are_nats_per_character_of_the_line(texts):
    models = [UniformModel(VOCABULARY), MarkovModel(VOCABULARY, 1)]
    frame = score_lines(models, VOCABULARY, texts, ScoreSpec(train_examples=50, test_examples=8), 1.0)
    contracts.check("scores", frame)
    assert frame.groupby(["replicate", "split"]).size().to_dict() == {
        (0, "train"): 50, (0, "test"): 8, (1, "train"): 50, (1, "test"): 8,
    }  # fmt: skip
    np.testing.assert_allclose(frame.query("replicate == 0")["loss_nats"], np.log(len(VOCABULARY)))
    line = split_lines(texts["train"])[11]
    (row,) = frame.query("replicate == 1 and split == 'train' and index == 12").to_dict("records")
    assert row["size"] == len(line)
    bits = models[1].log_perplexity(VOCABULARY.encode("\n" + line)[None])[0]
    assert row["loss_nats"] == pytest.approx(bits * np.log(2) / len(line))


def test_lines_of_the_training_share_are_marked(texts):
    half = 0.5 * len(texts["train"])
    frame = score_lines([UniformModel(VOCABULARY)], VOCABULARY, texts, ScoreSpec(test_examples=5), 0.5)
    ends = np.cumsum([len(line) + 1 for line in split_lines(texts["train"])])
    assert frame.query("split == 'train'")["trained"].tolist() == (ends <= half).tolist()
    assert not frame.query("split == 'test'")["trained"].any()
    whole = score_lines([UniformModel(VOCABULARY)], VOCABULARY, texts, ScoreSpec(), 1.0)
    assert whole["trained"].all()
    assert whole["index"].tolist() == list(range(1, 91))


def test_empty_lines_have_no_loss_but_count_as_lines():
    frame = score_lines(
        [UniformModel(VOCABULARY)], VOCABULARY, {"train": "ab\n\ncd", "test": ""}, ScoreSpec(test_examples=3), 1.0
    )
    assert frame["index"].tolist() == [1, 3]
    assert frame["size"].tolist() == [2, 2]


def test_strange_characters_are_refused_with_their_line():
    with pytest.raises(UserError, match=r"train text, line 2: .*\['x', 'y'\]"):
        score_lines([UniformModel(VOCABULARY)], VOCABULARY, {"train": "ab\nxy\n", "test": ""}, ScoreSpec(), 1.0)
