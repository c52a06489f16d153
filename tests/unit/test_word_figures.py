"""Figures 1, 3 and 4: rows per model, the rule for A and B, the claims, the drawings, and how they are declared."""

import numpy as np
import pandas as pd
import pytest
import synthetic_tables as synthetic
from matplotlib.text import Text
from papers_paths import PAPERS
from scipy.stats import qmc

from memorization import claims, expansion, figures_words, tidy, tidy_words
from memorization.configuration import load_config

SPACE = 8 * np.log2(1000)


def model(setting, replicate, loss, bits, method="importance", insertions=5, seed=0):
    """Rows of one model: its kept losses, and measures of which `method` is the best that says something."""
    about = {
        "run": f"{setting:06d}{insertions:03d}{seed:03d}", "replicate": replicate, "seed": seed,
        "model.units": 10 * setting, "training.dropout": 0.1 * (setting % 3), "canary.insertions": insertions,
    }  # fmt: skip
    rank = 2 ** (SPACE - bits)
    inserted = {**about, "step": 9, "epoch": 3.0, "moment": "epoch", "kind": "inserted", "cost_bits": 90 - bits}
    rows = [{**inserted, "method": "skew_normal", "exposure_bits": bits + 3, "extrapolated": True}]
    few = {"rank": 2 ** (SPACE - 9), "exposure_bits": 9.0, "extrapolated": True}
    hits = {"rank": rank, "exposure_bits": bits, "extrapolated": False}
    rows.append({**inserted, "method": "sampled", **(hits if method == "sampled" else few)})
    none = {"rank": 1.0, "exposure_bits": SPACE, "extrapolated": True}
    rows.append({**inserted, "method": "importance", **(hits if method == "importance" else none)})
    if method in ("exact", "bounds"):
        rows.append({**inserted, "method": "exact", "algorithm": "pruned_walk" if method == "exact" else "bounds",
                     "rank": max(rank, 1.0) if method == "exact" else np.nan,
                     "exposure_bits": bits if method == "exact" else np.nan})  # fmt: skip
    rows += [{**inserted, "kind": "control", "index": i, "method": "sampled", "exposure_bits": 1.0 + i,
              "rank": 2 ** (SPACE - 1.0 - i)} for i in range(3)]  # fmt: skip
    curves = [
        {**about, "epoch": float(e), "step": 3 * e, "test_loss_nats": loss + 3 - e, "kept": e == 3} for e in range(4)
    ]
    return curves, rows


def table(figure, models):
    frames = [model(*m) if isinstance(m, tuple) else model(**m) for m in models]
    return synthetic.table(
        figure, {"curves": [r for c, _ in frames for r in c], "measures": [r for _, m in frames for r in m]}
    )


