"""Where the cuts went: what is left of each component."""

from __future__ import annotations

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from prunectl.experiments.drawing.canvas import COLUMN, plain
from prunectl.experiments.drawing.style import LOOK, component_colour


def cuts_figure(table: pd.DataFrame, sparsity: float) -> Figure:
    """A panel for controllers of the same components, from `kept_parameters` at an asked total sparsity."""
    panels = list(table.groupby("components", sort=False))
    heights = [rows["cut"].nunique() + 3 for _, rows in panels]
    with rc_context(LOOK | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(COLUMN, 0.15 * sum(heights) + 0.9), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights).ravel()
        for axes, (_, rows) in zip(grid, panels, strict=True):
            draw_cuts(axes, rows)
        grid[-1].set_xlabel(f"share of all parameters left at sparsity {sparsity:g}", fontsize=7, loc="right")
        names = dict.fromkeys(table["component"])
        handles = [Patch(color=component_colour(name), label=plain(name)) for name in names]
        figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=1.2)
    return figure


def draw_cuts(axes: Axes, table: pd.DataFrame) -> None:
    """A stacked bar a cut, the components one after another; above them the dense controller's shares, to scale."""
    cuts = list(dict.fromkeys(table["cut"]))
    for place, cut in enumerate(cuts):
        _stack(axes, place, table[table["cut"] == cut], "kept", 1.0)
    first = table[table["cut"] == cuts[0]]
    scale = float(table.groupby("cut", sort=False)["kept"].sum().median())
    _stack(axes, -1, first, "dense", scale)
    axes.axhline(-0.5, color="0.5", linewidth=0.5)
    axes.set_yticks(range(-1, len(cuts)), [f"dense, times {scale:.2g}", *map(plain, cuts)], fontsize=6)
    axes.set_ylim(len(cuts) - 0.4, -1.6)
    count = int(first["controllers"].max())
    parts = plain(table["components"].iloc[0])
    axes.set_title(f"{count} controller{'s' * (count > 1)}: {parts}", fontsize=7, loc="right")


def _stack(axes: Axes, place: int, rows: pd.DataFrame, column: str, scale: float) -> None:
    left = 0.0
    for name, share in zip(rows["component"], scale * rows[column], strict=True):
        axes.barh(place, share, 0.72, left=left, color=component_colour(name), linewidth=0)
        left += share
