"""Carrying a plan out: a new, smaller controller; the dense one is untouched."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, TypeVar, cast

import torch
from torch import nn

from prunectl.agents.controller import Controller
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import Axis, ComponentGraph, axis_width
from prunectl.pruning.graph import Tensor as Described
from prunectl.pruning.layers import kind_of
from prunectl.pruning.plan import PruningPlan

C = TypeVar("C", bound=Controller)
M = TypeVar("M", bound=nn.Module)


def apply(plan: PruningPlan, controller: C, graph: ComponentGraph) -> C:
    """The controller with only the units that the plan keeps; target networks lose the same units as their twins.

    Raises:
        PruningError: the plan was made for a controller of another shape.
    """
    if dict(plan.units) != graph.dense:
        raise PruningError("the plan was made for another controller: its groups and widths are not this one's")
    if gone := [name for name, kept in plan.kept.items() if not kept]:
        raise PruningError(f"the plan leaves nothing of '{gone[0]}', a whole layer: `prune` alone drops layers")
    names = names_of(controller.networks)
    tensors, targets = {own[0]: tensor for tensor, own in names}, _twins(names, graph.mirrors)
    # Copy the networks with the smaller tensors in the place of the dense ones: no weight is copied in vain.
    memo: dict[int, Any] = {}
    for described in graph.tensors.values():
        for name in [described.name, *targets[described.name]]:
            memo[id(tensors[name])] = _like(tensors[name], select(tensors[name], described, plan.kept))
    # Nor, one by one, what is in every module: its dozen registers of hooks take longer than all else.
    for module in controller.networks.modules():
        if (copied := _copied(module, memo)) is not None:
            memo[id(module)] = copied
        else:
            memo |= {id(value): OrderedDict[Any, Any]() for value in vars(module).values() if _is_empty_register(value)}
    networks = copy.deepcopy(controller.networks, memo)
    for module in networks.modules():
        kind_of(module).restate(module)
    small, (seen, *_) = controller.with_networks(networks), graph.input_axes
    inputs = kept_indices(seen, plan.kept).tolist()
    return small if len(inputs) == axis_width(seen, graph.dense) else small.reading(inputs)


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
    return _twins(names_of(networks), mirrors)


def names_of(networks: nn.Module) -> list[tuple[torch.Tensor, list[str]]]:
    """Every parameter and buffer with all its names: a shared encoder's hang below the actor and below the critic."""
    names: dict[int, tuple[torch.Tensor, list[str]]] = {}
    for prefix, module in networks.named_modules(remove_duplicate=False):
        for own in (vars(module)["_parameters"], vars(module)["_buffers"]):
            for name, tensor in own.items():
                if tensor is not None:
                    names.setdefault(id(tensor), (tensor, []))[1].append(f"{prefix}.{name}" if prefix else name)
    return list(names.values())


def everywhere(networks: nn.Module, mirrors: Mapping[str, str], module: M) -> list[M]:
    """A module, and what stands for it in target networks."""
    modules = dict(networks.named_modules(remove_duplicate=False))
    own = [name for name, one in modules.items() if one is module]
    return [module, *(cast(M, modules[name]) for name in _in_targets(own, mirrors) if name in modules)]


def _twins(names: Sequence[tuple[torch.Tensor, list[str]]], mirrors: Mapping[str, str]) -> dict[str, list[str]]:
    first = {name: own[0] for _, own in names for name in own}
    found = {}
    for _, own in names:
        twins = (first.get(name, "") for name in _in_targets(own, mirrors))
        found[own[0]] = [twin for twin in dict.fromkeys(twins) if twin]
    return found


def _in_targets(names: Sequence[str], mirrors: Mapping[str, str]) -> list[str]:
    """What these names are in target networks."""
    pairs = product(names, mirrors.items())
    return [target + name.removeprefix(online) for name, (online, target) in pairs if name.startswith(online)]


#: What a copy may share.
_PLAIN = frozenset((bool, int, float, str, type(None)))


def _copied(module: nn.Module, replaced: Mapping[int, Any]) -> nn.Module | None:
    """A copy of a module that holds nothing but plain values and tensors that are replaced; None for any other."""
    state: dict[str, Any] = {}
    for name, value in vars(module).items():
        if type(value) in _PLAIN or (type(value) is tuple and all(type(part) in _PLAIN for part in value)):
            state[name] = value
        elif type(value) in (dict, OrderedDict, set) and not value:
            state[name] = type(value)()
        elif name in ("_parameters", "_buffers"):
            state[name] = {key: tensor if tensor is None else replaced.get(id(tensor)) for key, tensor in value.items()}
            if any(state[name][key] is None for key, tensor in value.items() if tensor is not None):
                return None
        else:
            return None
    copied = module.__new__(type(module))
    vars(copied).update(state)
    return copied


def _is_empty_register(value: Any) -> bool:
    return type(value) is OrderedDict and not value


def _like(old: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return nn.Parameter(values, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else values
