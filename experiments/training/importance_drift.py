"""How the importances of a controller's components drift while it is trained (`prunectl train --track-importance`).

They are measured at the evaluations along the way, on what the controller visits there, and by the definitions that
pruning uses (`pruning.importance.RAW`). The gradients of the training's own losses would be at hand too, but those
speak of squared returns in one component and of entropies in another, so that no share of a whole could be told from
them. And this way a training takes no step and draws no random number more: it ends the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from prunectl.agents.controller import Controller
from prunectl.agents.files import replacing
from prunectl.experiments.drawing.canvas import save
from prunectl.experiments.drawing.drift_figure import drift_figure
from prunectl.experiments.episodes.evaluator import Episodes
from prunectl.pruning import trace
from prunectl.pruning.importance import RAW, Evidence

#: Most rows of the visited ones that a measurement looks at, evenly spread.
ROWS = 2_000
#: Group -> a raw score a unit.
_Units = dict[str, list[float]]


class Measurement(TypedDict):
    """``scores[importance][component][group]``, raw, one a unit; a flow between components stands under its own name.

    Plain data, so that a stopped training can keep it.
    """

    step: int
    scores: dict[str, dict[str, _Units]]


def measure_importances(controller: Controller, step: int, episodes: Episodes) -> Measurement:
    """Score every unit by every importance in `RAW`, on what these recorded episodes visited."""
    assert episodes.observations is not None
    assert episodes.actions is not None
    count = len(episodes.observations)
    rows = np.linspace(0, count - 1, min(count, ROWS)).astype(int)
    inputs = controller.inputs(episodes.observations[rows], episodes.actions[rows])
    graph = trace(controller)
    evidence = Evidence(graph, controller.dataflow(), inputs, np.random.default_rng(0))
    scores: dict[str, dict[str, _Units]] = {name: {} for name in RAW}
    for name, raw in RAW.items():
        for group in graph.groups.values():
            component = group.components[0] if group.kind == "intra" else group.name
            scores[name].setdefault(component, {})[group.name] = raw(evidence, group).tolist()
    return {"step": step, "scores": scores}


def drift_table(measured: Sequence[Measurement]) -> pd.DataFrame:
    """A row a step, component and importance.

    ``total`` is the raw sum over the component's units and ``share`` its part of the controller's. ``rank_previous``
    and ``rank_final`` are Spearman's correlation of the units' scores with those of the measurement before and of the
    last one, a mean over the component's layers weighted by their units, since units are ranked within a layer; empty
    where there is nothing to rank.
    """
    rows = []
    for number, measurement in enumerate(measured):
        for importance, components in measurement["scores"].items():
            totals = {name: sum(map(sum, units.values())) for name, units in components.items()}
            for name, units in components.items():
                before = measured[number - 1]["scores"][importance][name] if number else {}
                rows.append(
                    {
                        "step": measurement["step"],
                        "component": name,
                        "importance": importance,
                        "units": sum(map(len, units.values())),
                        "total": totals[name],
                        "share": totals[name] / max(sum(totals.values()), 1e-300),
                        "rank_previous": _agreement(units, before),
                        "rank_final": _agreement(units, measured[-1]["scores"][importance][name]),
                    }
                )
    return pd.DataFrame(rows)


def write_table(measured: Sequence[Measurement], out: Path) -> pd.DataFrame:
    """Write ``out/importance.csv`` whole or not at all, and give the table."""
    table = drift_table(measured)
    with replacing(out / "importance.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    return table


def write(measured: Sequence[Measurement], out: Path) -> None:
    """Write ``out/importance.csv`` and the figure, ``out/importance.png`` and ``.pdf``."""
    save(drift_figure(write_table(measured, out)), out / "importance")


def _agreement(units: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]) -> float:
    """The mean over the groups, weighted by their units, of the rank correlation; NaN where none has two ranks."""
    found = [
        (len(scores), float(spearmanr(scores, other[group]).statistic))
        for group, scores in units.items()
        if group in other and len(set(scores)) > 1 and len(set(other[group])) > 1
    ]
    weight = sum(count for count, _ in found)
    return sum(count * value for count, value in found) / weight if weight else float("nan")
