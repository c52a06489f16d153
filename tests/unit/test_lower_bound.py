"""The one-run lower bound on epsilon: the paper's printed numbers, validity and tightness on known mechanisms."""

import math

import numpy as np
import pytest
from scipy import stats

from memorization.lower_bound import audit_rows, epsilon_low, guess_counts, one_run_bound, p_value


@pytest.mark.parametrize(
    ("m", "guesses", "correct", "delta", "printed"),
    [(1_000, 100, 75, 1e-4, 0.673), (100_000, 1_510, 1_439, 1e-5, 2.675)],
)
def test_the_papers_printed_bounds(m, guesses, correct, delta, printed):
    """arXiv 2305.08846, Appendix D (rounded) and Section 7 (cut after three decimals)."""
    assert epsilon_low(m, guesses, correct, delta, 0.05) == pytest.approx(printed, abs=1e-3)


@pytest.mark.parametrize(("guesses", "correct"), [(50, 50), (50, 41), (200, 130)])
def test_without_delta_it_is_clopper_and_pearsons_limit(guesses, correct):
    share = stats.beta.ppf(0.05, correct, guesses - correct + 1)
    assert epsilon_low(500, guesses, correct, 0.0, 0.05) == pytest.approx(math.log(share / (1 - share)), abs=1e-5)


def test_chance_refutes_nothing():
    assert epsilon_low(100, 100, 50, 1e-5, 0.05) == 0
    assert p_value(100, 100, 0, 1.0, 1e-5) == 1


def test_the_delta_term_by_brute_force():
    m, guesses, correct, epsilon, delta = 30, 12, 9, 0.7, 1e-3
    law = stats.binom(guesses, 1 / (1 + math.exp(-epsilon)))
    tail = sum(law.pmf(k) for k in range(correct, guesses + 1))
    spoilt = max(sum(law.pmf(k) for k in range(max(0, correct - i), correct)) / i for i in range(1, m + 1))
    assert p_value(m, guesses, correct, epsilon, delta) == pytest.approx(tail + 2 * m * delta * spoilt)


def test_monotone_in_what_was_guessed_and_in_what_is_allowed():
    by_correct = [epsilon_low(200, 100, v, 1e-5, 0.05) for v in range(50, 101, 5)]
    by_delta = [epsilon_low(200, 100, 90, d, 0.05) for d in (0.0, 1e-6, 1e-4, 1e-3)]
    by_error = [epsilon_low(200, 100, 90, 1e-5, e) for e in (0.001, 0.01, 0.05, 0.2)]
    assert by_correct == sorted(by_correct)
    assert by_correct[-1] > by_correct[0]
    assert by_delta == sorted(by_delta, reverse=True)
    assert by_delta[-1] < by_delta[0]
    assert by_error == sorted(by_error)


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 5.0])
def test_randomised_response_breaks_the_bound_in_at_most_one_run_of_twenty(epsilon):
    """Every coin is told rightly with probability q and all are guessed: the mechanism with exactly this epsilon."""
    m, trials = 400, 1_000
    right = np.random.default_rng(0).binomial(m, 1 / (1 + math.exp(-epsilon)), size=trials)
    bounds = np.array([epsilon_low(m, m, int(v), 0.0, 0.05) for v in right])
    assert stats.binomtest(int((bounds > epsilon).sum()), trials, 0.05, alternative="greater").pvalue > 0.01
    assert bounds.mean() > 0.6 * epsilon


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_laplace_scores_are_audited_validly_and_tightly(epsilon):
    """Score = coin + Laplace(1 / epsilon) is epsilon-private. The choice among four numbers of guesses is paid for."""
    rng, m, trials = np.random.default_rng(1), 2_000, 200
    bounds = []
    for _ in range(trials):
        included = rng.random(m) < 0.5
        bounds.append(one_run_bound(included + rng.laplace(scale=1 / epsilon, size=m), included, None, 0.0).epsilon_low)
    broken = int((np.array(bounds) > epsilon).sum())
    assert stats.binomtest(broken, trials, 0.05, alternative="greater").pvalue > 0.01
    assert 0.75 * epsilon < np.mean(bounds) < epsilon


def test_scores_without_information_rarely_give_a_bound():
    rng, trials = np.random.default_rng(2), 300
    found = [one_run_bound(rng.random(64), rng.random(64) < 0.5, None, 1e-5).epsilon_low > 0 for _ in range(trials)]
    assert stats.binomtest(sum(found), trials, 0.05, alternative="greater").pvalue > 0.01


def test_perfect_separation_is_guessed_wholly():
    included = np.arange(64) < 32
    bound = one_run_bound(np.where(included, 5.0, -5.0), included, None, 0.0)
    assert (bound.guesses, bound.correct) == (64, 64)
    assert bound.epsilon_low == pytest.approx(-math.log(0.0125 ** (-1 / 64) - 1), abs=1e-5)


def test_the_highest_are_guessed_in_and_the_lowest_out():
    scores = np.array([3.0, -np.inf, 2.0, 0.0, np.inf, 1.0])
    included = np.array([True, False, False, True, True, False])
    assert one_run_bound(scores, included, [3], 0.0).correct == 3
    assert one_run_bound(scores, included, [5], 0.0).correct == 3
    assert one_run_bound(-scores, included, [2], 0.0).correct == 0


def test_ties_do_not_look_at_the_coins():
    included = np.random.default_rng(3).random(200) < 0.5
    bound = one_run_bound(np.zeros(200), included, [200], 0.0)
    assert bound.correct == included[:100].sum() + (~included[100:]).sum()


def test_default_numbers_of_guesses():
    assert guess_counts(64) == [8, 16, 32, 64]
    assert guess_counts(1) == [1]


@pytest.mark.parametrize("guesses", [[0], [5], []])
def test_impossible_numbers_of_guesses_are_refused(guesses):
    with pytest.raises(ValueError, match="guesses"):
        one_run_bound(np.zeros(4), np.ones(4, dtype=bool), guesses, 0.0)
    with pytest.raises(ValueError, match="NaN"):
        one_run_bound(np.full(4, np.nan), np.ones(4, dtype=bool), [2], 0.0)


def test_audit_rows_keep_the_contract():
    rng = np.random.default_rng(4)
    included = rng.random((3, 64)) < 0.5
    frame = audit_rows(
        np.where(included, 1.0, 0.0) + rng.normal(size=(3, 64)) * [[0.01], [1.0], [100.0]], included, 1e-5
    )
    assert frame["replicate"].tolist() == [0, 1, 2]
    assert frame["included"].tolist() == included.sum(axis=1).tolist()
    assert frame["epsilon_low"][0] > frame["epsilon_low"][1] >= frame["epsilon_low"][2]
