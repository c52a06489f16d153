"""All estimates of a model's exposure side by side: the table, the tests of the estimators, the drawing, the plan."""

import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from papers_paths import PAPERS
from synthetic_tables import SPACE, exposures, table

from memorization import contracts, estimates, plotting, tables, tidy
from memorization.claims import TESTS
from memorization.configuration import load_config
from memorization.expansion import dataset_names, expand, known_papers, load_paper
from memorization.gates import estimates as gates

NONE = pd.DataFrame(columns=list(tidy.REFERENCE))


def models(n=30, first=0.4, tail=0.0, noise=0.5, sampled=0.0, limit=11.0, known=1.0, seed=0):
    """n models of as many seeds: a share `first` ranks first, a share `known` has an exact exposure, the others' lies
    between 2 and 25 bits. The fitted tail is off by `tail` and `noise` bits, the sampled by `sampled`, up to `limit`.
    """
    rng, rows = np.random.default_rng(seed), []
    for k in range(n):
        leads = k < first * n
        exact = SPACE if leads else rng.uniform(2, 25)
        guess = exact + sampled + rng.normal(0, 0.1)
        rows.append({
            "run": f"{k:012x}", "replicate": 0, "seed": k, "task": "text", "unit": "character", "moment": "end",
            "space_bits": SPACE, "references": 2000, "rank": 1.0 if leads else 2 ** (SPACE - exact),
            "exact_bits": exact if k % 10 < 10 * known else np.nan, "importance_bits": exact,
            "sampled_bits": min(guess, limit), "sampled_at_limit": exact + sampled > limit,
            "skew_normal_bits": exact + tail + rng.normal(0, noise),
        })  # fmt: skip
    return table("estimators", {"estimates": rows})


def verdict(test, found, **parameters):
    return TESTS[test](found, NONE, **parameters, seeds=20).verdict_supported


# --- the table ----------------------------------------------------------------------------------------------------


def test_of_an_attacked_run_the_attack_counts():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(exposures(rng, 0, 20.0, fill="1") + exposures(rng, 1, 40.0, fill="2")).drop(columns="run")
    whole = rows.reindex(columns=list(contracts.columns("exposure")))
    whole = whole.assign(
        references=4000, algorithm=whole["algorithm"].fillna(""), extrapolated=whole["extrapolated"].eq(True)
    )
    spec = {"seed": 3, "corpus": {"unit": "word"}, "measure": {"references": 77}}
    frame = estimates.of_run({"exposure": whole, "measures": contracts.empty("measures")}, spec)
    assert frame["replicate"].tolist() == [0, 1]
    assert frame["moment"].unique() == ["attack"]
    assert frame["references"].tolist() == [4000, 4000]
    assert frame[["seed", "unit", "task"]].drop_duplicates().iloc[0].tolist() == [3, "word", "text"]
    assert frame["space_bits"].to_numpy() == pytest.approx(SPACE)
    assert frame.loc[1, "rank"] == 1
    assert frame.loc[1, "exact_bits"] == pytest.approx(SPACE)
    assert frame["sampled_at_limit"].tolist() == [True, True]
    assert frame["skew_normal_bits"].tolist() == [20.0, 40.0]


def measured(step, bits, method, algorithm="", **more):
    row = dict.fromkeys(contracts.columns("measures"), 0.0)
    row |= {"step": step, "replicate": 0, "index": 0, "moment": "epoch", "kind": "inserted", "method": method}
    row |= {"algorithm": algorithm, "exposure_bits": bits, "rank": 2 ** (SPACE - bits), "extrapolated": False}
    return {**row, **more}


def test_otherwise_the_last_measurement_and_an_unfinished_walk_is_no_exact_rank():
    rows = [measured(1, 2.0, "exact", "pruned_walk"), measured(2, 4.0, "exact", "bounds"), measured(2, 5.0, "sampled"),
            measured(2, 6.0, "skew_normal", rank=np.nan), measured(2, 9.0, "sampled", index=1)]  # fmt: skip
    spec = {"measure": {"references": 77}}
    frame = estimates.of_run({"measures": pd.DataFrame(rows)}, spec)
    assert len(frame) == 1
    row = frame.iloc[0]
    assert row["moment"] == "end"
    assert np.isnan(row["exact_bits"])
    assert (row["sampled_bits"], row["skew_normal_bits"], row["references"]) == (5.0, 6.0, 77)
    assert len(estimates.of_run({"measures": contracts.empty("measures")}, {})) == 0


def test_tables_hold_every_run_once_and_no_rounded_weights(tmp_path):
    run = tmp_path / "runs" / "torch" / "r"
    rows = pd.DataFrame([measured(2, 5.0, "sampled"), measured(2, 6.0, "skew_normal", rank=np.nan)])
    rows = rows.astype({"replicate": int, "step": int, "index": int, "model_steps": int, "holds_canary": bool})
    contracts.write("measures", rows, run)
    record = {"data": {"dataset": "ptb", "source": "mirror"}, "spec": {"replicates": 1}}
    (run / "run.json").write_text(json.dumps(record))
    for attack, how in (("a", "int8"), ("b", "none")):
        contracts.write("exposure", contracts.empty("exposure"), run / "attacks" / attack)
        (run / "attacks" / attack / "spec.json").write_text(json.dumps({"quantize": how}))
    about = {"backend": "torch", "run": "r", "score": None, "private": False, "varied": {}}
    cells = [{**about, "attack": attack} for attack in ("a", "b", None)]
    assert tables.sources_of(cells[0], ["estimates"]) == ["exposure", "measures"]
    assert tables.sources_of(cells[2], ["estimates"]) == ["measures"]
    built = tables.build("estimators", "reduced", ["estimates"], cells, str(tmp_path))
    assert len(built) == 1
    assert built["skew_normal_bits"].tolist() == [6.0]
    assert built["data_source"].tolist() == ["mirror"]


