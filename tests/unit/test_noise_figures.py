"""Drawings of Figures 7 to 9 of A Closer Look and of the subset curves: full, small and gappy tables."""

import pandas as pd
import pytest
import synthetic_noise as synthetic
from matplotlib.text import Text
from papers_paths import PAPERS

from memorization import figures_closer_critical, figures_closer_noise, plotting, tidy
from memorization.figures_closer_noise import radii

REFERENCE = PAPERS / "closer_look" / "reference.csv"
NOISE = synthetic.accuracies() | {
    ("csr_0.3", "validation"): synthetic.csr,
    ("csr_1", "validation"): lambda *at: 1.5 * synthetic.csr(*at),
    ("csr_count_0.3", "validation"): lambda *at: 100 * synthetic.csr(*at),
    ("accuracy", "clean"): synthetic.train,
    ("accuracy", "corrupted"): synthetic.train,
    ("accuracy", "corrupted_true"): synthetic.validation,
}
CRITICAL = {(f"csr_{r}", part): synthetic.csr for r in ("0.3", "1") for part in ("validation", "train", "gaussian")}
FIGURES = {
    "fig07_mnist_noise": (figures_closer_noise.fig07_mnist_noise, NOISE, synthetic.CELLS),
    "fig08_cifar_noise": (figures_closer_noise.fig08_cifar_noise, NOISE, synthetic.CELLS),
    "subset_curves": (figures_closer_noise.subset_curves, NOISE, synthetic.CELLS),
    "fig09_critical_samples": (figures_closer_critical.fig09_critical_samples, CRITICAL, synthetic.COMPLETE),
}


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(Text))


def draw(key, table):
    return FIGURES[key][0](table, tidy.read_reference(REFERENCE, key))


def made(key, cells=None, **options):
    _, measures, usual = FIGURES[key]
    return synthetic.table(measures, cells=cells or usual, **{"epochs": (0.0, 1.0, 4.0, 20.0), **options})


@pytest.mark.parametrize("key", FIGURES)
@pytest.mark.parametrize("seeds", [1, 3])
def test_draws(key, seeds):
    figure = draw(key, made(key, seeds=seeds))
    figure.set_dpi(40)
    figure.canvas.draw()
    assert figure.get_figwidth() <= plotting.WIDTH
    if key != "subset_curves":
        assert "paper: " in words(figure)
        assert "(verified)" in words(figure)


@pytest.mark.parametrize("key", FIGURES)
def test_survives_one_cell_and_missing_measures(key):
    draw(key, made(key, cells=FIGURES[key][2][:1], seeds=1))
    table = made(key, seeds=2)
    for measure in table["measure"].unique():
        draw(key, table[table["measure"] == measure])
    for part in table["part"].unique():
        draw(key, table[table["part"] == part])
    assert "no " in words(draw(key, table[table["measure"] == "none"]))


def test_back_ends_have_columns_of_their_own():
    table = made("fig07_mnist_noise", seeds=2)
    tf = table.assign(backend="tf")
    text = words(draw("fig07_mnist_noise", pd.concat([table, tf[~tf["measure"].str.startswith("csr")]])))
    assert "Noise on inputs, torch" in text
    assert "Noise on inputs, tf" in text
    assert "no critical" in text.replace("\n", " ")


def test_papers_radius_is_solid_and_the_first():
    assert radii(made("fig07_mnist_noise", seeds=1)) == [0.3, 1.0]
