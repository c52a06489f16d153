"""Exposure of a canary pair from nothing but its costs: exact by enumeration, sampled, skew-normal; the tables."""

from math import log2

import numpy as np
import pytest

from memorization import contracts
from memorization.attack import TABLES
from memorization.data.pairs import Lexicon, Lexicons, PairFormat
from memorization.errors import UserError
from memorization.specs import AttackSpec
from memorization.translation_attack import attack, enumerated, measure

LEXICONS = Lexicons(*(Lexicon(("<unk>", "<s>", "</s>", "my", "pin", *"0123456789")) for _ in range(2)))
FORMAT = PairFormat.parse("my pin {d}{d}{d}", "pin {d}{d}{d}")
TOKENS = 4


class Toy:
    """A "translator" whose costs are those of the number that source and target hold, by a table."""

    def __init__(self, costs):
        self.costs, self.calls = np.asarray(costs, dtype=float), 0

    def log_perplexity(self, sources, targets):
        self.calls += len(sources)
        numbers = (targets[:, 1:] - 5) @ np.array([100, 10, 1])
        np.testing.assert_array_equal(numbers, (sources[:, 2:] - 5) @ np.array([100, 10, 1]))
        return self.costs[numbers]


def digits(number):
    return np.array([int(c) for c in f"{number:03d}"])


def score_of(model):
    return lambda fills: model.log_perplexity(*FORMAT.ids(LEXICONS, fills))


def measured(model, number, references=400, exact_steps=0, controls=5, rng=0):
    fill = digits(number)
    rng = np.random.default_rng(rng)
    drawn = [FORMAT.source.sample(rng, n, exclude=fill) for n in (controls, references)]
    options = {"tokens": TOKENS, "exact_steps": exact_steps, "rng": rng}
    return measure(score_of(model), FORMAT, fill, *drawn, **options).rows


@pytest.mark.parametrize("number", [0, 17, 345])
def test_the_exact_rank_counts_every_fill_and_ties_against_the_canary(number):
    costs = np.round(np.random.default_rng(1).normal(40, 5, 1000))  # whole bits: many ties
    rank = enumerated(score_of(Toy(costs)), FORMAT, digits(number), TOKENS)
    assert rank.rank == np.count_nonzero(costs <= costs[number])
    assert rank.rank_low == 1 + np.count_nonzero(costs < costs[number])
    assert rank.exposure_bits == pytest.approx(log2(1000) - log2(rank.rank))
    assert (rank.algorithm, rank.space, rank.model_steps) == ("enumeration", 1000, 4000)


def test_an_exact_row_only_where_the_whole_space_fits_the_budget():
    model = Toy(np.arange(1000.0))
    assert "exact" not in set(measured(model, 3, exact_steps=3999)["method"])
    rows = measured(model, 3, exact_steps=4000)
    exact = rows[rows["method"] == "exact"].iloc[0]
    assert (exact["rank"], exact["cost_bits"], exact["prefix_cost_bits"]) == (4, 3.0, 0.0)


def test_where_enumeration_is_too_dear_the_rank_is_estimated_by_splitting():
    """Of 10^4 fills, whose costs rise with their digits and a little noise."""
    fmt = PairFormat.parse("my pin {d}{d}{d}{d}", "pin {d}{d}{d}{d}")
    every = fmt.source.enumerate()
    costs = every.sum(axis=1) + np.random.default_rng(6).normal(40, 0.2, len(every))

    def score(fills):
        return costs[fills @ np.array([1000, 100, 10, 1])]

    for rank in (1, 300):
        fill, rng = every[np.argsort(costs)[rank - 1]], np.random.default_rng(rank)
        drawn = [fmt.source.sample(rng, n, exclude=fill) for n in (5, 100)]
        rows = measure(score, fmt, fill, *drawn, tokens=5, exact_steps=49_999, rng=rng).rows
        one = rows[rows["method"] == "importance"].iloc[0]
        assert "exact" not in set(rows["method"])
        assert not one["extrapolated"]
        assert one["exposure_bits"] == pytest.approx(log2(10**4) - log2(rank), abs=2)
        assert one["exposure_low_bits"] <= one["exposure_bits"] <= one["exposure_high_bits"] <= log2(10**4)
        assert one["model_steps"] == 5 * one["references"] <= 49_999
        none = measure(score, fmt, fill, *drawn, tokens=5, exact_steps=0, rng=rng).rows
        assert set(none["method"]) == {"sampled", "skew_normal"}


