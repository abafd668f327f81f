"""What a recovery is given, the control loop among it if it needs that, and what it gives back; `experiments` supplies
the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from prunectl.agents.controller import Batch, Controller
from prunectl.pruning.budget import Budget
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.plan import PruningPlan
from prunectl.pruning.recovery.reconstruct import reconstruct

C = TypeVar("C", bound=Controller)

#: Told now and then which share of a recovery's budget is spent, in [0, 1].
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Visit:
    """Where a controller went, and what it got.

    ``observations`` ``(n, obs)`` are raw, ``actions`` ``(n, ...)`` as the environment took them; the return is a mean.
    Where the controller has a memory, rows are whole episodes one after another, and ``first`` ``(n,)`` says with which
    ones they begin.
    """

    observations: Batch
    actions: NDArray[Any]
    mean_return: float
    first: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Recovered(Generic[C]):
    """The controller handed back, and the mean validation returns of what was given and of what is handed back.

    ``cut`` is that of the controller, None where it can only be the one given.
    """

    controller: C
    before: float
    after: float
    cut: Cut[C] | None = None


class Loop(Protocol):
    """A task, seen from a recovery. Nothing in it meets an episode that results are reported on."""

    def visit(self, controller: Controller, number: int, beside: Controller | None = None) -> Visit:
        """Run the ``number``-th batch of training episodes; each number has start states of its own. Where controllers
        have a memory, observations end with that of ``beside``, which sees the same, and the visit has its own."""

    def validate(self, controller: Controller) -> float:
        """Mean return over the validation episodes, the same ones at every call."""

    def references(self, dense: Controller) -> tuple[float, float]:
        """Mean returns over the validation episodes of the dense controller and of uniformly random actions."""

    def finetune(self, controller: C, budget: Budget | None, on_progress: Progress) -> Recovered[C]:
        """Continue the controller's own training; never hand back something worse."""

    def polish(self, controller: C, budget: Budget | None, on_progress: Progress) -> Recovered[C]:
        """Move what acts towards higher returns; never hand back something worse."""


@dataclass(frozen=True)
class Cut(Generic[C]):
    """A controller as surgery left it, and all that a recovery may look at.

    Attributes:
        small: the smaller controller.
        dense: the one whose answers it should have, to be left as it is.
        begun: the one that was cut: the dense one, or in its place one of fewer layers.
        graph: the groups of the one that was cut.
        plan: what was carried out.
        inputs: what the dense dataflow takes on the calibration data, ``(n, ...)`` each.
        observations, actions: that data, ``(n, obs)`` raw and ``(n, ...)`` as the environment took them.
        seed: for what it draws at random.
        loop: the task, for a recovery that looks at it, else perhaps None.
        budget: how long it may go on, None where nothing was said.
        told: told now and then how far it is.
        grouping: the name of the one that the plan was made by.
        others: cuts by other groupings that may be handed back in its place, each made when it is called, or None
            where that grouping cuts nothing else or cannot.
    """

    small: C
    dense: C
    begun: C
    graph: ComponentGraph
    plan: PruningPlan
    inputs: Sequence[torch.Tensor]
    observations: Batch
    actions: NDArray[Any]
    seed: int
    loop: Loop | None
    budget: Budget | None
    told: Progress
    grouping: str
    others: Sequence[Callable[[], Cut[C] | None]] = ()

    @property
    def task(self) -> Loop:
        """The loop of a recovery that looks at the task, which is given one."""
        assert self.loop is not None
        return self.loop

    def refitted(self) -> C:
        """The smaller controller refitted by `reconstruct`, which most recoveries begin with."""
        return reconstruct(self.small, self.begun, self.graph, self.plan, self.inputs)
