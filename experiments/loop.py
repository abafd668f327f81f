"""A control task as recoveries see it: where a controller goes, and what it returns on episodes kept for choosing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import envs
from agents.controller import Controller
from experiments.calibration import plans
from experiments.evaluator import evaluate
from experiments.seeds import calibration_seeds, validation_seeds
from pruning.recovery import Visit

#: Calibration seeds below this one are `calibrate`'s own; visits take those above, and begin again where they end.
FIRST, LAST = 2_000, 10_000
#: Steps that a visit should have, and the fewest and the most episodes of one.
STEPS, FEWEST, MOST = 10_000, 10, 50
#: Episodes of a validation.
VALIDATED = 30
#: The same for a controller that plans, whose decisions cost a hundred times an actor's.
PLANNED, PLANNED_VALIDATED = 6, 10


@dataclass(frozen=True)
class TaskLoop:
    """A task and the seed that says which of its calibration and validation episodes are used."""

    task: str
    seed: int = 0

    def visit(self, controller: Controller, number: int) -> Visit:
        """Run the ``number``-th batch of calibration episodes."""
        horizon = envs.lookup(self.task).horizon
        episodes = PLANNED if plans(controller) else min(max(math.ceil(STEPS / horizon), FEWEST), MOST)
        seeds = calibration_seeds(LAST, self.seed)[FIRST:]
        first = number * episodes % (len(seeds) - episodes)
        ran = evaluate(controller, self.task, seeds[first : first + episodes], record=True)
        assert ran.observations is not None
        assert ran.actions is not None
        return Visit(ran.observations, ran.actions, ran.mean_return)

    def validate(self, controller: Controller) -> float:
        """Mean return over the validation episodes."""
        episodes = PLANNED_VALIDATED if plans(controller) else VALIDATED
        return evaluate(controller, self.task, validation_seeds(episodes, self.seed)).mean_return
