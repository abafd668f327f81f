"""Torch-Pruning's own importances, on its own groups, as the library computes them (`pruning.stock`)."""

from __future__ import annotations

from prunectl.pruning.graph import Group
from prunectl.pruning.importance.evidence import Array, Evidence, share


def lamp(evidence: Evidence, group: Group) -> Array:
    """A unit's squared magnitude over that of all units at least as large (Lee et al. 2021, eq. 1).

    The largest unit of every layer scores 1: that is how LAMP makes layers comparable, so no share is taken. Inside one
    layer it ranks as magnitude without biases does.
    """
    return evidence.library.lamp(group)


def fpgm(evidence: Evidence, group: Group) -> Array:
    """The summed distance of a unit's weights to those of all others: what lies in the middle can be spared
    (He et al. 2019, geometric median). The library takes the distances between the squares of weights."""
    return share(evidence.library.fpgm(group))


def hessian(evidence: Evidence, group: Group) -> Array:
    """sum_w w^2 E[g_w^2] without biases, a mean over the layers of the group (Optimal Brain Damage, LeCun et al. 1990).

    `fisher` with the library's own sums, normalisation layers included, from a gradient a row of a few hundred.
    """
    return share(evidence.library.hessian(group))
