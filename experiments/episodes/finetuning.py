"""Fine-tuning: a controller goes on with its own training, and the best of what it becomes is handed back."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TypeVar

import torch

from prunectl import envs
from prunectl.agents.controller import Controller, ControllerError
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.resume import continue_learning
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc2.families import FAMILIES
from prunectl.experiments.episodes.choice import Choice
from prunectl.experiments.episodes.evaluator import environments
from prunectl.experiments.episodes.seeds import finetuning_seed
from prunectl.experiments.episodes.tdmpc_practice import Exploring, Practice
from prunectl.pruning.recovery import Progress, Recovered

C = TypeVar("C", bound=Controller)

#: How often a controller is validated on the way, and how often one that plans: its decisions cost far more.
VALIDATIONS, PLANNED_VALIDATIONS = 20, 8
#: TD-MPC and TD-MPC2: the share of the steps before learning, and Adam's step size.
PLANNED_FILLING, PLANNED_RATE = 0.1, 3e-4


def finetune(
    controller: C, task: str, steps: int, seed: int, on_progress: Progress = lambda share: None
) -> Recovered[C]:
    """Continue the controller's own training for ``steps`` steps, and never hand back something worse.

    Optimisers are fresh, targets are the controller's own, replay is filled by the controller itself, observation
    statistics are carried. Every so often the controller is validated; the best one, by 10 validation episodes, must
    then beat what was given on 30 others by more than a standard error, else what was given is handed back.

    Args:
        controller: dense or pruned, of any family; it stays as it is.
        task: a task id that fits it.
        steps: steps of the environment.
        seed: of everything random; the same seed gives the same result to the last bit.
        on_progress: told now and then which share of the steps is done.

    Returns:
        What is handed back; its ``before`` and ``after`` are of the 30 episodes, which chose between the two alone.

    Raises:
        ControllerError: no steps, the controller's spaces are not the task's, or nothing is known of how to train it.
    """
    if steps < 1:
        raise ControllerError(f"fine-tuning for {steps} steps: give at least one")
    torch.set_num_threads(1)
    task, _ = envs.resolve(task)
    choice = Choice(controller, task, seed)

    def consider(done: int, candidate: Controller) -> None:
        choice.consider(candidate)  # type: ignore[arg-type]
        on_progress(min(done / steps, 1.0))

    if isinstance(controller, SB3Controller):
        with ExitStack() as stack:

            def make(count: int) -> list[envs.Env]:
                return stack.enter_context(environments(task, count, controller, rows=False))

            every = max(steps // VALIDATIONS, 1)
            continue_learning(controller, make, steps, finetuning_seed(seed), every, consider)
    elif isinstance(controller, TDMPCController):
        _practise(controller, task, steps, seed, consider)
    else:
        raise ControllerError(f"a {controller.algorithm} controller cannot be trained on: nothing is known of how")
    return choice.confirmed()


def _practise(
    controller: TDMPCController, task: str, steps: int, seed: int, consider: Callable[[int, Controller], None]
) -> None:
    """The own training of TD-MPC and its relatives, in whole episodes, until ``steps`` are taken."""
    copied = controller.with_networks(copy.deepcopy(controller.networks))
    family = FAMILIES[controller.algorithm]
    learning = replace(family.learning, lr=PLANNED_RATE, reward_scale=controller.reward_scale)
    learner = family.learner(copied.networks, copied.planning, learning, seed)
    first = math.ceil(steps * PLANNED_FILLING / controller.action_repeat)
    exploring = Exploring(first, False, controller.planning.min_std, 1)
    with environments(task, 1, controller) as (env,):
        practice = Practice(copied, env, learner, exploring, seed, finetuning_seed(seed), steps)
        considered = 0
        while practice.step < steps:
            practice.episode()
            due = practice.step - considered >= steps / PLANNED_VALIDATIONS or practice.step >= steps
            if practice.learner.updates and due:
                considered = practice.step
                consider(considered, controller.with_networks(copy.deepcopy(copied.networks)))
