"""Allocations: how the asked sparsity is divided, first over scopes, then inside each, until it is met in parameters.

A plan is decided by the width of each group, since the units kept are always the best-scored ones. Groups that must be
equally wide are one *knob*. Every allocation is a path of widths from dense to narrowest, walked by bisection to where
the parameter count is the one asked for; what rounding leaves over is settled a unit at a time.
"""

from prunectl.pruning.allocation.damage import Damage
from prunectl.pruning.allocation.divide import ALLOCATIONS, Allocation, Division, allocate
from prunectl.pruning.allocation.knobs import Knob, Widths, make_knobs

__all__ = [
    "ALLOCATIONS",
    "Allocation",
    "Damage",
    "Division",
    "Knob",
    "Widths",
    "allocate",
    "make_knobs",
]
