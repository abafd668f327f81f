"""Allocations that need no measuring: uniform shares, and a ranking of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from prunectl.pruning.allocation.knobs import Knob, Widths, at_ratio, bisect, least, owned, settle
from prunectl.pruning.graph import ComponentGraph


def uniform(graph: ComponentGraph, knobs: Sequence[Knob], sparsity: float, min_width: int) -> Widths:
    """Every scope gives up the same share of its own parameters, and inside it every layer keeps the same width ratio.

    A layer's or a flow's parameters are shared with its neighbours', so scopes of one group keep the common width ratio
    instead. Components with no hidden layer of their own shrink with the flows alone, and the others make up for it.
    """
    dense = graph.parameters(graph.dense)
    target = (1 - sparsity) * dense
    components = owned(graph, knobs)
    own = {scope: [knob for knob in knobs if knob.scope == scope] for scope in components}
    dense_of = {scope: graph.parameters_of(components[scope], graph.dense) for scope in own}
    found: dict[tuple[int, ...], Widths] = {}  # near one another, ratios come to the same widths

    def at(ratio: float) -> Widths:
        widths = at_ratio(knobs, min_width, ratio)
        if (alike := tuple(widths.values())) not in found:
            found[alike] = shared_out(widths)
        return found[alike]

    def shared_out(widths: Widths) -> Widths:
        share = graph.parameters(widths) / dense
        for scope, members in own.items():
            wanted = share * dense_of[scope]
            inside = bisect(
                lambda r, m=members, w=widths: {**w, **at_ratio(m, min_width, r)},  # type: ignore[misc]
                lambda w, s=scope: graph.parameters_of(components[s], w),  # type: ignore[misc]
                wanted,
            )
            widths = inside
        return widths

    widths = bisect(at, graph.parameters, target)
    return settle(graph, knobs, widths, target, min_width)


def ranked(
    graph: ComponentGraph,
    knobs: Sequence[Knob],
    sparsity: float,
    min_width: int,
    floors: Mapping[str, int] = MappingProxyType({}),
) -> Widths:
    """Units go in the order of their scores, whichever layer of the scope they are in, and so across scopes.

    Inside a scope the importance's own normalisation holds: a share of the layer's total, or damage relative to the
    variance of what the layer feeds. Across scopes a unit's score is divided by the mean score of all units of its
    scope, so that no scope is cheaper than another on the whole. With one scope (``global``) there is nothing to divide
    by: that is the plain global ranking. No group falls below its width in ``floors``, where it has one.
    """
    target = (1 - sparsity) * graph.parameters(graph.dense)
    mean = {
        scope: float(np.concatenate([k.curve for k in knobs if k.scope == scope]).mean())
        for scope in {knob.scope for knob in knobs}
    }
    curves = [knob.curve / max(mean[knob.scope], 1e-300) for knob in knobs]
    thresholds = np.unique(np.concatenate([[0.0], *curves]))

    def at(position: float) -> Widths:
        # position 1 keeps everything, 0 the least: thresholds are walked from the highest to the lowest
        index = len(thresholds) - 1 - round(position * (len(thresholds) - 1))
        widths: Widths = {}
        for knob, curve in zip(knobs, curves, strict=True):
            kept = int((curve > thresholds[index]).sum()) if position < 1 else knob.units
            widths |= dict.fromkeys(knob.groups, max(kept, least(knob, min_width, floors)))
        return widths

    return settle(graph, knobs, bisect(at, graph.parameters, target), target, min_width, floors)
