"""A sweep whose cells are made up: the real driver, scheduler, workers and store, and no pruning or episodes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from prunectl import agents
from prunectl.agents.controller import Controller
from prunectl.experiments.episodes.evaluator import Episodes
from prunectl.experiments.episodes.seeds import reported_seeds
from prunectl.experiments.sweeping import dispatch
from prunectl.experiments.sweeping.cell import Cell, Outcome, Subject, Work
from prunectl.pruning import Calibration, Method, PruningPlan
from prunectl.pruning.plan import ComponentPlan

CONTROLLER, TASK, EPISODES = "ppo-cartpole-1", "CartPole-v1", 10
#: Cells that share their calibration.
PER_SEED = 100
#: As SAC 256-256 on HalfCheetah-v5: rows, observations and actions of its calibration; groups and what each keeps.
ROWS, OBSERVATIONS, ACTIONS, GROUPS, KEPT = 14_000, 17, 6, 6, 128


def made_up_work(cells: int) -> Work:
    """So many different cells of one controller and method."""
    loaded = agents.load(CONTROLLER)
    subject = Subject(loaded.name, loaded.digest, loaded.controller.algorithm, TASK, loaded.training_seed)
    method = Method("component", "magnitude", "uniform", "none")
    made = (
        Cell(subject, method, (1 + number % PER_SEED) / (1 + PER_SEED), number // PER_SEED, EPISODES, 0, 1)
        for number in range(cells)
    )
    return Work({loaded.digest: loaded.controller}, tuple(made), {})


@contextmanager
def made_up_cells(seconds: float = 0.0) -> Iterator[None]:
    """Sweeps started in this block compute nothing: a cell sleeps so many seconds and comes back with an outcome."""
    with mock.patch.multiple(
        dispatch,
        run_pruned=partial(_made_up, seconds),
        run_calibration=_made_up_calibration,
        run_scores=_made_up_scores,
    ):
        yield


def made_up_outcome(cell: Cell) -> Outcome:
    """An outcome as large as that of SAC 256-256."""
    components = {
        name: ComponentPlan(100_000, 50_000, (256, 256, 1), (KEPT, KEPT, 1), name == "actor")
        for name in ("actor", "critic.0", "critic.1")
    }
    plan = PruningPlan(
        sparsity_asked=cell.sparsity,
        kept={f"group/{number}": tuple(range(KEPT)) for number in range(GROUPS)},
        units={f"group/{number}": 2 * KEPT for number in range(GROUPS)},
        couples={},
        components=components,
        macs_deployed=50_000,
    )
    seeds = reported_seeds(cell.episodes, cell.episode_seed)
    returns, lengths = np.linspace(0.0, 1.0, len(seeds)), np.full(len(seeds), 1000)
    seconds = {"plan": 0.0, "surgery": 0.0, "recovery": 0.0, "evaluate": 0.0}
    return Outcome(plan, 1.0, Episodes(cell.subject.task, seeds, returns, lengths), seconds)


def _made_up(
    seconds: float, controller: Controller, calibration: Calibration, scores: Any, cell: Cell, *others: Any
) -> Outcome:
    time.sleep(seconds)
    return made_up_outcome(cell)


def _made_up_calibration(controller: Controller, task: str, seed: int) -> Calibration:
    observations = np.ones((ROWS, OBSERVATIONS), dtype=np.float32)
    actions = np.ones((ROWS, ACTIONS), dtype=np.float32)
    return Calibration(observations, actions, observations[:1], actions[:1])


def _made_up_scores(controller: Controller, calibration: Calibration, importance: str, seed: int) -> None:
    return None
