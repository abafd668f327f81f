"""What a sweep says over all its tasks, at the width of a column: aggregates, profiles, comparisons, costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from prunectl.experiments import statistics
from prunectl.experiments.analysis.aggregates import Runs
from prunectl.experiments.drawing.canvas import COLUMN, PAGE, algorithm_name, draw_curve, legend, plain
from prunectl.experiments.drawing.style import LOOK, REFERENCE, look
from prunectl.pruning import Method

Array = NDArray[np.float64]

#: Sparsities that are named on an axis which is logarithmic in what is left, and those on one that goes further, where
#: all would touch.
NAMED, FAR = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98), (0.0, 0.5, 0.8, 0.95, 0.99)
#: Normalised returns at which profiles are drawn.
THRESHOLDS = np.linspace(0.0, 1.1, 221)

#: How far from 1 the axis of returns is linear, and its ends.
KNEE = 0.03
RETURNS = (-0.05, 1.04)
#: Height of a name beside a panel, as a share of the panel's.
NAME = 0.22


def overall_figure(table: pd.DataFrame, axis: str) -> Figure:
    """Normalised return against sparsity, from an `aggregate_table`: the inter-quartile mean, which leaves the worst
    quarter of the runs out, above the mean over tasks, which does not."""
    with rc_context(LOOK):
        figure, (top, bottom) = _column(list(dict.fromkeys(table["method"])), panels=2)
        draw_overall(top, table, "iqm")
        draw_overall(bottom, table, "mean")
        top.set(title=_scope(table), ylabel="normalised return, IQM")
        bottom.set(xlabel=f"{axis} sparsity", ylabel="normalised return, mean")
    return figure


def algorithms_figure(tables: Mapping[str, pd.DataFrame], axis: str, telling: Sequence[Method]) -> Figure:
    """The mean normalised return against sparsity, a panel an algorithm, from an `aggregate_table` of its tasks each:
    how far one may prune depends on how the networks of a controller hang together. Both axes are stretched to where
    methods differ: sparsity is logarithmic in what is left, return opens up around 1. The ``telling`` methods are
    named where their lines end, all others thin and grey."""
    with rc_context(LOOK):
        rows = math.ceil(len(tables) / 2)
        figure = Figure(figsize=(PAGE, 0.4 + 1.75 * rows), layout="constrained")
        grid = figure.subplots(rows, 2, squeeze=False, sharex=True, sharey=True)
        _stretch(grid[0, 0], max(float(table["sparsity"].max()) for table in tables.values()))
        _open_up(grid[0, 0])
        for panel, (algorithm, table) in zip(grid.ravel(), tables.items(), strict=False):
            draw_telling(panel, table, telling)
            panel.set_title(f"{algorithm_name(algorithm)}: {_scope(table)}", loc="left")
        for panel in grid.ravel()[len(tables) :]:
            panel.set_visible(False)
        for column in range(2):
            lowest = grid[(len(tables) - 1 - column) // 2, column]
            lowest.set_xlabel(f"{axis} sparsity")
            lowest.tick_params(labelbottom=True)
        for row in grid:
            row[0].set_ylabel("normalised return")
    return figure


def draw_telling(axes: Axes, table: pd.DataFrame, telling: Sequence[Method]) -> None:
    """The mean over the tasks: lines with bands and names of these methods, grey lines of the others."""
    ends = []
    for method, rows in _by_method(table):
        columns = [rows[name].to_numpy() for name in ("mean", "mean_low", "mean_high")]
        x, (y, low, high) = np.insert(rows["sparsity"].to_numpy(), 0, 0.0), (np.insert(c, 0, 1) for c in columns)
        if method in telling:
            draw_curve(axes, method, x, y, low, high)
            ends.append((method, x[-1], y[-1]))
        else:
            axes.plot(x, y, color="0.8", linewidth=0.6, zorder=1)
    for height in (0.95, 1.0):
        axes.axhline(height, color=REFERENCE, linewidth=0.8, linestyle="-" if height == 1 else ":", zorder=1)
    ends.sort(key=lambda end: -end[2])
    heights = _apart([float(_opened(np.asarray(y))) for _, _, y in ends])
    for (method, x, y), height in zip(ends, heights, strict=True):
        axes.annotate(
            plain(method.label.replace(" + surgeon", "\n+ surgeon")),
            (x, y),
            (1.03, height),
            textcoords=("axes fraction", "axes fraction"),
            color=look(method).colour,
            fontsize=6.5,
            va="center",
            linespacing=0.95,
            arrowprops={
                "arrowstyle": "-",
                "color": look(method).colour,
                "linewidth": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def _open_up(axes: Axes) -> None:
    """Give normalised returns an axis that is linear within a few hundredths of 1 and logarithmic in what is lost
    beyond."""
    axes.set_yscale("function", functions=(_kept, lambda y: 1.0 + KNEE * np.sinh(y)))
    axes.set_ylim(*RETURNS)
    axes.yaxis.set_major_locator(FixedLocator((0.0, 0.5, 0.8, 0.9, 0.95, 1.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _kept(value: Array) -> Array:
    return np.asarray(np.arcsinh((np.asarray(value) - 1.0) / KNEE))


def _opened(value: Array) -> Array:
    """Where a return lies on that axis, as a share of its length."""
    low, high = (float(_kept(np.asarray(end))) for end in RETURNS)
    return (_kept(np.clip(value, *RETURNS)) - low) / (high - low)


def _apart(heights: Sequence[float]) -> list[float]:
    """Heights of names from the top down, as near to these falling ones as they may be without overlapping."""
    placed: list[float] = []
    for number, height in enumerate(heights):
        highest = placed[-1] - NAME if placed else 1.0 - NAME / 2
        lowest = NAME / 2 + NAME * (len(heights) - 1 - number)
        placed.append(max(min(height, highest), lowest))
    return placed


def draw_overall(axes: Axes, table: pd.DataFrame, aggregate: str) -> None:
    """A line and its 95% band a method, from the dense controller on."""
    for method, rows in _by_method(table):
        columns = (rows[name].to_numpy() for name in (aggregate, f"{aggregate}_low", f"{aggregate}_high"))
        draw_curve(axes, method, np.insert(rows["sparsity"].to_numpy(), 0, 0.0), *(np.insert(c, 0, 1) for c in columns))
    axes.axhline(1.0, color=REFERENCE, linewidth=0.8, zorder=1)
    axes.axhline(0.0, color=REFERENCE, linewidth=0.8, linestyle=":", zorder=1)
    axes.set_xlim(0, 1)


def _stretch(axes: Axes, highest: float) -> None:
    """Give sparsities to ``highest`` an axis on which equal steps divide what is left by the same factor."""
    axes.set_xlim(0.0, 1.0 - 0.9 * (1.0 - highest))  # before the scale, on which 1 lies at infinity
    axes.set_xscale("function", functions=(_shrinkage, lambda y: -np.expm1(-y)))
    axes.xaxis.set_major_locator(FixedLocator(NAMED if highest < FAR[-1] else FAR))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _shrinkage(sparsity: Array) -> Array:
    """The logarithm of how many times smaller. Lines that span the axes are passed through here from 0 to 1 too, though
    they are drawn from edge to edge: that 1 lies at infinity is no division gone wrong."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log1p(-sparsity))


