"""Audits of any model, against brute force; and the adapter that makes a model of a function."""

import re

import numpy as np
import pandas as pd
import pytest

from memorization.adapters import HistoryModel
from memorization.backends.controls import MarkovModel, OracleModel, UniformModel, table_model
from memorization.bring import audit_model, draw_canaries
from memorization.canaries import CanaryFormat
from memorization.errors import UserError
from memorization.lower_bound import one_run_bound
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary(tuple("\n 0123456789abcdefghijklmnopqrstuvwxyz"))
FORMAT = "pin {x}{x} {d}{d}"


@pytest.fixture
def model():
    return MarkovModel(VOCABULARY, seed=3, order=2)


@pytest.fixture
def lines():
    return draw_canaries(FORMAT, 24, seed=5)


def costs_by_hand(model, line: str) -> tuple[np.ndarray, int]:
    """Bits of all hundred canaries in the words of `line`, scored one by one, and which of them `line` is."""
    every = [f"{line[:-2]}{number:02d}" for number in range(100)]
    bits = [model.log_perplexity(VOCABULARY.encode("\n" + text)[None])[0] for text in every]
    return np.array(bits), int(line[-2:])


def test_ranks_and_searches_are_those_of_brute_force(model, lines):
    planted, left_out = lines
    audit = audit_model(model, FORMAT, planted, left_out, references=50)
    exact = audit.exact()
    assert len(exact) == 24
    assert exact["planted"].tolist() == [True] * len(planted) + [False] * len(left_out)
    searched = audit.extraction[audit.extraction["algorithm"] == "shortest_path"].set_index("index")
    assert len(searched) == len(planted)
    for row, line in zip(exact.itertuples(), [*planted, *left_out], strict=True):
        bits, own = costs_by_hand(model, line)
        rank = np.count_nonzero(bits <= bits[own] + 1e-9)
        assert row.rank == rank
        assert row.exposure_bits == pytest.approx(np.log2(100) - np.log2(rank))
        if row.planted:
            assert searched.loc[row.index, "best_fill"] == f"{bits.argmin():02d}"
            assert searched.loc[row.index, "extracted"] == (bits.argmin() == own)
            assert searched.loc[row.index, "provable"]


def test_the_bound_is_that_of_the_scores(model, lines):
    planted, left_out = lines
    audit = audit_model(model, FORMAT, planted, left_out, references=50)
    scores = []
    for line in [*planted, *left_out]:
        whole, words = ("\n" + line), ("\n" + line[:-2])
        scores.append(
            sum(s * model.log_perplexity(VOCABULARY.encode(t)[None])[0] for t, s in ((whole, -1), (words, 1)))
        )
    assert len(set(np.round(scores, 6))) == 24  # without ties their order makes no difference
    coins = np.arange(24) < len(planted)
    wanted = one_run_bound(np.array(scores), coins, None, 1e-5, 0.95)
    assert audit.bound["epsilon_low"].tolist() == [wanted.epsilon_low]
    assert audit.bound["correct"].tolist() == [wanted.correct]


@pytest.mark.parametrize("text", [FORMAT, "pin {d}{d}{d}"])
def test_a_model_that_knows_nothing_shows_nothing(text):
    """All scores tie: what is guessed must not depend on which canaries are listed first."""
    planted, left_out = draw_canaries(text, 100, seed=5)
    found = [audit_model(UniformModel(VOCABULARY), text, planted, left_out, references=5, seed=s) for s in range(3)]
    assert [audit.bound["epsilon_low"].item() for audit in found] == [0, 0, 0]
    whole = {audit.bound["correct"].item() / audit.bound["guesses"].item() for audit in found}
    assert all(0.3 < share < 0.9 for share in whole)


def test_the_tables_are_numbered_as_given(model, lines):
    planted, left_out = lines
    audit = audit_model(model, FORMAT, planted, left_out, references=50)
    given = [line[-2:] for line in [*planted, *left_out]]
    for table in (audit.exposure, audit.extraction):
        assert table["index"].is_monotonic_increasing
        assert table["fill"].tolist() == [given[i] for i in table["index"]]
    inserted = audit.exposure["index"] < len(planted)
    assert audit.exposure["kind"].tolist() == ["inserted" if one else "excluded" for one in inserted]
    alone = audit_model(model, FORMAT, planted, references=50)
    assert alone.exposure.loc[alone.exposure["method"] == "sampled", "index"].tolist() == [0]