def test_a_cheap_canary_is_exposed_and_its_controls_are_not():
    costs = np.random.default_rng(2).normal(60, 4, 1000)
    costs[123] = 20.0
    rows = measured(Toy(costs), 123, references=600, controls=50)
    own = rows[rows["kind"] == "inserted"].set_index("method")
    assert set(own.index) == {"sampled", "skew_normal"}
    assert own.loc["sampled", "exposure_bits"] == pytest.approx(log2(601))
    assert own.loc["sampled", "extrapolated"]
    assert own.loc["skew_normal", "exposure_bits"] > 20
    controls = rows[rows["kind"] == "control"]
    assert len(controls) == 50
    assert controls["exposure_bits"].mean() < 3
    assert (controls["cost_bits"] > 40).all()


def test_all_other_fills_as_references_give_the_exact_exposure():
    costs = np.random.default_rng(3).normal(60, 4, 1000)
    rows = measured(Toy(costs), 7, references=999, exact_steps=4000, controls=20)
    own = rows[rows["kind"] == "inserted"].set_index("method")
    assert own.loc["sampled", "exposure_bits"] == pytest.approx(own.loc["exact", "exposure_bits"])
    for _, control in rows[rows["kind"] == "control"].iterrows():
        number = int(control["fill"])
        assert control["exposure_bits"] == pytest.approx(log2(1000) - log2(np.count_nonzero(costs <= costs[number])))


def test_copying_digits_exposes_nothing():
    """Every pair is cheap, whatever was inserted: the canary is one among equals."""
    rng = np.random.default_rng(4)
    exposures = [
        measured(Toy(rng.normal(5, 0.5, 1000)), int(rng.integers(1000)), references=100, controls=0, rng=i)
        .query("kind == 'inserted' and method == 'sampled'")["exposure_bits"]
        .item()
        for i in range(60)
    ]
    assert np.mean(exposures) == pytest.approx(1.44, abs=0.75)  # the null's mean and four standard errors


def test_tables_keep_their_contracts_and_no_search_is_made():
    rng = np.random.default_rng(5)
    models = [Toy(rng.normal(50, 5, 1000)) for _ in range(2)]
    spec = AttackSpec(references=100, controls=4, bootstrap=3, histogram_bins=5, exact_steps=4000)
    tables = attack(models, FORMAT, LEXICONS, np.stack([digits(5), digits(6)]), spec, 0)
    assert set(tables) == set(TABLES)
    for name, frame in tables.items():
        contracts.check(name, frame)
    assert not len(tables["extraction"])
    assert not len(tables["top"])
    assert not len(tables["audit"])
    assert tables["histogram"].groupby("replicate")["count"].sum().tolist() == [100, 100]
    inserted = tables["exposure"].query("kind == 'inserted'")
    assert inserted.groupby("replicate")["fill"].unique().map(list).tolist() == [["005"], ["006"]]
    alone = attack(models[:1], FORMAT, LEXICONS, digits(5)[None], spec, 0)["exposure"].drop(columns="seconds")
    first = tables["exposure"].query("replicate == 0").drop(columns="seconds").reset_index(drop=True)
    assert first.equals(alone)


def test_costs_that_are_no_numbers_are_an_error():
    with pytest.raises(UserError, match="not a number; training diverged"):
        attack([Toy(np.full(1000, np.nan))], FORMAT, LEXICONS, digits(5)[None], AttackSpec(references=10), 0)
