"""Opacus' accountants against the values that ours must give (tests/unit/test_privacy.py), and against our integral."""

import math

import numpy as np
import pytest

from memorization import privacy

from accounting_cases import DELTA, EARLIER, MNIST, MNIST_Q  # isort: skip

torch = pytest.importorskip("torch")
accountants = pytest.importorskip("opacus.accountants")
analysis = pytest.importorskip("opacus.accountants.analysis.rdp")
utils = pytest.importorskip("opacus.accountants.utils")


@pytest.mark.parametrize("setting", MNIST)
@pytest.mark.parametrize(("mechanism", "column"), [("rdp", 4), ("prv", 5), ("gdp", 6)])
@pytest.mark.filterwarnings("ignore")
def test_opacus_epsilons_of_the_mnist_table(setting, mechanism, column):
    noise, epochs = setting
    accountant = accountants.create_accountant(mechanism)
    accountant.history = [(noise, MNIST_Q, epochs * 234)]
    assert accountant.get_epsilon(DELTA) == pytest.approx(MNIST[setting][column], abs=6e-5)


def classic(noise, steps):
    orders = np.array(privacy.ORDERS)
    values = analysis.compute_rdp(q=MNIST_Q, noise_multiplier=noise, steps=steps, orders=privacy.ORDERS)
    return (np.array(values) + math.log(1 / DELTA) / (orders - 1)).min()


@pytest.mark.parametrize("setting", MNIST)
def test_the_classic_conversion_of_opacus_divergences_gives_the_published_epsilons(setting):
    """dp-accounting 0.6.0 overestimates fractional orders by 1e-3 at most here (7.0965 for 7.0957)."""
    published, ours = MNIST[setting][:2]
    theirs = classic(setting[0], setting[1] * 234)
    assert round(theirs, 2) == published
    assert theirs == pytest.approx(ours, abs=1e-3)
    assert theirs < ours + 5e-5


@pytest.mark.parametrize("setting", EARLIER)
def test_the_earlier_readmes_rows(setting):
    """9.747 where dp-accounting 0.6.0 gives 9.754 and the README printed 9.74."""
    ours, theirs = EARLIER[setting][0], classic(setting[0], setting[1] * 234)
    assert 0.999 * ours < theirs < ours + 6e-4


@pytest.mark.parametrize(("q", "noise"), [(0.1, 0.5), (0.3, 1.0), (0.02, 0.25), (0.7, 2.0)])
def test_our_integral_is_opacus_series(q, noise):
    orders = [a for a in privacy.ORDERS if a < 20]
    theirs = analysis.compute_rdp(q=q, noise_multiplier=noise, steps=1, orders=orders)
    np.testing.assert_allclose([privacy.integrated_divergence(noise, q, a) for a in orders], theirs, rtol=1e-9)


def test_opacus_calibration_is_near_ours():
    """Ours gives 1.0122 (tests/unit/test_privacy.py); theirs stops at an epsilon within 0.01."""
    given = utils.get_noise_multiplier(
        target_epsilon=3.01, target_delta=DELTA, sample_rate=MNIST_Q, steps=14_062, accountant="rdp"
    )
    assert given == pytest.approx(1.0122, abs=2e-3)
