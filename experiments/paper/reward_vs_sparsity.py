"""Return against sparsity, the trainings of a task pooled, and the planning rate that goes with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunectl.experiments.analysis.curves import Panel, panels, pooled
from prunectl.experiments.analysis.findings import SEED
from prunectl.experiments.analysis.readings import PanelReading, read_panels
from prunectl.experiments.analysis.summary import numbers_of, readable, summarise
from prunectl.experiments.drawing.canvas import legend, save
from prunectl.experiments.drawing.style import LOOK, REFERENCE, look
from prunectl.experiments.drawing.tables import write_file, write_table
from prunectl.experiments.paper.planning_rates import CUT, planning_rates
from prunectl.experiments.report import figures
from prunectl.experiments.sweeping.cell import Work
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method


def write_returns(store: Store, work: Work, folder: Path) -> list[Path]:
    """Write the figure, s95 a method (pooled and by training), normalised returns and planning rates."""
    found, results = panels(store), store.results()
    together = read_panels(pooled(found), SEED)
    rates = planning_rates(work, results)
    figure = returns_figure(together, rates)
    written = [*save(figure, folder / "reward-vs-sparsity")]
    for read, name in ((together, "summary"), (read_panels(found, SEED), "summary_by_training")):
        table = summarise(read)
        shown = readable(table)
        written += write_table(table, folder / name, shown=shown, right=numbers_of(shown))
    normalised = normalised_table(results)
    written += write_table(
        normalised,
        folder / "normalised",
        {name: ".2f" for name in map(str, normalised.columns) if name.startswith("0.")},
        "Normalised return by asked sparsity: the mean over the trainings of each one's own.",
    )
    return [*written, write_file(folder / "rates.csv", lambda path: rates.to_csv(path, index=False))]


def normalised_table(results: pd.DataFrame) -> pd.DataFrame:
    """A row a task and method, a column a sparsity: mean over the trainings of each one's own normalised return."""
    pruned = results[(results["status"] == "done") & results["grouping"].notna()]
    labels = [Method.recorded(list(map(str, row))).label for row in pruned[[*CUT, "recovery"]].to_numpy()]
    values = pruned.assign(method=labels).groupby(["task", "method", "sparsity_asked"], sort=False)
    table = values["normalised_return"].mean().unstack("sparsity_asked").sort_index(axis=1)
    order = list(dict.fromkeys(zip(pruned["task"], labels, strict=True)))
    table = table.reindex(order).reset_index()
    return table.rename(columns={name: f"{name:g}" for name in table if isinstance(name, float)})


def returns_figure(together: Sequence[PanelReading], rates: pd.DataFrame) -> Figure:
    """A column a task: the return above, decisions a second below, against deployed sparsity."""
    methods = figures.methods_of(together)
    columns = len(together)
    with rc_context(LOOK):
        figure = Figure(figsize=(3.7 * columns + 0.4, 5.6), layout="constrained")
        grid = figure.subplots(2, columns, squeeze=False, sharex=True, height_ratios=(3, 2))
        for (top, bottom), read in zip(grid.T, together, strict=True):
            figures.draw_returns(top, read, "deployed")
            _draw_rates(bottom, read.panel, rates, methods)
            bottom.set_xlabel("deployed sparsity")
        grid[0, 0].set_ylabel("return")
        grid[1, 0].set_ylabel("decisions a second, one core")
        legend(figure, methods, 2 * columns)
    return figure


def _draw_rates(axes: Axes, panel: Panel, rates: pd.DataFrame, methods: Sequence[Method]) -> None:
    """A line a cut, the mean over the trainings, from the dense controller on."""
    here = rates[rates["task"] == panel.task]
    dense = here.loc[here["grouping"].isna(), "decisions_per_second"].mean()
    axes.axhline(dense, color=REFERENCE, linewidth=0.8, zorder=1)
    of_cut = {(method.grouping, method.importance, method.allocation): look(method) for method in methods}
    for cut, own in of_cut.items():
        rows = here[(here[CUT] == list(cut)).all(axis=1)]
        means = rows.groupby("sparsity_asked")[["sparsity_deployed", "decisions_per_second"]].mean()
        x, y = [0.0, *means["sparsity_deployed"]], [dense, *means["decisions_per_second"]]
        axes.plot(x, y, color=own.colour, marker=own.marker)
    axes.set_ylim(bottom=0)
