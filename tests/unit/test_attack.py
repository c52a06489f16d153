"""The tables of an attack: contracts, independence of replicates, consistency between searches and ranks."""

import numpy as np
import pytest

from memorization import contracts, every
from memorization.attack import TABLES, attack
from memorization.backends.controls import MarkovModel, OracleModel, table_model
from memorization.canaries import CanaryFormat
from memorization.errors import UserError
from memorization.search import exact_rank, fill_costs
from memorization.specs import AttackSpec
from memorization.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of(["\nthe random number is 0123456789-"])
FMT = CanaryFormat.parse("the {d}{d}{d}{d}")
FILLS = np.array([[2, 8, 1, 2], [6, 5, 0, 1]])
EVERY = ("shortest_path", "beam", "sampling", "greedy", "brute_force")


@pytest.fixture(scope="module")
def models():
    return [OracleModel(VOCABULARY, "the 2812", 0.7), MarkovModel(VOCABULARY, 1)]


@pytest.fixture(scope="module")
def tables(models):
    spec = AttackSpec(references=300, controls=5, bootstrap=10, extraction=EVERY, top=9, histogram_bins=8)
    return attack(models, FMT, FILLS, spec, seed=3)


def test_every_table_keeps_its_contract(tables, tmp_path):
    assert set(tables) == set(TABLES)
    for name, frame in tables.items():
        assert len(frame) or name == "audit"
        contracts.write(name, frame, tmp_path)
        assert len(contracts.read(name, tmp_path)) == len(frame)


def test_memorised_canary_is_extracted_by_every_search_and_ranks_first(tables):
    extraction = tables["extraction"].query("replicate == 0")
    assert extraction["algorithm"].tolist() == list(EVERY)
    assert extraction["extracted"].all()
    assert extraction["fill"].unique().tolist() == ["2812"]
    exact = tables["exposure"].query("replicate == 0 and method == 'exact'")
    assert exact["rank"].tolist() == [1.0]


def test_provable_extraction_succeeds_exactly_where_the_exact_rank_is_one(tables):
    exact = tables["exposure"].query("method == 'exact'").set_index("replicate")["rank"] == 1
    found = tables["extraction"].query("algorithm == 'shortest_path'").set_index("replicate")
    assert found["provable"].all()
    assert found["extracted"].equals(exact.rename("extracted"))


def test_top_is_in_order_and_marks_the_canary(tables):
    for replicate, frame in tables["top"].groupby("replicate"):
        assert frame["position"].tolist() == list(range(1, 10))
        assert frame["cost_bits"].is_monotonic_increasing
        own = FMT.fill_text(FILLS[replicate])
        assert (frame["is_canary"] == (frame["fill"] == own)).all()
        assert replicate != 0 or frame["is_canary"].iloc[0]


def test_histogram_holds_every_reference(tables):
    assert tables["histogram"].groupby("replicate")["count"].sum().tolist() == [300, 300]


def test_controls_and_references_are_other_fills(tables):
    controls = tables["exposure"].query("kind == 'control'")
    assert not set(controls["fill"]) & {"2812", "6501"}
    assert controls.groupby("replicate").size().tolist() == [5, 5]


def test_a_replicates_rows_do_not_depend_on_the_others(models, tables):
    spec = AttackSpec(references=300, controls=5, bootstrap=10)
    alone = attack(models[:1], FMT, FILLS[:1], spec, seed=3)["exposure"].drop(columns="seconds")
    together = tables["exposure"].query("replicate == 0").drop(columns="seconds")
    assert alone.equals(together.reset_index(drop=True))


MANY = np.array([[2, 8, 1, 2], [0, 0, 0, 7], [9, 9, 9, 9], [1, 2, 3, 4], [4, 4, 4, 4], [5, 0, 5, 0]])


def test_every_canary_is_measured_but_only_the_first_walked_and_searched(models):
    spec = AttackSpec(references=300, controls=5, bootstrap=10, top=3)
    tables = attack(models[1:], FMT, MANY[None], spec, seed=3)
    canaries = tables["exposure"].query("kind == 'inserted'")
    assert canaries.query("method == 'sampled'")["fill"].tolist() == [FMT.fill_text(f) for f in MANY]
    assert canaries.query("method == 'skew_normal'")["index"].tolist() == list(range(6))
    assert canaries.query("index > 0")["method"].unique().tolist() == ["sampled", "skew_normal"]
    assert set(canaries.query("index == 0")["method"]) == {"exact", "importance", "sampled", "skew_normal"}
    costs = fill_costs(models[1], FMT.tokens(VOCABULARY), MANY)[1]
    assert canaries.query("method == 'sampled'")["cost_bits"].tolist() == pytest.approx(costs.tolist())
    assert tables["extraction"]["fill"].unique().tolist() == ["2812"]
    assert tables["audit"].empty
    assert not set(tables["exposure"].query("kind == 'control'")["fill"]) & set(canaries["fill"])


