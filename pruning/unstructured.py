"""Unstructured pruning: the weights smallest in magnitude become zero, wherever they are. The controller gets no
smaller and no faster; it is the reference that structured methods are asked about."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils import prune

from prunectl.agents.controller import Controller
from prunectl.pruning.ask import Ask
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.grouping import GROUPINGS, Grouping
from prunectl.pruning.layers import kind_of, writes
from prunectl.pruning.plan import PruningPlan, uncut
from prunectl.pruning.surgery import mirrored

C = TypeVar("C", bound=Controller)

#: Its name among the groupings. It has neither scopes nor a plan.
UNSTRUCTURED = "unstructured"


def unstructured(
    controller: C,
    graph: ComponentGraph,
    inputs: Sequence[torch.Tensor],
    ask: Ask,
    importance: str = "magnitude",
    seed: int = 0,
) -> tuple[C, PruningPlan]:
    """Set ``round(sparsity x parameters)`` weights to zero, the smallest |w| first, all components in one ranking; what
    has a share of its own, in a ranking of its own.

    The ranking is `torch.nn.utils.prune.global_unstructured` over the weights of all matrix products, as usual; biases
    and normalisations stay, but count among the parameters. Target networks lose the same weights as their twins.

    Args:
        controller: the dense one; it stays as it is.
        graph: its groups.
        inputs: what its dataflow takes, which is not looked at.
        ask: the shares of parameters that become zero.
        importance: magnitude alone.
        seed: none of it is random.

    Returns:
        The controller, and a plan that keeps every unit: its ``params_pruned`` count the parameters that are left out
        of the zeros, its ``macs_deployed`` are the dense ones.

    Raises:
        PruningError: more zeros are asked for than there are weights, or of a flow, which has none.
    """
    networks = copy.deepcopy(controller.networks)
    layers: dict[str, tuple[nn.Module, str]] = {}
    for name, tensor in graph.tensors.items():
        owner, _, attribute = name.rpartition(".")
        layer = networks.get_submodule(owner)
        if len(tensor.axes) > 1 and tensor.trainable and writes(owner, layer):
            layers[name] = layer, attribute
    plan = uncut(graph, ask.figure)
    targets = mirrored(networks, graph.mirrors)  # before the library gives the weights other names
    for part in ask.parts(graph):
        if not part.components and part.share:
            raise PruningError(f"grouping '{UNSTRUCTURED}' removes no unit, so none of '{part.name}'")
        names = [name for name in layers if graph.tensors[name].component in part.components]
        total = part.size(graph, graph.dense)
        amount = round(part.share * total)
        weights = sum(networks.get_parameter(name).numel() for name in names)
        if amount > weights:
            whose = "the controller's" if part.components == graph.components else f"'{part.name}', its"
            reached = math.floor(weights / total * 1e4) / 1e4
            raise PruningError(
                f"sparsity {part.share:g} cannot be met: {whose} weights, biases apart, reach {reached:g} at most"
            )
        if amount:
            chosen = [layers[name] for name in names]
            prune.global_unstructured(chosen, pruning_method=prune.L1Unstructured, amount=amount)
    gone = dict.fromkeys(graph.components, 0)
    layers = {name: (layer, attribute) for name, (layer, attribute) in layers.items() if prune.is_pruned(layer)}
    masks = {name: layer.get_buffer(f"{attribute}_mask") for name, (layer, attribute) in layers.items()}
    for name, (layer, attribute) in layers.items():
        prune.remove(layer, attribute)  # type: ignore[no-untyped-call]
        kind_of(layer).restate(layer)  # a recurrent layer keeps its weights in a list besides
        gone[graph.tensors[name].component] += int((masks[name] == 0).sum())
        for target in targets[name]:
            networks.get_parameter(target).data.mul_(masks[name])
    components = {name: replace(c, params_pruned=c.params_dense - gone[name]) for name, c in plan.components.items()}
    return controller.with_networks(networks), replace(plan, components=components)


GROUPINGS.bring(UNSTRUCTURED, Grouping(cut=unstructured, importances=("magnitude",), recoveries=("none",)))
