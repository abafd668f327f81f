"""What one choice buys by itself: paired differences between methods that are the same in all else, by family.

A family is an algorithm with the same components, since how far its networks hang together is what a grouping is about.
Differences are paired by training, pruning seed, sparsity and episode, and redrawn as pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prunectl.experiments import statistics
from prunectl.experiments.analysis.aggregates import Task, redrawn_tasks
from prunectl.experiments.analysis.curves import Panel
from prunectl.pruning import Method

Array = NDArray[np.float64]

#: What stands first in a difference, the sooner named the sooner; what is not named here is only held against these.
PREFERRED: Mapping[str, Sequence[str]] = {
    "grouping": (Method.grouping,),
    "importance": (Method.importance,),
    "recovery": (Method.recovery, "reconstruct"),
}
#: The name of the row over all families.
ALL = "all"
_ENDS = ["difference", "low", "high"]
#: What `readable` calls what is left empty: a share that was not set, and the recovery of contrasts of recoveries.
_NONE = {"ours": "as the rest", "theirs": "as the rest", "beside": "-"}


@dataclass(frozen=True)
class Contrast:
    """One choice held against another. ``kind`` is what is chosen, ``beside`` the recovery that both have (of a
    contrast of recoveries: empty)."""

    kind: str
    ours: str
    theirs: str
    beside: str


def contrast_table(tasks: Sequence[Task], found: Sequence[Panel], results: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row a contrast and family, and one over `ALL`.

    Columns: kind, ours, theirs, beside, family, tasks, runs, the mean ``difference`` of the normalised returns over the
    tasks (positive: ``ours`` keeps more; values below 0 count as 0) with the ends of its 95% interval, ``low`` and
    ``high``; ``p``, corrected for the number of rows of its kind (Holm); ``detectable``, the least difference that
    these cells would show with 80% probability, uncorrected; and what the interval is ``over``. Every pair of methods
    that differ in the one choice counts alike, and every sparsity that both have.

    Args:
        tasks: as `redrawn_tasks` gave them; one of several families is redrawn, each family by itself.
        found: the panels that they were made of.
        results: as `Store.results` gives them.
        seed: of what is redrawn.
    """
    tasks, rows = _by_family(tasks, found, results, seed), []
    for contrast, pairs in _contrasts(dict.fromkeys(m for task in tasks for m in task.runs)).items():
        of_task = [(task, own) for task in tasks if (own := _difference(task, pairs)) is not None]
        families = dict.fromkeys(task.panel.algorithm for task, _ in of_task)
        for family in (*families, ALL) if len(families) > 1 else families:
            inside = [(task, value) for task, value in of_task if family in (task.panel.algorithm, ALL)]
            rows.append({**contrast.__dict__, "family": family, **_row(inside)})
    table = pd.DataFrame(rows)
    if len(table):
        table["p"] = table.groupby("kind")["p"].transform(lambda p: statistics.holm(p.to_numpy()))
    return table


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """A `contrast_table` with the difference and its interval in one cell."""
    shown = table[["kind", "ours", "theirs", "beside", "family", "tasks", "runs"]].replace(
        {name: {"": text} for name, text in _NONE.items()}
    )
    shown["difference"] = [f"{d:+.3f} [{low:+.3f}, {high:+.3f}]" for d, low, high in table[_ENDS].to_numpy()]
    shown["p"] = [f"{value:.3f}" for value in table["p"]]
    shown["detectable"] = [f"{value:.3f}" for value in table["detectable"]]
    return shown.assign(over=table["over"])


