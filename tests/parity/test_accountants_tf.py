"""TF Privacy's own statement (dp-accounting 0.4.3) against our accounting, run here on that old library."""

import math
import re

import pytest

from memorization import privacy

from accounting_cases import DELTA, MNIST, MNIST_Q, STATEMENT  # isort: skip

tf = pytest.importorskip("tensorflow")
library = pytest.importorskip("tensorflow_privacy.privacy.analysis.compute_dp_sgd_privacy_lib")


def poisson(examples, batch, noise, epochs, delta, **options):
    """The statement's epsilon under Poisson sampling."""
    text = library.compute_dp_sgd_privacy_statement(examples, batch, epochs, noise, delta, **options)
    return float(re.search(r"assuming Poisson sampling \(\*\):\s+([\d.]+)", text)[1])


def ours(examples, batch, noise, epochs, delta):
    steps = math.ceil(epochs * examples / batch)  # as TF Privacy counts them
    return privacy.epsilon(noise, batch / examples, steps, delta, "rdp")


@pytest.mark.parametrize("case", [*STATEMENT, (60_000, 256, 1.1, 60, 1e-5), (60_000, 256, 0.7, 45, 1e-5)])
def test_the_statement_gives_our_current_rdp(case):
    assert ours(*case) == pytest.approx(poisson(*case, used_microbatching=False), abs=6e-4)


def test_the_statements_default_halves_the_noise():
    """Microbatches of more than one record double the sensitivity; ours are of one record."""
    stated = poisson(60_000, 256, 1.1, 60, 1e-5)
    assert stated == 16.384
    assert ours(60_000, 256, 0.55, 60, 1e-5) == pytest.approx(stated, abs=6e-4)


@pytest.mark.parametrize("setting", MNIST)
def test_the_classic_conversion_reproduces_the_published_epsilons_on_the_old_library_too(setting):
    noise, epochs = setting
    value = privacy.epsilon(noise, MNIST_Q, epochs * 234, DELTA, "classic_rdp")
    assert round(value, 2) == MNIST[setting][0]
