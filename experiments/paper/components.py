"""One component, or the latent, pruned at a time: which of them the return depends on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from prunectl.experiments import statistics
from prunectl.experiments.analysis.curves import Panel, normalised_draws, panels, pooled
from prunectl.experiments.drawing.style import LOOK
from prunectl.experiments.drawing.tables import write_table
from prunectl.experiments.report import figures
from prunectl.experiments.sweeping.cell import Work
from prunectl.experiments.sweeping.store import Store

#: Seed of the bootstrap.
SEED = 0
#: Panels in a row.
COLUMNS = 4


def write_components(store: Store, work: Work, folder: Path) -> list[Path]:
    """Write a figure a task, and s95 of each component with each recovery."""
    together = pooled(panels(store))
    written: list[Path] = []
    for task in dict.fromkeys(panel.task for panel in together):
        here = [panel for panel in together if panel.task == task]
        name = task.rpartition("/")[2].rpartition("-v")[0].lower()
        written += figures.save(components_figure(here), folder / f"components-{name}")
    remark = (
        "s95: the highest sparsity of the component itself (of the latent: share of its units) up to which the "
        "normalised return stays at or above 0.95, everything else dense; low and high: its 95% bootstrap interval "
        "over trainings and episodes. `never_fell` marks a curve that stayed above to its last point."
    )
    numbers = dict.fromkeys(("s95", "low", "high", "worst"), ".2f")
    return written + write_table(sensitivities(together), folder / "components", numbers, remark)


def sensitivities(together: list[Panel]) -> pd.DataFrame:
    """A row a task, scope and method: s95 on the scope's own sparsity, its interval, the worst normalised return."""
    generator = np.random.default_rng(SEED)
    rows = []
    for panel in together:
        for curve in panel.curves:
            drawn = normalised_draws(panel, curve, generator)
            if drawn is None:
                continue
            values, draws = drawn
            low, high = statistics.interval(statistics.s95(draws, curve.asked))
            rows.append(
                {
                    "task": panel.task,
                    "scope": scope_title(str(panel.only)),
                    "recovery": curve.method.recovery,
                    "s95": float(statistics.s95(values, curve.asked)),
                    "low": float(low),
                    "high": float(high),
                    "never_fell": bool(values.min() >= 0.95),
                    "worst": float(values.min()),
                }
            )
    return pd.DataFrame(rows)


def components_figure(together: list[Panel]) -> Figure:
    """A panel a component or flow, all of one task, over its own sparsity; one scale of returns for all."""
    generator = np.random.default_rng(SEED)
    columns = min(COLUMNS, len(together))
    rows = -(-len(together) // columns)
    with rc_context(LOOK):
        figure = Figure(figsize=(1.9 * columns + 0.5, 1.8 * rows + 0.8), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for number, (axes, panel) in enumerate(zip(grid, together, strict=False)):
            figures.draw_returns(axes, panel, "asked", generator)
            axes.set_title(scope_title(str(panel.only)))
            lowest = number + columns >= len(together)
            axes.tick_params(labelbottom=lowest)
            axes.set(xlabel="its own sparsity" if lowest else "", ylabel="return" if number % columns == 0 else "")
        for axes in grid[len(together) :]:
            axes.set_visible(False)
        figure.suptitle(f"{together[0].task}: one component pruned, the others dense", fontsize=9)
        figures.legend(figure, figures.methods_of(together), 4)
    return figure


def scope_title(scope: str) -> str:
    """A component's name; a flow by who writes it, since its readers can be many."""
    writers, arrow, _ = scope.partition("->")
    return f"flow from {writers.replace(',', ' and ')}" if arrow else scope
