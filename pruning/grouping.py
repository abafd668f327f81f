"""Groupings: which groups of units are ranked, and give up their share, together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from prunectl.agents.controller import Controller
from prunectl.pruning.ask import Ask
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph, Group
from prunectl.pruning.plugged import explained
from prunectl.registry import Registry

#: The scope of the whole controller, in which there is nothing to divide.
CONTROLLER = "controller"

#: The name of the scope that a group belongs to; a group's own name puts it into a scope of its own.
Scope = Callable[[ComponentGraph, Group], str]


@dataclass(frozen=True)
class Grouping:
    """A way of putting groups into scopes, or a pruner that has a way of its own.

    ``scope`` is asked once for groups that must stay equally wide, with the first of them. ``plan`` gives the
    `PruningPlan` that a library makes of a controller, its graph, what the dataflow takes, what is asked, one of its
    own ``importances`` (the first is its default) and a seed. ``cut`` is given the same, of what removes no unit, and
    gives the controller that it makes, with a plan that keeps every unit and counts what is left. ``begins`` makes of a
    controller, its graph and what the dataflow takes the one that is cut in its place. ``observes`` says that numbers
    of the observation go too, those that `observation.best_seen` finds needless. ``tries`` names the groupings
    whose cuts the recovery has to choose among, the first of them being its own. ``floor`` is another grouping and a
    share: no group falls below that share of the width that it has by ``uniform`` there. ``recoveries`` are those that
    may follow, all where none is named. ``version`` goes up when the name begins to mean another computation.
    """

    scope: Scope | None = None
    plan: Callable[[Controller, ComponentGraph, Sequence[torch.Tensor], Ask, str, int], Any] | None = None
    cut: Callable[[Any, ComponentGraph, Sequence[torch.Tensor], Ask, str, int], tuple[Any, Any]] | None = None
    observes: bool = False
    tries: tuple[str, ...] = ()
    floor: tuple[str, float] | None = None
    begins: Callable[[Any, ComponentGraph, Sequence[torch.Tensor]], Any] | None = None
    importances: tuple[str, ...] = ()
    recoveries: tuple[str, ...] = ()
    version: int = 0


def together(graph: ComponentGraph, group: Group) -> str:
    """One ranking over everything."""
    return CONTROLLER


def alone(graph: ComponentGraph, group: Group) -> str:
    """Each layer, and each flow, alone."""
    return group.name


def by_component(graph: ComponentGraph, group: Group) -> str:
    """Each component alone, each flow a scope of its own; components with groups that must be equally wide are one."""
    if group.kind == "inter":
        return group.name
    tied = next((tie for tie in graph.ties if group.name in tie), (group.name,))
    return "+".join(dict.fromkeys(component for name in tied for component in graph.groups[name].components))


def by_coupling(graph: ComponentGraph, group: Group) -> str:
    """One ranking over everything where units pass between components, so that what all read is spared for what it is
    worth to all; each component alone where none do."""
    coupled = any(name != graph.observation for name in graph.flows)
    return together(graph, group) if coupled else by_component(graph, group)


#: Of the width that `component` leaves a group, the share that one ranking may not fall below where it is ``bounded``.
FLOOR = 0.25

#: Others stand where they are written (`stock`, `unstructured`, `lowrank`, `shallow`, `observation`).
GROUPINGS = Registry(
    "grouping",
    {
        "global": Grouping(together),
        "layer": Grouping(alone),
        "component": Grouping(by_component),
        "coupled": Grouping(by_coupling),
        "bounded": Grouping(together, floor=("component", FLOOR)),
        "chosen": Grouping(
            by_component, tries=("component", "coupled", "inputs", "shallow"), recoveries=("distill-restarts",)
        ),
    },
    PruningError,
)


def scope_of(graph: ComponentGraph, group: Group, grouping: str) -> str:
    """The scope that a grouping puts a group into.

    Raises:
        PruningError: a pruner with a way of its own, which has no scopes, or a plug-in that fails or gives no name.
    """
    scope, plugin = GROUPINGS.find(grouping).scope, GROUPINGS.plugin(grouping)
    if scope is None:
        raise PruningError(f"grouping '{grouping}' has a way of its own, and no scopes")
    if plugin is None:
        return scope(graph, group)
    what = f"{plugin}, group '{group.name}'"
    with explained(what):
        name = scope(graph, group)
    if not (isinstance(name, str) and name):
        raise PruningError(f"{what}: it gave {name!r:.60}, the name of a scope is needed")
    return name
