"""All that a sweep found, worked out once from its store: what tables, figures and the page are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunectl.experiments.analysis.aggregates import Runs, Task, aggregate_table, redrawn_tasks, runs_on
from prunectl.experiments.analysis.contrasts import contrast_table
from prunectl.experiments.analysis.curves import AXES, panels
from prunectl.experiments.analysis.readings import PanelReading, read_panels
from prunectl.experiments.analysis.safe_sparsity import Key, Walk, walks
from prunectl.experiments.analysis.standings import Scores, leading, scores_of, standings, telling
from prunectl.experiments.analysis.summary import summarise
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method

#: Seed of every bootstrap, so that the same store says the same.
SEED = 0

#: Axis -> `aggregate_table`.
Tables = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Findings:
    """What a store says.

    Each curve is redrawn once, for its own bands and numbers (`panels`) and the ranking (`scores`); those with all
    trainings of a task, which `runs` and the aggregates are of, are curves of their own.

    Attributes:
        results: every cell that was computed or failed, as `Store.results` gives them.
        returns: returns ``(episodes,)`` by key of the cell.
        planned: how many cells the sweep has.
        panels: the curves of every controller.
        stable: how far it is safe to prune, where stability was recorded.
        summary: as `summarise` gives it.
        scores: of every method that all controllers have; none where there is nothing to rank.
        standings: their ranking; None where there is nothing to rank.
        shown: the methods that figures of lines have room for.
        telling: the few of them that a figure names.
        contrasts: as `contrast_table` gives it.
        runs: on each of `AXES` and as asked, the runs of every method that all tasks have.
        aggregates: their tables, by axis; an axis on which there is nothing is left out, as in the next two.
        by_algorithm: the same of the tasks of each algorithm alone, where there are several, on `AXES`.
        by_task: the same of each task's controllers alone, where there are several tasks and controllers, on `AXES`.
    """

    results: pd.DataFrame
    returns: Mapping[str, NDArray[np.float64]]
    planned: int
    panels: Sequence[PanelReading]
    stable: Mapping[Key, Walk]
    summary: pd.DataFrame
    scores: Scores
    standings: pd.DataFrame | None
    shown: frozenset[Method]
    telling: tuple[Method, ...]
    contrasts: pd.DataFrame
    runs: Mapping[str, Mapping[Method, Runs]]
    aggregates: Tables
    by_algorithm: Mapping[str, Tables]
    by_task: Mapping[str, Tables]

    @property
    def whole(self) -> list[PanelReading]:
        """The panels of controllers that were pruned as a whole."""
        return [read for read in self.panels if read.panel.only is None]

    def shown_in(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of an `aggregate_table` whose methods are `shown`."""
        return table[table["method"].isin(self.shown)]


def findings(store: Store) -> Findings:
    """Work out everything that a store says.

    Raises:
        StoreError: it cannot be read.
    """
    found, results = panels(store), store.results()
    whole = [panel for panel in found if panel.only is None]
    stable, read = walks(results), read_panels(found, SEED)
    scores = scores_of([reading for reading in read if reading.panel.only is None])
    ranked = standings(scores, results, stable) if len(scores) > 1 else None
    methods = dict.fromkeys(curve.method for panel in found for curve in panel.curves)
    tasks = redrawn_tasks(found, np.random.default_rng(SEED))
    runs = {axis: runs_on(tasks, axis) for axis in (*AXES, "asked")}
    algorithms = dict.fromkeys(panel.algorithm for panel in whole)
    of_algorithm = {name: [task for task in tasks if task.panel.algorithm == name] for name in algorithms}
    with_curves = [panel.task for panel in whole if panel.curves]
    of_task = {name: [task for task in tasks if task.panel.task == name] for name in dict.fromkeys(with_curves)}
    return Findings(
        results=results,
        returns=store.episode_returns(),
        planned=store.planned(),
        panels=read,
        stable=stable,
        summary=summarise(read, stable),
        scores=scores if ranked is not None else {},
        standings=ranked,
        shown=frozenset(leading(ranked, methods)),
        telling=telling(ranked, methods),
        contrasts=contrast_table(tasks, whole, results, SEED),
        runs=runs,
        aggregates=_tables(runs),
        by_algorithm={name: _own(tasks) for name, tasks in of_algorithm.items()} if len(algorithms) > 1 else {},
        by_task={name: _own(tasks) for name, tasks in of_task.items() if with_curves.count(name) > 1}
        if len(of_task) > 1
        else {},
    )


def _own(tasks: Sequence[Task]) -> Tables:
    return _tables({axis: runs_on(tasks, axis) for axis in AXES})


def _tables(runs: Mapping[str, Mapping[Method, Runs]]) -> Tables:
    return {axis: aggregate_table(own) for axis, own in runs.items() if own}
