"""How sure we are that a loop fails seldom, and the highest sparsity of which that can be said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from scipy.stats import beta

#: A loop *holds* if, with this confidence, it fails from less than this share of the starts.
CONFIDENCE = 0.95
TOLERATED = 0.05
#: The fewest starts that can show it, when none of them fails.
FEWEST = math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - TOLERATED))


@dataclass(frozen=True)
class Count:
    """``failures`` of ``trials`` independent episodes. The trial is the episode, from a start of its own: the steps
    within one are anything but independent."""

    failures: int
    trials: int

    @cached_property
    def bound(self) -> float:
        """The one-sided upper confidence bound on the probability of failure."""
        return clopper_pearson(self.failures, self.trials)

    @property
    def holds(self) -> bool:
        """Whether the probability is below what is tolerated, with the confidence asked for."""
        return self.bound < TOLERATED

    def __str__(self) -> str:
        return f"{self.failures}/{self.trials} (<{self.bound:.1%})"


@dataclass(frozen=True)
class Checks:
    """What was counted of one loop: episodes that did not settle, and trajectories along which V failed to fall (None:
    there is no function)."""

    unstable: Count
    rising: Count | None

    @property
    def holds(self) -> bool:
        """Whether the loop was shown to settle *and* its V to fall."""
        return self.unstable.holds and self.rising is not None and self.rising.holds


def clopper_pearson(failures: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The exact one-sided upper bound on a binomial probability (Clopper & Pearson 1934).

    The p at which so few failures or fewer have probability ``1 - confidence``: the ``confidence`` quantile of
    Beta(failures + 1, trials - failures); 1 where every trial failed.
    """
    if not 0 <= failures <= trials or trials < 1:
        raise ValueError(f"{failures} failures of {trials} trials")
    return 1.0 if failures == trials else float(beta.ppf(confidence, failures + 1, trials - failures))


def safe_sparsity(sparsities: Sequence[float], holds: Sequence[bool]) -> float | None:
    """The highest sparsity up to which every controller holds, the dense one (sparsity 0) first; None if not even that.

    The walk from the dense controller upwards ends at the first that does not hold, whatever comes after. That makes it
    a fixed-sequence test: each controller is tested with the full error probability of 1 - `CONFIDENCE`, and still all
    statements up to the safe sparsity are true together with probability `CONFIDENCE` (Maurer, Hothorn & Lehmacher
    1995). The same is so within a controller that must hold in several respects: an intersection-union test needs no
    correction either (Berger 1982).

    Args:
        sparsities: in rising order.
        holds: whether each does.
    """
    if any(later < sooner for sooner, later in pairwise(sparsities)):
        raise ValueError("safe_sparsity needs the sparsities in rising order")
    safe = None
    for sparsity, held in zip(sparsities, holds, strict=True):
        if not held:
            break
        safe = sparsity
    return safe
