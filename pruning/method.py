"""A pruning method by its four names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from prunectl.agents.controller import Controller
from prunectl.pruning.allocation import ALLOCATIONS
from prunectl.pruning.errors import PruningError
from prunectl.pruning.grouping import GROUPINGS, Grouping
from prunectl.pruning.importance import IMPORTANCES
from prunectl.pruning.lowrank import lowrank  # noqa: F401, these groupings are known once they have been imported
from prunectl.pruning.observation import best_seen  # noqa: F401
from prunectl.pruning.recovery import RECOVERIES
from prunectl.pruning.shallow import shortened  # noqa: F401
from prunectl.pruning.stock import stock_plan  # noqa: F401
from prunectl.pruning.unstructured import unstructured  # noqa: F401
from prunectl.registry import Plugin, Registry

#: The table of each of the four names.
TABLES: Mapping[str, Registry[Any]] = {
    "grouping": GROUPINGS,
    "importance": IMPORTANCES,
    "allocation": ALLOCATIONS,
    "recovery": RECOVERIES,
}
#: Pruners with a way of their own: Torch-Pruning's, PyTorch's, and low rank.
LIBRARIES = tuple(name for name in GROUPINGS.builtin if GROUPINGS[name].scope is None)

#: What `prune` does where no grouping and no recovery is named. Sweeps and the suite, which compare, cut in one way and
#: begin once: `Method.grouping`, `Method.recovery`.
CHOSEN, AGAIN = "chosen", "distill-restarts"

#: Goes up whenever the same names begin to mean another computation; part of a cell's identity. What changes under one
#: name alone has that name's own ``version`` raised, in its table, so that all else keeps its cells.
VERSION = 2


@dataclass(frozen=True)
class Method:
    """Any grouping with any importance, allocation and recovery.

    The ``stock-`` groupings are Torch-Pruning's own pruners, ``unstructured`` is PyTorch's, ``lowrank`` limits layers'
    ranks: they come with importances of their own (magnitude, where none is named) and their own way of dividing. Any
    recovery may follow the stock ones, none ``unstructured``, whose zeros it would fill again.

    Raises:
        PruningError: a name that does not exist, or such a grouping with another importance, allocation or recovery.
    """

    grouping: str = "component"
    importance: str = "surgeon"
    allocation: str = "uniform"
    recovery: str = "distill"

    def __post_init__(self) -> None:
        for kind, table in TABLES.items():
            table.find(getattr(self, kind))
        own = GROUPINGS.find(self.grouping)
        if self.stock and (self.importance not in own.importances or self.allocation != "uniform"):
            raise PruningError(
                f"grouping '{self.grouping}' has a way of its own: it takes importance {_listed(own.importances)} and "
                f"allocation 'uniform', not '{self.importance}' and '{self.allocation}'"
            )
        if own.begins is not None and self.allocation != "uniform":
            raise PruningError(
                f"grouping '{self.grouping}' leaves nothing to divide, since each component has a share of its own: it "
                f"takes allocation 'uniform', not '{self.allocation}'"
            )
        if own.recoveries and self.recovery not in own.recoveries:
            why = "chooses among students" if own.tries else "removes no unit"
            raise PruningError(
                f"grouping '{self.grouping}' {why}: it takes recovery {_listed(own.recoveries)}, not '{self.recovery}'"
            )

    @classmethod
    def of(
        cls,
        grouping: str = "component",
        importance: str | None = None,
        allocation: str = "uniform",
        recovery: str | None = None,
    ) -> Self:
        """The method with what is not named filled in: the default, or what a library's pruner comes with.

        Names may be ``module:name`` of plug-ins; that imports the module, which the caller vouches for.
        """
        own = GROUPINGS[grouping] if grouping in GROUPINGS else Grouping()
        names = (
            grouping,
            importance or (*own.importances, cls.importance)[0],
            allocation,
            recovery or (cls.recovery if cls.recovery in (own.recoveries or RECOVERIES) else own.recoveries[0]),
        )
        return cls(*(table.named(name) for table, name in zip(TABLES.values(), names, strict=True)))

    @classmethod
    def asked(
        cls,
        grouping: str | None = None,
        importance: str | None = None,
        allocation: str = "uniform",
        recovery: str | None = None,
    ) -> Self:
        """As `of`, for one controller: where nobody named a recovery, `distill` begins again where it falls short, if
        the grouping takes that, and where nobody named a grouping either, with other cuts too."""
        if grouping is None:
            grouping = CHOSEN if recovery in (None, AGAIN) else cls.grouping
        method = cls.of(grouping, importance, allocation, recovery)
        takes = GROUPINGS.find(method.grouping).recoveries or RECOVERIES
        return replace(method, recovery=AGAIN) if recovery is None and AGAIN in takes else method

    @classmethod
    def recorded(cls, names: Sequence[str]) -> Self:
        """The method of a record, whose names need not mean anything here: a plug-in's, or another version's."""
        method = object.__new__(cls)
        for field, name in zip(fields(cls), names, strict=True):
            object.__setattr__(method, field.name, name)
        return method

    @property
    def stock(self) -> bool:
        """Whether the cut has a way of its own: a library's, mostly."""
        return self.grouping in LIBRARIES

    @property
    def removes_units(self) -> bool:
        """Whether what is left has fewer units, and not fewer numbers in as many."""
        return GROUPINGS.find(self.grouping).cut is None

    @property
    def plans(self) -> bool:
        """Whether what is cut is known ahead: it is the controller itself, and none in its place or of several."""
        own = GROUPINGS.find(self.grouping)
        return own.begins is None and not own.tries

    @property
    def observes(self) -> bool:
        """Whether numbers of the observation go with the units."""
        return GROUPINGS.find(self.grouping).observes

    @property
    def looks_at_task(self) -> bool:
        """Whether the recovery runs episodes of the task."""
        return RECOVERIES.find(self.recovery).looks_at_task

    def check(self, controller: Controller) -> None:
        """Raise PruningError where the recovery is not for such a controller."""
        RECOVERIES.find(self.recovery).check(controller)

    @property
    def bits(self) -> int | None:
        """Of each weight of what acts, where the recovery rounds them; None for floats."""
        return RECOVERIES.find(self.recovery).bits

    @property
    def measures(self) -> bool:
        """Whether the allocation looks at the damage of each scope; with one scope there is nothing to divide."""
        return ALLOCATIONS.find(self.allocation).measured and self.grouping != "global"

    @property
    def label(self) -> str:
        """A short name, the same everywhere."""
        parts = [self.grouping]
        if not (self.stock and self.importance == GROUPINGS[self.grouping].importances[0]):
            parts.append(self.importance)
        if self.allocation != "uniform":
            parts.append(self.allocation)
        if self.recovery != "none":
            parts.append(self.recovery)
        return " + ".join(parts)

    @property
    def version(self) -> str:
        """Version of the code behind the names: the sum of all versions, which rises whichever of them does."""
        own = (table[name].version for table, name in self._entries() if name in table)
        return str(VERSION + sum(own))

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        """Where those of the names are from that do not come with prunectl."""
        found = (table.plugin(name) for table, name in self._entries())
        return tuple(plugin for plugin in found if plugin is not None)

    def _entries(self) -> Iterator[tuple[Registry[Any], str]]:
        return ((table, getattr(self, kind)) for kind, table in TABLES.items())


def _listed(names: Sequence[str]) -> str:
    """``'a', 'b' or 'c'``."""
    quoted = [f"'{name}'" for name in names]
    return " or ".join(filter(None, (", ".join(quoted[:-1]), quoted[-1])))
