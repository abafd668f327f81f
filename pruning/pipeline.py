"""The stages one after another, from a dense controller to a smaller, recovered one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, NamedTuple, Self, TypeVar

import torch
from numpy.typing import NDArray

from prunectl.agents.controller import Batch, Controller
from prunectl.pruning.allocation import ALLOCATIONS, Damage
from prunectl.pruning.ask import DEPLOYED, ONCE, Ask, Schedule, Sparsity
from prunectl.pruning.errors import PruningError
from prunectl.pruning.fidelity import fidelities, integrity
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.grouping import GROUPINGS
from prunectl.pruning.importance import Scores, score
from prunectl.pruning.lowrank import written_out
from prunectl.pruning.method import Method
from prunectl.pruning.observation import best_seen
from prunectl.pruning.plan import PruningPlan, composed, make_plan, uncut
from prunectl.pruning.recovery import Budget, Cut, Loop, Progress, recover
from prunectl.pruning.shallow import counted
from prunectl.pruning.surgery import apply, select_inputs
from prunectl.pruning.tracing import trace
from prunectl.pruning.trial import bench, measure

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
    ``grouping`` is the one that the plan was made by: the method's, or another that the method chooses among.
    """

    controller: C
    plan: PruningPlan
    fidelity: Mapping[str, float]
    seconds: Mapping[str, float]
    grouping: str
    returns: tuple[float, float] | None = None

    @property
    def integrity(self) -> float:
        """The lowest fidelity among the components."""
        return integrity(self.fidelity)


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
    sparsity: Sparsity,
    inputs: Sequence[torch.Tensor],
    seed: int = 0,
    min_width: int = 1,
    scores: Scores | None = None,
    damage: Damage | None = None,
    loop: Loop | None = None,
) -> PruningPlan:
    """The plan of a method, on what the dataflow takes; ``scores`` and ``damage`` spare computing them once more, and
    ``loop`` is the task, for an allocation that looks at it.

    Raises:
        PruningError: a sparsity outside [0, 1), one that cannot be met, a method without a plan, or no task.
    """
    ask = Ask.of(sparsity)
    check_ask(method, ask, min_width, ONCE)
    if not method.removes_units:
        raise PruningError(f"grouping '{method.grouping}' has no plan: it removes no unit")
    if ask.leaves_all:
        return uncut(graph)
    if (stock := GROUPINGS.find(method.grouping).plan) is not None:
        plan: PruningPlan = stock(controller, graph, inputs, ask, method.importance, seed)
        return plan
    if scores is None:
        scores = score(controller, graph, method.importance, inputs, seed)
    planned = partial(make_plan, graph, scores, method.grouping, method.allocation, min_width=min_width)
    measured, chooses = ask.divides and method.measures, method.observes and graph.observation and not ask.observed
    if not measured and not chooses:
        return planned(ask)
    trials = bench(controller, graph, scores, inputs, seed)
    if measured:
        error: Callable[[Mapping[str, int]], float] = trials.error
        if ALLOCATIONS.find(method.allocation).looks_at_task:
            if loop is None:
                raise PruningError(f"allocation '{method.allocation}' needs the control task: pass a loop")
            error = partial(trials.shortfall, loop=loop)
        planned = partial(planned, damage=measure(trials) if damage is None else damage, error=error)
    return best_seen(trials, ask, planned) if chooses else planned(ask)


def graph_of(controller: Controller, method: Method, ask: Ask) -> ComponentGraph:
    """The groups of a controller; the numbers of its observation are among them where any may go."""
    return trace(controller, ask.observed or (method.observes and controller.selects))


