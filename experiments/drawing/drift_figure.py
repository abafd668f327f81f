"""How the importances of a controller's components drift over its training, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from prunectl.experiments.drawing.style import LOOK, MARKERS, component_colour

#: What is drawn, a row each.
METRICS = {"share": "share of the whole", "rank_final": "rank correlation\nwith the last"}
#: The axis of shares is logarithmic, for a latent has many outputs and a critic has one; it ends here.
LOWEST_SHARE = 1e-4


def drift_figure(table: pd.DataFrame) -> Figure:
    """A column an importance, a row a metric, a line a component over the steps of training.

    Args:
        table: a row a step, component and importance, as `training.importance_drift.drift_table` gives it.
    """
    importances, looks = list(dict.fromkeys(table["importance"])), _looks(list(dict.fromkeys(table["component"])))
    with rc_context(LOOK):
        figure = Figure(figsize=(2.5 * len(importances) + 0.4, 2.0 * len(METRICS) + 0.7), layout="constrained")
        grid = figure.subplots(len(METRICS), len(importances), sharex=True, sharey="row", squeeze=False)
        for row, (metric, label) in zip(grid, METRICS.items(), strict=True):
            row[0].set_ylabel(label)
            for axes, importance in zip(row, importances, strict=True):
                for component, look in looks.items():
                    chosen = table[(table["importance"] == importance) & (table["component"] == component)]
                    axes.plot(chosen["step"], chosen[metric], **look)
        for axes, importance in zip(grid[0], importances, strict=True):
            axes.set_title(importance)
            axes.set_yscale("log", nonpositive="mask")
            axes.set_ylim(bottom=max(axes.get_ylim()[0], LOWEST_SHARE), top=1.0)
        for axes in grid[-1]:
            axes.set_xlabel("environment steps")
        handles = grid[0][0].get_lines()
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(looks), 4), fontsize=7)
    return figure


def _looks(components: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and label of each component."""
    return {
        name: {"color": component_colour(name), "marker": marker, "label": _label(name)}
        for name, (marker, _) in zip(components, cycle(MARKERS), strict=False)
    }


def _label(component: str) -> str:
    writers, arrow, readers = component.partition("->")
    return f"flow {writers} \u2192 {readers.count(',') + 1} readers" if arrow else component
