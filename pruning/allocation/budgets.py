"""Shares of single components and flows: met first, and what is left of an overall share is divided among the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from prunectl.pruning.allocation.knobs import Knob, Widths, at_ratio, bisect, check
from prunectl.pruning.ask import TOLERANCE
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph

#: Times that what is not named is divided anew, while what is named follows its flows. Mostly two or three are needed.
ROUNDS = 20
#: How near the overall share has to come in them, as a share of all parameters.
NEAR = TOLERANCE / 10


def budgeted(
    graph: ComponentGraph,
    shares: Mapping[str, float],
    overall: float | None,
    min_width: int,
    divide: Callable[[ComponentGraph, float, Widths], Widths],
) -> Widths:
    """The width of each group where components and flows have shares of their own.

    A component keeps one width ratio in all layers that are its own; where flows alone take more of it than is asked,
    these stay as they are. What is not named shares what is left of ``overall``, and is left whole without it.

    Args:
        graph: the dense controller's groups.
        shares: by component, of its parameters, and by flow, of its units, each in [0, 1).
        overall: the share of all parameters that is to go, if any is asked.
        min_width: no group falls below it.
        divide: widths of a graph's groups at a sparsity, given those of the groups that it does not have.

    Raises:
        PruningError: a share that cannot be met, or shares that take more than is asked overall.
    """
    named = {name: _own(graph, name) for name in shares if name in graph.components}
    if empty := next((name for name, knobs in named.items() if shares[name] and not knobs), None):
        raise PruningError(f"component '{empty}' has no hidden layer of its own to prune")
    widths = dict(graph.dense)
    for flow in (name for name in shares if name in graph.flows):
        widths[flow] = _units_left(graph, flow, shares[flow], min_width)

    def followed(widths: Widths) -> Widths:
        """What is named made to meet its share beside these flows."""
        for component, knobs in named.items():
            widths = _narrowed(graph, component, knobs, widths, shares[component], min_width)
        return widths

    widths = followed(widths)
    if overall is not None:
        widths = _shared(graph, widths, [*shares], overall, divide, followed)
    for component, knobs in named.items():
        if knobs:
            check(graph, knobs, {component: (component,)}, shares[component], min_width, widths)
    return widths


def _own(graph: ComponentGraph, component: str) -> list[Knob]:
    """A knob for each group that is a component's alone; their curves are not looked at."""
    return [Knob((name,), component, graph.dense[name], np.empty(0)) for name in graph.own(component)]


def _units_left(graph: ComponentGraph, flow: str, share: float, min_width: int) -> int:
    units = graph.dense[flow]
    narrowest = min(min_width, units)
    if share > 1 - narrowest / units:
        raise PruningError(
            f"sparsity {share:g} cannot be met: with {narrowest} of its {units} units left, flow '{flow}' reaches "
            f"{1 - narrowest / units:.4g} at most"
        )
    return max(round((1 - share) * units), narrowest)


def _narrowed(
    graph: ComponentGraph, component: str, knobs: list[Knob], widths: Widths, share: float, min_width: int
) -> Widths:
    if not knobs:
        return widths
    return bisect(
        lambda ratio: {**widths, **at_ratio(knobs, min_width, ratio)},
        lambda changed: graph.parameters(changed, component),
        (1 - share) * graph.parameters(graph.dense, component),
    )


def _shared(
    graph: ComponentGraph,
    widths: Widths,
    named: Sequence[str],
    overall: float,
    divide: Callable[[ComponentGraph, float, Widths], Widths],
    followed: Callable[[Widths], Widths],
) -> Widths:
    """The widths at which ``overall`` is met, by what is not named: where that are flows, what is named becomes smaller
    with them, so the share of the rest is found by false position (Illinois rule) between none and all."""
    settled = {
        name: widths[name]
        for name, group in graph.groups.items()
        if name in named or (group.kind == "intra" and group.components[0] in named)
    }
    rest = graph.with_fixed(settled, tuple(name for name in graph.components if name not in named))
    if not rest.components:
        raise PruningError(
            f"every component has a share of its own, so nothing is left to share {overall:g}: leave that figure out"
        )
    dense = graph.parameters(graph.dense)
    most = rest.parameters(rest.dense)

    def over(found: Widths) -> float:
        """How far the parameters lie above those asked for, as a share of all."""
        return graph.parameters(found) / dense - (1 - overall)

    best, low, above = widths, 0.0, over(widths)
    if above < -TOLERANCE:
        raise PruningError(
            f"what is named takes {overall - above:.4g} of all parameters already, more than the {overall:g} asked "
            "overall: ask for more overall, or for less of what is named"
        )
    high, below = 1.0, above - most / dense
    # Why nothing lies beyond: until something does, all that what is not named has is too little.
    why: object = f"what is named is to keep {(graph.parameters(widths) - most) / dense:.4g} of all parameters"
    guess = above * dense / most
    for _ in range(ROUNDS):
        if abs(over(best)) <= NEAR or not low < guess < high:
            break
        try:
            found = followed({**widths, **divide(rest, guess, widths)})
        except PruningError as error:
            why, high = error, guess
            guess = (low + high) / 2
            continue
        if abs(over(found)) < abs(over(best)):
            best = found
        if over(found) > 0:
            low, above, below = guess, over(found), below / 2
        else:
            high, below, above, why = guess, over(found), above / 2, None
        guess = low + (high - low) * above / (above - below)
    if why is not None and over(best) > NEAR:
        raise PruningError(f"sparsity {overall:g} cannot be met by what has no share of its own: {why}")
    return best
