"""How much of the dense controller is left, component by component, before any episode is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from prunectl.agents.controller import Controller
from prunectl.pruning.dataflow_run import bounded, read
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.plan import PruningPlan
from prunectl.pruning.surgery import kept_part, select_inputs


def fidelities(
    small: Controller,
    teacher: Controller,
    graph: ComponentGraph,
    plan: PruningPlan,
    inputs: Sequence[torch.Tensor],
    options: torch.Tensor | None = None,
) -> dict[str, float]:
    """R2 of each component's output against the dense one's, on held-out visited inputs.

    The outputs of a component are taken together: 1 - sum of squared errors / sum of squared deviations from the mean,
    over inputs and outputs. A component whose output is a flow is compared on the units that are left of it. At most 1;
    a component that says the mean of the dense one has 0. Where ``options`` ``(n, options)`` says which of them were
    allowed, only what was said of those counts: nothing ever trained the rest.
    """
    *inputs, counted = bounded((*inputs, torch.ones(len(inputs[0]), 1) if options is None else options), graph)
    with torch.no_grad():
        dense = read(teacher.dataflow(), inputs).results
        reduced = read(small.dataflow(), select_inputs(inputs, graph, plan.kept)).results
    found = {}
    for name, output in reduced.items():
        wanted = kept_part(dense[name], graph.output_axes[name], plan.kept).double()
        error, deviation = output.double() - wanted, wanted - wanted.mean(dim=0)
        if options is not None and name in teacher.choices:
            error, deviation = error * counted, (wanted - _mean(wanted, counted)) * counted
        error, spread = (error**2).sum(), (deviation**2).sum()
        found[name] = float(1 - error / spread.clamp_min(1e-12))
    return found


def _mean(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """The mean of each column over the rows where it counts."""
    return (values * counted).sum(dim=0) / counted.sum(dim=0).clamp_min(1)


def integrity(fidelity: Mapping[str, float]) -> float:
    """The lowest fidelity among the components."""
    return min(fidelity.values())
