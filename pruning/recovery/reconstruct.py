"""Reconstruction: refit what is left, layer by layer, in closed form, with no reward and no gradient."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from prunectl.agents.controller import Controller
from prunectl.pruning.dataflow_run import Steps
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.output_gradients import row_weights
from prunectl.pruning.plan import PruningPlan
from prunectl.pruning.surgery import kept_indices, select_inputs

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
    only: Collection[str] | None = None,
) -> C:
    """A copy of the pruned controller, each layer that lost inputs refitted by ridge regression.

    Walking both dataflows in lockstep from the input: find (W, b) so that the *reduced, already refitted* inputs of a
    layer reproduce the dense layer's pre-activations of its kept outputs. float64, intercept included, and each row of
    the data weighted by how much the outputs move with that layer there (`row_weights`).

    Args:
        small: what `apply` gave.
        teacher: the dense controller.
        graph: the dense controller's groups.
        plan: what was carried out.
        inputs: what the dense dataflow takes, ``(n, ...)`` each.
        only: layers to refit, as paths in the dataflow; None for all that lost inputs.
    """
    networks = copy.deepcopy(small.networks)
    refitted = small.with_networks(networks)
    weights = row_weights(teacher.dataflow(), graph, inputs)
    even = np.ones((len(inputs[0]), 1))
    done: set[str] = set()
    reduced_inputs = select_inputs(inputs, graph, plan.kept)
    with torch.no_grad():
        for dense, reduced in zip(
            Steps(teacher.dataflow(), inputs), Steps(refitted.dataflow(), reduced_inputs), strict=True
        ):
            target = dense.run()
            # A layer that is called again has been fitted: fitting it anew would undo what its first call relied on.
            due = reduced.linear is not None and reduced.path not in done and (only is None or reduced.path in only)
            if due and not _same(dense.argument, reduced.argument):
                assert reduced.linear is not None
                done.add(reduced.path)
                _, output_axis = graph.layer_axes[reduced.path]
                wanted = target[:, kept_indices(output_axis, plan.kept)]
                rows = weights.get(reduced.path, even)
                free = reduced.linear.bias is not None
                _set(reduced.linear, *ridge(_double(reduced.argument), _double(wanted), rows, intercept=free))
            reduced.run()
    return refitted


def ridge(
    inputs: Array, targets: Array, rows: Array, penalty: float = RIDGE, intercept: bool = True
) -> tuple[Array, Array]:
    """The (W, b) that minimise ``sum_r w_r |inputs_r W + b - targets_r|^2 + lambda |W|^2``, the intercept free.

    Args:
        inputs: ``(n, in)``.
        targets: ``(n, out)``.
        rows: weights ``(n, 1)`` for all targets or ``(n, out)``, a column each.
        penalty: lambda, as a share of the mean diagonal of the inputs' Gram matrix.
        intercept: whether there is one; without, b is 0.

    Returns:
        W ``(in, out)`` and b ``(out,)``.
    """
    if rows.shape[1] > 1:
        columns = [ridge(inputs, targets[:, [i]], rows[:, [i]], penalty, intercept) for i in range(targets.shape[1])]
        weights, biases = zip(*columns, strict=True)
        return np.concatenate(weights, axis=1), np.concatenate(biases)
    share = rows / rows.sum()
    mean_in, mean_out = (share * inputs).sum(axis=0), (share * targets).sum(axis=0)
    if not intercept:
        mean_in, mean_out = np.zeros_like(mean_in), np.zeros_like(mean_out)
    centred = inputs - mean_in
    weighted = share * centred
    diagonal = float((share * inputs**2).sum()) / inputs.shape[1]
    system = weighted.T @ centred + (penalty * diagonal + 1e-12) * np.eye(inputs.shape[1])
    weight = np.linalg.solve(system, weighted.T @ (targets - mean_out))
    return weight, mean_out - mean_in @ weight


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _double(tensor: torch.Tensor) -> Array:
    return tensor.double().numpy()


def _set(layer: nn.Linear, weight: Array, bias: Array) -> None:
    layer.weight.copy_(torch.as_tensor(weight.T, dtype=layer.weight.dtype))
    if layer.bias is not None:
        layer.bias.copy_(torch.as_tensor(bias, dtype=layer.bias.dtype))
