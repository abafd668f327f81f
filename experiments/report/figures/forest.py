"""What one choice buys by itself: a forest plot of paired differences, by family."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prunectl.experiments.analysis.comparison import LEVEL
from prunectl.experiments.analysis.contrasts import ALL
from prunectl.experiments.drawing.canvas import PAGE, algorithm_name, plain
from prunectl.experiments.drawing.style import BLUE, LOOK, REFERENCE, VERMILLION

#: What a column is about.
_TITLES = {
    "grouping": "grouping alone",
    "importance": "importance alone",
    "recovery": "recovery alone",
    "shares": "shares alone",
}
_BESIDE = {"none": "no recovery", "": ""}
#: Heights of a row and of what stands around the rows of a panel, in inches.
_ROW, _AROUND = 0.14, 0.36


def forest_figure(table: pd.DataFrame) -> Figure:
    """A column for each kind of a `contrast_table`, in it a panel a contrast, in that a row a family and one for all.

    Blue: the first keeps more; vermilion: less; hollow and grey: no difference is shown, once the p values are
    corrected.
    """
    of_kind = {
        kind: list(rows.groupby(["ours", "theirs", "beside"], sort=False)) for kind, rows in table.groupby("kind")
    }
    kinds = [kind for kind in _TITLES if kind in of_kind]
    families = sorted(table["family"].unique(), key=lambda family: (family == ALL, family))
    deepest = max(len(of_kind[kind]) for kind in kinds)
    with rc_context(LOOK | {"axes.grid.axis": "x"}):
        height = deepest * (_ROW * len(families) + _AROUND) + 0.7
        figure = Figure(figsize=(PAGE, height), layout="constrained")
        grid = figure.subplots(deepest, len(kinds), squeeze=False, sharex="col", sharey=True)
        for column, kind in enumerate(kinds):
            panels = of_kind[kind]
            for axes, ((ours, theirs, beside), rows) in zip(grid[:, column], panels, strict=False):
                draw_forest(axes, rows, families)
                axes.set_title(_said(kind, str(ours), str(theirs), str(beside)), fontsize=7, loc="left")
            for axes in grid[len(panels) :, column]:
                axes.set_visible(False)
            grid[0, column].annotate(
                _TITLES[kind], (0, 1), (0, 26), "axes fraction", "offset points", fontsize=9, fontweight="bold"
            )
            last = grid[len(panels) - 1, column]
            last.tick_params(labelbottom=True)
            last.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        figure.supxlabel(
            "difference of the normalised return, mean over the sparsities of both (hollow: none is shown)", fontsize=8
        )
        grid[0, 0].set_ylim(len(families) - 0.4, -0.6)
    return figure


def draw_forest(axes: Axes, rows: pd.DataFrame, families: Sequence[str]) -> None:
    """A family a row: the difference with its 95% interval."""
    for row in rows.to_dict("records"):
        place, shown = families.index(str(row["family"])), row["p"] < LEVEL
        colour = REFERENCE if not shown else BLUE if row["difference"] > 0 else VERMILLION
        whole = row["family"] == ALL
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2.2 if whole else 1.3)
        fill = colour if shown else "white"
        marker, size = ("D", 4.6) if whole else ("o", 3.8)
        axes.plot(row["difference"], place, marker, color=colour, markerfacecolor=fill, markersize=size)
    axes.axvline(0.0, color="black", linewidth=0.8, zorder=1)
    axes.set_yticks(
        range(len(families)), ["all tasks" if name == ALL else algorithm_name(name) for name in families], fontsize=6.5
    )
    axes.tick_params(axis="x", labelsize=6.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _said(kind: str, ours: str, theirs: str, beside: str) -> str:
    if kind == "shares":
        ours, theirs = ours or "as the rest", theirs or "as the rest"
    names = plain(f"{ours} − {theirs}")
    return f"{names}\n{_BESIDE.get(beside, plain(beside))}" if beside else names
