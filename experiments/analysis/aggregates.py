"""What a sweep says over all its tasks: aggregates of normalised returns with 95% bootstrap intervals, by task.

A task is an algorithm on an environment ("sac on Pendulum-v1"); its runs are its trainings, each pruned with each seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunectl.experiments import statistics
from prunectl.experiments.analysis.curves import Curve, Panel, pooled, run_draws
from prunectl.experiments.drawing.tables import bounded
from prunectl.experiments.statistics import Tasks
from prunectl.experiments.sweeping.schema import METHOD
from prunectl.pruning import Method

Array = NDArray[np.float64]

#: The columns of `aggregate_table`.
AGGREGATES: Mapping[str, Callable[[Tasks], Array]] = {
    "iqm": statistics.iqm,
    "median": statistics.median,
    "mean": statistics.mean,
    "gap": statistics.optimality_gap,
}
#: How far what is achieved may stay below what was asked.
TOLERANCE = 0.005


@dataclass(frozen=True)
class Runs:
    """One method's normalised returns at the sparsities ``(sparsity,)`` that all its runs reach.

    ``values`` has for each task ``(seeds, sparsity)``, ``draws`` the bootstrap's ``(resamples, seeds, sparsity)``.
    Values below 0 count as 0: worse than random is no more broken than random.
    """

    sparsity: Array
    values: Tasks
    draws: Tasks

    def at(self, sparsity: float) -> Runs:
        """At this one of its sparsities alone."""
        here = self.sparsity == sparsity
        return Runs(self.sparsity[here], *([task[..., here] for task in of] for of in (self.values, self.draws)))


@dataclass(frozen=True)
class Task:
    """A task with its trainings pooled, and of each method the normalised returns of its runs at the curve's own
    sparsities ``(seeds, sparsity)`` with their bootstrap draws ``(resamples, seeds, sparsity)``."""

    panel: Panel
    runs: Mapping[Method, tuple[Array, Array]]


def redrawn_tasks(found: Sequence[Panel], generator: np.random.Generator) -> list[Task]:
    """The tasks of these panels, all methods of one redrawn alike: they share trainings and episodes, which then do not
    blur their difference. A task whose dense controllers do not clearly beat random actions does not count."""
    tasks = [panel for panel in pooled([panel for panel in found if panel.only is None]) if _beats_random(panel)]
    redrawn = []
    for panel, seed in zip(tasks, generator.integers(2**63, size=len(tasks)), strict=True):
        runs = {}
        for curve in panel.curves:
            drawn = run_draws(panel, curve, np.random.default_rng(seed))
            assert drawn is not None
            runs[curve.method] = (np.maximum(drawn[0], 0.0), np.maximum(drawn[1], 0.0))
        redrawn.append(Task(panel, runs))
    return redrawn


def runs_on(tasks: Sequence[Task], axis: str) -> dict[Method, Runs]:
    """The runs of every method that all these tasks have, at the asked sparsities, read as ones of this axis, that all
    reach.

    Where a run has not met a sparsity to the point, its return is read off the straight line between its neighbours
    (the dense controller, at 0, is one).
    """
    grid = np.unique([asked for task in tasks for curve in task.panel.curves for asked in curve.asked if asked > 0])
    by_task = [{curve.method: curve for curve in task.panel.curves} for task in tasks]
    found = {}
    for method in by_task[0] if tasks else ():
        curves = [own[method] for own in by_task if method in own]
        if len(curves) < len(tasks):
            continue
        reached = grid[grid <= min(curve.sparsity[axis].max() for curve in curves) + TOLERANCE]
        if not len(reached):
            continue
        values, draws = (
            [_read(curve, axis, reached, task.runs[method][part]) for task, curve in zip(tasks, curves, strict=True)]
            for part in (0, 1)
        )
        found[method] = Runs(reached, values, draws)
    return found


def aggregate_table(runs: Mapping[Method, Runs]) -> pd.DataFrame:
    """A row a method and sparsity: tasks, runs, and each of `AGGREGATES` with the ends of its 95% interval (``_low``,
    ``_high``)."""
    rows: list[pd.DataFrame] = []
    for method, own in runs.items():
        columns: dict[str, object] = {"method": method, "sparsity": own.sparsity, "tasks": len(own.values)}
        columns["runs"] = sum(len(task) for task in own.values)
        for name, aggregate in AGGREGATES.items():
            low, high = statistics.interval(aggregate(own.draws))
            columns |= {name: aggregate(own.values), f"{name}_low": low, f"{name}_high": high}
        rows.append(pd.DataFrame(columns))
    return pd.concat(rows, ignore_index=True)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """An `aggregate_table` (with its axis) with each number and its interval in one cell."""
    shown = table[["axis", "method", "sparsity", "tasks", "runs"]].copy()
    for name in AGGREGATES:
        shown[name] = [bounded(*row) for row in table[[name, f"{name}_low", f"{name}_high"]].to_numpy()]
    return shown


def improvements(runs: Mapping[Method, Runs], ours: Method, sparsity: float) -> pd.DataFrame:
    """A row for each other method that reaches this sparsity: how likely a run of ``ours`` beats one of it, with the
    ends of the 95% interval (``method``, ``probability``, ``low``, ``high``)."""
    own = runs[ours].at(sparsity)
    rows = []
    for method, other in runs.items():
        if method == ours or sparsity not in other.sparsity:
            continue
        theirs = other.at(sparsity)
        low, high = statistics.interval(statistics.probability_of_improvement(own.draws, theirs.draws))
        probability = statistics.probability_of_improvement(own.values, theirs.values)
        rows.append({"method": method, "probability": probability[0], "low": low[0], "high": high[0]})
    return pd.DataFrame(rows, columns=["method", "probability", "low", "high"])


def priced(table: pd.DataFrame, results: pd.DataFrame, column: str) -> pd.DataFrame:
    """An `aggregate_table` of runs on the axis ``asked``, and beside each sparsity its ``cost``: what a column of the
    results is there, as a share of the dense controller's, the geometric mean over the controllers."""
    done = results[(results["status"] == "done") & results["only"].isna()]
    dense = done[done["grouping"].isna()].set_index(["controller", "task"])[column]
    pruned = done[done["grouping"].notna()]
    before = dense.reindex(pd.MultiIndex.from_frame(pruned[["controller", "task"]])).to_numpy()
    pruned = pruned.assign(share=np.log((pruned[column] / before).astype(float)))
    costs = np.exp(pruned.groupby([*METHOD, "sparsity_asked"])["share"].mean())
    keys = [(*astuple(method), asked) for method, asked in zip(table["method"], table["sparsity"], strict=True)]
    return table.assign(cost=costs.reindex(keys).to_numpy())


