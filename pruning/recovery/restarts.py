"""Distillation begun again where it falls short: what a small student comes to differs from draw to draw, and from cut
to cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from prunectl.agents.controller import Controller
from prunectl.pruning.errors import PruningError
from prunectl.pruning.recovery.contract import Cut, Recovered
from prunectl.pruning.recovery.critics import Critics
from prunectl.pruning.recovery.distill import Taught, taught

C = TypeVar("C", bound=Controller)

#: How many students are taught at most where there is one cut, and the share of the dense return on the validation
#: episodes that is enough.
STARTS, ENOUGH = 4, 0.97
#: How many of the cut that is asked for come before those of others.
FIRST = 2
#: What lies between the seeds of two starts.
STRIDE = 1_000_003


@dataclass(frozen=True)
class _Start(Generic[C]):
    """A cut, the refitted controller that its students begin as, and whether critics are to say what errors cost."""

    cut: Cut[C]
    small: C
    critical: bool


def restarts(cut: Cut[C]) -> Recovered[C]:
    """The best of several students, each `taught` as `distill` does from the refitted controller, with draws of its
    own; what does not act learns from the best alone.

    There are up to four, and where there are other cuts one more of each: two of the cut given, one of each other, and
    two of the cut whose student did best. Of one cut every second student, the first among them, errs where the dense
    controller's critics say that it costs little, where it has critics that judge its actions; the first of another
    cut does as the best so far. As soon as one keeps 0.97 of the dense return on the validation episodes (1 as dense, 0
    as random actions) no more are taught. With a budget, which is that of one student, there is one.

    Returns:
        The student that returned most on the validation episodes. Its ``after`` is the best of many, so it flatters.
    """
    critics, alone = _critics(cut), cut.budget is not None
    most, enough = (1, float("-inf")) if alone else (STARTS, _enough(cut))
    others, at_most = list[Cut[C]](), most + (0 if alone else len(cut.others))
    best: Taught[C] | None = None
    leading, number = _Start(cut, cut.refitted(), True), 0
    while number < most:
        if number == FIRST:
            others = [other for make in cut.others if (other := make()) is not None]
            most += len(others)
        if others:
            other = others.pop(0)
            start = replace(leading, cut=other, small=other.refitted())
        else:
            start = replace(leading, critical=number % 2 == 0)

        def told(share: float, number: int = number) -> None:
            cut.told((number + share) / at_most)

        own = replace(start.cut, seed=cut.seed + STRIDE * number, told=told)
        learned = taught(own, start.small, critics if start.critical else None)
        if best is None or learned.after > best.after:
            best, leading = learned, start
        if best.after >= enough:
            break
        number += 1
    cut.told(1.0)
    assert best is not None
    return best.completed()


def _enough(cut: Cut[C]) -> float:
    """The mean validation return from which on no more are taught."""
    dense, random = cut.task.references(cut.dense)
    return random + ENOUGH * (dense - random)


def _critics(cut: Cut[C]) -> Critics | None:
    try:
        return Critics.of(cut.dense, cut.observations)
    except PruningError:
        return None
