"""Allocations: how the asked sparsity is divided, first over scopes, then inside each, until it is met in parameters.

A plan is decided by the width of each group, since the units kept are always the best-scored ones. Groups that must be
equally wide are one *knob*. Every allocation is a path of widths from dense to narrowest, walked by bisection to where
the parameter count is the one asked for; what rounding leaves over is settled a unit at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pruning.errors import PruningError
from pruning.graph import ComponentGraph, Scores

Widths = dict[str, int]

#: Enough to tell single units of layers up to 4,096 wide apart; `_settle` does the rest.
BISECTIONS = 13
#: The scope of the whole controller.
CONTROLLER = "controller"
#: How far the achieved sparsity may lie from the asked one where units are fine enough.
TOLERANCE = 0.005


@dataclass(frozen=True)
class Knob:
    """Groups of one width. ``curve`` ``(units,)`` rises: the score of the cheapest unit, the next cheapest, ..."""

    groups: tuple[str, ...]
    scope: str
    units: int
    curve: NDArray[np.float64]


def allocate(
    graph: ComponentGraph, scores: Scores, grouping: str, allocation: str, sparsity: float, min_width: int = 1
) -> Widths:
    """The width of each group such that ``sparsity`` of all parameters are gone.

    Args:
        graph: the dense controller's groups.
        scores: what `score` gave.
        grouping: ``global`` (one scope), ``layer`` (a scope each) or ``component`` (a scope a component and a flow).
        allocation: ``uniform`` or ``ranked``, see `uniform` and `ranked`.
        sparsity: in [0, 1).
        min_width: no group falls below it.

    Raises:
        PruningError: no widths meet it; the message names the scope and the highest sparsity that can be met.
    """
    if sparsity == 0:
        return dict(graph.dense)
    knobs = make_knobs(graph, scores, grouping)
    if not knobs:
        raise PruningError("the controller has no units to prune: its networks have no hidden layer")
    components = {knob.scope for knob in knobs} - set(graph.groups)
    _check(graph, knobs, {CONTROLLER, *components}, sparsity, min_width)
    walk = ranked if allocation == "ranked" or grouping == "global" else uniform
    return walk(graph, knobs, grouping, sparsity, min_width)


def allocate_one(graph: ComponentGraph, scores: Scores, scope: str, sparsity: float, min_width: int = 1) -> Widths:
    """The width of each group when one component or one flow is pruned and everything else stays dense.

    Args:
        graph: the dense controller's groups.
        scores: what `score` gave.
        scope: a component's name, which gives up ``sparsity`` of its own parameters, or a flow's, of its units.
        sparsity: in [0, 1).
        min_width: no group falls below it.

    Raises:
        PruningError: no such scope, nothing in it to prune, or an ask that it cannot meet.
    """
    scopes = [*graph.components, *graph.flows]
    if scope not in scopes:
        raise PruningError(f"unknown scope '{scope}': there are {', '.join(scopes)}")
    if scope in graph.flows:
        units = graph.dense[scope]
        return {**graph.dense, scope: max(round((1 - sparsity) * units), min(min_width, units))}
    own = [
        Knob((g.name,), scope, g.units, np.sort(scores[g.name]))
        for g in graph.groups.values()
        if g.components == (scope,)
    ]
    if not own:
        raise PruningError(f"component '{scope}' has no hidden layer of its own to prune")
    _check(graph, own, [scope], sparsity, min_width)
    return _bisect(
        lambda ratio: {**graph.dense, **_ratio(own, min_width, ratio)},
        lambda widths: graph.parameters(widths, scope),
        (1 - sparsity) * graph.parameters(graph.dense, scope),
    )


def make_knobs(graph: ComponentGraph, scores: Scores, grouping: str) -> list[Knob]:
    """One knob a group, or a set of tied groups; tied curves are averaged rank by rank."""
    tied = {name: tie for tie in graph.ties for name in tie}
    knobs = []
    for name, group in graph.groups.items():
        names = tied.get(name, (name,))
        if names[0] != name:
            continue
        scope = {
            "global": CONTROLLER,
            "layer": name,
            "component": name if group.kind == "inter" else _family(graph, names),
        }[grouping]
        curve = np.mean([np.sort(scores[n]) for n in names], axis=0)
        knobs.append(Knob(names, scope, group.units, curve))
    return knobs


def uniform(graph: ComponentGraph, knobs: Sequence[Knob], grouping: str, sparsity: float, min_width: int) -> Widths:
    """Every scope gives up the same share of its own parameters, and inside it every layer keeps the same width ratio.

    A layer's or a flow's parameters are shared with its neighbours', so those scopes keep the common width ratio
    instead. Components with no hidden layer of their own shrink with the flows alone, and the others make up for it.
    """
    target = (1 - sparsity) * graph.parameters(graph.dense)
    own = {knob.scope: [k for k in knobs if k.scope == knob.scope] for knob in knobs} if grouping == "component" else {}
    own = {scope: members for scope, members in own.items() if scope not in graph.groups}

    def at(ratio: float) -> Widths:
        widths = _ratio(knobs, min_width, ratio)
        share = graph.parameters(widths) / graph.parameters(graph.dense)
        for scope, members in own.items():
            wanted = share * _scope_parameters(graph, graph.dense, scope)
            inside = _bisect(
                lambda r, m=members, w=widths: {**w, **_ratio(m, min_width, r)},  # type: ignore[misc]
                lambda w, s=scope: _scope_parameters(graph, w, s),  # type: ignore[misc]
                wanted,
            )
            widths = inside
        return widths

    widths = _bisect(at, graph.parameters, target)
    return _settle(graph, knobs, widths, target, min_width)


def ranked(graph: ComponentGraph, knobs: Sequence[Knob], grouping: str, sparsity: float, min_width: int) -> Widths:
    """Units go in the order of their scores, whichever layer of the scope they are in, and so across scopes.

    Inside a scope the importance's own normalisation holds. Across scopes a unit's score is divided by the mean score
    of its scope, so that no scope is cheaper than another on the whole. With one scope (``global``) there is nothing to
    divide by: that is the plain global ranking.
    """
    target = (1 - sparsity) * graph.parameters(graph.dense)
    mean = {
        scope: float(np.concatenate([k.curve for k in knobs if k.scope == scope]).mean())
        for scope in {knob.scope for knob in knobs}
    }
    curves = [knob.curve / max(mean[knob.scope], 1e-300) for knob in knobs]
    thresholds = np.unique(np.concatenate([[0.0], *curves]))

    def at(position: float) -> Widths:
        # position 1 keeps everything, 0 keeps min_width: thresholds are walked from the highest to the lowest
        index = len(thresholds) - 1 - round(position * (len(thresholds) - 1))
        widths: Widths = {}
        for knob, curve in zip(knobs, curves, strict=True):
            kept = int((curve > thresholds[index]).sum()) if position < 1 else knob.units
            widths |= dict.fromkeys(knob.groups, max(kept, min(min_width, knob.units)))
        return widths

    return _settle(graph, knobs, _bisect(at, graph.parameters, target), target, min_width)


def _check(
    graph: ComponentGraph, knobs: Sequence[Knob], scopes: Iterable[str], sparsity: float, min_width: int
) -> None:
    """Refuse what cannot be met even with every knob at its narrowest, naming the scope that gives out first."""
    narrowest = {**graph.dense, **_ratio(knobs, min_width, 0.0)}
    most = {
        scope: 1 - _scope_parameters(graph, narrowest, scope) / _scope_parameters(graph, graph.dense, scope)
        for scope in scopes
    }
    scope, highest = min(most.items(), key=lambda item: item[1])
    if sparsity > highest:
        width = f"{min_width} unit{'s' if min_width > 1 else ''} a layer"
        reached = np.floor(highest * 1e4) / 1e4
        raise PruningError(
            f"sparsity {sparsity:g} cannot be met: with {width} left, scope '{scope}' reaches {reached:g} at most"
        )


def _family(graph: ComponentGraph, names: tuple[str, ...]) -> str:
    """The component of a group; for tied groups all their components, which form one scope."""
    return "+".join(dict.fromkeys(c for name in names for c in graph.groups[name].components))


def _scope_parameters(graph: ComponentGraph, widths: Mapping[str, int], scope: str) -> int:
    if scope == CONTROLLER:
        return graph.parameters(widths)
    return sum(graph.parameters(widths, component) for component in scope.split("+"))


def _ratio(knobs: Sequence[Knob], min_width: int, ratio: float) -> Widths:
    return {name: max(round(ratio * knob.units), min(min_width, knob.units)) for knob in knobs for name in knob.groups}


def _bisect(at: Callable[[float], Widths], count: Callable[[Widths], float], target: float) -> Widths:
    """The widths on the path ``at`` (rising in its argument) whose count is nearest to the target."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if count(at(middle)) > target:
            high = middle
        else:
            low = middle
    return min((at(low), at(high)), key=lambda widths: abs(count(widths) - target))


def _settle(graph: ComponentGraph, knobs: Sequence[Knob], widths: Widths, target: float, min_width: int) -> Widths:
    """Move one knob by one unit at a time while that brings the parameter count nearer to the target."""
    widths = dict(widths)
    while True:
        gap = graph.parameters(widths) - target
        step = -1 if gap > 0 else 1
        best, best_gap = None, abs(gap)
        for knob in knobs:
            moved = widths[knob.groups[0]] + step
            if not min(min_width, knob.units) <= moved <= knob.units:
                continue
            changed = {**widths, **dict.fromkeys(knob.groups, moved)}
            if (left := abs(graph.parameters(changed) - target)) < best_gap:
                best, best_gap = changed, left
        if best is None or abs(gap) <= TOLERANCE * graph.parameters(graph.dense) / 10:
            return widths
        widths = best
