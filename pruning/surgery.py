"""Carrying a plan out: a new, smaller controller; the dense one is untouched."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from prunectl.agents.controller import Controller
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import Axis, ComponentGraph
from prunectl.pruning.graph import Tensor as Described
from prunectl.pruning.layers import kind_of
from prunectl.pruning.plan import PruningPlan

C = TypeVar("C", bound=Controller)


def apply(plan: PruningPlan, controller: C, graph: ComponentGraph) -> C:
    """The controller with only the units that the plan keeps; target networks lose the same units as their twins.

    Raises:
        PruningError: the plan was made for a controller of another shape.
    """
    if dict(plan.units) != graph.dense:
        raise PruningError("the plan was made for another controller: its groups and widths are not this one's")
    tensors = {**dict(controller.networks.named_parameters()), **dict(controller.networks.named_buffers())}
    targets = mirrored(controller.networks, graph.mirrors)
    # Copy the networks with the smaller tensors in the place of the dense ones: no weight is copied in vain.
    replaced: dict[int, Any] = {}
    for described in graph.tensors.values():
        for name in [described.name, *targets[described.name]]:
            replaced[id(tensors[name])] = _like(tensors[name], select(tensors[name], described, plan.kept))
    # Nor, one by one, the dozen empty registers of hooks that every module has: they take longer than all else.
    empty = {
        id(register): OrderedDict[Any, Any]()
        for module in controller.networks.modules()
        for register in vars(module).values()
        if type(register) is OrderedDict and not register
    }
    networks = copy.deepcopy(controller.networks, replaced | empty)
    for module in networks.modules():
        kind_of(module).restate(module)
    return controller.with_networks(networks)


def select(tensor: torch.Tensor, described: Described, kept: Mapping[str, Sequence[int]]) -> torch.Tensor:
    """What is left of one tensor."""
    return kept_part(tensor.detach(), described.axes, kept).clone()


def kept_indices(axis: Axis, kept: Mapping[str, Sequence[int]]) -> torch.Tensor:
    """The indices of an axis that stay: all of its fixed segments, and each group's kept units where they lie."""
    indices: list[int] = []
    start = 0
    for segment in axis:
        units = range(segment.units) if segment.group is None else kept[segment.group]
        indices += [start + unit * segment.size + each for unit in units for each in range(segment.size)]
        start += segment.units * segment.size
    return torch.tensor(indices, dtype=torch.long)


def select_inputs(
    inputs: Sequence[torch.Tensor], graph: ComponentGraph, kept: Mapping[str, Sequence[int]]
) -> list[torch.Tensor]:
    """What the pruned dataflow takes, of what the dense one takes: the same, but for latents, of which less is left."""
    return [kept_part(tensor, (axis,), kept) for tensor, axis in zip(inputs, graph.input_axes, strict=True)]


def kept_part(values: torch.Tensor, axes: Sequence[Axis], kept: Mapping[str, Sequence[int]]) -> torch.Tensor:
    """What is left of values whose last dimensions have these axes."""
    for dimension, axis in zip(range(-len(axes), 0), axes, strict=True):
        if any(segment.group is not None for segment in axis):
            values = values.index_select(dimension, kept_indices(axis, kept))
    return values


def synchronised(controller: C, graph: ComponentGraph) -> C:
    """A copy whose target networks hold what their online twins hold.

    A recovery changes the online networks alone. Targets that still are the raw cut would pull the critics back to
    where they were as soon as training goes on.
    """
    networks = copy.deepcopy(controller.networks)
    values = networks.state_dict()
    with torch.no_grad():
        for name, twins in mirrored(networks, graph.mirrors).items():
            for twin in twins:
                values[twin].copy_(values[name])
    return controller.with_networks(networks)


def mirrored(networks: nn.Module, mirrors: Mapping[str, str]) -> dict[str, list[str]]:
    """For each tensor by its first name, the tensors of target networks that are its twins, by their first names."""
    tensors = [*networks.named_parameters(remove_duplicate=False), *networks.named_buffers(remove_duplicate=False)]
    # A tensor may have several names: a shared encoder hangs below the actor and below the critic.
    names: dict[int, list[str]] = {}
    for name, tensor in tensors:
        names.setdefault(id(tensor), []).append(name)
    first = {name: all_names[0] for all_names in names.values() for name in all_names}
    twins = {
        all_names[0]: [
            first.get(target + name.removeprefix(online), "")
            for name in all_names
            for online, target in mirrors.items()
            if name.startswith(online)
        ]
        for all_names in names.values()
    }
    return {name: [twin for twin in dict.fromkeys(found) if twin] for name, found in twins.items()}


def _like(old: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return nn.Parameter(values, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else values