def _by_family(tasks: Sequence[Task], found: Sequence[Panel], results: pd.DataFrame, seed: int) -> list[Task]:
    """The tasks, each with its family in the place of its algorithm; of several families, each with its own."""
    described = results[results["components"].notna()].drop_duplicates(["controller", "task"])
    owners = zip(described["controller"], described["task"], strict=True)
    parts = {owner: set(json.loads(str(text))) for owner, text in zip(owners, described["components"], strict=True)}
    common: dict[str, set[str]] = {}
    for panel in found:
        own = parts.get((panel.controller, panel.task), set())
        common[panel.algorithm] = common.get(panel.algorithm, own) & own
    families: dict[tuple[str, str], dict[str, list[Panel]]] = {}
    for panel in found:
        more = sorted(parts.get((panel.controller, panel.task), set()) - common[panel.algorithm])
        family = f"{panel.algorithm}, {', '.join(more)}" if more else panel.algorithm
        families.setdefault((panel.algorithm, panel.task), {}).setdefault(family, []).append(panel)
    whole, apart = [], []
    for task in tasks:
        own_families = families[task.panel.algorithm, task.panel.task]
        if len(own_families) == 1:
            whole.append(replace(task, panel=replace(task.panel, algorithm=next(iter(own_families)))))
        for family, panels in own_families.items() if len(own_families) > 1 else ():
            apart += [replace(panel, algorithm=family) for panel in panels]
    return whole + redrawn_tasks(apart, np.random.default_rng(seed))


def _contrasts(methods: Iterable[Method]) -> dict[Contrast, list[tuple[Method, Method]]]:
    """Every pair of methods that differ in one choice alone, under what it contrasts."""
    methods, found = list(methods), dict[Contrast, list[tuple[Method, Method]]]()
    for kind, preferred in (*PREFERRED.items(), ("shares", ("",))):
        for rank, value in enumerate(preferred):
            for one in methods:
                for other in methods:
                    mine, theirs = _choices(one), _choices(other)
                    apart = [name for name in mine if mine[name] != theirs[name]]
                    if apart != [kind] or mine[kind] != value or theirs[kind] in preferred[:rank]:
                        continue
                    beside = "" if kind == "recovery" else one.recovery
                    contrast = Contrast(kind, mine[kind], theirs[kind], beside)
                    found.setdefault(contrast, []).append((one, other))
    return found


def _choices(method: Method) -> dict[str, str]:
    """The names of a method, with the shares set for single components and flows apart from its grouping."""
    grouping, _, shares = method.grouping.partition("[")
    names = {"grouping": grouping, "importance": method.importance, "allocation": method.allocation}
    return {**names, "recovery": method.recovery, "shares": shares.rstrip("]")}


def _difference(task: Task, pairs: Sequence[tuple[Method, Method]]) -> tuple[float, Array] | None:
    """The mean difference over the pairs that the task has, and its draws ``(resamples,)``."""
    curves = {curve.method: curve for curve in task.panel.curves}
    found = []
    for one, other in pairs:
        if one not in curves or other not in curves or not curves[one].pairs_with(curves[other]):
            continue
        _, mine, theirs = np.intersect1d(curves[one].asked, curves[other].asked, return_indices=True)
        if len(mine):
            apart = (
                of[..., mine] - than[..., theirs] for of, than in zip(task.runs[one], task.runs[other], strict=True)
            )
            found.append([values.mean(axis=(-2, -1)) for values in apart])
    if not found:
        return None
    values, draws = zip(*found, strict=True)
    return float(np.mean(values)), np.mean(draws, axis=0)


def _row(own: Sequence[tuple[Task, tuple[float, Array]]]) -> dict[str, object]:
    draws = np.mean([drawn for _, (_, drawn) in own], axis=0)
    low, high = statistics.interval(draws)
    curves = [task.panel.curves[0] for task, _ in own]
    return {
        "tasks": len(own),
        "runs": sum(len(curve.returns) for curve in curves),
        "difference": float(np.mean([value for _, (value, _) in own])),
        "low": float(low),
        "high": float(high),
        "p": statistics.p_value(draws),
        "detectable": statistics.detectable(draws),
        "over": max((curve.over for curve in curves), key=len),
    }
