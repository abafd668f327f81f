"""The comparison of coupled and isolated flows, on flows whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import untrained

from prunectl.experiments.paper.isolated import flow_parameters, narrowest, reader_curve, shared_curve
from prunectl.pruning import trace
from prunectl.pruning.importance import Evidence


def evidence(disjoint: bool) -> Evidence:
    """A shared latent of 6 units that vary on their own; the actor reads the first 3, the critics those or the rest."""
    controller = untrained(
        "sac", "Pendulum-v1", widths=(8,), encoder=(6,), policy_kwargs={"activation_fn": torch.nn.Tanh}
    )
    graph = trace(controller)
    found = Evidence(graph, controller.dataflow(), [torch.randn(500, 3), torch.rand(500, 1)], np.random.default_rng(0))
    (group,) = (graph.groups[name] for name in graph.flows)
    latent = torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in group.consumers:
            weight = found.dataflow.get_submodule(layer).weight
            weight[:, slice(0, 3) if disjoint and layer.startswith("critic") else slice(3, 6)] = 0
    found.reading.inputs.update(
        {layer: [torch.cat([latent, values[0][:, 6:]], dim=1)] for layer, values in found.reading.inputs.items()
         if layer in group.consumers}
    )  # fmt: skip
    return found


@pytest.mark.parametrize(("disjoint", "shared"), [(False, 3), (True, 6)])
def test_readers_of_different_units_gain_and_readers_of_the_same_do_not(disjoint: bool, shared: int) -> None:
    seen = evidence(disjoint)
    (group,) = (seen.graph.groups[name] for name in seen.graph.flows)
    chosen = {}
    for layer in group.consumers:
        order, curve = reader_curve(seen, group, layer)
        assert curve.shape == (7,)
        assert narrowest(curve, 1e-3) == 3
        chosen[layer] = set(order[-3:].tolist())
    assert len(set().union(*chosen.values())) == shared
    any_order = np.argsort([unit not in set().union(*chosen.values()) for unit in range(6)], kind="stable")[::-1]
    assert narrowest(shared_curve(seen, group, any_order), 1e-3) == shared


def test_parameters_around_a_flow_by_hand() -> None:
    graph = trace(untrained("sac", "Pendulum-v1", widths=(8,), encoder=(6,)))
    (group,) = (graph.groups[name] for name in graph.flows)
    reads = dict(zip(group.consumers, (2, 3, 4), strict=True))
    # Three readers of 8 outputs each, and an encoder of 3 inputs and a bias for each of 5 units.
    assert flow_parameters(graph, group, reads, 5) == 8 * (2 + 3 + 4) + (3 + 1) * 5
