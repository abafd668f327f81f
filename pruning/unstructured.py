"""Unstructured pruning: the weights smallest in magnitude become zero, wherever they are. The controller gets no
smaller and no faster; it is the reference that structured methods are asked about."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TypeVar

from torch import nn
from torch.nn.utils import prune

from prunectl.agents.controller import Controller
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.grouping import GROUPINGS, Grouping
from prunectl.pruning.layers import kind_of, writes
from prunectl.pruning.plan import PruningPlan, uncut
from prunectl.pruning.surgery import mirrored

C = TypeVar("C", bound=Controller)

#: Its name among the groupings. It has neither scopes nor a plan.
UNSTRUCTURED = "unstructured"


def unstructured(controller: C, graph: ComponentGraph, sparsity: float) -> tuple[C, PruningPlan]:
    """Set ``round(sparsity x parameters)`` weights to zero, the smallest |w| first, all components in one ranking.

    The ranking is `torch.nn.utils.prune.global_unstructured` over the weights of all matrix products, as usual; biases
    and normalisations stay, but count among the parameters. Target networks lose the same weights as their twins.

    Args:
        controller: the dense one; it stays as it is.
        graph: its groups.
        sparsity: share of all parameters that become zero, in [0, 1).

    Returns:
        The controller, and a plan that keeps every unit: its ``params_pruned`` count the parameters that are left out
        of the zeros, its ``macs_deployed`` are the dense ones.

    Raises:
        PruningError: more zeros are asked for than there are weights.
    """
    networks = copy.deepcopy(controller.networks)
    layers: dict[str, tuple[nn.Module, str]] = {}
    for name, tensor in graph.tensors.items():
        owner, _, attribute = name.rpartition(".")
        layer = networks.get_submodule(owner)
        if len(tensor.axes) > 1 and tensor.trainable and writes(owner, layer):
            layers[name] = layer, attribute
    total = graph.parameters(graph.dense)
    amount = round(sparsity * total)
    weights = sum(networks.get_parameter(name).numel() for name in layers)
    if amount > weights:
        reached = math.floor(weights / total * 1e4) / 1e4
        raise PruningError(
            f"sparsity {sparsity:g} cannot be met: the controller's weights, biases apart, reach {reached:g} at most"
        )
    plan = uncut(graph, sparsity)
    if amount == 0:
        return controller.with_networks(networks), plan
    targets = mirrored(networks, graph.mirrors)  # before the library gives the weights other names
    prune.global_unstructured(list(layers.values()), pruning_method=prune.L1Unstructured, amount=amount)
    gone = dict.fromkeys(graph.components, 0)
    masks = {name: layer.get_buffer(f"{attribute}_mask") for name, (layer, attribute) in layers.items()}
    for name, (layer, attribute) in layers.items():
        prune.remove(layer, attribute)  # type: ignore[no-untyped-call]
        kind_of(layer).restate(layer)  # a recurrent layer keeps its weights in a list besides
        gone[graph.tensors[name].component] += int((masks[name] == 0).sum())
        for target in targets[name]:
            networks.get_parameter(target).data.mul_(masks[name])
    components = {name: replace(c, params_pruned=c.params_dense - gone[name]) for name, c in plan.components.items()}
    return controller.with_networks(networks), replace(plan, components=components)


GROUPINGS.bring(UNSTRUCTURED, Grouping())
