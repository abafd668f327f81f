"""What importance, reconstruction and fidelity look at: states that the dense controller visits, some disturbed."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunectl import envs
from prunectl.agents.controller import Batch, Controller
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.seeds import calibration_seeds
from prunectl.pruning import Calibration

#: Action noise of the episodes, in turn. A smaller controller drifts to states that the dense one never visits.
DISTURBANCES = (0.0, 0.05, 0.1, 0.2, 0.4)
#: Episodes broken off early, and after how many steps: how an episode begins decides whether it goes on at all, and in
#: whole episodes the beginnings are one row in a hundred.
STARTS, START_STEPS = 40, 100
#: Most rows of whole episodes that are kept, for fitting and for judging the fit.
FITTED_ROWS, HELD_OUT_ROWS = 8_000, 2_000
#: Steps that the episodes for fitting should have between them, and the most episodes a disturbance.
STEPS, MOST_EPISODES = 10_000, 12
#: Steps and broken-off episodes for a controller that plans. A decision costs it a hundred times what an actor takes,
#: and less is enough: its world model is asked about latents imagined from these rows (`TDMPCController.inputs`).
PLANNED_STEPS, PLANNED_STARTS = 4_000, 16


def calibrate(controller: Controller, task: str, seed: int = 0) -> Calibration:
    """Run the dense controller and keep what it saw and did.

    Every disturbance gets at least two episodes for fitting and one held out; tasks with short episodes get more, and
    controllers that plan get fewer.

    Args:
        controller: the dense controller.
        task: a task id that fits it.
        seed: which calibration seeds, and which rows; results are a function of it.

    Returns:
        At most 8,000 rows of whole episodes and 4,000 of their beginnings for fitting, and from other episodes 2,000
        held out; actions as taken, noise included.

    Raises:
        ControllerError: the controller's spaces are not the task's, or its actions are not numbers.
    """
    horizon = envs.lookup(task).horizon
    steps, broken_off = (PLANNED_STEPS, PLANNED_STARTS) if controller.plans else (STEPS, STARTS)
    fitted = min(max(math.ceil(steps / horizon / len(DISTURBANCES)), 2), MOST_EPISODES)
    held_out = max(fitted // 4, 1)
    starts = broken_off if horizon > 2 * START_STEPS else 0
    seeds = iter(calibration_seeds((fitted + held_out) * len(DISTURBANCES) + starts, seed))
    generator = np.random.default_rng([seed, 0xCA11])

    def visited(episodes: int, rows: int, most_steps: int | None = None) -> tuple[Batch, NDArray[Any]]:
        return _visited(controller, task, tuple(islice(seeds, episodes)), rows, generator, most_steps)

    parts = [visited(fitted * len(DISTURBANCES), FITTED_ROWS)]
    kept_back = visited(held_out * len(DISTURBANCES), HELD_OUT_ROWS)
    if starts:
        parts.append(visited(starts, starts * START_STEPS, START_STEPS))
    observations, actions = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Calibration(observations, actions, *kept_back)


def _visited(
    controller: Controller,
    task: str,
    seeds: tuple[int, ...],
    most: int,
    generator: np.random.Generator,
    most_steps: int | None,
) -> tuple[Batch, NDArray[Any]]:
    """Observations and actions of these episodes, at most ``most`` rows of them."""
    disturb = np.resize(np.asarray(DISTURBANCES), len(seeds))
    episodes = evaluate(controller, task, seeds, record=True, disturb=disturb, most_steps=most_steps)
    observations, actions = episodes.observations, episodes.actions
    assert observations is not None
    assert actions is not None
    if len(observations) <= most:
        return observations, actions
    rows = np.sort(generator.choice(len(observations), most, replace=False))
    return observations[rows], actions[rows]