def profile_figure(runs: Mapping[Method, Runs], sparsity: float, axis: str) -> Figure:
    """The performance profile at one sparsity, of the methods that reach it."""
    there = {method: own.at(sparsity) for method, own in runs.items() if sparsity in own.sparsity}
    with rc_context(LOOK):
        figure, (axes,) = _column(list(there))
        draw_profiles(axes, there)
        axes.set_xlabel(f"normalised return \u03c4 at {axis} sparsity {sparsity:g}")
    return figure


def draw_profiles(axes: Axes, runs: Mapping[Method, Runs]) -> None:
    """The share of runs above each normalised return, with its 95% band; ``runs`` are at a single sparsity each."""
    for method, own in runs.items():
        share = statistics.performance_profile(own.values, THRESHOLDS)[0]
        low, high = statistics.interval(statistics.performance_profile(own.draws, THRESHOLDS)[:, 0])
        axes.plot(THRESHOLDS, share, **look(method).line, markevery=20, drawstyle="steps-post")
        axes.fill_between(THRESHOLDS, low, high, color=look(method).colour, alpha=0.13, linewidth=0, step="post")
    axes.axvline(0.95, color=REFERENCE, linewidth=0.8, linestyle=":", zorder=1)
    axes.set(ylabel="share of runs above \u03c4", xlim=(0, 1.1), ylim=(-0.02, 1.02))


