"""Figures of return against sparsity, drawn from the store alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from agents.files import replacing
from experiments import statistics
from experiments.curves import Curve, Panel, normalised_draws
from experiments.style import LOOK, REFERENCE, look
from pruning import Method

#: Curves are not followed further below random than this share of the way from random to dense.
BELOW_RANDOM = 0.12


def return_figure(found: Sequence[Panel], axis: str, generator: np.random.Generator) -> Figure:
    """Return against the ``deployed`` or the ``total`` sparsity: a panel a controller, a line a method.

    Bands are 95% bootstrap confidence over episodes and pruning seeds; lines across are the dense controller and
    uniformly random actions on the same episodes.
    """
    methods = methods_of(found)
    columns = min(len(found), 4) if len(found) != 4 else 2
    rows = math.ceil(len(found) / columns)
    with rc_context(LOOK):
        figure = Figure(figsize=(max(2.6 * columns, 4.2) + 0.3, 2.1 * rows + 0.9), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, panel in zip(grid, found, strict=False):
            draw_returns(axes, panel, axis, generator)
        for axes in grid[len(found) :]:
            axes.set_visible(False)
        for axes in grid[max(len(found) - columns, 0) : len(found)]:
            axes.set_xlabel(f"{axis} sparsity")
        for axes in grid[: len(found) : columns]:
            axes.set_ylabel("return")
        legend(figure, methods, columns)
    return figure


def overall_figure(found: Sequence[Panel], axis: str, generator: np.random.Generator) -> Figure | None:
    """Normalised return against sparsity, averaged over the controllers; None if no method has all of them.

    Each controller's curve is read off straight lines between its own sparsities, as far as every controller's curve
    goes; values below 0 count as 0.
    """
    methods = methods_of(found)
    with rc_context(LOOK):
        figure = Figure(figsize=(6.4, 3.1 + 0.16 * math.ceil(len(methods) / 2)), layout="constrained")
        axes = figure.subplots()
        drawn = [method for method in methods if _draw_overall(axes, found, axis, method, generator)]
        if not drawn:
            return None
        axes.axhline(1.0, color=REFERENCE, linewidth=0.8)
        axes.axhline(0.0, color=REFERENCE, linewidth=0.8, linestyle=":")
        axes.set(xlabel=f"{axis} sparsity", ylabel=f"normalised return, mean of {len(found)} controllers", xlim=(0, 1))
        legend(figure, drawn, 2)
    return figure


def save(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Write ``path`` with the endings ``.pdf`` (vectors) and ``.png``; the same figure gives the same files."""
    written = []
    for ending, settings in ((".pdf", {"metadata": {"CreationDate": None}}), (".png", {"dpi": 160})):
        target = path.with_name(path.name + ending)
        with replacing(target) as temporary:
            figure.savefig(temporary, format=ending[1:], **settings)
        written.append(target)
    return written[0], written[1]


def methods_of(found: Iterable[Panel]) -> list[Method]:
    """All methods of these panels, in the order in which they come."""
    return list(dict.fromkeys(curve.method for panel in found for curve in panel.curves))


def draw_returns(axes: Axes, panel: Panel, axis: str, generator: np.random.Generator) -> None:
    """Each method's line and band, and the references across."""
    for curve in panel.curves:
        x, order = _sorted(curve, axis)
        returns = curve.returns[:, order]
        if panel.dense is not None:
            dense = np.broadcast_to(panel.dense, returns[:, 0].shape)
            x, returns = np.insert(x, 0, 0.0), np.concatenate([dense[:, None], returns], axis=1)
        mean = returns.mean(axis=(0, 2))
        low, high = statistics.interval(statistics.redrawn(returns, generator).mean(axis=1))
        own = look(curve.method)
        axes.plot(x, mean, **own.line)
        axes.fill_between(x, low, high, color=own.colour, alpha=0.13, linewidth=0)
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
    axes.set_title(title if panel.only is None else f"{title}\nonly {panel.only}")


def _draw_overall(
    axes: Axes,
    found: Sequence[Panel],
    axis: str,
    method: Method,
    generator: np.random.Generator,
) -> bool:
    """Draw one method if every controller has it."""
    curves = [(panel, curve) for panel in found for curve in panel.curves if curve.method == method]
    reach = min((curve.sparsity[axis].max() for _, curve in curves), default=0.0)
    if len(curves) < len(found) or reach == 0:
        return False
    grid = np.linspace(0, reach, 25)
    means, draws = [], []
    for panel, curve in curves:
        values = normalised_draws(panel, curve, generator, 500)
        if values is None:
            return False
        x, order = _sorted(curve, axis)
        x = np.insert(x, 0, 0.0)
        mean, drawn = (np.insert(np.maximum(v[..., order], 0.0), 0, 1.0, axis=-1) for v in values)
        means.append(np.interp(grid, x, mean))
        draws.append([np.interp(grid, x, row) for row in drawn])
    low, high = statistics.interval(np.mean(draws, axis=0))
    own = look(method)
    axes.plot(grid, np.mean(means, axis=0), **own.line, markevery=4)
    axes.fill_between(grid, low, high, color=own.colour, alpha=0.13, linewidth=0)
    return True


def _sorted(curve: Curve, axis: str) -> tuple[Any, Any]:
    """The curve's sparsities on this axis in rising order, and that order."""
    order = np.argsort(curve.sparsity[axis], kind="stable")
    return curve.sparsity[axis][order], order


def legend(figure: Figure, methods: Sequence[Method], columns: int) -> None:
    """A legend of the methods and both references below the figure."""
    handles = [Line2D([], [], **look(method).line) for method in methods]
    labels = [method.label for method in methods]
    handles += [
        Line2D([], [], color=REFERENCE, linewidth=0.8),
        Line2D([], [], color=REFERENCE, linewidth=0.8, linestyle=":"),
    ]
    labels += ["dense", "random actions"]
    columns = max(min(columns, 4), 2)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=7, handlelength=3.2)
