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
    small: Controller, teacher: Controller, graph: ComponentGraph, plan: PruningPlan, inputs: Sequence[torch.Tensor]
) -> dict[str, float]:
    """R2 of each component's output against the dense one's, on held-out visited inputs.

    The outputs of a component are taken together: 1 - sum of squared errors / sum of squared deviations from the mean,
    over inputs and outputs. A component whose output is a flow is compared on the units that are left of it. At most 1;
    a component that says the mean of the dense one has 0.
    """
    inputs = bounded(inputs, graph)
    with torch.no_grad():
        dense = read(teacher.dataflow(), inputs).results
        reduced = read(small.dataflow(), select_inputs(inputs, graph, plan.kept)).results
    found = {}
    for name, output in reduced.items():
        wanted = kept_part(dense[name], graph.output_axes[name], plan.kept).double()
        error = ((output.double() - wanted) ** 2).sum()
        spread = ((wanted - wanted.mean(dim=0)) ** 2).sum()
        found[name] = float(1 - error / spread.clamp_min(1e-12))
    return found


def integrity(fidelity: Mapping[str, float]) -> float:
    """The lowest fidelity among the components."""
    return min(fidelity.values())
