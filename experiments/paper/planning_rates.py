"""How many decisions a second the controllers of a sweep make."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from prunectl.experiments.deploying.rates import decisions_per_second, of_widths, widths_of
from prunectl.experiments.sweeping.cell import Work
from prunectl.pruning import trace

#: What decides a pruned controller's widths, and so its rate; the recovery does not.
CUT = ["grouping", "importance", "allocation"]


def planning_rates(work: Work, results: pd.DataFrame) -> pd.DataFrame:
    """A row a dense or pruned controller of a sweep: its columns, parameters and ``decisions_per_second``.

    Measured here and now, one after another, on controllers of the same widths: no result depends on it.
    """
    done = results[results["status"] == "done"]
    kept = ["digest", "controller", "task", *CUT, "sparsity_asked", "sparsity_deployed", "params_deployed"]
    rows = done.drop_duplicates(["digest", "task", *CUT, "sparsity_asked"])
    graphs = {digest: trace(controller) for digest, controller in work.controllers.items()}
    known: dict[tuple[str, str], float] = {}

    def rates() -> Iterator[float]:
        for row in rows.to_dict("records"):
            digest, components = row["digest"], row["components"]
            if (digest, components) not in known:
                widths = widths_of(graphs[digest], json.loads(components))
                small = of_widths(work.controllers[digest], graphs[digest], widths)
                known[digest, components] = decisions_per_second(small)
            yield known[digest, components]

    measured = list(rates())
    return rows[kept].assign(decisions_per_second=measured).drop(columns="digest").reset_index(drop=True)