def prune(
    controller: C,
    method: Method,
    sparsity: Sparsity,
    calibration: Calibration,
    seed: int = 0,
    min_width: int = 1,
    scores: Scores | None = None,
    damage: Damage | None = None,
    loop: Loop | None = None,
    budget: Budget | None = None,
    told: Progress = lambda share: None,
    schedule: Schedule = ONCE,
) -> Pruned[C]:
    """Trace, score, allocate, plan, apply, recover.

    Args:
        controller: the dense one; it stays as it is.
        method: which grouping, importance, allocation and recovery.
        sparsity: share of all parameters to remove, in [0, 1); a mapping has shares of components and flows (`Ask`).
        calibration: data of the dense controller's own episodes.
        seed: for importances that draw random numbers.
        min_width: no layer falls below it.
        scores: what `score` gave for this controller, importance, calibration and seed, if it is there already.
        damage: what `measure` gave for these, if it is there already.
        loop: the task, for an allocation or a recovery that looks at it.
        budget: how long such a recovery may go on, all steps together.
        told: how far it is.
        schedule: in how many steps. Each scores and cuts what the one before left, on what the dense controller saw,
            and recovers it towards the dense controller.

    Raises:
        PruningError: the sparsity cannot be met, the networks cannot be traced, or the recovery needs a loop or
            another budget.
    """
    ask = Ask.of(sparsity)
    check_budget(method, budget)
    check_ask(method, ask, min_width, schedule)
    method.check(controller)
    if method.looks_at_task and loop is None:
        raise PruningError(f"recovery '{method.recovery}' needs the control task: pass a loop")
    # Once for plan and recovery: a world model imagines its latents for it.
    inputs = controller.inputs(calibration.observations, calibration.actions)
    start = _Start.of(controller, method, ask, inputs)
    grouping, *others = GROUPINGS.find(method.grouping).tries or (method.grouping,)
    names = iter(others if schedule.steps == 1 else ())
    seen = calibration.observations, calibration.actions
    allowed = None if budget is None else budget.shared(schedule.steps)
    begun, graph = start.controller, start.graph
    cut = Cut(begun, controller, begun, graph, uncut(graph), inputs, *seen, seed, loop, allowed, told, grouping)
    returns, seconds = None, dict.fromkeys(("plan", "surgery", "recovery"), 0.0)
    # The scores of all groups are there already.
    known = (scores, damage) if begun is controller and not graph.observation else (None, None)
    for number, level in enumerate(schedule.levels(start.asked)):
        started = time.perf_counter()
        try:
            left = _cut(cut, method, ask, level, min_width, *((None, None) if number else known))
        except PruningError as error:
            # What one grouping cannot reach another may.
            reached = next(filter(None, (_other(cut, method, name, ask, min_width) for name in names)), None)
            if reached is None and cut.small is controller:
                raise
            if reached is None:
                raise PruningError(f"sparsity {ask}, shares of what is left by then: {error}") from error
            left = _Level(reached, False, time.perf_counter())
        operated = time.perf_counter()

        def so_far(share: float, done: int = number) -> None:
            told((done + share) / schedule.steps)

        cut = replace(left.cut, told=so_far)
        cut = replace(cut, others=[partial(_other, cut, method, name, ask, min_width) for name in names])
        # Where nothing is cut there is nothing to recover, but weights may be rounded.
        recovery = "none" if left.nothing and method.bits is None else method.recovery
        small, cut, returns = recover(recovery, cut)
        cut, done = replace(cut, small=small), time.perf_counter()
        for stage, took in zip(
            seconds, (left.planned - started, operated - left.planned, done - operated), strict=True
        ):
            seconds[stage] += took
    small, plan = written_out(cut.small), cut.plan
    held_out = controller.inputs(calibration.held_out_observations, calibration.held_out_actions)
    options = controller.allowed(calibration.held_out_observations)
    told_options = None if options is None else torch.as_tensor(options)
    fidelity = fidelities(small, controller, cut.graph, plan, held_out, told_options)
    if cut.begun is not controller:
        plan = counted(plan, start.whole, ask.figure)
    return Pruned(small, plan, fidelity, seconds, cut.grouping, returns)


