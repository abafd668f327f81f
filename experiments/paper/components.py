"""One component, or the latent, pruned at a time: which of them the return depends on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from prunectl.experiments.analysis.curves import panels, pooled
from prunectl.experiments.analysis.findings import SEED
from prunectl.experiments.analysis.readings import PanelReading, read_panels
from prunectl.experiments.drawing.canvas import legend, save
from prunectl.experiments.drawing.style import LOOK
from prunectl.experiments.drawing.tables import write_table
from prunectl.experiments.report import figures
from prunectl.experiments.sweeping.cell import Work
from prunectl.experiments.sweeping.store import Store

#: Panels in a row.
COLUMNS = 4


def write_components(store: Store, work: Work, folder: Path) -> list[Path]:
    """Write a figure a task, and s95 of each component with each recovery."""
    together = read_panels(pooled(panels(store)), SEED)
    written: list[Path] = []
    for task in dict.fromkeys(read.panel.task for read in together):
        here = [read for read in together if read.panel.task == task]
        name = task.rpartition("/")[2].rpartition("-v")[0].lower()
        written += save(components_figure(here), folder / f"components-{name}")
    remark = (
        "s95: the highest sparsity of the component itself (of the latent: share of its units) up to which the "
        "normalised return stays at or above 0.95, everything else dense; low and high: its 95% bootstrap interval "
        "over trainings and episodes. `never_fell` marks a curve that stayed above to its last point."
    )
    numbers = dict.fromkeys(("s95", "low", "high", "worst"), ".2f")
    return written + write_table(sensitivities(together), folder / "components", numbers, remark)


def sensitivities(together: Sequence[PanelReading]) -> pd.DataFrame:
    """A row a task, scope and method: s95 on the scope's own sparsity, its interval, the worst normalised return."""
    return pd.DataFrame(
        [
            {
                "task": read.panel.task,
                "scope": scope_title(str(read.panel.only)),
                "recovery": own.curve.method.recovery,
                "s95": kept.s95,
                "low": kept.low,
                "high": kept.high,
                "never_fell": kept.open,
                "worst": kept.worst,
            }
            for read in together
            for own in read.curves
            if (kept := own.kept.get("asked"))
        ]
    )


def components_figure(together: Sequence[PanelReading]) -> Figure:
    """A panel a component or flow, all of one task, over its own sparsity; one scale of returns for all."""
    columns = min(COLUMNS, len(together))
    rows = -(-len(together) // columns)
    with rc_context(LOOK):
        figure = Figure(figsize=(1.9 * columns + 0.5, 1.8 * rows + 0.8), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for number, (axes, read) in enumerate(zip(grid, together, strict=False)):
            figures.draw_returns(axes, read, "asked")
            axes.set_title(scope_title(str(read.panel.only)))
            lowest = number + columns >= len(together)
            axes.tick_params(labelbottom=lowest)
            axes.set(xlabel="its own sparsity" if lowest else "", ylabel="return" if number % columns == 0 else "")
        for axes in grid[len(together) :]:
            axes.set_visible(False)
        figure.suptitle(f"{together[0].panel.task}: one component pruned, the others dense", fontsize=9)
        legend(figure, figures.methods_of(together), 4)
    return figure


def scope_title(scope: str) -> str:
    """A component's name; a flow by who writes it, since its readers can be many."""
    writers, arrow, _ = scope.partition("->")
    return f"flow from {writers.replace(',', ' and ')}" if arrow else scope
