"""Which numbers of the observation are read: all but those that what acts can do without."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from prunectl.pruning.ask import OBSERVATION, Ask
from prunectl.pruning.errors import PruningError
from prunectl.pruning.grouping import GROUPINGS, Grouping, by_component
from prunectl.pruning.plan import PruningPlan
from prunectl.pruning.trial import Bench

#: Its name among the groupings.
INPUTS = "inputs"
#: The share of its outputs' variance that what acts may err by without a number, all hidden units there and refitted.
#: What is lost with an input no student can learn back; what is lost with a unit mostly can be: so this is far less
#: than what pruning units costs before a student learns.
NEEDLESS = 0.01
#: The share of an observation that is worth a word where it never moves.
MANY = 1 / 8


def best_seen(trials: Bench, ask: Ask, planned: Callable[[Ask], PruningPlan]) -> PruningPlan:
    """The plan of what is asked that leaves out as many numbers of the observation as are not needed.

    So many are not needed that what acts errs by at most `NEEDLESS` without the worst-scored of them, its hidden units
    all there and refitted (`Bench.errors`, the mean over the components that act). How many is found by bisection, and
    does not depend on what is asked, but where that is less than they take.

    Args:
        trials: the dense controller and its scores, the observation among its groups.
        ask: with no share of the observation.
        planned: what is asked, carried out on the groups.

    Raises:
        PruningError: what is asked cannot be met.
    """
    graph, flow = trials.graph, trials.graph.observation
    assert flow is not None
    units = graph.dense[flow]

    def needless(read: int) -> bool:
        errors = trials.errors({**graph.dense, flow: read})
        return float(np.mean([errors[name] for name in graph.acting])) <= NEEDLESS

    def plan(read: int) -> PruningPlan:
        return planned(replace(ask, shares=(*ask.shares, (OBSERVATION, 1 - read / units))))

    def meets(read: int) -> bool:
        try:
            plan(read)
        except PruningError:
            return False
        return True

    try:
        found = plan(_least(needless, units))
    except PruningError:
        if not meets(units):
            raise
        found = plan(_least(meets, units))  # all that is not needed is more than is asked
    return replace(found, sparsity_asked=ask.figure)


def _least(holds: Callable[[int], bool], most: int) -> int:
    """The least number for which something holds that does for ``most`` and all from the least on."""
    few = 0
    while most - few > 1:
        between = (few + most) // 2
        few, most = (few, between) if holds(between) else (between, most)
    return most


def still_remark(seen: torch.Tensor) -> str | None:
    """A line where much of what the networks were shown ``(n, numbers)`` never moved; None otherwise."""
    still, numbers = int((seen == seen[0]).all(dim=0).sum()), seen.shape[1]
    if still < MANY * numbers:
        return None
    return (
        f"{still} of the {numbers} numbers that it sees never moved: grouping '{INPUTS}' leaves such out and "
        "keeps more hidden units for the same size"
    )


GROUPINGS.bring(INPUTS, Grouping(by_component, observes=True))
