"""Normalised return against sparsity, and up to where the loop was shown to be stable: a panel a controller."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from prunectl.experiments.analysis.curves import AXES
from prunectl.experiments.analysis.readings import PanelReading, Reading
from prunectl.experiments.analysis.safe_sparsity import Key, Walk
from prunectl.experiments.drawing.canvas import legend, plain
from prunectl.experiments.drawing.style import LOOK, REFERENCE, look
from prunectl.experiments.report.figures.returns import methods_of

#: The heights that are shown of normalised return.
SHOWN = (-0.1, 1.15)


def stability_figure(found: Sequence[PanelReading], stable: Mapping[Key, Walk]) -> Figure | None:
    """A line a method on the axis of what is deployed, broad up to its safe sparsity.

    Args:
        found: panels that have both references; those of which nothing was recorded are left out.
        stable: what was recorded.

    Returns:
        None where nothing is left.
    """
    recorded = [read for read in found if any(_key(read, own) in stable for own in read.curves)]
    if not recorded:
        return None
    columns = min(len(recorded), 4)
    rows = math.ceil(len(recorded) / columns)
    with rc_context(LOOK):
        figure = Figure(figsize=(max(2.6 * columns, 4.2) + 0.3, 2.1 * rows + 0.9), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, read in zip(grid, recorded, strict=False):
            panel = read.panel
            for own in read.curves:
                curve, walk = own.curve, stable.get(_key(read, own))
                if own.normalised is None or walk is None:
                    continue
                sparsity = curve.sparsity[AXES[0]]
                order = np.argsort(sparsity, kind="stable")
                x, y = np.insert(sparsity[order], 0, 0.0), np.insert(own.normalised.mean[order], 0, 1.0)
                axes.plot(x, y, **look(curve.method).line)
                if walk.safe is not None:
                    safe = [s for s in walk.sparsities if s <= walk.safe]
                    broad = {"linewidth": 5, "alpha": 0.3, "solid_capstyle": "butt", "marker": "|", "markersize": 7}
                    broad |= {"color": look(curve.method).colour, "markevery": [-1]}
                    axes.plot(safe, np.interp(safe, x, y), **broad)
            axes.axhline(0.95, color=REFERENCE, linewidth=0.8, linestyle=":", zorder=1)
            axes.set(xlim=(-0.02, 1.0), ylim=SHOWN)
            axes.set_title(plain(panel.controller if panel.only is None else f"{panel.controller}\nonly {panel.only}"))
        for axes in grid[len(recorded) :]:
            axes.set_visible(False)
        for axes in grid[max(len(recorded) - columns, 0) : len(recorded)]:
            axes.set_xlabel(f"{AXES[0]} sparsity")
            axes.tick_params(labelbottom=True)
        for axes in grid[: len(recorded) : columns]:
            axes.set_ylabel("normalised return")
        legend(figure, methods_of(recorded), max(columns, 2), references=False)
        figure.suptitle("broad: up to there every loop was shown to settle and its V to fall", fontsize=9)
    return figure


def _key(read: PanelReading, own: Reading) -> Key:
    return read.panel.controller, read.panel.task, read.panel.only, own.curve.method
