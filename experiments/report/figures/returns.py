"""Return against sparsity: a panel a controller."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunectl.experiments.analysis.readings import PanelReading
from prunectl.experiments.drawing.canvas import draw_curve, legend, panel_grid, plain
from prunectl.experiments.drawing.style import LOOK, REFERENCE
from prunectl.pruning import Method

#: Curves are not followed further below random than this share of the way from random to dense.
BELOW_RANDOM = 0.12


def return_figure(found: Sequence[PanelReading], axis: str) -> Figure:
    """Return against the ``deployed`` or the ``total`` sparsity: a panel a controller, a line a method.

    Bands are 95% bootstrap confidence over episodes and pruning seeds; lines across are the dense controller and
    uniformly random actions on the same episodes.
    """
    columns = min(len(found), 4) if len(found) != 4 else 2
    with rc_context(LOOK):
        figure, grid = panel_grid(len(found), columns, f"{axis} sparsity", "return")
        for axes, read in zip(grid, found, strict=True):
            draw_returns(axes, read, axis)
        legend(figure, methods_of(found), max(columns, 2))
    return figure


def methods_of(found: Iterable[PanelReading]) -> list[Method]:
    """All methods of these panels, in the order in which they come."""
    return list(dict.fromkeys(own.curve.method for read in found for own in read.curves))


def draw_returns(axes: Axes, read: PanelReading, axis: str) -> None:
    """Each method's line and band, and the references across."""
    panel = read.panel
    for own in read.curves:
        x, band = own.along(axis)
        draw_curve(axes, own.curve.method, x, band.mean, band.low, band.high)
    if panel.dense is not None:
        axes.axhline(panel.dense.mean(), color=REFERENCE, linewidth=0.8, zorder=1)
    if panel.random is not None:
        axes.axhline(panel.random.mean(), color=REFERENCE, linewidth=0.8, linestyle=":", zorder=1)
    if panel.dense is not None and panel.random is not None:
        gap = abs(panel.dense.mean() - panel.random.mean())
        bottom = min(panel.dense.mean(), panel.random.mean()) - BELOW_RANDOM * gap
        axes.set_ylim(bottom=max(bottom, axes.get_ylim()[0]))
    axes.set_xlim(0, 1)
    named = panel.task.rpartition("-v")[0] in panel.controller
    title = panel.controller if named else f"{panel.controller}\n{panel.task}"
    axes.set_title(plain(title if panel.only is None else f"{title}\nonly {panel.only}"))
