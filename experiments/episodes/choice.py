"""Choosing among controllers that learned on: never something worse than what was given."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.controller import Controller, ControllerError
from prunectl.experiments.episodes.evaluator import evaluate
from prunectl.experiments.episodes.seeds import validation_seeds
from prunectl.pruning.recovery import Recovered

C = TypeVar("C", bound=Controller)

#: Episodes that choose on the way, and further ones on which the choice must hold against what was given: where falls
#: are rare, the mean of ten episodes is mostly luck.
CHOOSING, CONFIRMING = 10, 30


class Choice(Generic[C]):
    """The best controller so far, what was given included."""

    def __init__(self, given: C, task: str, seed: int) -> None:
        self.given = self.best = given
        self.task = task
        seeds = validation_seeds(CHOOSING + CONFIRMING, seed)
        self.choosing, self.confirming = seeds[:CHOOSING], seeds[CHOOSING:]
        self.highest = float(self._returns(given, self.choosing).mean())

    def consider(self, candidate: C) -> None:
        """Keep the candidate if it is better on the choosing episodes."""
        try:
            reached = float(self._returns(candidate, self.choosing).mean())
        except ControllerError:  # it fits the task, as what was given does: it has learned itself to pieces
            return
        if reached > self.highest:
            self.best, self.highest = candidate, reached

    def confirmed(self) -> Recovered[C]:
        """The best one if it beats what was given on the confirming episodes, else what was given; both mean returns.

        It must beat it by more than a standard error of the mean difference, episode by episode.
        """
        given = self._returns(self.given, self.confirming)
        before = float(given.mean())
        if self.best is self.given:
            return Recovered(self.given, before, before)
        best = self._returns(self.best, self.confirming)
        gained = best - given
        if gained.mean() > gained.std(ddof=1) / math.sqrt(len(gained)):
            return Recovered(self.best, before, float(best.mean()))
        return Recovered(self.given, before, before)

    def _returns(self, controller: C, seeds: tuple[int, ...]) -> NDArray[np.float64]:
        return evaluate(controller, self.task, seeds).returns