# --- claims -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"tail": -8.0}, False), ({"tail": 3.0, "noise": 3.0, "n": 15}, None), ({"first": 1.0}, None)],
)
def test_the_fitted_tail_is_right_on_average(changes, expected):
    assert verdict("estimate_unbiased", models(**changes), method="skew_normal", margin=3.0) is expected


@pytest.mark.parametrize(
    ("changes", "expected"), [({}, True), ({"sampled": 2.0}, False), ({"limit": 1.0}, None), ({"n": 2}, None)]
)
def test_sampling_is_right_below_its_limit_which_does_not_count(changes, expected):
    assert verdict("estimate_unbiased", models(**changes), method="sampled", margin=1.0) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"limit": 40.0}, False), ({"first": 0.1}, None), ({"n": 4, "first": 1.0}, None)],
)
def test_sampling_is_blind_to_rank_one(changes, expected):
    assert verdict("sampled_at_limit", models(**changes), share=0.5) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tail": 2.0}, True),
        ({"tail": -8.0, "n": 60}, False),
        ({"tail": -8.0, "n": 60, "first": 0.05}, None),  # always "below" is right in 95 % of them, but of one kind
        ({"tail": -8.0, "n": 200, "first": 0.05}, False),
        ({"first": 0.0}, None),
        ({"n": 5}, None),
        ({"n": 14}, None),
    ],
)
def test_the_fitted_tail_tells_rank_one(changes, expected):
    assert verdict("estimate_tells_first", models(**changes), method="skew_normal", share=0.9) is expected


def test_models_without_an_exact_rank_are_left_out_and_told():
    outcome = TESTS["estimate_unbiased"](models(known=0.5), NONE, method="skew_normal", margin=3.0, seeds=20)
    assert "15 of 30 without a finished exact rank left out" in outcome.summary
    assert outcome.n == 8
    outcome = TESTS["estimate_unbiased"](
        models(known=0.5), NONE, method="skew_normal", margin=3.0, seeds=20, importance=True
    )
    assert "; 10 of them against importance sampling" in outcome.summary
    assert outcome.n == 18


def test_classes_of_exact_exposure():
    frame = gates.compared(models(), "sampled")
    kinds = gates.binned(frame)
    assert set(kinds) <= set(gates.CLASSES)
    assert (kinds[frame["first"]] == "rank 1").all()
    assert frame.loc[kinds == "5–10", "known_bits"].between(5, 10, inclusive="left").all()


# --- the drawing and the plan -------------------------------------------------------------------------------------


def draw(found):
    spec = importlib.util.spec_from_file_location("beyond_plots", PAPERS / "beyond" / "plots.py")
    plots = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plots)
    figure = plots.estimators(found, tidy.read_reference(PAPERS / "beyond" / "reference.csv", "estimators"))
    return figure, " | ".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize("changes", [{}, {"n": 1}, {"first": 1.0}, {"first": 0.0}, {"known": 0.5}])
def test_draws(changes):
    figure, said = draw(models(**changes))
    figure.canvas.draw()
    assert figure.get_figwidth() <= plotting.WIDTH
    assert "with an exact exposure" in said
    assert "the paper's slack" in said


def test_says_so_when_there_is_nothing():
    assert "no model with a known exposure" in draw(models()[:0])[1]


def test_every_figure_with_a_canary_is_among_its_models():
    """Those of other papers that list exposures, but for borrowed ones and images."""
    named = set(load_paper("beyond").figures["estimators"].cells_of)
    wanted = {
        f"{paper}/{key}"
        for paper in known_papers()
        for key, figure in load_paper(paper).figures.items()
        if not figure.cells_of and {"exposure", "measures"} & set(figure.sources)
    }
    assert named == wanted


@pytest.mark.parametrize("scale", ["smoke", "reduced", "paper", "trial"])
def test_it_trains_nothing_of_its_own(scale):
    papers = ["secret_sharer", "tensorflow_privacy", "beyond"]
    plan = expand(load_config({"scale": scale, "papers": papers}), dataset_names())
    mine = {
        (c.backend, c.run.run_id, c.attack and c.attack.attack_id) for c in plan.figures["beyond", "estimators"].cells
    }
    others = {
        (c.backend, c.run.run_id, c.attack and c.attack.attack_id)
        for (_, key), figure in plan.figures.items()
        for c in figure.cells
        if key != "estimators"
    }
    assert mine <= others
    assert len({run for _, run, _ in mine}) > (10 if scale == "trial" else 30)