def test_canaries_rank_among_all_fills_where_the_references_are_all_others(models):
    spec = AttackSpec(references=10_000, controls=3, bootstrap=0, extraction=())
    rows = attack(models[1:], FMT, MANY[None], spec, seed=3)["exposure"].query("method == 'sampled'")
    assert rows["references"].unique().tolist() == [10_000 - len(MANY)]
    for row in rows.to_dict("records"):
        true = exact_rank(models[1], FMT.tokens(VOCABULARY), FMT.parse_fill(row["fill"]), max_steps=10**6)
        assert row["rank"] == pytest.approx(true.rank)


def test_what_the_coin_left_out_is_of_another_kind_and_the_audit_guesses_it():
    """A model that knows the included canaries and no other: every guess is right."""
    inside, outside = ["0123", "1123", "2123", "3123"], ["0777", "1777", "2777", "3777"]
    probabilities = np.full(len(VOCABULARY), 1e-3)
    probabilities[VOCABULARY.encode("0123456789")] = [0.1, 0.2, 0.2, 0.2, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01]
    model = table_model(VOCABULARY, np.tile(probabilities / probabilities.sum(), (len(VOCABULARY), 1)))
    fills = np.array([FMT.parse_fill(f) for pair in zip(inside, outside, strict=True) for f in pair])
    coins = np.array([True, False] * 4)
    spec = AttackSpec(references=300, controls=0, bootstrap=0, extraction=())
    tables = attack([model, model], FMT, np.stack([fills, fills]), spec, 0, np.stack([coins, ~coins]), delta=1e-4)
    first = tables["exposure"].query("replicate == 0 and method == 'sampled'")
    assert first["kind"].tolist() == ["inserted", "excluded"] * 4
    assert set(tables["exposure"].query("replicate == 1 and index == 0")["kind"]) == {"excluded"}
    right, wrong = tables["audit"].to_dict("records")
    for replicate, row in enumerate((right, wrong)):
        assert row["replicate"] == replicate
        assert row["delta"] == 1e-4
        assert (row["canaries"], row["included"], row["guesses"]) == (8, 4, 8)
    assert right["correct"] == 8
    assert right["epsilon_low"] > 0
    assert wrong["correct"] == 0
    assert wrong["epsilon_low"] == 0


def test_tables_that_were_not_asked_for_are_empty_but_keep_their_contract(models, tmp_path):
    spec = AttackSpec(references=50, controls=0, bootstrap=0, extraction=())
    tables = attack(models[:1], FMT, FILLS[:1], spec, seed=0)
    for name in ("extraction", "top", "histogram"):
        assert tables[name].empty
        contracts.write(name, tables[name], tmp_path)


def test_a_search_out_of_budget_reports_a_bound_and_lists_only_certain_fills():
    fmt = CanaryFormat.parse("{d}" * 7)
    spec = AttackSpec(references=50, controls=0, bootstrap=0, exact_steps=10, extraction_steps=100, top=5)
    tables = attack([MarkovModel(VOCABULARY, 2, concentration=5.0)], fmt, np.zeros((1, 7), int), spec, seed=0)
    (row,) = tables["extraction"].to_dict("records")
    assert not row["provable"]
    assert 0 < row["lower_bound_bits"] < row["canary_cost_bits"]
    assert tables["top"].empty


def test_mismatched_numbers_are_named(models):
    with pytest.raises(UserError, match="2 models but 1"):
        attack(models, FMT, FILLS[:1], AttackSpec(), seed=0)


OWN = [CanaryFormat.parse(f"{context} {{d}}{{d}}{{d}}{{d}}") for context in ("the", "is", "nu")]


