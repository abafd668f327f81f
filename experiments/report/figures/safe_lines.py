"""Normalised return against sparsity, and up to where the loop was shown to be stable: a panel a controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from prunectl.experiments.analysis.curves import AXES
from prunectl.experiments.analysis.readings import PanelReading, Reading
from prunectl.experiments.analysis.safe_sparsity import Key, Walk
from prunectl.experiments.drawing.canvas import legend, panel_grid, plain
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
    with rc_context(LOOK):
        figure, grid = panel_grid(len(recorded), columns, f"{AXES[0]} sparsity", "normalised return", share=True)
        for axes, read in zip(grid, recorded, strict=True):
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
                    broad: dict[str, Any] = {
                        "linewidth": 5,
                        "alpha": 0.3,
                        "solid_capstyle": "butt",
                        "marker": "|",
                        "markersize": 7,
                    }
                    broad |= {"color": look(curve.method).colour, "markevery": [-1]}
                    axes.plot(safe, np.interp(safe, x, y), **broad)
            axes.axhline(0.95, color=REFERENCE, linewidth=0.8, linestyle=":", zorder=1)
            axes.set(xlim=(-0.02, 1.0), ylim=SHOWN)
            axes.set_title(plain(panel.controller if panel.only is None else f"{panel.controller}\nonly {panel.only}"))
        legend(figure, methods_of(recorded), max(columns, 2), references=False)
        figure.suptitle("broad: up to there every loop was shown to settle and its V to fall", fontsize=9)
    return figure


def _key(read: PanelReading, own: Reading) -> Key:
    return read.panel.controller, read.panel.task, read.panel.only, own.curve.method
