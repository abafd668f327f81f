"""Distillation: the smaller controller drives, the dense one says what it would have answered there.

No reward is trained on. Returns only choose among students, over episodes of their own. The data's way:

    calibration -> lesson -> pupil -> episodes -> lesson -> ... -> finalists -> validation -> the controller handed back
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from prunectl.agents.controller import Batch, Controller, ControllerError
from prunectl.pruning.budget import Budget
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.plan import PruningPlan
from prunectl.pruning.recovery.contract import Cut, Loop, Progress, Recovered, Visit
from prunectl.pruning.recovery.critics import Critics
from prunectl.pruning.recovery.pupil import Lesson, Pupil, lesson, outputs_of, products_called
from prunectl.pruning.recovery.reconstruct import reconstruct
from prunectl.pruning.rounding import round_to, weights_of
from prunectl.pruning.surgery import synchronised

C = TypeVar("C", bound=Controller)

#: Batches a round.
BATCHES = 2_000
#: Batches where no budget is given, for one component that acts and a student of up to so many deployed parameters.
#: Beyond, a batch costs more and fewer do, since a wider student starts nearer to its teacher: they go down with the
#: root of the parameters, and with that of the components (a world model's six learn side by side).
MOST_BATCHES, SMALL = 24_000, 10_000
#: How many batches one along episodes counts as, for what it takes.
DEARER = 4
#: A component is taught no further while its error where the student has just been, as a share of the variance, is
#: below this; there are no more rounds once that holds of all.
ENOUGH = 5e-4
#: Batches for components that do not act, once the others are done.
OFF_STAGE_BATCHES = 3_000
#: Students that are validated, the controller given not counted.
FINALISTS = 3
#: Standard deviation of the noise on the actions that critics are asked about, as a share of half the action range.
PERTURBATION = 0.3
#: A bound from here on is none.
UNBOUNDED = 1e30
#: Rows for refitting the layers that shape no output.
SILENT_ROWS = 8_000


def distill(
    small: C,
    teacher: Controller,
    graph: ComponentGraph,
    plan: PruningPlan,
    observations: Batch,
    actions: NDArray[Any],
    loop: Loop,
    seed: int = 0,
    budget: Budget | None = None,
    told: Progress = lambda share: None,
    critics: Critics | None = None,
    bits: int | None = None,
) -> Recovered[C]:
    """A copy of the smaller controller, trained on the dense one's answers where the smaller one goes.

    DAgger (Ross, Gordon & Bagnell 2011, alg. 3.1) over the deployed components: each round lets the student drive, adds
    where it went with the dense controller's answers, and trains the components that answered otherwise there on all
    data so far, until the budget is spent or all answer nearly as the dense ones do wherever the student goes. The
    students that returned most and the controller given meet on the validation episodes, and the best is kept: it is
    never worse there than what was given. Components that do not act are trained next, on the same observations with
    visited, perturbed and random actions; layers that shape no output (exploration heads) are refitted last.

    A student with a memory is taught along whole episodes (`sequences`): from the states that it brings itself to, to
    the answers and the states that the dense controller has after the same observations, its gradients passing back
    through the steps of a window; and in single steps from the dense one's states.

    With the dense controller's critics an error of the actor counts by what it costs there and in that direction
    (`Critics.curvature`), so that a student too small to answer everywhere as the dense one does errs where that costs
    little.

    Args:
        small: what surgery, and perhaps reconstruction, gave.
        teacher: the dense controller.
        graph: the dense controller's groups.
        plan: what was carried out.
        observations: where it begins, calibration observations ``(n, obs)``.
        actions: the actions taken there ``(n, ...)``.
        loop: the task.
        seed: for batches and perturbations.
        budget: ``steps`` are batches for the deployed components. Without a budget 24,000, fewer for wide students and
            for several components.
        told: told after every round which share of the budget is spent.
        critics: the dense controller's, where they are to say what errors cost.
        bits: of the weights of what acts, rounded while they learn (`rounding.Rounded`); None for floats. Then what was
            given is rounded too before it is compared.

    Returns:
        The student. Its ``after`` is the best of up to four means over the episodes that chose among them, so it
        flatters a little.

    Raises:
        ControllerError: the actions of the controller given are not numbers.
    """
    student = small.with_networks(copy.deepcopy(small.networks))
    trainable = {name: parameter.requires_grad for name, parameter in student.networks.named_parameters()}

    def labelled(
        observations: Batch, actions: NDArray[Any], names: Collection[str], first: NDArray[np.bool_] | None = None
    ) -> Lesson:
        inputs = teacher.inputs(observations, actions)
        answered = lesson(teacher, graph, plan, inputs, names)
        if critics is not None and "actor" in names:
            answered = replace(answered, costs=critics.curvature(inputs, answered.answers["actor"], seed))
        if (allowed := teacher.allowed(observations)) is not None:
            answered = replace(answered, allowed=torch.as_tensor(allowed))
        return answered if first is None else replace(answered, first=torch.as_tensor(first))

    # A component may be a formula, a known cost say, which has nothing to learn.
    taught = [name for name in graph.components if student.components[name].parameters]
    acting = [name for name in taught if name in graph.deployed]
    pupil = Pupil(student, acting, seed, bits)
    given, driven = pupil.state(), list[tuple[float, list[Tensor]]]()
    # What a memory is good for shows along whole episodes alone, which the calibration's rows are not.
    calibrated = Visit(observations, actions, math.nan)
    seen = [] if student.memory else [calibrated]
    known = None if student.memory else labelled(observations, actions, acting)
    dearer = DEARER if student.memory else 1
    clock = _Clock(
        budget or Budget(steps=_batches(small.parameters(deployed=True), len(acting)) // dearer), BATCHES // dearer
    )
    while True:
        try:
            visit = loop.visit(student, clock.rounds, teacher)
        except ControllerError:
            break  # it has learned itself to pieces; what was given and the students before are still there
        seen.append(visit)
        new = labelled(visit.observations, visit.actions, acting, visit.first)
        if clock.rounds:
            driven = sorted([*driven, (visit.mean_return, pupil.state())], key=lambda entry: -entry[0])[:FINALISTS]
        behind = [name for name, error in pupil.errors(new).items() if not error < ENOUGH]
        if (clock.rounds and clock.spent >= 1) or not behind:
            break
        known = new if known is None else known + new
        pupil.learn(known, clock.batches, _with_sources(behind, student, graph))
        clock.tick()
        told(clock.spent)
    told(1.0)

    finalists, returns = [given, *(state for _, state in driven)], []
    for state in finalists:
        pupil.load(state)
        returns.append(loop.validate(student))
    best = int(np.argmax(returns))
    pupil.load(finalists[best])

    seen = seen or [calibrated]
    everywhere, done = (np.concatenate([getattr(v, name) for v in seen]) for name in ("observations", "actions"))
    begins = [visit.first for visit in seen if visit.first is not None]
    first = np.concatenate(begins) if begins else None
    silent = set(graph.layer_axes) - products_called(outputs_of(student.dataflow(), graph.components))
    if off_stage := [name for name in taught if name not in graph.deployed]:
        asked = _asked(done, teacher.action_space, np.random.default_rng([seed, 0xA5CED]))
        lessons = labelled(everywhere, asked, off_stage, first)
        Pupil(student, off_stage, seed).learn(lessons, max(OFF_STAGE_BATCHES // dearer, 1), off_stage)
    if silent:
        rows = slice(None, None, max(len(everywhere) // SILENT_ROWS, 1))
        refitted = reconstruct(student, teacher, graph, plan, teacher.inputs(everywhere[rows], done[rows]), silent)
        if bits is not None:  # an exploration head is among what acts
            for name in acting:
                pairs = zip(*(weights_of(one.components[name].module) for one in (student, refitted)), strict=True)
                round_to([after for before, after in pairs if not torch.equal(before, after)], bits)
        student = refitted
    for name, parameter in student.networks.named_parameters():
        parameter.requires_grad_(trainable[name])
    return Recovered(student, returns[0], returns[best])


def distilled(cut: Cut[C], small: C, critics: Critics | None = None, bits: int | None = None) -> Recovered[C]:
    """What `distill` makes of a controller of the cut's widths, its target networks as its online ones."""
    given = small, cut.dense, cut.graph, cut.plan, cut.observations, cut.actions
    learned = distill(*given, cut.task, cut.seed, cut.budget, cut.told, critics, bits)
    return replace(learned, controller=synchronised(learned.controller, cut.graph))


