"""The searched allocation: a coefficient for each scope, found by gradient on a soft relaxation and on a grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

from prunectl.pruning.allocation.damage import Damage
from prunectl.pruning.allocation.knobs import Knob, Widths, bisect, settle
from prunectl.pruning.graph import ComponentGraph

#: What a scope's coefficient is multiplied by on the grid.
FACTORS = (0.5, 0.7, 0.85, 1.2, 1.4, 2.0)
#: Descent: steps of Adam and their length, in logarithms of the coefficients.
STEPS, LENGTH = 200, 0.05
#: How sharply a unit's gate closes, as a share of its layer, and what a size off the asked one costs: the square of
#: its logarithm, against a calibration error of 1 at the start.
SOFTNESS, SIZE_WEIGHT = 0.02, 30.0

Coefficients = Mapping[str, float]


def searched(
    graph: ComponentGraph,
    knobs: Sequence[Knob],
    damage: Damage,
    error: Callable[[Widths], float],
    sparsity: float,
    min_width: int,
) -> Widths:
    """Every scope keeps the share r^c of its units in each layer; c is its coefficient, r meets the asked sparsity.

    The idea is that of Sundaram, Ulmen, Haider and Goerges (arXiv 2507.14882): soft coefficients for the groups, found
    by grid search or by gradient such that a measure of the task stays high at a target sparsity. Ours departs from it:

    - the objective is that of the controller *once refitted*: its calibration error (`Bench.error`), without an
      environment step or a reward, or, as in the paper (there the episode reward of TD-MPC), the task itself: minus the
      return of validation episodes (`Bench.shortfall`);
    - the size is met exactly, by r, whatever the coefficients; only the relaxation has it as a penalty;
    - a coefficient multiplies the logarithm of the share that is kept, not the share that goes: at high sparsities all
      coefficients on that but those near 1 would ask for more than there is;
    - the relaxation gates units in the order of their scores and charges each closing gate what was measured for it
      (`Damage`), where gates on the running network would be charged for what the refit gives back;
    - one coefficient a scope keeps the layers of a component at one ratio; `sensitivity`, which does not, often ends at
      a lower error;
    - both searches serve one answer: descent says where the grid starts if that is better than equal coefficients, the
      grid goes over the scopes once, largest first, and what has the lowest error is taken.
    """
    scopes = _largest_first(graph, knobs)
    known: dict[tuple[int, ...], float] = {}

    def widths_of(coefficients: Coefficients) -> Widths:
        target = (1 - sparsity) * graph.parameters(graph.dense)
        found = bisect(lambda share: _kept(knobs, coefficients, share, min_width), graph.parameters, target)
        return settle(graph, knobs, found, target, min_width)

    def error_of(coefficients: Coefficients) -> float:
        widths = widths_of(coefficients)
        key = tuple(widths.values())
        if key not in known:  # rounding makes one of several
            known[key] = error(widths)
        return known[key]

    starts = (dict.fromkeys(scopes, 1.0), descend(graph, knobs, damage, sparsity))
    tried = [(error_of(start), start) for start in starts]
    lowest, best = min(tried, key=lambda trial: trial[0])
    if len(scopes) == 1:
        return widths_of(best)
    for scope in scopes:
        for other in [{**best, scope: best[scope] * factor} for factor in FACTORS]:
            if (found := error_of(other)) < lowest:
                lowest, best = found, other
    return widths_of(best)


def descend(graph: ComponentGraph, knobs: Sequence[Knob], damage: Damage, sparsity: float) -> dict[str, float]:
    """Coefficients by gradient descent on the soft relaxation.

    A unit of rank u (the best first) has the gate sigmoid((r^c * units - u) / softness). A layer's soft width is the
    sum of its gates, the soft size the parameter count at the soft widths, the soft error the sum over units of
    (1 - gate) * what the measured damage rises by when the unit goes. Minimised by Adam: soft error, relative to that
    at equal coefficients, plus the squared logarithm of soft size over asked size.
    """
    scopes = list(dict.fromkeys(knob.scope for knob in knobs))
    target = (1 - sparsity) * graph.parameters(graph.dense)
    ranks = [torch.arange(knob.units, dtype=torch.float64) + 0.5 for knob in knobs]
    rises = [torch.as_tensor(-np.diff(damage.curve(knob.groups[0]))) for knob in knobs]
    even = bisect(lambda share: _kept(knobs, dict.fromkeys(scopes, 1.0), share, 1), graph.parameters, target)
    share = float(np.mean([even[knob.groups[0]] / knob.units for knob in knobs]))
    # One number a scope: the logarithm of c * log(1 / r), of which r is no more than the common scale.
    cuts = torch.full((len(scopes),), float(np.log(-np.log(min(share, 0.99)))), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([cuts], lr=LENGTH)
    scale: float | None = None
    for _ in range(STEPS):
        kept = dict(zip(scopes, torch.exp(-torch.exp(cuts)), strict=True))
        soft_error = torch.zeros((), dtype=torch.float64)
        soft_widths: dict[str, torch.Tensor] = {}
        for knob, rank, rise in zip(knobs, ranks, rises, strict=True):
            gates = torch.sigmoid((kept[knob.scope] * knob.units - rank) / (SOFTNESS * knob.units))
            soft_error = soft_error + ((1 - gates) * rise).sum()
            soft_widths |= dict.fromkeys(knob.groups, gates.sum())
        size = cast(torch.Tensor, graph.parameters(cast(Any, soft_widths)))  # a polynomial, of tensors as of numbers
        scale = float(soft_error.detach()) + 1e-12 if scale is None else scale
        loss = soft_error / scale + SIZE_WEIGHT * torch.log(size / target) ** 2
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    found = torch.exp(cuts.detach())
    return dict(zip(scopes, (found / found.mean()).tolist(), strict=True))


def _kept(knobs: Sequence[Knob], coefficients: Coefficients, share: float, min_width: int) -> Widths:
    return {
        name: max(round(share ** coefficients[knob.scope] * knob.units), min(min_width, knob.units))
        for knob in knobs
        for name in knob.groups
    }


def _largest_first(graph: ComponentGraph, knobs: Sequence[Knob]) -> list[str]:
    """The scopes by the parameters that their units take with them."""
    weight: dict[str, int] = {}
    for knob in knobs:
        for name in knob.groups:
            weight[knob.scope] = weight.get(knob.scope, 0) + knob.units * graph.params_per_unit(name)
    return sorted(weight, key=lambda scope: -weight[scope])