@dataclass(frozen=True)
class _Start(Generic[C]):
    """What is cut, its groups and what is asked of it: the dense controller, whose groups are ``whole``, or in its
    place one of fewer layers, or of fewer bins."""

    whole: ComponentGraph
    controller: C
    graph: ComponentGraph
    asked: Ask

    @classmethod
    def of(cls, controller: C, method: Method, ask: Ask, inputs: Sequence[torch.Tensor]) -> Self:
        whole, grouping = graph_of(controller, method, ask), GROUPINGS.find(method.grouping)
        if grouping.scope is None or ask.leaves_all:
            return cls(whole, controller, whole, ask)
        begun, graph, asked = controller.narrowed(inputs, ask.reached(whole)), whole, ask
        if begun is not controller:
            graph = graph_of(begun, method, ask)
            asked = ask.relative(whole, graph)
            if asked.met(ask, whole):  # fewer bins alone are more than is asked
                begun, graph, asked = controller, whole, ask
        if grouping.begins is not None:
            begun = grouping.begins(begun, graph, inputs)
            graph = graph_of(begun, method, ask)
            # Each component has the parameters that it would have with all of its layers, as far as it can use them.
            asked = ask.spread(whole).relative(whole, graph)
        return cls(whole, begun, graph, asked)


class _Level(NamedTuple, Generic[C]):
    """A cut carried on to a level of the schedule, whether that cut ``nothing``, and when it was ``planned``."""

    cut: Cut[C]
    nothing: bool
    planned: float


def _cut(
    given: Cut[C],
    method: Method,
    ask: Ask,
    level: Ask,
    min_width: int,
    scores: Scores | None,
    damage: Damage | None,
) -> _Level[C]:
    """What was cut so far, cut further, to this level of what is asked in all."""
    nothing, graph, inputs = given.begun is given.dense and level.leaves_all, given.graph, given.inputs
    if (reduce := GROUPINGS.find(method.grouping).cut) is not None:
        small, plan = reduce(given.dense, graph, inputs, ask, method.importance, given.seed)
        return _Level(replace(given, small=small, plan=plan), nothing, time.perf_counter())
    first = given.small is given.begun
    now = graph if first else graph_of(given.small, method, ask)
    further = plan_for(
        given.small,
        now,
        method,
        level if first else level.relative(graph, now),
        inputs if first else select_inputs(inputs, graph, given.plan.kept),
        given.seed,
        min_width,
        scores,
        damage,
        given.loop,
    )
    plan = further if first else composed(graph, given.plan, further, level.figure)
    planned = time.perf_counter()
    nothing = given.begun is given.dense and further.widths == further.units
    return _Level(replace(given, small=apply(further, given.small, now), plan=plan), nothing, planned)


def _other(given: Cut[C], method: Method, name: str, ask: Ask, min_width: int) -> Cut[C] | None:
    """The same controller cut by another grouping; None where that cuts nothing else or cannot."""
    try:
        other = replace(method, grouping=name)
        start = _Start.of(given.dense, other, ask, given.inputs)
        controller, graph = start.controller, start.graph
        plan = plan_for(controller, graph, other, start.asked, given.inputs, given.seed, min_width, loop=given.loop)
    except PruningError:
        return None
    if plan.kept == {**uncut(graph).kept, **given.plan.kept}:
        return None
    small = apply(plan, controller, graph)
    return replace(given, small=small, begun=controller, graph=graph, plan=plan, grouping=name)


def check_ask(method: Method, ask: Ask, min_width: int, schedule: Schedule) -> None:
    """Raise PruningError where a pruner with a way of its own is asked for what it cannot give."""
    if min_width != 1 and method.stock:
        raise PruningError(f"grouping '{method.grouping}' knows no least width: min_width must be 1, not {min_width}")
    if ask.leaves_a_rest and method.stock:
        raise PruningError(
            f"grouping '{method.grouping}' divides no rest: ask for one figure, as {ask.figure:g} or "
            f"{DEPLOYED}={ask.figure:g}, or for shares alone, as actor={ask.figure:g}, not for '{ask}'"
        )
    if schedule.steps > 1 and not method.removes_units:
        raise PruningError(
            f"grouping '{method.grouping}' removes no unit, so {schedule.steps} steps come to what one does"
        )
