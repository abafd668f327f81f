"""What a smaller controller saves: parameters, arithmetic, bytes, time, and what it returns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.planner import Planning
from prunectl.experiments.deploying.rates import widths_of
from prunectl.experiments.drawing.tables import write_table
from prunectl.experiments.paper.planning_rates import CUT, planning_rates
from prunectl.experiments.sweeping.cell import Work
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method, trace
from prunectl.pruning.graph import ComponentGraph, axis_width

#: Weights are float32.
BYTES = 4
#: The table's columns, each with the format that its Markdown form shows.
COLUMNS = {
    "task": "",
    "method": "",
    "sparsity_asked": "g",
    "sparsity": ".3f",
    "parameters": ",.0f",
    "bytes": ",.0f",
    "macs": ",.0f",
    "decisions_per_second": ".0f",
    "speed_up": ".2f",
    "mean_return": ".1f",
    "spread": ".1f",
    "normalised_return": ".3f",
    "trainings": "d",
}
REMARK = (
    "Means over the trainings; `spread` is the standard deviation of the trainings' mean returns. `macs`: "
    "multiply-accumulates of one decision, planning included. `bytes`: the deployed weights as float32. "
    "`decisions_per_second`: one observation at a time, a second of processor time on one core."
)


def write_budget(store: Store, work: Work, folder: Path) -> list[Path]:
    """Write the table, a row a task, method and sparsity."""
    results = store.results()
    return write_table(budget(results, work), folder / "budget", COLUMNS, REMARK)


def budget(results: pd.DataFrame, work: Work) -> pd.DataFrame:
    """The table; the dense controllers first in each task, as the method ``dense``."""
    done = results[results["status"] == "done"]
    same = ["controller", "task", *CUT, "sparsity_asked"]
    rates = planning_rates(work, results)[[*same, "decisions_per_second"]]
    table = done.merge(rates, on=same)
    graphs = {digest: trace(controller) for digest, controller in work.controllers.items()}
    table["macs"] = [
        decision_macs(work, graphs[digest], digest, components)
        for digest, components in zip(table["digest"], table["components"], strict=True)
    ]
    names = table[[*CUT, "recovery"]].astype(object).to_numpy()
    table["method"] = ["dense" if pd.isna(row[0]) else Method.recorded(list(map(str, row))).label for row in names]
    groups = table.groupby(["task", "method", "sparsity_asked"], sort=False)
    means = groups[["sparsity_deployed", "params_deployed", "macs", "decisions_per_second"]].mean().reset_index()
    means = means.rename(columns={"sparsity_deployed": "sparsity", "params_deployed": "parameters"})
    means["bytes"] = BYTES * means["parameters"]
    dense = means[means["method"] == "dense"].set_index("task")["decisions_per_second"]
    means["speed_up"] = means["decisions_per_second"] / means["task"].map(dense)
    for name, values in {
        "mean_return": groups["mean_return"].mean(),
        "spread": groups["mean_return"].std(ddof=0),
        "normalised_return": groups["normalised_return"].mean(),
        "trainings": groups["digest"].nunique(),
    }.items():
        means[name] = values.to_numpy()
    return means[[*COLUMNS]]


def decision_macs(work: Work, graph: ComponentGraph, digest: str, components: str) -> int:
    """Multiply-accumulates of one decision of a controller whose components have these widths (a cell's JSON)."""
    widths = widths_of(graph, json.loads(components))
    macs = dict.fromkeys(graph.components, 0)
    for layer, (inputs, outputs) in graph.layer_axes.items():
        macs[graph.layer_component[layer]] += axis_width(inputs, widths) * axis_width(outputs, widths)
    controller = work.controllers[digest]
    if isinstance(controller, TDMPCController):
        return planner_macs(controller.planning, macs)
    return sum(macs[name] for name in graph.deployed)


def planner_macs(planning: Planning, macs: Mapping[str, int]) -> int:
    """One plan, from what one pass through each component costs.

    The observation is encoded once. Every sampled sequence takes H steps of dynamics and reward and one value (policy
    and both Q-functions) at its end, in every iteration; the policy's own sequences ask the policy at every step too,
    once a decision.
    """
    step = macs["dynamics"] + macs["reward"]
    value = macs["actor"] + macs["critic.0"] + macs["critic.1"]
    sampled = planning.iterations * planning.num_samples * (planning.horizon * step + value)
    followed = planning.policy_samples * (planning.horizon * (macs["actor"] + step) + value)
    return macs["encoder"] + sampled + followed
