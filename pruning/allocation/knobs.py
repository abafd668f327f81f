"""Knobs: what an allocation turns. Groups of one width, the widths on a path, and meeting a parameter count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from prunectl.pruning.ask import TOLERANCE
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph, Scores
from prunectl.pruning.grouping import CONTROLLER, scope_of

Widths = dict[str, int]

#: Enough to tell single units of layers up to 4,096 wide apart; `settle` does the rest.
BISECTIONS = 13


@dataclass(frozen=True)
class Knob:
    """Groups of one width. ``curve`` ``(units,)`` rises: the score of the cheapest unit, the next cheapest, ..."""

    groups: tuple[str, ...]
    scope: str
    units: int
    curve: NDArray[np.float64]


def make_knobs(graph: ComponentGraph, scores: Scores, grouping: str) -> list[Knob]:
    """One knob a group, or a set of tied groups; tied curves are averaged rank by rank."""
    tied = {name: tie for tie in graph.ties for name in tie}
    knobs = []
    for name, group in graph.groups.items():
        names = tied.get(name, (name,))
        if names[0] != name:
            continue
        curve = np.mean([np.sort(scores[n]) for n in names], axis=0)
        knobs.append(Knob(names, scope_of(graph, group, grouping), group.units, curve))
    return knobs


def owned(graph: ComponentGraph, knobs: Sequence[Knob]) -> dict[str, tuple[str, ...]]:
    """The components that each scope's groups are in, of scopes that are neither a group alone nor everything."""
    found: dict[str, dict[str, None]] = {}
    for knob in knobs:
        if knob.scope not in graph.groups and knob.scope != CONTROLLER:
            components = (component for name in knob.groups for component in graph.groups[name].components)
            found.setdefault(knob.scope, {}).update(dict.fromkeys(components))
    return {scope: tuple(components) for scope, components in found.items()}


def check(
    graph: ComponentGraph,
    knobs: Sequence[Knob],
    scopes: Mapping[str, Sequence[str]],
    sparsity: float,
    min_width: int,
    widths: Mapping[str, int] | None = None,
) -> None:
    """Refuse what cannot be met even with every knob at its narrowest, naming the scope that gives out first.

    ``scopes`` has the components of each, ``widths`` what all else has (None: all that it had).
    """
    narrowest = {**(widths or graph.dense), **at_ratio(knobs, min_width, 0.0)}
    most = {
        scope: 1 - graph.parameters_of(components, narrowest) / graph.parameters_of(components, graph.dense)
        for scope, components in scopes.items()
    }
    scope, highest = min(most.items(), key=lambda item: item[1])
    if sparsity > highest:
        width = f"{min_width} unit{'s' if min_width > 1 else ''} a layer"
        reached = np.floor(highest * 1e4) / 1e4
        raise PruningError(
            f"sparsity {sparsity:g} cannot be met: with {width} left, scope '{scope}' reaches {reached:g} at most"
        )


def at_ratio(knobs: Sequence[Knob], min_width: int, ratio: float) -> Widths:
    return {name: max(round(ratio * knob.units), min(min_width, knob.units)) for knob in knobs for name in knob.groups}


def bracket(at: Callable[[float], Widths], count: Callable[[Widths], float], target: float) -> tuple[Widths, Widths]:
    """Two neighbours on the path ``at`` (rising in its argument, from 0 to 1) with the target between their counts."""
    low, high = 0.0, 1.0
    below: Widths | None = None
    above: Widths | None = None
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        widths = at(middle)
        # Of narrow layers the same widths come again and again, and need not be counted anew.
        if widths == above or (widths != below and count(widths) > target):
            high, above = middle, widths
        else:
            low, below = middle, widths
    return at(low) if below is None else below, at(high) if above is None else above


def bisect(at: Callable[[float], Widths], count: Callable[[Widths], float], target: float) -> Widths:
    """The widths on the path ``at`` (rising in its argument) whose count is nearest to the target."""
    return min(bracket(at, count, target), key=lambda widths: abs(count(widths) - target))


def least(knob: Knob, min_width: int, floors: Mapping[str, int]) -> int:
    """The width that a knob does not fall below; ``floors`` has those of some groups, beside ``min_width``."""
    return max(min(min_width, knob.units), floors.get(knob.groups[0], 0))


def settle(
    graph: ComponentGraph,
    knobs: Sequence[Knob],
    widths: Widths,
    target: float,
    min_width: int,
    floors: Mapping[str, int] = MappingProxyType({}),
) -> Widths:
    """Move one knob by one unit at a time while that brings the parameter count nearer to the target."""
    widths = dict(widths)
    while True:
        gap = graph.parameters(widths) - target
        step = -1 if gap > 0 else 1
        best, best_gap = None, abs(gap)
        for knob in knobs:
            moved = widths[knob.groups[0]] + step
            if not least(knob, min_width, floors) <= moved <= knob.units:
                continue
            changed = {**widths, **dict.fromkeys(knob.groups, moved)}
            if (left := abs(graph.parameters(changed) - target)) < best_gap:
                best, best_gap = changed, left
        if best is None or abs(gap) <= TOLERANCE * graph.parameters(graph.dense) / 10:
            return widths
        widths = best
