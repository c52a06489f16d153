"""R1 to R12 of Learn to Forget are drawn from synthetic federations and survive tables without rows; filters."""

import importlib.util

import pandas as pd
import pytest
import synthetic_forget as synthetic
from matplotlib.table import Table
from matplotlib.text import Text
from papers_paths import PAPERS

from memorization import panels_forget, plotting, tables, tidy
from memorization.expansion import load_paper
from memorization.federated_specs import RequestSpec
from memorization.figure_specs import DetailsFilter

FOLDER = PAPERS / "learn_to_forget"
MAIN = ("r01_system", "r02_datasets", "r03_main_result", "r04_equal_rate", "r05_time", "r07_rounds", "r12_posteriors")
TWO_SETS = ("mnist", "adult")


def plots():
    spec = importlib.util.spec_from_file_location("learn_to_forget_plots", FOLDER / "plots.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(figure):
    cells = [cell.get_text() for table in figure.findobj(Table) for cell in table.get_celld().values()]
    return " ".join(text.get_text() for text in [*figure.findobj(Text), *cells])


def drawn(key, table, tmp_path):
    figure = getattr(plots(), key)(table, tidy.read_reference(FOLDER / "reference.csv", key))
    plotting.save(figure, tmp_path / "f.pdf", tmp_path / "f.png")
    return words(figure)


@pytest.fixture(scope="module")
def main():
    sizes = {"data.users": 10, "data.examples_per_user": 200, "data.third_party": 500}
    training = {"training.local_epochs": 2, "training.batch_size": 10, "model.architecture": "mlp"}
    weak = synthetic.main(sets=("adult",), seeds=3, t=0.65)
    table = pd.concat([synthetic.main(sets=("mnist",), seeds=3), weak.assign(run="weak")], ignore_index=True)
    return table.assign(**sizes, **training)


@pytest.mark.parametrize("key", MAIN)
def test_main_figures(key, main, tmp_path):
    told = drawn(key, main, tmp_path)
    assert "numbering of this repository" in told
    assert "v3" in told or "v1" in told
    assert "Adult" in told or key == "r01_system"


def test_the_system_shows_the_configuration(main, tmp_path):
    told = drawn("r01_system", main.assign(dataset="mnist"), tmp_path)
    assert "local epochs: 2" in told
    assert "users 1 to 9" in told
    assert "20 messages" in told
    assert "4 MB" in told


def test_data_sets_show_the_federations_accuracy(main, tmp_path):
    """Not the mean with SISA's, which starts from models of its own."""
    own = main[(main["measure"] == "accuracy") & (main["part"] == "test") & (main["step"] == 0) & (main["item"] == -1)]
    sisa = own.assign(item=synthetic.METHODS.index("sisa"), value=0.0)
    assert len(own)
    alone = drawn("r02_datasets", main, tmp_path)
    assert drawn("r02_datasets", pd.concat([main, sisa], ignore_index=True), tmp_path) == alone


def test_main_result_shows_counts_and_marks_what_is_uninformative(main, tmp_path):
    told = drawn("r03_main_result", main, tmp_path)
    assert "180.0" in told  # BT = t n
    assert "33.3" in told  # 1 - f/t
    assert "uninformative" in told
    assert "claim: FR > 90 %" in told


def swept(column, values, methods=("retrain", "forsaken"), **more):
    asked = synthetic.requests(methods)
    return synthetic.joined(
        [
            ({"dataset": name, column: value, **more}, synthetic.cell(asked, seeds=3, number=i + 10 * j))
            for i, name in enumerate(TWO_SETS)
            for j, value in enumerate(values)
        ]
    )


def test_sizes(tmp_path):
    told = drawn("r06_forget_size", swept("data.forget", (0.1, 1.0)), tmp_path)
    assert "one example = 0.56, 0.56 points" in told
    assert "MNIST, Forsaken" in told


def test_penalties(tmp_path):
    asked = [RequestSpec(importance="none"), *(RequestSpec(importance="gradient", penalty=p) for p in (0.01, 0.1))]
    asked += [RequestSpec(importance="uniform", penalty=p) for p in (0.01, 0.1)]
    cells = [({"dataset": name}, synthetic.cell(asked, seeds=3, number=i)) for i, name in enumerate(TWO_SETS)]
    told = drawn("r08_penalty", synthetic.joined(cells), tmp_path)
    for name in ("no penalty", "uniform", "by importance", "0.01", "1 − f/t"):
        assert name in told


def test_third_parties(tmp_path):
    parts = [
        swept("data.third_party", (50, 1000), ("forsaken",), **{"data.third_party_source": source})
        for source in ("same", "noise")
    ]
    parts[1]["run"] += "n"
    told = drawn("r09_third_party", pd.concat(parts, ignore_index=True), tmp_path)
    assert "uniform noise" in told
    assert "1 − f/t" in told


def test_linear_models(tmp_path):
    told = drawn("r10_linear_models", swept("model.architecture", ("linear", "svm")), tmp_path)
    assert "logistic regression" in told
    assert "linear SVM" in told


def test_users(tmp_path):
    told = drawn("r11_users", swept("data.users", (5, 20), **{"data.partition": "iid"}), tmp_path)
    assert "MNIST, IID" in told
    assert "4 with 5, 4 with 20 users" in told


@pytest.mark.parametrize("key", sorted(load_paper("learn_to_forget").figures))
def test_nothing_measured_is_said_not_drawn(key, tmp_path):
    columns = {"data.forget": 1.0, "data.users": 5, "data.partition": "iid", "data.third_party": 50}
    columns |= {"data.third_party_source": "same", "model.architecture": "mlp"}
    nothing = synthetic.main(sets=("mnist",), seeds=1).iloc[:0].assign(**columns)
    assert "numbering of this repository" in drawn(key, nothing, tmp_path)


# --- tables and grids ----


def test_filter_keeps_what_a_figure_shows():
    rows = synthetic.cell(synthetic.requests(("retrain", "forsaken")), seeds=2)
    accuracy = tables.kept(rows, DetailsFilter(measures=("request_*", "accuracy/test"), ends=True))
    assert set(accuracy["part"]) - {"test"} == set(rows.loc[rows["measure"].str.startswith("request_"), "part"])
    forsaken = accuracy[(accuracy["measure"] == "accuracy") & (accuracy["item"] == 1) & (accuracy["replicate"] == 0)]
    assert sorted(forsaken["step"]) == [1, synthetic.ROUNDS]
    assert len(tables.kept(rows, DetailsFilter())) == len(rows)


def test_filter_by_step_item_and_replicate():
    rows = synthetic.cell(synthetic.requests(("retrain", "forsaken")), seeds=2)
    every = tables.kept(rows, DetailsFilter(ends=True, every=("accuracy/test",)))
    forsaken = every[(every["item"] == 1) & (every["replicate"] == 0)]
    assert set(forsaken.loc[forsaken["measure"] + forsaken["part"] == "accuracytest", "step"]) == set(
        range(1, synthetic.ROUNDS + 1)
    )
    assert set(forsaken.loc[forsaken["measure"] + forsaken["part"] != "accuracytest", "step"]) == {1, synthetic.ROUNDS}
    assert set(tables.kept(rows, DetailsFilter(items=(-1, 1)))["item"]) == {-1, 1}
    first = tables.kept(rows, DetailsFilter(first=("accuracy/*",)))
    assert set(first.loc[first["measure"] == "accuracy", "replicate"]) == {0}
    assert {0, 1} <= set(first.loc[first["measure"] != "accuracy", "replicate"])


def test_curves_keep_their_colours():
    assert panels_forget.set_colors(["adult"])["adult"] == panels_forget.set_colors(list(panels_forget.SETS))["adult"]
