"""Reconstruction: refit what is left, layer by layer, in closed form, with no reward and no gradient."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agents.controller import Controller
from pruning.execution import Steps
from pruning.graph import ComponentGraph
from pruning.plan import PruningPlan
from pruning.surgery import kept_indices

C = TypeVar("C", bound=Controller)
Array = NDArray[np.float64]

#: Ridge as a share of the mean diagonal of the Gram matrix.
RIDGE = 1e-4


def reconstruct(
    small: C,
    teacher: Controller,
    graph: ComponentGraph,
    plan: PruningPlan,
    inputs: Sequence[torch.Tensor],
) -> C:
    """A copy of the pruned controller, each layer that lost inputs refitted by ridge regression.

    Walking both dataflows in lockstep from the input: find (W, b) so that the *reduced, already refitted* inputs of a
    layer reproduce the dense layer's pre-activations of its kept outputs. float64, intercept included.

    Args:
        small: what `apply` gave.
        teacher: the dense controller.
        graph: the dense controller's groups.
        plan: what was carried out.
        inputs: what the dense dataflow takes, ``(n, ...)`` each.
    """
    networks = copy.deepcopy(small.networks)
    refitted = small.with_networks(networks)
    with torch.no_grad():
        for dense, reduced in zip(
            Steps(teacher.dataflow(), inputs), Steps(refitted.dataflow(), inputs), strict=True
        ):
            target = dense.run()
            if reduced.linear is not None and not _same(dense.argument, reduced.argument):
                _, output_axis = graph.layer_axes[reduced.path]
                wanted = target[:, kept_indices(output_axis, plan.kept)]
                weight, bias = ridge(_double(reduced.argument), _double(wanted))
                _set(reduced.linear, weight, bias)
            reduced.run()
    return refitted


def ridge(inputs: Array, targets: Array, ridge: float = RIDGE) -> tuple[Array, Array]:
    """The (W, b) that minimise ``|inputs W + b - targets|^2 / n + lambda |W|^2``, the intercept free.

    Args:
        inputs: ``(n, in)``.
        targets: ``(n, out)``.
        ridge: lambda, as a share of the mean diagonal of the inputs' Gram matrix.

    Returns:
        W ``(in, out)`` and b ``(out,)``.
    """
    mean_in, mean_out = inputs.mean(axis=0), targets.mean(axis=0)
    centred = inputs - mean_in
    gram = centred.T @ centred / len(inputs)
    penalty = ridge * float((inputs**2).sum(axis=1).mean()) / inputs.shape[1] + 1e-12
    system = gram + penalty * np.eye(len(gram))
    weight = np.linalg.solve(system, centred.T @ (targets - mean_out) / len(inputs))
    return weight, mean_out - mean_in @ weight


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _double(tensor: torch.Tensor) -> Array:
    return tensor.double().numpy()


def _set(layer: nn.Linear, weight: Array, bias: Array) -> None:
    layer.weight.copy_(torch.as_tensor(weight.T, dtype=layer.weight.dtype))
    layer.bias.copy_(torch.as_tensor(bias, dtype=layer.bias.dtype))