def test_the_summary_counts_what_the_tables_hold(model, lines):
    planted, left_out = lines
    audit = audit_model(model, FORMAT, planted, left_out, references=50)
    shown, exact = audit.summary(), audit.exact()
    assert (shown["planted"], shown["left_out"]) == (len(planted), len(left_out))
    assert shown["planted_mean_bits"] == pytest.approx(exact.loc[exact["planted"], "exposure_bits"].mean())
    assert shown["most_bits"] == pytest.approx(np.log2(100))
    assert shown["without_exact_rank"] == 0
    alone = audit_model(model, FORMAT, planted[:1], references=50)
    assert len(alone.bound) == 0
    assert alone.summary()["left_out"] == 0


def test_a_model_that_knows_its_canary_gives_it_back():
    line = "pin ab 07"
    audit = audit_model(OracleModel(VOCABULARY, line), FORMAT, [line], ["pin cd 07"], references=50)
    assert audit.exact()["exposure_bits"].tolist()[0] == pytest.approx(np.log2(100))
    assert audit.summary()["extracted"] == 1
    assert audit.summary()["left_out_mean_bits"] < 1  # it never saw the words: all fills tie, against the canary


def test_what_the_budget_does_not_settle_is_bounded(model, lines):
    audit = audit_model(model, FORMAT, *lines, exact_steps=4, references=50)
    exact = audit.exact()
    assert audit.summary()["without_exact_rank"] > 0
    for row, line in zip(exact.itertuples(), [*lines[0], *lines[1]], strict=True):
        if np.isnan(row.rank) and not np.isnan(row.rank_low):
            bits, own = costs_by_hand(model, line)
            assert row.rank_low <= np.count_nonzero(bits <= bits[own] + 1e-9) <= row.rank_high


def test_canaries_are_dealt_by_coins_and_repeat(lines):
    planted, left_out = lines
    assert planted
    assert left_out
    assert lines == draw_canaries(FORMAT, 24, seed=5)
    assert len({*planted, *left_out}) == 24
    assert len({line[:6] for line in [*planted, *left_out]}) == 24  # words of their own
    many = [len(draw_canaries("{x}{x}{x} {d}", 200, seed=seed)[0]) for seed in range(5)]
    assert 80 < np.mean(many) < 120


def test_canaries_without_words_of_their_own_differ():
    for seed in range(5):
        planted, left_out = draw_canaries("pin {d}{d}", 90, seed=seed)
        assert len({*planted, *left_out}) == 90
    with pytest.raises(UserError, match="only 100 canaries, 101 are to differ") as refused:
        draw_canaries("pin {d}{d}", 101)
    assert "\n" not in str(refused.value)


def test_coins_that_leave_nothing_to_compare_are_said_not_drawn_anew():
    fates = []
    for seed in range(40):
        try:
            planted, left_out = draw_canaries(FORMAT, 2, seed=seed)
            assert planted
            assert left_out
        except UserError as refused:
            fates.append(re.search("all 2 canaries are (planted|left out); ask for more", str(refused))[1])
    assert 10 <= len(fates) <= 30  # half of all pairs of coins
    assert set(fates) == {"planted", "left out"}
    with pytest.raises(UserError, match="at least 2"):
        draw_canaries(FORMAT, 0)


@pytest.mark.parametrize(
    ("planted", "left_out", "said"),
    [
        ([], [], "no planted canary"),
        (["pin ab 07", "pin ab 07"], [], "given twice"),
        (["pin ab 07"], ["pin ab 07"], "given twice"),
        (["pin a1 07"], [], "does not fill the format"),
        (["pin ab 0"], [], "does not fill the format"),
        (["pin ab 07 "], [], "does not fill the format"),
    ],
)
def test_canaries_that_do_not_fit_are_refused(model, planted, left_out, said):
    with pytest.raises(UserError, match=said):
        audit_model(model, FORMAT, planted, left_out)


