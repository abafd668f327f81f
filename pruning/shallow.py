"""Fewer layers: what acts loses its last hidden layer whole, and what is left is cut as any controller is."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from prunectl.agents.controller import Controller
from prunectl.pruning.dataflow_run import bounded, read
from prunectl.pruning.errors import PruningError
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.grouping import GROUPINGS, Grouping, by_component
from prunectl.pruning.plan import PruningPlan
from prunectl.pruning.recovery.reconstruct import ridge
from prunectl.pruning.surgery import everywhere

C = TypeVar("C", bound=Controller)

#: Its name among the groupings.
SHALLOW = "shallow"


def shortened(controller: C, graph: ComponentGraph, inputs: Sequence[torch.Tensor]) -> C:
    """The controller without the last hidden layer of each component that acts and has two one after another.

    What read that layer reads the one before it, by ridge regression of what it gave on the calibration data.

    Args:
        controller: the dense one; it stays as it is.
        graph: its groups.
        inputs: what its dataflow takes, ``(n, ...)`` each.

    Raises:
        PruningError: there is no such layer.
    """
    dataflow, networks = controller.dataflow(), controller.networks
    modules = dict(dataflow.named_modules(remove_duplicate=False))
    gone = [layer for name in graph.acting if (layer := _last(name, graph, modules, networks)) is not None]
    if not gone:
        raise PruningError(
            f"grouping '{SHALLOW}' drops a hidden layer that reads another one: nothing that acts in this "
            f"'{controller.algorithm}' controller has two in a row; take 'component'"
        )
    with torch.no_grad():
        seen = read(dataflow, bounded(inputs, graph))
    memo: dict[int, nn.Module] = {}
    for layer in gone:
        (before,) = seen.inputs[layer.path]
        for path in layer.readers:
            (given,) = seen.outputs[path]
            reader = modules[path]
            assert isinstance(reader, nn.Linear)
            fitted = _fitted(reader, before, given)
            for twin in everywhere(networks, graph.mirrors, reader):
                memo[id(twin)] = copy.deepcopy(fitted).requires_grad_(twin.weight.requires_grad)
    for layer in gone:
        for sequence in everywhere(networks, graph.mirrors, layer.sequence):
            kept = [module for index, module in enumerate(sequence) if index not in (layer.index, layer.index + 1)]
            memo[id(sequence)] = nn.Sequential(*(copy.deepcopy(module, memo) for module in kept))
    return controller.with_networks(copy.deepcopy(networks, memo))


def counted(plan: PruningPlan, whole: ComponentGraph, sparsity_asked: float) -> PruningPlan:
    """What was done to a shortened controller, as a plan for the whole one: nothing is kept of layers that are gone."""
    components = {
        name: replace(
            part,
            params_dense=whole.parameters(whole.dense, name),
            widths_dense=tuple(whole.hidden_widths(name, whole.dense)),
        )
        for name, part in plan.components.items()
    }
    kept = {name: plan.kept.get(name, ()) for name in whole.groups}
    return replace(plan, sparsity_asked=sparsity_asked, kept=kept, units=dict(whole.dense), components=components)


@dataclass(frozen=True)
class _Layer:
    """A hidden layer by its path, where it stands in which sequence, its activation behind it, and the paths of what
    reads it."""

    path: str
    sequence: nn.Sequential
    index: int
    readers: tuple[str, ...]


def _last(
    component: str, graph: ComponentGraph, modules: Mapping[str, nn.Module], networks: nn.Module
) -> _Layer | None:
    """The last hidden layer of a component that can go."""
    tied = {name for tie in graph.ties for name in tie}
    for name in reversed(graph.own(component)):
        group = graph.groups[name]
        linear = [type(modules.get(path)) is nn.Linear for path in group.layers]
        if name in tied or len(group.producers) != 1 or not all(linear):
            continue
        (path,) = group.producers
        # Nothing has a number for each of its units but the layer itself and what reads it: no norm stands between.
        touching = [t for t in graph.tensors.values() if any(s.group == name for axis in t.axes for s in axis)]
        if len(touching) != len(list(modules[path].parameters())) + len(group.consumers):
            continue
        reads_units = all(segment.group is not None for segment in graph.layer_axes[path][0])
        read_alone = all(len(graph.layer_axes[reader][0]) == 1 for reader in group.consumers)
        place = _place(networks, modules[path])
        if reads_units and read_alone and place is not None:
            return _Layer(path, *place, group.consumers)
    return None


def _place(networks: nn.Module, module: nn.Module) -> tuple[nn.Sequential, int] | None:
    """The sequence that a layer stands in with an activation behind it, and where."""
    for sequence in networks.modules():
        if type(sequence) is nn.Sequential:
            for index, (one, behind) in enumerate(pairwise(sequence)):
                if one is module and not list(behind.parameters()) and not list(behind.children()):
                    return sequence, index
    return None


def _fitted(layer: nn.Linear, read: torch.Tensor, given: torch.Tensor) -> nn.Linear:
    """A layer that gives the same ``(n, out)`` from what is read in its place ``(n, in)``, as nearly as may be."""
    inputs, wanted, biased = read.double().numpy(), given.double().numpy(), layer.bias is not None
    weight, bias = ridge(inputs, wanted, np.ones((len(inputs), 1)), intercept=biased)
    # On no device, so that nothing is drawn for it: that would move the process's own generator.
    fitted = nn.Linear(len(weight), len(bias), bias=biased, device="meta").train(layer.training)
    numbers = {"weight": weight.T, "bias": bias} if biased else {"weight": weight.T}
    tensors = {name: torch.as_tensor(part, dtype=layer.weight.dtype).contiguous() for name, part in numbers.items()}
    fitted.load_state_dict(tensors, assign=True)
    return fitted


GROUPINGS.bring(SHALLOW, Grouping(by_component, begins=shortened))
