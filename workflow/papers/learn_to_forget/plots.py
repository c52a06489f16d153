"""The results of Learn to Forget: one function per key, draw(table, reference) -> Figure. R-numbers are ours."""

from memorization.figures_forget_canary import canary_unlearning  # noqa: F401
from memorization.figures_forget_main import r02_datasets, r03_main_result  # noqa: F401
from memorization.figures_forget_methods import r04_equal_rate, r05_time, r07_rounds, r12_posteriors  # noqa: F401
from memorization.figures_forget_settings import (  # noqa: F401
    r06_forget_size,
    r08_penalty,
    r09_third_party,
    r10_linear_models,
    r11_users,
)
from memorization.figures_forget_system import r01_system  # noqa: F401
