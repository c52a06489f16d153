"""Figures that no paper shows: one function per key, draw(table, reference) -> Figure."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from memorization import panels_bounds, panels_privacy, plotting, tidy, tidy_privacy
from memorization.figures_canaries import secret_kinds  # noqa: F401
from memorization.figures_defences import defences  # noqa: F401
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
    """Accounted epsilon by convention against the lower bound measured with canaries, and against their exposure."""
    bounds = tidy_privacy.lower_bounds(table)
    figure = plotting.new_figure(3.4)
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    panels_bounds.bounds(left, bounds[bounds["private"]], bounds[~bounds["private"]])
    panels_bounds.exposure(right, table, reference)
    audited = plotting.models(int(np.sum(bounds["private"])))
    left.set_title(f"(a) Guaranteed and measured, {audited}")
    right.set_title("(b) Exposure of inserted canaries")
    plotting.legend_below(figure, (left, right), 3)
    return figure