def kept_parameters(results: pd.DataFrame, sparsity: float, methods: Collection[Method]) -> pd.DataFrame:
    """Where these methods' cuts went at one asked sparsity: a row for controllers of the same components, cut and
    component.

    ``kept`` is the share of all the dense controller's parameters that stays in the component, ``dense`` the share that
    it has there; means over the ``controllers``. ``cut`` is the method's label without its recovery.
    """
    at = (results["status"] == "done") & results["only"].isna() & (results["sparsity_asked"] == sparsity)
    cuts = {astuple(method)[:3]: Method.recorded([*astuple(method)[:3], "none"]) for method in methods}
    rows = []
    for row in results[at].drop_duplicates(["controller", "task", *METHOD[:3]]).to_dict("records"):
        cut = cuts.get(tuple(row[key] for key in METHOD[:3]))
        if cut is None:
            continue
        components = json.loads(row["components"])
        whole = sum(own["params_dense"] for own in components.values())
        for name, own in components.items():
            shares = {"kept": own["params_pruned"] / whole, "dense": own["params_dense"] / whole}
            rows.append({"components": ", ".join(components), "cut": cut.label, "component": name, **shares})
    groups = pd.DataFrame(rows).groupby(["components", "cut", "component"], sort=False)
    return groups.agg(kept=("kept", "mean"), dense=("dense", "mean"), controllers=("kept", "size")).reset_index()


def _beats_random(panel: Panel) -> bool:
    """Whether every training clearly does: by more than two standard errors of the difference over the episodes."""
    gaps = np.asarray(panel.dense) - np.asarray(panel.random)
    errors = gaps.std(axis=-1, ddof=1) / np.sqrt(gaps.shape[-1]) if gaps.shape[-1] > 1 else 0.0
    return bool((gaps.mean(axis=-1) > 2 * errors).all())


def _read(curve: Curve, axis: str, grid: Array, values: Array) -> Array:
    """Values ``(..., sparsity)`` at the sparsities of a grid, on straight lines from the dense controller (0, 1)."""
    x = np.concatenate([[0.0], curve.sparsity[axis]])
    y = np.concatenate([np.ones((*values.shape[:-1], 1)), values], axis=-1)
    order = np.argsort(x, kind="stable")
    weights = np.asarray([np.interp(grid, x[order], unit) for unit in np.eye(len(x))])
    return np.asarray(y[..., order] @ weights)
