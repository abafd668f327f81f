"""The stages one after another, from a dense controller to a smaller, recovered one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from numpy.typing import NDArray

from prunectl.agents.controller import Batch, Controller
from prunectl.pruning.allocation import Damage
from prunectl.pruning.errors import PruningError
from prunectl.pruning.fidelity import fidelities, integrity
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.grouping import GROUPINGS
from prunectl.pruning.importance import Scores, score
from prunectl.pruning.method import Method
from prunectl.pruning.plan import PruningPlan, make_plan, uncut
from prunectl.pruning.recovery import Budget, Cut, Loop, Progress, recover
from prunectl.pruning.surgery import apply
from prunectl.pruning.tracing import trace
from prunectl.pruning.trial import bench, measure
from prunectl.pruning.unstructured import UNSTRUCTURED, unstructured

C = TypeVar("C", bound=Controller)


@dataclass(frozen=True)
class Calibration:
    """What the dense controller saw and did, for importance and reconstruction, and a held-out part for fidelity.

    Observations ``(n, obs)`` are raw, actions ``(n, ...)`` as the environment took them.
    """

    observations: Batch
    actions: NDArray[Any]
    held_out_observations: Batch
    held_out_actions: NDArray[Any]


@dataclass(frozen=True)
class Pruned(Generic[C]):
    """A smaller controller, what was done to it, how faithful it is, and how long each stage took.

    ``returns`` are the mean validation returns before and after a recovery that looks at them, None otherwise.
    """

    controller: C
    plan: PruningPlan
    fidelity: Mapping[str, float]
    seconds: Mapping[str, float]
    returns: tuple[float, float] | None = None

    @property
    def integrity(self) -> float:
        """The lowest fidelity among the components."""
        return integrity(self.fidelity)


def check_sparsity(sparsity: float) -> None:
    """Raise PruningError unless the sparsity lies in [0, 1)."""
    if not 0 <= sparsity < 1:
        raise PruningError(f"sparsity {sparsity:g} is outside [0, 1): it is the share of parameters to remove")


def check_budget(method: Method, budget: Budget | None) -> None:
    """Raise PruningError unless the method's recovery can go by the budget."""
    if budget is None:
        return
    if not method.looks_at_task:
        raise PruningError(f"recovery '{method.recovery}' takes no budget; distill does")
    if method.recovery == "finetune" and budget.steps is None:
        raise PruningError("recovery 'finetune' takes its budget in environment steps, as 20000, not in seconds")


def plan_for(
    controller: Controller,
    graph: ComponentGraph,
    method: Method,
    sparsity: float,
    inputs: Sequence[torch.Tensor],
    seed: int = 0,
    min_width: int = 1,
    scores: Scores | None = None,
    only: str | None = None,
    damage: Damage | None = None,
) -> PruningPlan:
    """The plan of a method, on what the dataflow takes; ``scores`` and ``damage`` spare computing them once more.

    Raises:
        PruningError: a sparsity outside [0, 1), one that cannot be met, or a method without a plan.
    """
    _check(method, sparsity, min_width, only)
    if method.grouping == UNSTRUCTURED:
        raise PruningError(f"grouping '{UNSTRUCTURED}' has no plan: it removes no unit")
    if sparsity == 0:
        return uncut(graph)
    if (stock := GROUPINGS.find(method.grouping).plan) is not None:
        plan: PruningPlan = stock(controller, graph, inputs, sparsity)
        return plan
    if scores is None:
        scores = score(controller, graph, method.importance, inputs, seed)
    if only is not None or not method.measures:
        return make_plan(graph, scores, method.grouping, method.allocation, sparsity, min_width, only)
    trials = bench(controller, graph, scores, inputs, seed)
    if damage is None:
        damage = measure(trials)
    return make_plan(
        graph, scores, method.grouping, method.allocation, sparsity, min_width, damage=damage, error=trials.error
    )


def prune(
    controller: C,
    method: Method,
    sparsity: float,
    calibration: Calibration,
    seed: int = 0,
    min_width: int = 1,
    scores: Scores | None = None,
    only: str | None = None,
    damage: Damage | None = None,
    loop: Loop | None = None,
    budget: Budget | None = None,
    told: Progress = lambda share: None,
) -> Pruned[C]:
    """Trace, score, allocate, plan, apply, recover.

    Args:
        controller: the dense one; it stays as it is.
        method: which grouping, importance, allocation and recovery.
        sparsity: share of all parameters to remove, in [0, 1).
        calibration: data of the dense controller's own episodes.
        seed: for importances that draw random numbers.
        min_width: no layer falls below it.
        scores: what `score` gave for this controller, importance, calibration and seed, if it is there already.
        only: a component or a flow to prune alone; ``sparsity`` is then its own.
        damage: what `measure` gave for these, if it is there already.
        loop: the task, for a recovery that looks at it.
        budget: how long such a recovery may go on.
        told: how far it is.

    Raises:
        PruningError: the sparsity cannot be met, the networks cannot be traced, or the recovery needs a loop or
            another budget.
    """
    check_budget(method, budget)
    if method.looks_at_task and loop is None:
        raise PruningError(f"recovery '{method.recovery}' needs the control task: pass a loop")
    graph = trace(controller)
    # Once for plan and recovery: a world model imagines its latents for it.
    inputs = controller.inputs(calibration.observations, calibration.actions)
    started = time.perf_counter()
    if method.grouping == UNSTRUCTURED:
        _check(method, sparsity, min_width, only)
        small, plan = unstructured(controller, graph, sparsity)
        planned = time.perf_counter()
    else:
        plan = plan_for(controller, graph, method, sparsity, inputs, seed, min_width, scores, only, damage)
        planned = time.perf_counter()
        small = apply(plan, controller, graph)
    operated = time.perf_counter()
    seen = calibration.observations, calibration.actions
    cut = Cut(small, controller, graph, plan, inputs, *seen, seed, loop, budget, told)
    # Where nothing is cut there is nothing to recover.
    small, returns = recover(method.recovery if sparsity > 0 else "none", cut)
    done = time.perf_counter()
    held_out = controller.inputs(calibration.held_out_observations, calibration.held_out_actions)
    fidelity = fidelities(small, controller, graph, plan, held_out)
    seconds = {"plan": planned - started, "surgery": operated - planned, "recovery": done - operated}
    return Pruned(small, plan, fidelity, seconds, returns)


def _check(method: Method, sparsity: float, min_width: int, only: str | None) -> None:
    check_sparsity(sparsity)
    if min_width != 1 and method.stock:
        raise PruningError(f"grouping '{method.grouping}' knows no least width: min_width must be 1, not {min_width}")
    if only is not None and method.stock:
        raise PruningError(f"grouping '{method.grouping}' knows no components, so it cannot prune '{only}' alone")
