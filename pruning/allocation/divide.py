"""Dividing the asked sparsity over a controller by a named allocation, beside shares that are asked of its parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prunectl.pruning.allocation.budgets import budgeted
from prunectl.pruning.allocation.damage import Damage
from prunectl.pruning.allocation.knobs import (
    Knob,
    Widths,
    bisect,
    check,
    make_knobs,
    owned,
    settle,
)
from prunectl.pruning.allocation.searched import searched
from prunectl.pruning.allocation.sensitivity import sensitivity
from prunectl.pruning.allocation.unmeasured import ranked, uniform
from prunectl.pruning.ask import DEPLOYED, TOLERANCE, Ask, Sparsity
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph, Scores
from prunectl.pruning.grouping import CONTROLLER, GROUPINGS
from prunectl.pruning.plugged import explained
from prunectl.registry import Plugin, Registry


@dataclass(frozen=True)
class Division:
    """What is to be divided.

    Attributes:
        graph: the dense controller's groups.
        knobs: groups that are turned together, each with its scope and the scores of its units.
        sparsity: the share of all parameters that is to go, in (0, 1).
        min_width: no group falls below it.
        damage: what `measure` found, where the allocation looks at it.
        error: what a controller of these widths, refitted, is to have little of: its calibration error, or its negative
            return where the allocation looks at the task; likewise.
        floors: widths that single groups do not fall below either, by the first of each knob; the plain ranking heeds
            them.
    """

    graph: ComponentGraph
    knobs: Sequence[Knob]
    sparsity: float
    min_width: int
    damage: Damage | None = None
    error: Callable[[Widths], float] | None = None
    floors: Widths = field(default_factory=dict)

    @property
    def target(self) -> float:
        """How many parameters are to be left."""
        return (1 - self.sparsity) * self.graph.parameters(self.graph.dense)

    def met(self, path: Callable[[float], Widths]) -> Widths:
        """The widths on a path that leave as many parameters as are asked for, settled a unit at a time.

        ``path`` gives the width of each group from narrowest, at 0, to dense, at 1, and does not fall in between.
        """
        widths = bisect(path, self.graph.parameters, self.target)
        return settle(self.graph, self.knobs, widths, self.target, self.min_width)


@dataclass(frozen=True)
class Allocation:
    """A way of dividing.

    ``measured`` says that it looks at how the controller's outputs suffer (`measure`), unless there is one scope only;
    ``looks_at_task`` that it runs episodes besides. ``version`` goes up when the name begins to mean another
    computation.
    """

    divide: Callable[[Division], Widths]
    measured: bool = False
    looks_at_task: bool = False
    version: int = 0


def _sensitivity(of: Division) -> Widths:
    assert of.damage is not None
    return sensitivity(of.graph, of.knobs, of.damage, of.sparsity, of.min_width)


def _searched(of: Division) -> Widths:
    assert of.damage is not None
    if of.error is None:
        raise ValueError("a search needs the error that a `Bench` finds")
    return searched(of.graph, of.knobs, of.damage, of.error, of.sparsity, of.min_width)


ALLOCATIONS = Registry(
    "allocation",
    {
        "uniform": Allocation(lambda of: uniform(of.graph, of.knobs, of.sparsity, of.min_width)),
        "ranked": Allocation(lambda of: ranked(of.graph, of.knobs, of.sparsity, of.min_width, of.floors)),
        "sensitivity": Allocation(_sensitivity, measured=True),
        "searched": Allocation(_searched, measured=True),
        "searched-return": Allocation(_searched, measured=True, looks_at_task=True),
    },
    PruningError,
)


def allocate(
    graph: ComponentGraph,
    scores: Scores,
    grouping: str,
    allocation: str,
    sparsity: Sparsity,
    min_width: int = 1,
    damage: Damage | None = None,
    error: Callable[[Widths], float] | None = None,
) -> Widths:
    """The width of each group such that ``sparsity`` of all parameters are gone, and of what is named its own share.

    Args:
        graph: the dense controller's groups.
        scores: what `score` gave.
        grouping: a name in `GROUPINGS` that has scopes.
        allocation: a name in `ALLOCATIONS`. With one scope there is nothing to divide: under ``global`` all are the
            plain ranking.
        sparsity: in [0, 1); a mapping has shares of components and flows (`Ask`), which are not the allocation's.
        min_width: no group falls below it.
        damage: what `measure` found; for allocations that look at it.
        error: of a controller of these widths, refitted (`Bench.error`, `Bench.shortfall`); likewise.

    Raises:
        PruningError: no widths meet it; the message names the scope and the highest sparsity that can be met. Or an
            unknown scope, or a plug-in fails.
    """
    ask = Ask.of(sparsity)
    if ask.leaves_all:
        return dict(graph.dense)
    if not graph.groups:
        raise PruningError("the controller has no units to prune: its networks have no hidden layer")

    if ask.deployed is not None:
        return _acting(graph, scores, grouping, allocation, ask, min_width, damage, error)

    def divide(rest: ComponentGraph, share: float, others: Widths) -> Widths:
        whole = None if error is None else lambda widths: error({**others, **widths})
        return _divided(rest, scores, grouping, allocation, share, min_width, damage, whole)

    if not ask.shares:
        return divide(graph, ask.figure, {})
    return budgeted(graph, ask.by_scope(graph), ask.overall, min_width, divide)


def _acting(
    graph: ComponentGraph,
    scores: Scores,
    grouping: str,
    allocation: str,
    ask: Ask,
    min_width: int,
    damage: Damage | None,
    error: Callable[[Widths], float] | None,
) -> Widths:
    """What acts divided as a controller of its own, the groups of all else whole."""
    idle = {name: group.units for name, group in graph.groups.items() if graph.deployed.isdisjoint(group.components)}
    inside = Ask(ask.deployed, tuple((name, share) for name, share in ask.shares if name != DEPLOYED))
    whole = None if error is None else lambda widths: error({**idle, **widths})
    acting = graph.with_fixed(idle, graph.acting)
    return {**idle, **allocate(acting, scores, grouping, allocation, inside, min_width, damage, whole)}


def _divided(
    graph: ComponentGraph,
    scores: Scores,
    grouping: str,
    allocation: str,
    sparsity: float,
    min_width: int,
    damage: Damage | None,
    error: Callable[[Widths], float] | None,
) -> Widths:
    entry = ALLOCATIONS.find(allocation)
    knobs = make_knobs(graph, scores, grouping)
    check(graph, knobs, {CONTROLLER: graph.components, **owned(graph, knobs)}, sparsity, min_width)
    floors = _floors(graph, scores, grouping, sparsity, min_width)
    division = Division(graph, knobs, sparsity, min_width, damage, error, floors)
    if all(knob.scope == CONTROLLER for knob in knobs):
        return ALLOCATIONS["ranked"].divide(division)
    if entry.measured and damage is None:
        raise ValueError(f"allocation '{allocation}' needs the damage that `measure` finds")
    plugin = ALLOCATIONS.plugin(allocation)
    return entry.divide(division) if plugin is None else _plugged(entry, plugin, division)


def _floors(graph: ComponentGraph, scores: Scores, grouping: str, sparsity: float, min_width: int) -> Widths:
    """The widths that no group falls below because another grouping leaves it more."""
    if (floor := GROUPINGS.find(grouping).floor) is None:
        return {}
    other, share = floor
    knobs = make_knobs(graph, scores, other)
    widths = uniform(graph, knobs, sparsity, min_width)
    return {knob.groups[0]: math.ceil(share * widths[knob.groups[0]]) for knob in knobs}


def _plugged(entry: Allocation, plugin: Plugin, division: Division) -> Widths:
    with explained(str(plugin)):
        found: Any = entry.divide(division)
    if not isinstance(found, Mapping):
        raise PruningError(f"{plugin}: it gave {type(found).__name__}, a width by the name of each group is needed")
    if unknown := [name for name in found if name not in division.graph.groups]:
        raise PruningError(f"{plugin}: there is no group {str(unknown[0])!r:.60} that it gave a width of")
    widths: Widths = {}
    for knob in division.knobs:
        narrowest = min(division.min_width, knob.units)
        for name in knob.groups:
            width, what = found.get(name), f"{plugin}, group '{name}'"
            if isinstance(width, bool) or not isinstance(width, int | np.integer):
                raise PruningError(f"{what}: it gave the width {width!r:.60}, a whole number is needed")
            if not narrowest <= width <= knob.units:
                raise PruningError(f"{what}: it gave the width {width}, which is not from {narrowest} to {knob.units}")
            widths[name] = int(width)
        if len({widths[name] for name in knob.groups}) > 1:
            raise PruningError(f"{plugin}: groups {', '.join(knob.groups)} must be equally wide")
    _check_met(widths, plugin, division)
    return widths


def _check_met(widths: Widths, plugin: Plugin, division: Division) -> None:
    """What units are too coarse for, nobody is asked for: as near as `uniform` comes is near enough."""
    graph, dense = division.graph, division.graph.parameters(division.graph.dense)
    plain = ALLOCATIONS["uniform"].divide(division)
    gap, common = (abs(graph.parameters(of) - division.target) for of in (widths, plain))
    if gap > max(common, TOLERANCE * dense):
        raise PruningError(
            f"{plugin}: its widths reach sparsity {1 - graph.parameters(widths) / dense:.4f} where "
            f"{division.sparsity:g} was asked for: `Division.met` finds the point on a path of widths that does"
        )
