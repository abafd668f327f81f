"""A pruning method by its four names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from prunectl.pruning.allocation import MEASURED
from prunectl.pruning.errors import PruningError
from prunectl.pruning.importance import IMPORTANCES as _IMPORTANCES

UNSTRUCTURED = "unstructured"
#: Pruners of Torch-Pruning and PyTorch as they come.
LIBRARIES = ("stock-global", "stock-local", "stock-isomorphic", UNSTRUCTURED)
GROUPINGS = ("global", "layer", "component", *LIBRARIES)
IMPORTANCES = tuple(_IMPORTANCES)
ALLOCATIONS = ("uniform", "ranked", *MEASURED)
RECOVERIES = ("none", "reconstruct", "distill", "scratch", "finetune")

#: Go up whenever the same names begin to mean another computation; part of a cell's identity. Some recoveries have a
#: version of their own, so that what they do not touch keeps its cells.
VERSION = "2"
RECOVERY_VERSIONS = {"distill": "3", "scratch": "3"}


@dataclass(frozen=True)
class Method:
    """Any grouping with any importance, allocation and recovery.

    The ``stock-`` groupings are Torch-Pruning's own pruners, ``unstructured`` is PyTorch's: they come with their own
    magnitude importance and their own way of dividing, so only the recovery is free, and of ``unstructured``, whose
    zeros a recovery would fill again, not even that.

    Raises:
        PruningError: a name that does not exist, or such a grouping with another importance, allocation or recovery.
    """

    grouping: str = "component"
    importance: str = "surgeon"
    allocation: str = "uniform"
    recovery: str = "distill"

    def __post_init__(self) -> None:
        for field, known in zip(fields(self), (GROUPINGS, IMPORTANCES, ALLOCATIONS, RECOVERIES), strict=True):
            _check(field.name, getattr(self, field.name), known)
        if self.stock and (self.importance, self.allocation) != ("magnitude", "uniform"):
            raise PruningError(
                f"grouping '{self.grouping}' is a library's pruner as it comes: it takes importance 'magnitude' and "
                f"allocation 'uniform', not '{self.importance}' and '{self.allocation}'"
            )
        if self.grouping == UNSTRUCTURED and self.recovery != "none":
            raise PruningError(f"grouping '{UNSTRUCTURED}' only sets weights to zero: it takes recovery 'none'")

    @classmethod
    def of(
        cls,
        grouping: str = "component",
        importance: str | None = None,
        allocation: str = "uniform",
        recovery: str | None = None,
    ) -> Self:
        """The method with what is not named filled in: the default, or what a library's pruner as it comes takes."""
        as_it_comes = grouping in LIBRARIES
        return cls(
            grouping,
            importance or ("magnitude" if as_it_comes else cls.importance),
            allocation,
            recovery or ("none" if grouping == UNSTRUCTURED else cls.recovery),
        )

    @property
    def stock(self) -> bool:
        """Whether the cut is a library's own, as it comes."""
        return self.grouping in LIBRARIES

    @property
    def looks_at_task(self) -> bool:
        """Whether the recovery runs episodes of the task."""
        return self.recovery in ("distill", "scratch", "finetune")

    @property
    def measures(self) -> bool:
        """Whether the allocation looks at the damage of each scope; with one scope there is nothing to divide."""
        return self.allocation in MEASURED and self.grouping != "global"

    @property
    def label(self) -> str:
        """A short name, the same everywhere."""
        parts = [self.grouping] if self.stock else [self.grouping, self.importance]
        if self.allocation != "uniform":
            parts.append(self.allocation)
        if self.recovery != "none":
            parts.append(self.recovery)
        return " + ".join(parts)

    @property
    def version(self) -> str:
        """Version of the code behind the names."""
        return RECOVERY_VERSIONS.get(self.recovery, VERSION)


def _check(kind: str, name: str, known: Sequence[str]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    offer = f"did you mean '{near[0]}'? " if near else ""
    raise PruningError(f"unknown {kind} '{name}': {offer}there are {', '.join(known)}")
