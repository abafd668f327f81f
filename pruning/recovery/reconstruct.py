"""Reconstruction: refit what is left, layer by layer, in closed form, with no reward and no gradient."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from prunectl.agents.controller import Controller
from prunectl.pruning.dataflow_run import Seen, Steps, bounded
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.layers import Product, Watch, at
from prunectl.pruning.output_gradients import row_weights
from prunectl.pruning.plan import PruningPlan
from prunectl.pruning.surgery import kept_part, select_inputs

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
    """A copy of the pruned controller, each layer that lost inputs, or rank, refitted by ridge regression.

    Walking both dataflows in lockstep from the input: find (W, b) so that the *reduced, already refitted* inputs of a
    layer reproduce the dense layer's pre-activations of its kept outputs. float64, intercept included, and each row of
    the data weighted by how much the outputs move with that layer there (`row_weights`).

    Args:
        small: what `apply` gave.
        teacher: the dense controller.
        graph: the dense controller's groups.
        plan: what was carried out.
        inputs: what the dense dataflow takes, ``(n, ...)`` each.
        only: matrix products to refit, by name; None for all that lost inputs.
    """
    networks = copy.deepcopy(small.networks)
    refitted = small.with_networks(networks)
    inputs = bounded(inputs, graph)
    fit = _Fit(graph, plan, row_weights(teacher.dataflow(), graph, inputs), len(inputs[0]), only)
    reduced_inputs = select_inputs(inputs, graph, plan.kept)
    with torch.no_grad():
        for dense, reduced in zip(
            Steps(teacher.dataflow(), inputs), Steps(refitted.dataflow(), reduced_inputs), strict=True
        ):
            fit.dense = Seen()
            dense.run(fit.dense)
            reduced.run(fit)
    return refitted


class _Fit(Watch):
    """Sets the weights of a call's products before they are used. ``dense`` is what the dense call has just seen."""

    def __init__(
        self,
        graph: ComponentGraph,
        plan: PruningPlan,
        weights: Mapping[str, Array],
        count: int,
        only: Collection[str] | None,
    ) -> None:
        self.graph, self.plan, self.weights, self.count, self.only = graph, plan, weights, count, only
        self.dense = Seen()
        self.done: set[str] = set()

    def before(self, product: Product, given: torch.Tensor) -> None:
        name = product.name
        # A layer that is called again has been fitted: fitting it anew would undo what its first call relied on.
        if name in self.done or (self.only is not None and name not in self.only):
            return
        (read,), (target,) = self.dense.inputs[name], self.dense.outputs[name]
        if product.rank is None and _same(read, given):
            return
        self.done.add(name)
        places = product.positions(target, self.count)
        _, output_axis = self.graph.layer_axes[name]
        wanted = kept_part(at(target, places), (output_axis,), self.plan.kept)
        rows = self.weights.get(name)
        rows = np.ones((len(wanted), 1)) if rows is None else at(torch.as_tensor(rows), places).numpy()
        inputs = _double(product.rows(given, places))
        found = ridge(inputs, _double(wanted), rows, intercept=bool(product.biases))
        if product.rank is not None:
            found = of_rank(product.rank, *found, inputs)
        product.write(*map(torch.as_tensor, (found[0].T, found[1])))

    def states(self, product: Product) -> torch.Tensor | None:
        """The dense layer's own states, so many of them as are left: the last columns of what it read."""
        read = self.dense.inputs[product.name][0]
        left = kept_part(read, (self.graph.layer_axes[product.name][0],), self.plan.kept)
        left = left[..., -product.weights[-1].shape[1] :]
        return left if left.dim() == 3 else left[:, None]


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


def of_rank(rank: int, weight: Array, bias: Array, inputs: Array) -> tuple[Array, Array]:
    """The nearest to a least-squares solution among those of this rank: W on the main directions of what it gives, its
    mean where it was (reduced-rank regression, Izenman 1975).

    Args:
        rank: of W, at most.
        weight: W ``(in, out)``.
        bias: b ``(out,)``.
        inputs: ``(n, in)``, all of the same weight: few directions have no room for the rows that decide alone.
    """
    mean = inputs.mean(axis=0)
    given = (inputs - mean) @ weight
    main = np.linalg.eigh(given.T @ given)[1][:, -rank:]
    limited = weight @ main @ main.T
    return limited, bias + mean @ (weight - limited) if bias.any() else bias


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _double(tensor: torch.Tensor) -> Array:
    return tensor.double().numpy()