def improvement_figure(table: pd.DataFrame, ours: Method, sparsity: float, axis: str) -> Figure:
    """How likely one method beats each other at one sparsity, from `improvements`."""
    with rc_context(LOOK):
        figure = Figure(figsize=(COLUMN, 0.19 * len(table) + 0.95), layout="constrained")
        axes = figure.subplots()
        draw_improvements(axes, table)
        figure.supxlabel(f"P({ours.label}\nbeats it), at {axis} sparsity {sparsity:g}", fontsize=8)
    return figure


def draw_improvements(axes: Axes, table: pd.DataFrame) -> None:
    """A forest plot: a row a method, the strongest first, probability and 95% interval, and a line at even chances."""
    table = table.sort_values("probability", kind="stable")
    for place, row in enumerate(table.to_dict("records")):
        points = look(row["method"]).points | {"clip_on": False}
        axes.plot([row["low"], row["high"]], [place, place], color=points["color"], linewidth=1.6, alpha=0.6)
        axes.plot(row["probability"], place, **points, markersize=4.0)
    axes.axvline(0.5, color=REFERENCE, linewidth=0.8, linestyle="--", zorder=1)
    axes.set_yticks(range(len(table)), [plain(method.label) for method in table["method"]], fontsize=7)
    axes.set(xlim=(0, 1.02), xticks=(0, 0.5, 1), ylim=(len(table) - 0.4, -0.6))


def pareto_figure(table: pd.DataFrame, label: str) -> Figure:
    """Return against what a controller costs, from `priced`; ``label`` says what the cost is."""
    with rc_context(LOOK):
        figure, (axes,) = _column(list(dict.fromkeys(table["method"])))
        draw_pareto(axes, table)
        axes.set(title=f"{_scope(table)}; grey: the best at each cost", xlabel=f"{label}, times the dense controller's")
    return figure


def draw_pareto(axes: Axes, table: pd.DataFrame) -> None:
    """A method's sparsities as points, with the 95% interval of the return; behind them the best for every cost."""
    for method, rows in _by_method(table):
        own = look(method)
        axes.plot(rows["cost"], rows["iqm"], **own.line | {"linewidth": 0.8})
        axes.vlines(rows["cost"], rows["iqm_low"], rows["iqm_high"], color=own.colour, linewidth=0.8, alpha=0.5)
    best = table.sort_values("cost")
    best = best[best["iqm"] > best["iqm"].cummax().shift(fill_value=-np.inf)]
    axes.step([*best["cost"], 1.0], [*best["iqm"], best["iqm"].iloc[-1]], where="post", color="0.8", lw=4, zorder=0.5)
    axes.set(xscale="log", xlim=(None, 1.0), ylabel="normalised return, IQM")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _column(methods: Sequence[Method], panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure as wide as a column, its panels below each other, the legend below them."""
    lines = len(methods) + 2 * (panels > 1)
    figure = Figure(figsize=(COLUMN, 0.45 + 1.75 * panels + 0.145 * lines), layout="constrained")
    grid = figure.subplots(panels, 1, squeeze=False, sharex=True)
    legend(figure, methods, 1, references=panels > 1)
    return figure, list(grid.ravel())


def _by_method(table: pd.DataFrame) -> list[tuple[Method, pd.DataFrame]]:
    return [(method, table[table["method"] == method]) for method in dict.fromkeys(table["method"])]


def _scope(table: pd.DataFrame) -> str:
    tasks, runs = int(table["tasks"].iloc[0]), int(table["runs"].iloc[0])
    return f"{runs} run{'s' * (runs > 1)} on {tasks} task{'s' * (tasks > 1)}"
