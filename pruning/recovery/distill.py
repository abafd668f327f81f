"""Distillation: the smaller controller drives, the dense one says what it would have answered there.

No reward is trained on. Returns only choose among students, over episodes of their own. The data's way:

    calibration -> lesson -> pupil -> episodes -> lesson -> ... -> finalists -> validation -> what does not act
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from prunectl.agents.controller import Batch, Controller, ControllerError
from prunectl.pruning.budget import Budget
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.recovery.contract import Cut, Recovered, Visit
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
#: Batches for components that do not act, once the others are done; never more than a budget's steps.
OFF_STAGE_BATCHES = 3_000
#: Students that are validated, the controller given not counted.
FINALISTS = 3
#: Standard deviation of the noise on the actions that critics are asked about, as a share of half the action range.
PERTURBATION = 0.3
#: A bound from here on is none.
UNBOUNDED = 1e30
#: Rows for refitting the layers that shape no output.
SILENT_ROWS = 8_000


@dataclass(frozen=True)
class Taught(Generic[C]):
    """A student whose components that act have learned; the others have not yet.

    Attributes:
        cut: what it was cut from.
        given: what it began as.
        student: what it is now.
        before, after: mean validation returns of both. ``after`` is the best of up to four means over the episodes that
            chose among them, so it flatters a little.
        seen: where the students that led to it have been.
        bits: of the weights of what acts, None for floats.
    """

    cut: Cut[C]
    given: C
    student: C
    before: float
    after: float
    seen: Sequence[Visit]
    bits: int | None

    def completed(self) -> Recovered[C]:
        """The student, once the components that do not act are trained too, on the same observations with visited,
        perturbed and random actions; layers that shape no output (exploration heads) are refitted last."""
        cut, student = self.cut, self.student
        calibrated = [Visit(cut.observations, cut.actions, math.nan)]
        seen = self.seen or calibrated
        everywhere, done = (np.concatenate([getattr(v, name) for v in seen]) for name in ("observations", "actions"))
        begins = [visit.first for visit in seen if visit.first is not None]
        first = np.concatenate(begins) if begins else None
        silent = set(cut.graph.layer_axes) - products_called(outputs_of(student.dataflow(), cut.graph.components))
        acting, off_stage = _taught(cut, student)
        if off_stage:
            asked = _asked(done, cut.dense.action_space, np.random.default_rng([cut.seed, 0xA5CED]))
            lessons = _labelled(cut, everywhere, asked, off_stage, first)
            batches = max(OFF_STAGE_BATCHES // (DEARER if student.memory else 1), 1)
            if cut.budget is not None and cut.budget.steps is not None:
                batches = min(batches, cut.budget.steps)
            Pupil(student, off_stage, cut.seed).learn(lessons, batches, off_stage)
        if silent:
            rows = slice(None, None, max(len(everywhere) // SILENT_ROWS, 1))
            inputs = cut.begun.inputs(everywhere[rows], done[rows])
            refitted = reconstruct(student, cut.begun, cut.graph, cut.plan, inputs, silent)
            if self.bits is not None:  # an exploration head is among what acts
                for name in acting:
                    pairs = zip(*(weights_of(one.components[name].module) for one in (student, refitted)), strict=True)
                    round_to([after for before, after in pairs if not torch.equal(before, after)], self.bits)
            student = refitted
        trainable = {name: parameter.requires_grad for name, parameter in self.given.networks.named_parameters()}
        for name, parameter in student.networks.named_parameters():
            parameter.requires_grad_(trainable[name])
        return Recovered(synchronised(student, cut.graph), self.before, self.after, cut)


def distill(cut: Cut[C], small: C, critics: Critics | None = None, bits: int | None = None) -> Recovered[C]:
    """A copy of the smaller controller, trained on the dense one's answers where the smaller one goes: `taught`, and
    then what does not act. Its target networks are as its online ones."""
    return taught(cut, small, critics, bits).completed()


def taught(cut: Cut[C], small: C, critics: Critics | None = None, bits: int | None = None) -> Taught[C]:
    """A copy of the smaller controller, what acts in it trained on the dense one's answers where the smaller one goes.

    DAgger (Ross, Gordon & Bagnell 2011, alg. 3.1) over the deployed components: each round lets the student drive, adds
    where it went with the dense controller's answers, and trains the components that answered otherwise there on all
    data so far, until the budget is spent or all answer nearly as the dense ones do wherever the student goes. The
    students that returned most and the controller given meet on the validation episodes, and the best is kept: it is
    never worse there than what was given.

    A student with a memory is taught along whole episodes (`sequences`): from the states that it brings itself to, to
    the answers and the states that the dense controller has after the same observations, its gradients passing back
    through the steps of a window; and in single steps from the dense one's states.

    With the dense controller's critics an error of the actor counts by what it costs there and in that direction
    (`Critics.curvature`), so that a student too small to answer everywhere as the dense one does errs where that costs
    little.

    Args:
        cut: from what, where it begins, and the task. The ``steps`` of its budget are batches for the deployed
            components; without a budget 24,000, fewer for wide students and for several components. It is told after
            every round which share of the budget is spent.
        small: what surgery, and perhaps reconstruction, gave.
        critics: the dense controller's, where they are to say what errors cost.
        bits: of the weights of what acts, rounded while they learn (`rounding.Rounded`); None for floats. Then what was
            given is rounded too before it is compared.

    Raises:
        ControllerError: the actions of the controller given are not numbers.
    """
    student = small.with_networks(copy.deepcopy(small.networks))
    acting, _ = _taught(cut, student)
    pupil = Pupil(student, acting, cut.seed, bits)
    given, driven = pupil.state(), list[tuple[float, list[Tensor]]]()
    # What a memory is good for shows along whole episodes alone, which the calibration's rows are not.
    seen = [] if student.memory else [Visit(cut.observations, cut.actions, math.nan)]
    known = None if student.memory else _labelled(cut, cut.observations, cut.actions, acting, critics=critics)
    dearer = DEARER if student.memory else 1
    clock = _Clock(
        cut.budget or Budget(steps=_batches(small.parameters(deployed=True), len(acting)) // dearer), BATCHES // dearer
    )
    while True:
        try:
            visit = cut.task.visit(student, clock.rounds, cut.dense)
        except ControllerError:
            break  # it has learned itself to pieces; what was given and the students before are still there
        seen.append(visit)
        new = _labelled(cut, visit.observations, visit.actions, acting, visit.first, critics)
        if clock.rounds:
            driven = sorted([*driven, (visit.mean_return, pupil.state())], key=lambda entry: -entry[0])[:FINALISTS]
        behind = [name for name, error in pupil.errors(new).items() if not error < ENOUGH]
        if (clock.rounds and clock.spent >= 1) or not behind:
            break
        known = new if known is None else known + new
        pupil.learn(known, clock.batches, _with_sources(behind, student, cut.graph))
        clock.tick()
        cut.told(clock.spent)
    cut.told(1.0)

    finalists, returns = [given, *(state for _, state in driven)], []
    for state in finalists:
        pupil.load(state)
        returns.append(cut.task.validate(student))
    best = int(np.argmax(returns))
    pupil.load(finalists[best])
    return Taught(cut, small, student, returns[0], returns[best], seen, bits)


def _taught(cut: Cut[C], student: C) -> tuple[list[str], list[str]]:
    """The components that act, and those that do not. One may be a formula, a known cost say, which has nothing to
    learn and is among neither."""
    learning = [name for name in cut.graph.components if student.components[name].parameters]
    acting = [name for name in learning if name in cut.graph.deployed]
    return acting, [name for name in learning if name not in acting]


def _labelled(
    cut: Cut[C],
    observations: Batch,
    actions: NDArray[Any],
    names: Collection[str],
    first: NDArray[np.bool_] | None = None,
    critics: Critics | None = None,
) -> Lesson:
    """What the dense controller's components ``names`` answer there."""
    inputs = cut.dense.inputs(observations, actions)
    answered = lesson(cut.dense, cut.graph, cut.plan, inputs, names)
    if critics is not None and "actor" in names:
        answered = replace(answered, costs=critics.curvature(inputs, answered.answers["actor"], cut.seed))
    if (allowed := cut.dense.allowed(observations)) is not None:
        answered = replace(answered, allowed=torch.as_tensor(allowed))
    return answered if first is None else replace(answered, first=torch.as_tensor(first))


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
