"""Which numbers of the observation are read: as many as the refit makes most of at the size that is asked."""

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
#: The share of an observation that is worth a word where it never moves.
MANY = 1 / 8
#: Shares of the observation that are tried.
SHARES = (0.0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 15 / 16)


def best_seen(trials: Bench, ask: Ask, planned: Callable[[Ask], PruningPlan]) -> PruningPlan:
    """The plan with that share of the observation beside what is asked at which what acts errs least once refitted.

    At one size, a number that is not read leaves room for hidden units. Those that never move cost their weights for
    nothing, and the next few are worth less than a unit; beyond, what is left cannot tell states apart. The error is
    that of `Bench.errors`, in the mean over the components that act.

    Args:
        trials: the dense controller and its scores, the observation among its groups.
        ask: with no share of the observation.
        planned: what is asked, carried out on the groups.

    Raises:
        PruningError: what is asked cannot be met with any of them.
    """

    def error(plan: PruningPlan) -> float:
        errors = trials.errors(plan.widths)
        return float(np.mean([errors[name] for name in trials.graph.acting]))

    plans, why = [], list[PruningError]()
    for share in SHARES:
        try:
            plans.append(planned(replace(ask, shares=(*ask.shares, (OBSERVATION, share)))))
        except PruningError as refused:  # with so many too little goes, or so few cannot be left
            why.append(refused)
    if not plans:
        raise why[0]
    return replace(min(plans, key=error), sparsity_asked=ask.figure)


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
