"""How the importances of a controller's components drift while it is trained (`prunectl train --track-importance`).

They are measured at the evaluations along the way, on what the controller visits there, and by the definitions that
pruning uses (`pruning.importance.RAW`). The gradients of the training's own losses would be at hand too, but those
speak of squared returns in one component and of entropies in another, so that no share of a whole could be told from
them. And this way a training takes no step and draws no random number more: it ends the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from prunectl.agents.controller import Controller
from prunectl.agents.files import replacing
from prunectl.experiments.drawing.style import LOOK, MARKERS, component_colour
from prunectl.experiments.episodes.evaluator import Episodes
from prunectl.experiments.report.figures import save
from prunectl.pruning import trace
from prunectl.pruning.importance import RAW, Evidence

#: Most rows of the visited ones that a measurement looks at, evenly spread.
ROWS = 2_000
#: What is drawn, a row each.
METRICS = {"share": "share of the whole", "rank_final": "rank correlation\nwith the last"}
#: The axis of shares is logarithmic, for a latent has many outputs and a critic has one; it ends here.
LOWEST_SHARE = 1e-4

#: Group -> a raw score a unit.
_Units = dict[str, list[float]]


class Measurement(TypedDict):
    """``scores[importance][component][group]``, raw, one a unit; a flow between components stands under its own name.

    Plain data, so that a stopped training can keep it.
    """

    step: int
    scores: dict[str, dict[str, _Units]]


def measure(controller: Controller, step: int, episodes: Episodes) -> Measurement:
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


def drift_figure(table: pd.DataFrame) -> Figure:
    """A column an importance, a row a metric, a line a component over the steps of training."""
    importances, looks = list(dict.fromkeys(table["importance"])), _looks(list(dict.fromkeys(table["component"])))
    with rc_context(LOOK):
        figure = Figure(figsize=(2.5 * len(importances) + 0.4, 2.0 * len(METRICS) + 0.7), layout="constrained")
        grid = figure.subplots(len(METRICS), len(importances), sharex=True, sharey="row", squeeze=False)
        for row, (metric, label) in zip(grid, METRICS.items(), strict=True):
            row[0].set_ylabel(label)
            for axes, importance in zip(row, importances, strict=True):
                for component, look in looks.items():
                    chosen = table[(table["importance"] == importance) & (table["component"] == component)]
                    axes.plot(chosen["step"], chosen[metric], **look)
        for axes, importance in zip(grid[0], importances, strict=True):
            axes.set_title(importance)
            axes.set_yscale("log", nonpositive="mask")
            axes.set_ylim(bottom=max(axes.get_ylim()[0], LOWEST_SHARE), top=1.0)
        for axes in grid[-1]:
            axes.set_xlabel("environment steps")
        handles = grid[0][0].get_lines()
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(looks), 4), fontsize=7)
    return figure


def _looks(components: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and label of each component."""
    return {
        name: {"color": component_colour(name), "marker": marker, "label": _label(name)}
        for name, (marker, _) in zip(components, cycle(MARKERS), strict=False)
    }


def _label(component: str) -> str:
    writers, arrow, readers = component.partition("->")
    return f"flow {writers} \u2192 {readers.count(',') + 1} readers" if arrow else component


def _agreement(units: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]) -> float:
    """The mean over the groups, weighted by their units, of the rank correlation; NaN where none has two ranks."""
    found = [
        (len(scores), float(spearmanr(scores, other[group]).statistic))
        for group, scores in units.items()
        if group in other and len(set(scores)) > 1 and len(set(other[group])) > 1
    ]
    weight = sum(count for count, _ in found)
    return sum(count * value for count, value in found) / weight if weight else float("nan")
