"""Cells and outcomes made up for tests of what comes after the computing."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import numpy as np

from prunectl.experiments.episodes.evaluator import Episodes
from prunectl.experiments.stability.bounds import Checks
from prunectl.experiments.sweeping.cell import Cell, Outcome, Subject
from prunectl.experiments.sweeping.store import Store
from prunectl.pruning import Method, PruningPlan
from prunectl.pruning.plan import ComponentPlan


def subject(name: str = "mine", task: str = "CartPole-v1", digest: str | None = None) -> Subject:
    return Subject(name, digest or f"digest of {name}", "ppo", task, 3)


def cell(
    of: Subject | None = None,
    method: Method | None = None,
    sparsity: float = 0.0,
    seed: int = 0,
    episodes: int = 2,
    only: str | None = None,
    stability: int | None = None,
) -> Cell:
    return Cell(of or subject(), method, sparsity, seed, episodes, 0, 1, only, stability)


def episodes(returns: Sequence[float], task: str = "CartPole-v1") -> Episodes:
    values = np.asarray(returns, dtype=np.float64)
    return Episodes(task, tuple(range(len(values))), values, np.full(len(values), 9))


def record_curves(
    store: Store, controllers: Mapping[str, Mapping[Method, Mapping[float, float]]], integrity: bool = False
) -> None:
    """A finished sweep: of each controller the normalised return by asked sparsity, random 0 and dense 100 on average.

    Deployed sparsity is 0.2 above the asked one; with ``integrity`` that falls as the sparsity rises.
    """
    cells = []
    for name, curves in controllers.items():
        of = subject(name)
        cells.append(cell(of))
        store.record(cells[-1], outcome([90.0, 110.0]))
        for method, curve in curves.items():
            for sparsity, mean in curve.items():
                cells.append(cell(of, method, sparsity))
                kept = 1 - sparsity if integrity else 1.0
                store.record(cells[-1], outcome([mean - 10, mean + 10], sparsity + 0.2, sparsity, integrity=kept))
    store.plan(cells)
    store.record_random(episodes([-10.0, 10.0]))


def drop_columns(connection: sqlite3.Connection, *names: str) -> None:
    """Make a store one of an older form."""
    for name in names:
        connection.execute(f"ALTER TABLE cell DROP COLUMN {name}")


def outcome(
    returns: Sequence[float],
    deployed: float = 0.0,
    total: float = 0.0,
    integrity: float = 1.0,
    task: str = "CartPole-v1",
    checks: Checks | None = None,
) -> Outcome:
    """An actor of 1,000 parameters (deployed) and a value network of 1,000, pruned to these sparsities."""
    actor = round(1000 * (1 - deployed))
    value = round(2000 * (1 - total)) - actor
    plan = PruningPlan(
        sparsity_asked=total,
        kept={},
        units={},
        couples={},
        components={
            "actor": ComponentPlan(1000, actor, (30, 2), (max(actor // 30, 1), 2), True),
            "value": ComponentPlan(1000, value, (30, 1), (max(value // 30, 1), 1), False),
        },
        macs_deployed=actor,
    )
    return Outcome(plan, integrity, episodes(returns, task), {"plan": 0.5, "evaluate": 1.5}, checks)