def test_every_canary_is_ranked_and_searched_in_its_own_context():
    """The model knows the last canary only."""
    fills = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [2, 8, 1, 2]])
    model = OracleModel(VOCABULARY, OWN[2].render(fills[2]), 0.7)
    spec = AttackSpec(references=300, controls=5, bootstrap=5, every=True)
    tables = attack([model], [OWN], fills[None], spec, seed=0)
    exact = tables["exposure"].query("method == 'exact'").set_index("index")
    assert exact.index.tolist() == [0, 1, 2]
    assert exact["rank"].fillna(0).tolist() == [10_000, 10_000, 1]  # in the other contexts all fills tie
    assert tables["exposure"].query("method == 'sampled' and kind == 'inserted'")["index"].tolist() == [0]
    searches = tables["extraction"].query("algorithm == 'shortest_path'").set_index("index")
    assert searches["fill"].tolist() == [OWN[i].fill_text(fills[i]) for i in range(3)]
    assert searches["extracted"].tolist() == [False, False, True]
    assert searches["provable"].all()


def test_a_beam_that_finds_a_likelier_fill_ends_the_search(models):
    spec = AttackSpec(references=300, controls=0, bootstrap=0, every=True)
    tables = attack(models[1:], FMT, MANY[None], spec, seed=3)
    costs = fill_costs(models[1], FMT.tokens(VOCABULARY), MANY)[1]
    true = [exact_rank(models[1], FMT.tokens(VOCABULARY), fill, max_steps=10**6).rank for fill in MANY]
    assert min(true) > 1
    exact = tables["exposure"].query("method == 'exact'").set_index("index")
    assert (exact["algorithm"][1:] == "bounds").all()
    assert exact["rank"][1:].isna().all()
    assert (exact["rank_low"][1:] == 2).all()
    assert exact["rank"][0] == true[0]
    others = tables["extraction"].query("index > 0")
    assert others["algorithm"].unique().tolist() == ["beam"]
    assert others["index"].tolist() == list(range(1, len(MANY)))
    assert not others["extracted"].any()
    assert (others["best_cost_bits"] < costs[1:]).all()


def test_no_beam_is_run_where_every_rank_is_wanted_anyway(models, monkeypatch):
    spec = AttackSpec(references=300, controls=0, bootstrap=0, every=True)
    tried = attack(models[1:], FMT, MANY[None], spec, seed=3)["exposure"].query("method == 'exact'")
    monkeypatch.setattr(every, "beam", None)
    tables = attack(models[1:], FMT, MANY[None], spec.model_copy(update={"ranked": True}), seed=3)
    exact = tables["exposure"].query("method == 'exact'")
    assert exact["rank"].notna().all()
    assert exact["cost_bits"].tolist() == tried["cost_bits"].tolist()
    assert tables["extraction"]["algorithm"].unique().tolist() == ["shortest_path"]
    assert tables["extraction"]["index"].tolist() == list(range(len(MANY)))


def test_the_first_canary_is_attacked_alike_with_and_without_the_others(models):
    plain = AttackSpec(references=300, controls=5, bootstrap=5)
    few = attack(models[1:], FMT, MANY[None], plain, seed=3)
    all_of_them = attack(models[1:], FMT, MANY[None], plain.model_copy(update={"every": True}), seed=3)
    for name, keys in (("exposure", ["kind", "index", "method"]), ("extraction", ["index", "algorithm"])):
        merged = few[name].merge(all_of_them[name], on=keys, suffixes=("", "_other"))
        assert len(merged) == len(few[name])
        for column in ("cost_bits", "rank", "fill", "extracted"):
            if f"{column}_other" in merged:
                assert merged[column].equals(merged[f"{column}_other"].rename(column))


def test_what_the_coin_left_out_is_ranked_but_not_searched_for(models):
    coins = np.array([[False, True, True, False, True, True]])
    spec = AttackSpec(references=300, controls=0, bootstrap=0, every=True)
    tables = attack(models[1:], FMT, MANY[None], spec, 3, coins)
    exact = tables["exposure"].query("method == 'exact'")
    assert exact["kind"].tolist() == ["inserted" if c else "excluded" for c in coins[0]]
    assert sorted(tables["extraction"]["index"].unique()) == [1, 2, 4, 5]
    assert not tables["extraction"].duplicated(["index", "algorithm"]).any()


def test_an_audit_of_canaries_in_their_own_contexts_uses_their_own_costs(models):
    fills, coins = np.array([[1, 2, 3, 4], [4, 3, 2, 1], [2, 8, 1, 2]]), np.array([[True, False, True]])
    spec = AttackSpec(references=300, controls=0, bootstrap=0, extraction=())
    tables = attack(models[1:], [OWN], fills[None], spec, 0, coins)
    assert tables["audit"]["canaries"].tolist() == [3]
    assert tables["exposure"].query("kind == 'inserted'")["index"].unique().tolist() == [0]
