"""Published epsilons of TensorFlow Privacy, recomputed by every convention: B7 (MNIST), B8 (the tutorial's text model).

Nothing is trained: each row is arithmetic on a published setting (brief tensorflow_privacy.md §3.6, §3.7, §4). All
assume Poisson sampling, which neither tutorial performs, so every epsilon here is nominal.
"""

from dataclasses import dataclass

import pandas as pd

from memorization import privacy

DELTA = 1e-5


@dataclass(frozen=True)
class Setting:
    """One published training. `examples` is what q was computed from, not always the number that was trained on."""

    series: str
    source: str
    noise_multiplier: float
    epochs: int
    steps_per_epoch: int
    examples: int
    batch_size: int = 256


def _mnist(series: str, source: str, noise_multiplier: float, epochs: int) -> Setting:
    examples = 60_000
    return Setting(series, source, noise_multiplier, epochs, examples // 256, examples)


_TABLE, _EARLIER = "tutorials/README.md", "tutorials/README.md, earlier version"
MNIST = (
    _mnist("noise 1.3, 15 epochs", _TABLE, 1.3, 15),
    _mnist("noise 1.1, 60 epochs", _TABLE, 1.1, 60),
    _mnist("noise 0.7, 45 epochs", _TABLE, 0.7, 45),
    _mnist("noise 1.1, 1 epoch", f"{_TABLE}, expected output", 1.1, 1),
    _mnist("noise 1.1, 2 epochs", f"{_TABLE}, expected output", 1.1, 2),
    _mnist("noise 1.12, 60 epochs", _EARLIER, 1.12, 60),
    _mnist("noise 0.6, 30 epochs", _EARLIER, 0.6, 30),
    _mnist("noise 1.2, 10 epochs", _EARLIER, 1.2, 10),
    _mnist("noise 1.12, 1 epoch", f"{_EARLIER}, expected output", 1.12, 1),
    _mnist("noise 1.12, 2 epochs", f"{_EARLIER}, expected output", 1.12, 2),
)
"""What B7 recomputes: the table of the MNIST tutorial and its expected output."""

TUTORIAL = tuple(
    Setting(series, "tutorials/lm_dpsgd_tutorial.py", noise, 60, steps, examples)
    # The script's NB_TRAIN is used in q alone; its 244 steps come from 5,017,482 characters, line ends included. Split
    # at white space, as the script does, the Penn Treebank gives 62,192 windows of 80 characters.
    for series, examples, steps in (("as shipped, q = 256/45000", 45_000, 244), ("true q = 256/62192", 62_192, 242))
    for noise in (0.001, 0.1, 0.5, 1.0)
)
"""What B8 recomputes: the shipped noise multiplier, 0.001, and useful ones."""


def b7_rows() -> pd.DataFrame:
    """Rows of source `static` for b7_epsilon_conventions; see `rows`. The published values are in reference.csv."""
    return rows(MNIST)


def b8_rows() -> pd.DataFrame:
    """Rows of source `static` for b8_tutorial_privacy; see `rows`."""
    return rows(TUTORIAL)


def rows(settings: tuple[Setting, ...]) -> pd.DataFrame:
    """One row per setting and convention (classic_rdp, rdp, pld).

    Columns: series, published_in, noise_multiplier, epochs, batch_size, examples, sample_rate, steps, delta,
    convention, epsilon (NaN: pld is not computed at this noise), order, lowest_order, highest_order.
    """
    found = []
    for setting in settings:
        rate, steps = setting.batch_size / setting.examples, setting.epochs * setting.steps_per_epoch
        about = {
            "series": setting.series,
            "published_in": setting.source,
            "noise_multiplier": setting.noise_multiplier,
            "epochs": setting.epochs,
            "batch_size": setting.batch_size,
            "examples": setting.examples,
            "sample_rate": rate,
            "steps": steps,
            "delta": DELTA,
        }
        found += [about | row for row in privacy.epsilons(setting.noise_multiplier, rate, steps, DELTA)]
    return pd.DataFrame(found)
