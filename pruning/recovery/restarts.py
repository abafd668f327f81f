"""Distillation begun again where it falls short: what a small student comes to differs from draw to draw."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from prunectl.agents.controller import Controller
from prunectl.pruning.errors import PruningError
from prunectl.pruning.recovery.contract import Cut, Recovered
from prunectl.pruning.recovery.critics import Critics
from prunectl.pruning.recovery.distill import Taught, taught

C = TypeVar("C", bound=Controller)

#: How many students are taught at most, and the share of the dense return on the validation episodes that is enough.
STARTS, ENOUGH = 4, 0.97
#: What lies between the seeds of two starts.
STRIDE = 1_000_003


def restarts(cut: Cut[C]) -> Recovered[C]:
    """The best of up to four students, each `taught` as `distill` does from the refitted controller, with draws of its
    own; what does not act learns from the best alone.

    Every second one, the first among them, errs where the dense controller's critics say that it costs little, where it
    has critics that judge its actions. As soon as one keeps 0.97 of the dense return on the validation episodes (1 as
    dense, 0 as random actions) no more are taught. With a budget, which is that of one student, there is one.

    Returns:
        The student that returned most on the validation episodes. Its ``after`` is the best of many, so it flatters.
    """
    small, critics = cut.refitted(), _critics(cut)
    starts = STARTS if cut.budget is None else 1
    enough = float("-inf")
    if starts > 1:
        dense, random = cut.task.references(cut.dense)
        enough = random + ENOUGH * (dense - random)
    best: Taught[C] | None = None
    for start in range(starts):

        def told(share: float, start: int = start) -> None:
            cut.told((start + share) / starts)

        own = replace(cut, seed=cut.seed + STRIDE * start, told=told)
        learned = taught(own, small, critics if start % 2 == 0 else None)
        if best is None or learned.after > best.after:
            best = learned
        if best.after >= enough:
            break
    cut.told(1.0)
    assert best is not None
    return best.completed()


def _critics(cut: Cut[C]) -> Critics | None:
    try:
        return Critics.of(cut.dense, cut.observations)
    except PruningError:
        return None
