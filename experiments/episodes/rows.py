"""Rows in the place of a task: what scores, recoveries and fidelity go by where there are no episodes to run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prunectl.agents.choices import options
from prunectl.agents.controller import Batch, Controller, ControllerError
from prunectl.pruning import Calibration, PruningError
from prunectl.pruning.recovery import Budget, Progress, Recovered, Visit

C = TypeVar("C", bound=Controller)

#: The fewest rows that say anything, and the most that are fitted on; of the others, so many choose and so many judge.
FEWEST, FITTED, HELD_BACK = 50, 12_000, 2_000


@dataclass(frozen=True, eq=False)
class Rows:
    """Observations that a controller is asked about, in three parts that share no row.

    Attributes:
        dense: the controller as it was; what it answers is what is wanted.
        calibration: rows to fit on and rows to judge by, each with the dense controller's own actions.
        choosing: rows that choose between candidates ``(n, obs)``.
    """

    dense: Controller
    calibration: Calibration
    choosing: Batch

    @classmethod
    def of(cls, controller: Controller, inputs: ArrayLike, seed: int = 0) -> Rows:
        """Divide rows, drawn without order: seven tenths to fit on, one to choose, two to judge.

        Args:
            controller: the dense controller.
            inputs: observations ``(n, ...)`` of its observation space.
            seed: which rows.

        Raises:
            ControllerError: they are no such rows, or fewer than 50.
        """
        rows = _checked(controller, inputs)
        order = np.random.default_rng([seed, 0x0B5]).permutation(len(rows))
        fitted, chosen, judged = np.split(rows[order], [len(rows) * 7 // 10, len(rows) * 8 // 10])
        fitted, chosen, judged = fitted[:FITTED], chosen[:HELD_BACK], judged[:HELD_BACK]
        seen = Calibration(fitted, controller.act(fitted), judged, controller.act(judged))
        return cls(controller, seen, chosen)

    def visit(self, controller: Controller, number: int, beside: Controller | None = None) -> Visit:
        """The rows to fit on: there is nowhere else to go. The mean return is the agreement there."""
        seen = self.calibration
        return Visit(seen.observations, seen.actions, agreement(controller.act(seen.observations), seen.actions))

    def validate(self, controller: Controller) -> float:
        """The agreement with the dense controller on the rows that choose."""
        return agreement(controller.act(self.choosing), self.dense.act(self.choosing))

    def references(self, dense: Controller) -> tuple[float, float]:
        """The highest agreement, and none."""
        return 1.0, 0.0

    def finetune(self, controller: C, budget: Budget | None, on_progress: Progress) -> Recovered[C]:
        """There is nothing to train on: raises PruningError."""
        raise PruningError("recovery 'finetune' goes on with the training, so it needs a task, not rows")

    def polish(self, controller: C, budget: Budget | None, on_progress: Progress) -> Recovered[C]:
        """There are no returns: raises PruningError."""
        raise PruningError("recovery 'polish' goes by returns, so it needs a task, not rows")


def agreement(actions: NDArray[Any], wanted: NDArray[Any]) -> float:
    """R2 of actions ``(n, ...)`` against the dense controller's; of choices, the share that is the same."""
    if wanted.dtype.kind != "f":
        return float((actions == wanted).mean())
    error, spread = ((actions.astype(np.float64) - wanted) ** 2).sum(), ((wanted - wanted.mean(axis=0)) ** 2).sum()
    return float(1 - error / max(float(spread), 1e-12))


def _checked(controller: Controller, inputs: ArrayLike) -> Batch:
    if controller.memory:
        raise ControllerError("inputs: a controller with a memory is asked along episodes: name a task instead")
    shape = controller.observation_space.shape
    rows = np.asarray(inputs)
    # Those of a controller that is told which actions are allowed may end with that.
    sizes = {math.prod(shape), math.prod(shape) + controller.masked * sum(options(controller.action_space))}
    if rows.dtype.kind not in "fiub" or rows.ndim < 2 or len(rows) < FEWEST or rows[0].size not in sizes:
        raise ControllerError(
            f"inputs: an array of {rows.dtype} of shape {rows.shape}; at least {FEWEST} observations of shape {shape} "
            "are needed"
        )
    if not np.isfinite(rows).all():
        raise ControllerError("inputs: some of the observations are NaN or infinite")
    return rows.reshape(len(rows), -1).astype(rows.dtype if rows.dtype.kind == "f" else np.float32)
