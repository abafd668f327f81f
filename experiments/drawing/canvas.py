"""What figures have in common: how a curve is drawn, the legend, and how figures are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from prunectl.agents.files import replacing
from prunectl.experiments.drawing.style import LOOK, REFERENCE, look
from prunectl.pruning import Method

Array = NDArray[np.float64]

#: Widths of a column and of a page, in inches.
COLUMN, PAGE = 3.4, 7.2
#: Dots an inch of a PNG.
RESOLUTION = 200
#: From the dense controller to a first sparsity further away than this nothing was measured: only a hint is drawn.
WIDE = 0.3
#: Algorithms that are not their name in upper case.
_WRITTEN = {
    "tdmpc": "TD-MPC",
    "tdmpc2": "TD-MPC2",
    "recurrent_ppo": "RecurrentPPO",
    "maskable_ppo": "MaskablePPO",
    "qrdqn": "QR-DQN",
}


def draw_curve(axes: Axes, method: Method, x: Array, y: Array, low: Array, high: Array) -> None:
    """A method's line and band over sparsities ``x`` ``(points,)`` in rising order, the dense controller first."""
    own = look(method)
    start = int(x[1] - x[0] > WIDE) if len(x) > 1 else 0
    axes.plot(x[start:], y[start:], **own.line)
    axes.fill_between(x[start:], low[start:], high[start:], color=own.colour, alpha=0.13, linewidth=0)
    if start:
        axes.plot(x[:2], y[:2], color=own.colour, linewidth=0.7, linestyle=(0, (1, 4)), zorder=1)


def panel_grid(count: int, columns: int, across: str, up: str, share: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, row by row, those at the edges labelled: ``across`` below, ``up`` on the left. With
    ``share`` they have one axis upwards."""
    rows = -(-count // columns)
    figure = Figure(figsize=(max(2.6 * columns, 4.2) + 0.3, 2.1 * rows + 0.9), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=share).ravel())
    for axes in grid[count:]:
        axes.set_visible(False)
    for axes in grid[max(count - columns, 0) : count]:
        axes.set_xlabel(across)
        axes.tick_params(labelbottom=True)
    for axes in grid[:count:columns]:
        axes.set_ylabel(up)
    return figure, grid[:count]


def plain(name: str) -> str:
    """A name as matplotlib draws it as it is: what stands between two dollars would be taken for mathematics."""
    return name.replace("$", r"\$")


def algorithm_name(name: str) -> str:
    """An algorithm, or a family of one (``sac, encoder``), as it is written; by itself a name is upper case."""
    head, comma, more = name.partition(",")
    return _WRITTEN.get(head, plain(head.upper())) + comma + plain(more)


def legend(figure: Figure, methods: Sequence[Method], columns: int, references: bool = True) -> None:
    """A legend of the methods, and of both references, below the figure."""
    handles = [Line2D([], [], label=plain(method.label), **look(method).line) for method in methods]
    if references:
        handles.append(Line2D([], [], color=REFERENCE, linewidth=0.8, label="dense"))
        handles.append(Line2D([], [], color=REFERENCE, linewidth=0.8, linestyle=":", label="random actions"))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=4.5)


def save(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Write ``path`` with the endings ``.pdf`` (vectors) and ``.png``; the same figure gives the same files.

    The canvases are asked to print, once each: `Figure.savefig` draws everything once more for the layout alone.
    """
    pdf, png = (path.with_name(path.name + ending) for ending in (".pdf", ".png"))
    with replacing(pdf) as temporary, rc_context(LOOK):
        FigureCanvasPdf(figure).print_pdf(temporary, metadata={"CreationDate": None})  # type: ignore[no-untyped-call]
    figure.set_layout_engine("none")  # laid out now
    figure.dpi = RESOLUTION
    with replacing(png) as temporary, rc_context(LOOK), temporary.open("wb") as stream:
        FigureCanvasAgg(figure).print_png(stream)  # type: ignore[no-untyped-call]
    return pdf, png
