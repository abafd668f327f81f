"""Measuring what widths do: cut, refit, and compare the outputs on calibration inputs, or run validation episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from prunectl.agents.controller import Controller, ControllerError
from prunectl.pruning.allocation import Damage, make_knobs
from prunectl.pruning.fidelity import fidelities
from prunectl.pruning.graph import ComponentGraph, Scores
from prunectl.pruning.plan import PruningPlan, describe, keep_best
from prunectl.pruning.recovery import Loop, reconstruct
from prunectl.pruning.surgery import apply

#: Rows that are refitted on, and others that the refit is judged on. Few rows charge wide layers for overfitting: with
#: 2,000 of 12,000 the actor of SAC on HalfCheetah at half its width errs 0.027, with 6,000 0.019, with all 0.018.
FITTED_ROWS, JUDGED_ROWS = 6_000, 2_000
#: Shares of its units that a knob is tried at, and then a single unit.
SHARES = (1, 3 / 4, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)


@dataclass(frozen=True)
class Bench:
    """A dense controller and its scores, on rows to fit and rows to judge; widths go on it and errors come off."""

    controller: Controller
    graph: ComponentGraph
    scores: Scores
    fitted: tuple[torch.Tensor, ...]
    judged: tuple[torch.Tensor, ...]

    def refitted(self, widths: Mapping[str, int]) -> tuple[Controller, PruningPlan]:
        """The controller with these widths, refitted, and the plan of it."""
        plan = describe(self.graph, keep_best(self.scores, widths), 0.0)
        small = apply(plan, self.controller, self.graph)
        return reconstruct(small, self.controller, self.graph, plan, self.fitted), plan

    def errors(self, widths: Mapping[str, int]) -> dict[str, float]:
        """1 - R2 of each component's output once the controller has these widths and is refitted, at most 1."""
        small, plan = self.refitted(widths)
        found = fidelities(small, self.controller, self.graph, plan, self.judged)
        return {name: min(1 - fidelity, 1.0) for name, fidelity in found.items()}

    def error(self, widths: Mapping[str, int]) -> float:
        """The calibration error, 0 to 2: the mean of `errors` over the deployed components plus that over the others.

        An actor's error is one of actions, a critic's of values, each relative to its own variance, so that they are
        comparable. What only training needs weighs as much on the whole as what is deployed.
        """
        errors = self.errors(widths)
        roles = [[e for name, e in errors.items() if (name in self.graph.deployed) == role] for role in (True, False)]
        return float(sum(np.mean(role) for role in roles if role))

    def shortfall(self, widths: Mapping[str, int], loop: Loop) -> float:
        """Minus the mean return over the validation episodes of the controller with these widths, refitted; infinite
        where its actions are not numbers. What only training needs does not show in it."""
        try:
            return -loop.validate(self.refitted(widths)[0])
        except ControllerError:
            return math.inf


def bench(
    controller: Controller, graph: ComponentGraph, scores: Scores, inputs: Sequence[torch.Tensor], seed: int = 0
) -> Bench:
    """A bench with a sample of the calibration inputs, ``(n, ...)`` each; a third of few rows is kept for judging."""
    count = len(inputs[0])
    rows = torch.as_tensor(np.random.default_rng([seed, 0xBE]).permutation(count))
    fitted = min(FITTED_ROWS, max(count - count // 3, 1))
    judged = rows[fitted : fitted + JUDGED_ROWS] if count > 1 else rows
    return Bench(
        controller,
        graph,
        scores,
        tuple(tensor[rows[:fitted]] for tensor in inputs),
        tuple(tensor[judged] for tensor in inputs),
    )


def measure(bench: Bench) -> Damage:
    """How the calibration error grows as each knob is turned down alone, from dense to a single unit.

    It knows of no asked sparsity and no grouping (whose knobs are the same), so a sweep measures it once for each
    controller, importance and seed. SAC with 256-256 has 4 knobs, 28 widths to try: 3 to 7 s on one core.
    """
    graph = bench.graph
    widths, errors = {}, {}
    for knob in make_knobs(graph, bench.scores, "layer"):
        tried = tuple(sorted({1, *(max(round(share * knob.units), 1) for share in SHARES)}))
        narrowed = [bench.error({**graph.dense, **dict.fromkeys(knob.groups, width)}) for width in tried[:-1]]
        widths[knob.groups[0]], errors[knob.groups[0]] = tried, (*narrowed, 0.0)
    return Damage(widths, errors)
