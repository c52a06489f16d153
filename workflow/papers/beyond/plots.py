"""Figures that no paper shows: one function per key, draw(table, reference) -> Figure."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from memorization import panels_bounds, panels_privacy, plotting, tidy, tidy_privacy
from memorization.figures_canaries import secret_kinds  # noqa: F401
from memorization.figures_defences import defences  # noqa: F401
from memorization.figures_estimates import estimators  # noqa: F401
from memorization.figures_leaderboard import defence_leaderboard  # noqa: F401
from memorization.plotting import styled

MARGINS = {"loss": 0.02, "exposure": 1.0}
"""Equivalence margins, in nats per character and bits (gate G12)."""


@styled
def backend_comparison(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """The same specification in both back ends: losses while training, their differences, and time per step."""
    curves = tidy.rows(table, "curves").sort_values("epoch")
    curves = curves.assign(private=tidy_privacy.private(curves))
    figure = plotting.new_figure(4.6)
    grid = figure.add_gridspec(2, 3, height_ratios=[1.35, 1], width_ratios=[1, 1, 0.8])
    above = figure.add_subplot(grid[0, :])
    loss, exposure, time = (figure.add_subplot(grid[1, i]) for i in range(3))
    panels_privacy.backend_losses(above, curves)
    for name in ("non-private", "private"):
        at, mark = plotting.value(reference, "test loss", name)
        plotting.paper_line(above, at, mark, f"paper: {name} {at:.2f}, full corpus")
    for axes, value in ((loss, "loss"), (exposure, "exposure")):
        panels_privacy.backend_differences(axes, table, value, MARGINS[value])
    panels_privacy.step_times(time, tidy_privacy.final(table))
    above.set_title(f"(a) Test loss, {plotting.models(tidy.count_models(table))}")
    loss.set_title("(b) Loss at the end, 90 %")
    exposure.set_title("(c) Exposure, 90 %")
    time.set_title("(d) Time per step")
    plotting.legend_below(figure, (above, loss), 3)
    return figure


@styled
def epsilon_bounds(table: pd.DataFrame, reference: pd.DataFrame) -> Figure:
    """On one axis of accounted epsilon: the lower bound measured with canaries, and their exposure."""
    bounds = tidy_privacy.lower_bounds(table)
    private = bounds[bounds["private"]]
    figure = plotting.new_figure(5.0)
    above, below = figure.subplots(2, 1, sharex=True)
    infinite = panels_bounds.shared_edge(private, table)
    panels_bounds.bounds(above, private, bounds[~bounds["private"]], infinite)
    panels_bounds.exposure(below, table, reference, infinite)
    above.set_xlabel("")
    above.set_title(f"(a) Guaranteed (across) and measured (up), {plotting.models(int(np.sum(bounds['private'])))}")
    below.set_title("(b) Exposure of inserted canaries")
    below.set_xlabel("ε accounted for (upper bound, nominal; one window; of exposures classic RDP)")
    plotting.legend_below(figure, (above, below), 3)
    return figure
