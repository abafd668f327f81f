"""The sensitivity allocation: the budget divided at equal marginal damage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunectl.pruning.allocation.damage import Damage
from prunectl.pruning.allocation.knobs import Knob, Widths, bisect, bracket, settle
from prunectl.pruning.graph import ComponentGraph

#: Prices that are tried, as powers of ten: damage, in shares of an output's variance, for e times fewer parameters.
LOWEST_PRICE, HIGHEST_PRICE = -10.0, 4.0
#: Most rounds over the knobs at one price. Few are needed; the problem is convex.
ROUNDS = 50


def sensitivity(
    graph: ComponentGraph, knobs: Sequence[Knob], damage: Damage, sparsity: float, min_width: int
) -> Widths:
    """The widths at which every knob asks the same price: damage for a share of the controller's parameters.

    With w_k a knob's width, D_k(w_k) its measured damage (`Damage.curve`) and P(w) the parameter count, minimise
    sum_k D_k(w_k) + price * log P(w), and bisect the price to where P is the count asked for. In log w_k each D_k is
    convex by construction and log P is too (P is a sum of products of widths: geometric programming, Boyd et al. 2007),
    so going over the knobs in turn finds the optimum up to whole units. Adding the damages up is what makes this cheap,
    and it holds well: two layers of an actor at a quarter of their width each cost together what they cost alone.

    Damage is measured knob by knob, so layers inside a component are set at equal marginal damage too, and ``layer``
    and ``component`` give the same widths.
    """
    target = (1 - sparsity) * graph.parameters(graph.dense)
    curves = [damage.curve(knob.groups[0]) for knob in knobs]

    def at(position: float) -> Widths:
        price = 10 ** (HIGHEST_PRICE + position * (LOWEST_PRICE - HIGHEST_PRICE))
        return priced(graph, knobs, curves, price if position < 1 else 0.0, min_width)

    narrow, wide = bracket(at, graph.parameters, target)

    def between(position: float) -> Widths:
        """Prices next to each other may lie several units apart."""
        return {name: round(narrow[name] ** (1 - position) * wide[name] ** position) for name in narrow}

    return settle(graph, knobs, bisect(between, graph.parameters, target), target, min_width)


def priced(
    graph: ComponentGraph, knobs: Sequence[Knob], curves: Sequence[NDArray[np.float64]], price: float, min_width: int
) -> Widths:
    """The widths that minimise the sum of damages plus ``price`` times the logarithm of the parameter count."""
    widths = dict(graph.dense)
    for _ in range(ROUNDS):
        before = dict(widths)
        for knob, curve in zip(knobs, curves, strict=True):
            narrowest = min(max(min_width, 1), knob.units)
            total = curve + price * np.log(_sizes(graph, knob, widths))
            best = narrowest + int(total[narrowest:].argmin()) if price > 0 else knob.units
            widths |= dict.fromkeys(knob.groups, best)
        if widths == before:
            break
    return widths


def _sizes(graph: ComponentGraph, knob: Knob, widths: Widths) -> NDArray[np.float64]:
    """``(units + 1,)``: the controller's parameters by the width of one knob. A matrix has two axes, so it is a
    polynomial of degree two, known from three of its values."""
    none, one, two = (graph.parameters({**widths, **dict.fromkeys(knob.groups, width)}) for width in range(3))
    curvature = (two - 2 * one + none) / 2
    width = np.arange(knob.units + 1, dtype=np.float64)
    return none + (one - none - curvature) * width + curvature * width**2
