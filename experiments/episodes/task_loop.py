"""A control task as recoveries see it: where a controller goes, and what it returns on episodes kept for choosing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from prunectl import envs
from prunectl.agents.controller import Controller
from prunectl.experiments.episodes.evaluator import evaluate, evaluate_random
from prunectl.experiments.episodes.evolution import evolve
from prunectl.experiments.episodes.finetuning import finetune
from prunectl.experiments.episodes.seeds import calibration_seeds, validation_seeds
from prunectl.pruning.recovery import Budget, Progress, Recovered, Visit

C = TypeVar("C", bound=Controller)

#: Calibration seeds below this one are `calibrate`'s own; visits take those above, and begin again where they end.
FIRST, LAST = 2_000, 10_000
#: Steps that a visit should have, and the fewest and the most episodes of one.
STEPS, FEWEST, MOST = 10_000, 10, 50
#: Action noise of a visit's episodes, in turn: a student that is taught beside its own way as well falls less often.
DISTURBANCES = (0.0, 0.1)
#: Episodes of a validation.
VALIDATED = 30
#: The same for a controller that plans, whose decisions cost a hundred times an actor's.
PLANNED, PLANNED_VALIDATED = 6, 10
#: Environment steps of a fine-tuning, and of a polishing, that is given no budget.
TRAINED, POLISHED = 20_000, 3_000_000


@dataclass(frozen=True)
class TaskLoop:
    """A task and the seed that says which of its calibration and validation episodes are used."""

    task: str
    seed: int = 0

    def visit(self, controller: Controller, number: int, beside: Controller | None = None) -> Visit:
        """Run the ``number``-th batch of calibration episodes, every second one disturbed."""
        horizon = envs.lookup(self.task).horizon
        episodes = PLANNED if controller.plans else min(max(math.ceil(STEPS / horizon), FEWEST), MOST)
        seeds = calibration_seeds(LAST, self.seed)[FIRST:]
        first = number * episodes % (len(seeds) - episodes)
        disturb = np.resize(DISTURBANCES, episodes)
        ran = evaluate(
            controller, self.task, seeds[first : first + episodes], record=True, disturb=disturb, beside=beside
        )
        assert ran.observations is not None
        assert ran.actions is not None
        if not controller.memory:
            return Visit(ran.observations, ran.actions, ran.mean_return)
        assert ran.of is not None
        order = np.argsort(ran.of, kind="stable")
        first = np.diff(ran.of[order], prepend=-1) != 0
        return Visit(ran.observations[order], ran.actions[order], ran.mean_return, first)

    def validate(self, controller: Controller) -> float:
        """Mean return over the validation episodes."""
        return evaluate(controller, self.task, self._validation(controller)).mean_return

    def _validation(self, controller: Controller) -> Sequence[int]:
        return validation_seeds(PLANNED_VALIDATED if controller.plans else VALIDATED, self.seed)

    def references(self, dense: Controller) -> tuple[float, float]:
        """Mean returns over the validation episodes of the dense controller and of uniformly random actions."""
        return self.validate(dense), evaluate_random(self.task, self._validation(dense), dense).mean_return

    def finetune(self, controller: C, budget: Budget | None, on_progress: Progress) -> Recovered[C]:
        """Continue the controller's own training, see `experiments.episodes.finetuning.finetune`.

        The budget is in steps (`check_budget`), which cut a training into its phases.
        """
        steps = TRAINED if budget is None else budget.steps
        assert steps is not None
        return finetune(controller, self.task, steps, self.seed, on_progress)

    def polish(self, controller: C, budget: Budget | None, on_progress: Progress) -> Recovered[C]:
        """Move what acts towards higher returns, see `experiments.episodes.evolution.evolve`."""
        return evolve(controller, self.task, budget or Budget(steps=POLISHED), self.seed, on_progress)