def test_a_format_may_hold_signs_of_regular_expressions():
    words = Vocabulary.of(["\n(pin)* of [abc]? 0123456789", "abcdefghijklmnopqrstuvwxyz"])
    planted, left_out = draw_canaries("(pin)* of [{x}{x}]? {d}", 4, seed=0)
    audit = audit_model(UniformModel(words), "(pin)* of [{x}{x}]? {d}", [*planted, *left_out], references=5)
    assert audit.exact()["exposure_bits"].tolist() == pytest.approx([0] * 4, abs=1e-9)


def test_models_that_break_the_protocol_are_refused(lines):
    rng = np.random.default_rng(0)
    broken = HistoryModel(lambda ids: rng.normal(size=(*ids.shape, len(VOCABULARY))), VOCABULARY)
    with pytest.raises(UserError, match="evaluation mode"):
        audit_model(broken, FORMAT, *lines)
    few = HistoryModel(lambda ids: np.zeros((*ids.shape, 7)), VOCABULARY)
    with pytest.raises(UserError, match="logits"):
        audit_model(few, FORMAT, *lines)

    class Half(UniformModel):
        def step(self, state, ids, columns=None):
            bits, state = super().step(state, ids, columns)
            return bits - 1, state

    with pytest.raises(UserError, match="sum to one"):
        audit_model(Half(VOCABULARY), FORMAT, *lines)


def chain(seed: int):
    """A first-order chain behind the protocol twice: as a table, and as a function from histories to logits."""
    size = len(VOCABULARY)
    probabilities = np.random.default_rng(seed).dirichlet(np.full(size, 0.5), size) + 1e-6
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    # Unnormalised, as networks give them.
    return table_model(VOCABULARY, probabilities), HistoryModel(lambda ids: np.log(probabilities)[ids] + 3, VOCABULARY)


def test_a_model_of_histories_is_the_model_it_is_made_of(lines):
    table, histories = chain(1)
    ids = np.random.default_rng(2).integers(0, len(VOCABULARY), (12, 6))
    np.testing.assert_allclose(histories.log_perplexity(ids), table.log_perplexity(ids))
    assert histories.log_perplexity(ids[:, :1]).tolist() == [0] * 12
    one, two = (audit_model(model, FORMAT, *lines, references=50) for model in (table, histories))
    pd.testing.assert_frame_equal(one.exact(), two.exact())
    kept = ["index", "algorithm", "best_fill", "extracted", "provable"]
    pd.testing.assert_frame_equal(one.extraction[kept], two.extraction[kept])


def test_states_of_different_lengths_step_together():
    table, histories = chain(4)
    states = [histories.start(VOCABULARY.encode(text))[1] for text in ("\npin", "\n", "\nabcdef")]
    bits, stepped = histories.step(histories.concatenate(states), VOCABULARY.encode("xyz"))
    wanted, _ = table.step(
        table.start(VOCABULARY.encode("\n"))[1].take(np.zeros(3, dtype=int)), VOCABULARY.encode("xyz")
    )
    np.testing.assert_allclose(bits, wanted)
    again, _ = histories.step(stepped.take(np.array([2, 0])), VOCABULARY.encode("qq"), columns=np.array([1, 5]))
    np.testing.assert_allclose(
        again, table.step(table.start(VOCABULARY.encode("\n"))[1], VOCABULARY.encode("q"))[0][[0, 0]][:, [1, 5]]
    )


def test_formats_without_letters_of_their_own_share_one_space(model):
    audit = audit_model(model, "pin {d}{d}", ["pin 07", "pin 12"], ["pin 99"], references=50)
    every = CanaryFormat.parse("pin {d}{d}")
    bits = np.array(
        [model.log_perplexity(VOCABULARY.encode("\n" + every.render(f))[None])[0] for f in every.enumerate()]
    )
    assert audit.exact()["rank"].tolist() == [np.count_nonzero(bits <= bits[i] + 1e-9) for i in (7, 12, 99)]
