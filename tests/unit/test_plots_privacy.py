"""Every figure on differential privacy draws from full, small and gappy tables, and says what is missing."""

import importlib.util

import pytest
import synthetic_privacy as synthetic
from matplotlib.text import Text
from papers_paths import PAPERS

from memorization import plotting, published_epsilons, tidy
from memorization.panels_privacy import number


def module(paper):
    spec = importlib.util.spec_from_file_location(f"{paper}_plots", PAPERS / paper / "plots.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


PLOTS = {paper: module(paper) for paper in ("secret_sharer", "tensorflow_privacy", "beyond")}
STATIC = {
    "b7_epsilon_conventions": published_epsilons.MNIST[:1] + published_epsilons.MNIST[5:6],
    "b8_tutorial_privacy": published_epsilons.TUTORIAL[:1] + published_epsilons.TUTORIAL[4:5],
}
FULL = {
    ("secret_sharer", "tab03_differential_privacy"): lambda key, n: synthetic.table3(figure=key),
    ("tensorflow_privacy", "b1_agreement"): lambda key, n: synthetic.pair(key, n, 80),
    ("tensorflow_privacy", "b2_losses"): lambda key, n: synthetic.pair(key, n, 20),
    ("tensorflow_privacy", "b3_divergent_sentences"): lambda key, n: synthetic.pair(key, n, 80),
    ("tensorflow_privacy", "b4_copies"): lambda key, n: synthetic.copies(n),
    ("tensorflow_privacy", "b5_outlier_digits"): lambda key, n: synthetic.digits(n, 120),
    ("tensorflow_privacy", "b6_mnist_accuracy"): lambda key, n: synthetic.mnist(n),
    ("tensorflow_privacy", "b7_epsilon_conventions"): lambda key, n: synthetic.computed(key, STATIC[key]),
    ("tensorflow_privacy", "b8_tutorial_privacy"): lambda key, n: synthetic.computed(key, STATIC[key]),
    ("beyond", "backend_comparison"): lambda key, n: synthetic.pair(key, n, 20, ("torch", "tf")),
    ("beyond", "epsilon_bounds"): lambda key, n: synthetic.table3(figure=key),
}
"""(paper, key) -> made-up table with so many replicates."""
TRAINED = [key for key in FULL if key[1] not in STATIC]


def draw(paper, key, table):
    return getattr(PLOTS[paper], key)(table, tidy.read_reference(PAPERS / paper / "reference.csv", key))


def words(figure):
    cells = [cell.get_text() for axes in figure.axes for table in axes.tables for cell in table.get_celld().values()]
    return " ".join(t.get_text() for t in figure.findobj(Text) + cells)


@pytest.mark.parametrize(("paper", "key"), FULL)
@pytest.mark.parametrize("replicates", [1, 3])
def test_draws(paper, key, replicates):
    figure = draw(paper, key, FULL[paper, key](key, replicates))
    if replicates == 3:
        figure.set_dpi(40)
        figure.canvas.draw()
    assert figure.get_figwidth() <= plotting.WIDTH
    assert "paper" in words(figure).lower() or key == "b5_outlier_digits"


@pytest.mark.parametrize(("paper", "key"), TRAINED)
def test_survives_single_sources_and_single_back_ends(paper, key):
    table = FULL[paper, key](key, 1)
    for source in table["source"].unique():
        draw(paper, key, table[table["source"] == source])
    for backend in table["backend"].unique():
        draw(paper, key, table[table["backend"] == backend])


@pytest.mark.parametrize(("paper", "key"), TRAINED)
@pytest.mark.parametrize("private", [True, False])
def test_survives_a_missing_arm(paper, key, private):
    table = FULL[paper, key](key, 1)
    if "private" in table:
        draw(paper, key, table[table["private"].astype(str) == str(private)])


@pytest.mark.parametrize(("paper", "key"), FULL)
def test_says_so_when_there_is_nothing(paper, key):
    text = words(draw(paper, key, FULL[paper, key](key, 1)[:0]))
    assert any(said in text for said in ("no ", "needs "))


@pytest.mark.parametrize(("paper", "key"), FULL)
def test_caption_names_the_scale(paper, key):
    assert 'snakemake.config["scale"]' in (PAPERS / paper / "captions" / f"{key}.rst").read_text()


def test_tab03_shows_the_papers_row_beside_both_back_ends():
    text = words(draw("secret_sharer", "tab03_differential_privacy", synthetic.table3()))
    for told in ("1.69, 1.1, no", "2.11, 3.6, no", "1.86, 9.5, no", "1.17, 31.0, yes", "29.9 of 29.9", "torch", "tf"):
        assert told in text
    assert "∞ (clip only)" in text


def test_tab03_marks_what_is_not_within_the_margin():
    def coloured(leak):
        figure = draw(
            "secret_sharer", "tab03_differential_privacy", synthetic.table3(leak=leak, count=400, backends=("torch",))
        )
        cells = [c.get_text() for axes in figure.axes for table in axes.tables for c in table.get_celld().values()]
        return sum(t.get_text() == "no" and t.get_color() == plotting.COLORS["canary"] for t in cells)

    assert coloured(4.0) > coloured(0.0)


def test_b3_prints_no_line_of_the_text_but_the_six():
    reference = tidy.read_reference(PAPERS / "tensorflow_privacy" / "reference.csv", "b3_divergent_sentences")
    text = words(draw("tensorflow_privacy", "b3_divergent_sentences", synthetic.pair("b3_divergent_sentences", 2, 80)))
    quoted = reference.loc[reference["series"].str.endswith(" sentence"), "label"]
    assert len(quoted) == 6
    assert all(sentence[:40] in text for sentence in quoted)
    assert text.count("not in the trained share") == 5


def test_b4_marks_lower_bounds():
    table = synthetic.copies(2)
    assert "at least" not in words(draw("tensorflow_privacy", "b4_copies", table))
    table = table[~table["method"].isin(["exact", "importance"])]
    assert "at least (sampled)" in words(draw("tensorflow_privacy", "b4_copies", table))


def test_b6_says_which_rows_were_not_trained():
    text = words(draw("tensorflow_privacy", "b6_mnist_accuracy", synthetic.mnist()))
    assert text.count("not trained") == 2
    assert "3.01 / 2.59 / 2.38" in text


def test_b7_colours_the_convention_that_gives_the_published_value():
    table = synthetic.computed("b7_epsilon_conventions", STATIC["b7_epsilon_conventions"])
    figure = draw("tensorflow_privacy", "b7_epsilon_conventions", table)
    cells = [c.get_text() for axes in figure.axes for found in axes.tables for c in found.get_celld().values()]
    marked = [t.get_text() for t in cells if t.get_color() == plotting.COLORS["canary"]]
    assert marked == ["1.191", "2.920"]


@pytest.mark.parametrize(
    ("value", "said"),
    [(float("nan"), "–"), (float("inf"), "∞"), (0.0, "0"), (3.0059, "3.01"), (2e8, "2·10$^{8}$"), (2e-5, "2.0e-05")],
)
def test_numbers(value, said):
    assert number(value) == said