class _Clock:
    """How much of a budget is spent, in rounds of ``most`` batches."""

    def __init__(self, budget: Budget, most: int) -> None:
        self.budget, self.most = budget, most
        self.rounds, self.done, self.started = 0, 0, time.perf_counter()

    @property
    def batches(self) -> int:
        """How many the coming round may take."""
        return self.most if self.budget.steps is None else min(self.most, self.budget.steps - self.done)

    @property
    def spent(self) -> float:
        return self.budget.spent(self.done, time.perf_counter() - self.started)

    def tick(self) -> None:
        """A round is over."""
        self.done += self.batches
        self.rounds += 1


def _with_sources(names: Collection[str], student: Controller, graph: ComponentGraph) -> list[str]:
    """These components and those that they read from, which change with them, in the graph's order."""
    asked = {graph.layer_component[path] for path in products_called(outputs_of(student.dataflow(), names))}
    return [name for name in graph.components if name in asked]


def _batches(parameters: int, components: int) -> int:
    """How many to take for a student of so many deployed parameters and components, in whole rounds."""
    rounds = MOST_BATCHES * math.sqrt(min(1.0, SMALL / parameters) / components) / BATCHES
    return BATCHES * max(round(rounds), 1)


def _asked(actions: NDArray[Any], space: spaces.Space[Any], generator: np.random.Generator) -> NDArray[Any]:
    """The actions that critics are asked about, a third each: as they were taken, with noise, at random."""
    if not isinstance(space, spaces.Box):
        return actions
    # Bounds that only say that there are none are no range: then it is that of the actions taken.
    usable = np.maximum(-space.low, space.high) < UNBOUNDED
    low = np.where(usable, space.low, actions.min(axis=0)).astype(space.low.dtype)
    high = np.where(usable, space.high, actions.max(axis=0)).astype(space.high.dtype)
    half = 0.5 * (high - low)
    noisy = np.clip(actions + PERTURBATION * half * generator.standard_normal(actions.shape), low, high)
    anywhere = generator.uniform(low, high, actions.shape)
    which = generator.integers(3, size=(len(actions), 1))
    return np.asarray(np.select([which == 0, which == 1], [actions, noisy], anywhere), dtype=actions.dtype)
