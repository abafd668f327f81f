"""Dividing the asked sparsity: over a whole controller by a named allocation, or within one scope alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prunectl.pruning.allocation.damage import Damage
from prunectl.pruning.allocation.knobs import CONTROLLER, Knob, Widths, at_ratio, bisect, check, make_knobs
from prunectl.pruning.allocation.searched import searched
from prunectl.pruning.allocation.sensitivity import sensitivity
from prunectl.pruning.allocation.unmeasured import ranked, uniform
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph, Scores

#: Allocations that look at how the controller's outputs suffer (`measure`), unless there is one scope only.
MEASURED = ("sensitivity", "searched")


def allocate(
    graph: ComponentGraph,
    scores: Scores,
    grouping: str,
    allocation: str,
    sparsity: float,
    min_width: int = 1,
    damage: Damage | None = None,
    error: Callable[[Widths], float] | None = None,
) -> Widths:
    """The width of each group such that ``sparsity`` of all parameters are gone.

    Args:
        graph: the dense controller's groups.
        scores: what `score` gave.
        grouping: ``global`` (one scope), ``layer`` (a scope each) or ``component`` (a scope a component and a flow).
        allocation: `uniform`, `ranked`, `sensitivity` or `searched`. With one scope there is nothing to divide: under
            ``global`` all four are the plain ranking.
        sparsity: in [0, 1).
        min_width: no group falls below it.
        damage: what `measure` found; for the two in `MEASURED`.
        error: the calibration error of a controller of these widths, refitted (`Bench.error`); for `searched`.

    Raises:
        PruningError: no widths meet it; the message names the scope and the highest sparsity that can be met.
    """
    if sparsity == 0:
        return dict(graph.dense)
    knobs = make_knobs(graph, scores, grouping)
    if not knobs:
        raise PruningError("the controller has no units to prune: its networks have no hidden layer")
    components = {knob.scope for knob in knobs} - set(graph.groups)
    check(graph, knobs, {CONTROLLER, *components}, sparsity, min_width)
    if grouping == "global" or allocation == "ranked":
        return ranked(graph, knobs, grouping, sparsity, min_width)
    if allocation == "uniform":
        return uniform(graph, knobs, grouping, sparsity, min_width)
    if damage is None:
        raise ValueError(f"allocation '{allocation}' needs the damage that `measure` finds")
    if allocation == "sensitivity":
        return sensitivity(graph, knobs, damage, sparsity, min_width)
    if error is None:
        raise ValueError(f"allocation '{allocation}' needs the error that a `Bench` finds")
    return searched(graph, knobs, damage, error, sparsity, min_width)


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
    check(graph, own, [scope], sparsity, min_width)
    return bisect(
        lambda ratio: {**graph.dense, **at_ratio(own, min_width, ratio)},
        lambda widths: graph.parameters(widths, scope),
        (1 - sparsity) * graph.parameters(graph.dense, scope),
    )