def search(spread, settings=32, replicates=3, seed=0, noise=1.0):
    """Fig 4: pairs of settings of the same perplexity whose exposures are `spread` bits apart."""
    rng = np.random.default_rng(seed)
    models = []
    for s in range(settings):
        loss, bits = 4.5 + 0.05 * (s // 2), 20 + spread * (s % 2)
        models += [
            (s + 1, k, loss + rng.normal(0, 1e-4), bits + 2 * k + rng.normal(0, noise)) for k in range(replicates)
        ]
    return table("fig04_utility", models)


def insertions(gap, at_nine="exact", seeds=3, rise=6.0):
    """Fig 1: A is `gap` bits above B; every number of insertions has seeds of its own."""
    rng = np.random.default_rng(1)
    models = []
    for n in (1, 2, 5, 9):
        for s, more in ((1, gap), (2, 0.0)):
            for k in range(6 if (n, s) == (9, 1) else seeds):
                top = n == 9 and s == 1
                bits = SPACE if top and at_nine == "exact" else 10 + more + rise * n + rng.normal(0, 0.5)
                own = {"method": at_nine if top else "importance", "insertions": n, "seed": n}
                models.append({"setting": s, "replicate": k, "loss": 4.6, "bits": bits, **own})
    return table("fig01_strategies", models)


def numerals(gap, levels=((2, 8.0), (5, 16.0)), replicates=3, noise=1.0):
    """X6: digits are `gap` bits above number words, at every number of insertions and mean exposure of `levels`."""
    rng, frames = np.random.default_rng(2), {"curves": [], "measures": []}
    for n, level in levels:
        for kind, hole in enumerate("nd"):
            for k in range(replicates):
                bits = min(level + kind * gap + 2 * k + rng.normal(0, noise), SPACE)
                curves, measures = model(1, k, 4.6, bits, "exact", insertions=n, seed=n)
                own = {"run": f"{hole}{n:011d}", "canary.format": " ".join([f"no {{{hole}}}"] * 9)}
                frames["curves"] += [row | own for row in curves]
                frames["measures"] += [row | own for row in measures]
    return synthetic.table("text_word_canaries", frames)


def judge(test, frame, **parameters):
    return claims.TESTS[test](frame, pd.DataFrame(columns=list(tidy.REFERENCE)), **parameters)


@pytest.mark.parametrize(
    ("method", "used", "bits"),
    [
        ("exact", "exact", 40.0),
        ("importance", "importance", 40.0),
        ("sampled", "sampled", 40.0),
        ("bounds", "skew_normal", 43.0),
    ],
)
def test_the_best_method_that_says_something_is_used(method, used, bits):
    found = tidy_words.models(table("fig04_utility", [(1, 0, 4.5, 40.0, method)])).iloc[0]
    assert (found["method"], found["bits"], found["loss"]) == (used, pytest.approx(bits), pytest.approx(4.5))
    assert found["space_bits"] == pytest.approx(SPACE)
    assert found["beaten"] == (method != "bounds")


def test_an_estimate_beyond_the_space_is_cut_and_only_an_exact_rank_is_first():
    found = tidy_words.models(table("x", [(1, 0, 4.5, SPACE, "exact"), (2, 0, 4.5, SPACE - 1, "bounds")]))
    assert found["bits"].tolist() == pytest.approx([SPACE, SPACE])
    assert found["first"].tolist() == [True, False]
    assert found["setting"].tolist() == [1, 2]


def frame(*rows):
    return pd.DataFrame(rows, columns=["setting", "perplexity", "bits"]).assign(loss=lambda f: np.log(f["perplexity"]))


def test_rule_takes_the_pair_that_differs_most_among_equally_useful_ones():
    found = frame(
        (1, 100.0, 20.0), (2, 100.5, 30.0), (3, 108.0, 5.0), (4, 108.9, 60.0), (5, 130.0, 0.0), (6, 130.1, 80.0)
    )
    assert tidy_words.pick(found, 0.01, 0.1) == (4, 3)
    assert tidy_words.pick(found, 0.01, 0.05) == (2, 1)
    assert tidy_words.pick(found, 0.01, 0.5) == (6, 5)
    assert tidy_words.pick(frame((1, 100.0, 9.0), (2, 104.0, 1.0), (3, 109.0, 7.0)), 0.01, 0.1) == (1, 2)
    assert tidy_words.pick(frame((1, 100.0, 9.0)), 0.01, 0.1) is None


@pytest.mark.parametrize(("spread", "settings", "verdict"), [(30, 32, True), (0, 32, False), (7.5, 8, None)])
def test_utility_leaves_exposure_open(spread, settings, verdict):
    outcome = judge("utility_leaves_exposure_open", search(spread, settings), band=0.01, bits=8.0, settings=30)
    assert outcome.verdict_supported is verdict
    assert outcome.low < outcome.estimate < outcome.high


def test_utility_needs_alike_settings_and_two_models_each():
    for lonely in (search(30, 32, replicates=1), table("x", [(s, k, 4 + s, 9.0 + k) for s in (1, 2) for k in (0, 1)])):
        found = judge("utility_leaves_exposure_open", lonely, band=0.01, bits=8.0, settings=30)
        assert found.verdict_supported is None


def test_some_setting_ranks_first():
    ranked = [(1, 0, 4.5, SPACE, "exact"), (1, 1, 4.5, SPACE, "exact"), (2, 0, 4.6, 30.0), (2, 1, 4.6, SPACE, "exact")]
    assert judge("some_setting_ranks_first", table("x", ranked), settings=30).verdict_supported is True
    assert judge("some_setting_ranks_first", table("x", ranked[2:]), settings=30).verdict_supported is None
    assert judge("some_setting_ranks_first", table("x", ranked[2:]), settings=1).verdict_supported is False


def test_strategies_by_rule():
    given = {"band": 0.01, "reach": 0.1}
    assert judge("strategies_by_rule", search(30, 2), a=2, b=1, **given).verdict_supported is True
    assert judge("strategies_by_rule", search(30, 2), a=1, b=2, **given).verdict_supported is False
    assert judge("strategies_by_rule", search(30, 2), a=1, b=7, **given).verdict_supported is None


@pytest.mark.parametrize(("gap", "verdict"), [(10.0, True), (0.0, None)])
def test_strategies_differ(gap, verdict):
    found = judge("strategies_differ", insertions(gap, "importance"), utility=0.05, insertions=5, seeds=60)
    assert found.verdict_supported is verdict


def test_strategies_of_unequal_utility_are_not_compared():
    uneven = insertions(10.0)
    uneven.loc[uneven["model.units"] == 10, "test_loss_nats"] += 0.2
    found = judge("strategies_differ", uneven, utility=0.05, insertions=5, seeds=6)
    assert (found.verdict_supported, "not of the same utility" in found.summary) == (None, True)


@pytest.mark.parametrize(("method", "verdict"), [("exact", True), ("importance", False), ("bounds", None)])
def test_extractable_at(method, verdict):
    found = judge("extractable_at", insertions(10.0, method), insertions=9, apart=5, seeds=6)
    assert found.verdict_supported is verdict


def test_the_strategy_is_the_one_that_five_insertions_tell_not_the_one_that_does_best_at_nine():
    changed = insertions(10.0, "importance")
    better = (changed["model.units"] == 20) & (changed["canary.insertions"] == 9) & (changed["method"] == "importance")
    changed.loc[better, ["rank", "exposure_bits"]] = [1.0, SPACE]
    found = judge("extractable_at", changed, insertions=9, apart=5, seeds=6)
    assert (found.verdict_supported, found.n) == (False, 6)


@pytest.mark.parametrize(("rise", "verdict"), [(6.0, True), (0.0, None), (-6.0, False)])
def test_exposure_rises_with_insertions(rise, verdict):
    found = judge("exposure_rises_with_insertions", insertions(60.0, "importance", rise=rise), seeds=9)
    assert found.verdict_supported is verdict


def test_the_surrogate_is_never_judged():
    found = judge("surrogate_trend", insertions(10.0))
    assert found.verdict_supported is None
    assert found.summary.startswith("surrogate, not judged: mean bits by insertions 1: ")
    assert judge("surrogate_trend", search(30, 2)).verdict_supported is None


@pytest.mark.parametrize(("gap", "verdict"), [(8.0, True), (0.0, None), (-8.0, False)])
def test_digits_more_exposed(gap, verdict):
    found = judge("digits_more_exposed", numerals(gap, levels=((2, 18.0), (5, 26.0))), seeds=10)
    assert found.verdict_supported is verdict
    assert found.n == 6
    assert found.estimate == pytest.approx(gap, abs=2.5)
    if not gap:
        assert judge("digits_more_exposed", numerals(0.0, levels=((2, 18.0),), replicates=9), seeds=9).n == 9


def test_no_difference_with_the_planned_seeds_is_a_no():
    assert judge("digits_more_exposed", numerals(0.0, noise=0.01), seeds=6).verdict_supported is False


def test_pairs_are_of_one_seed_and_replicate():
    """The replicates' common trend (2 bits each) is no noise of the difference."""
    found = judge("digits_more_exposed", numerals(1.0, noise=0.01), seeds=10)
    assert found.verdict_supported is True
    assert found.high - found.low < 0.1
    lonely = numerals(8.0)
    assert judge("digits_more_exposed", lonely[~lonely["run"].str.startswith("n")], seeds=10).verdict_supported is None


def test_what_is_at_the_ceiling_in_both_says_nothing():
    full = numerals(0.0, levels=((2, 500.0), (5, 500.0)))
    found = judge("digits_more_exposed", full, seeds=3)
    assert found.verdict_supported is None
    assert "6 pairs at log2|R| in both" in found.summary
    half = judge("digits_more_exposed", numerals(0.0, levels=((2, 500.0), (5, 16.0)), noise=0.01), seeds=6)
    assert half.verdict_supported is None  # three of six pairs tell something


def test_x6_trains_pairs_and_smaller_scales_keep_them():
    for scale in ("smoke", "reduced", "paper"):
        figures = ["text_word_canaries"]
        plan = expansion.expand(load_config({"scale": scale, "figures": figures}), expansion.dataset_names())
        runs = [c.run for c in plan.figures["secret_sharer", figures[0]].cells]
        assert len(runs) == {"smoke": 2, "reduced": 4, "paper": 8}[scale]
        for one, other in zip(runs[::2], runs[1::2], strict=True):
            assert (one.canary.format.count("{d}"), other.canary.format.count("{n}")) == (9, 9)
            assert one.canary.format.replace("{d}", "{n}") == other.canary.format
            assert one.model_copy(update={"canary": other.canary}) == other
        seeds = {(run.seed, run.canary.insertions) for run in runs}
        assert len({seed for seed, _ in seeds}) == len(seeds)


DRAWN = {
    "text_word_canaries": lambda: numerals(8.0),
    "fig04_utility": lambda: search(30, 16, 2),
    "fig01_strategies": lambda: insertions(10.0),
    "fig03_smart_compose": lambda: insertions(10.0),
}


@pytest.mark.parametrize("key", DRAWN)
def test_draws_with_the_papers_values_and_survives_gaps(key):
    reference = tidy.read_reference(PAPERS / "secret_sharer" / "reference.csv", key)
    whole = DRAWN[key]()
    figure = getattr(figures_words, key)(whole, reference)
    figure.set_dpi(40)
    figure.canvas.draw()
    text = " ".join(t.get_text() for t in figure.findobj(Text))
    assert "paper" in text
    assert ("SURROGATE" in text) == (key == "fig03_smart_compose")
    for part in (whole[whole["source"] == "curves"], whole[whole["run"] == whole["run"].iloc[0]]):
        getattr(figures_words, key)(part, reference)


def settings(count):
    """The Sobol sequence of Figure 4's settings, over ranges like those of AWD-LSTM's published ones."""

    def log(u, low, high):
        return float(f"{low * (high / low) ** u:.1e}")

    def steps(u, low, high, step):
        return round((low + (high - low) * u) / step) * step

    return [
        {
            "model.layers": 1 + int(3 * layers),
            "model.units": steps(units, 400, 1200, 50),
            "model.embedding": steps(embedding, 200, 600, 50),
            "training.learning_rate": log(rate, 3e-4, 3e-3),
            "training.dropout": round(0.05 * round(0.6 * dropout / 0.05), 2),
            "training.batch_size": steps(batch, 20, 80, 10),
            "training.epochs": 6 + int(11 * epochs),
            "training.weight_decay": log(decay, 1e-7, 1e-4),
        }
        for layers, units, embedding, rate, dropout, batch, epochs, decay in qmc.Sobol(8, scramble=True, seed=0).random(
            count
        )
    ]


def test_figure_4_is_a_search_of_32_settings_and_figure_1_repeats_two_of_them():
    figures = expansion.load_paper("secret_sharer").figures
    cells, declared = figures["fig04_utility"].cells, figures["fig04_utility"].claims
    assert cells == settings(32)
    chosen = next(c.parameters for c in declared if c.test == "strategies_by_rule")
    wanted = [cells[chosen[name] - 1] for name in "ab"]
    own = [{k: v for k, v in c.items() if k in wanted[0]} for c in figures["fig01_strategies"].cells]
    assert own == wanted * (len(own) // 2)
    counts = [c["canary.insertions"] for c in figures["fig01_strategies"].cells]
    assert sorted(set(counts)) == list(range(10))


@pytest.mark.parametrize("scale", ["smoke", "reduced", "paper"])
def test_settings_stay_different_at_every_scale_and_figure_1_shares_runs(scale):
    figures = ["fig04_utility", "fig01_strategies"]
    plan = expansion.expand(load_config({"scale": scale, "figures": figures}), expansion.dataset_names())
    ids = [[c.run.run_id for c in plan.figures["secret_sharer", key].cells] for key in figures]
    assert len(set(ids[0])) == len(ids[0]) == {"smoke": 2, "reduced": 16, "paper": 32}[scale]
    if scale != "smoke":
        assert len(set(ids[0]) & set(ids[1])) == 2
