"""What importance and allocation do when nothing is refitted: how wide the latent stays, and what that keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from prunectl.experiments.analysis.curves import panels, pooled
from prunectl.experiments.analysis.findings import SEED
from prunectl.experiments.analysis.readings import read_panels
from prunectl.experiments.deploying.rates import widths_of
from prunectl.experiments.drawing.canvas import save
from prunectl.experiments.drawing.tables import write_table
from prunectl.experiments.paper.planning_rates import CUT
from prunectl.experiments.report import figures
from prunectl.experiments.sweeping.cell import Work
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method, trace

REMARK = (
    "Means over the trainings. `flow_units`: units that the flows between components (TD-MPC: the latent) keep. "
    "`integrity`: the lowest R\u00b2 among the components' outputs; below 0 is worse than a constant."
)


def write_unrefitted(store: Store, work: Work, folder: Path) -> list[Path]:
    """Write the figure and the table."""
    figure = figures.return_figure(read_panels(pooled(panels(store)), SEED), "deployed")
    written = [*save(figure, folder / "without-recovery")]
    formats = {"sparsity_asked": "g", "flow_units": ".0f", "integrity": ".2f", "normalised_return": ".2f"}
    return written + write_table(flow_widths(store.results(), work), folder / "flow-widths", formats, REMARK)


def flow_widths(results: pd.DataFrame, work: Work) -> pd.DataFrame:
    """A row a task, sparsity and method: units left in the flows, integrity, normalised return."""
    pruned = results[(results["status"] == "done") & results["grouping"].notna()]
    graphs = {digest: trace(controller) for digest, controller in work.controllers.items()}

    def units(digest: str, components: str) -> int:
        widths = widths_of(graphs[digest], json.loads(components))
        return sum(widths[flow] for flow in graphs[digest].flows)

    table = pruned.assign(
        method=[Method.recorded(list(map(str, row))).label for row in pruned[[*CUT, "recovery"]].to_numpy()],
        flow_units=[units(*row) for row in zip(pruned["digest"], pruned["components"], strict=True)],
    )
    groups = table.groupby(["task", "sparsity_asked", "method"], sort=False)
    means = groups[["flow_units", "integrity", "normalised_return"]].mean().reset_index()
    return means.sort_values(["task", "sparsity_asked"], kind="stable", ignore_index=True)
