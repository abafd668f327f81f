"""Importances that look at a unit's weights, its values, or the change of the outputs without it."""

from __future__ import annotations

import numpy as np
import torch

from prunectl.pruning.dataflow_run import columns
from prunectl.pruning.graph import Group
from prunectl.pruning.importance.evidence import Array, Evidence, share
from prunectl.pruning.output_gradients import backward
from prunectl.pruning.surgeon import eliminate


def magnitude(evidence: Evidence, group: Group) -> Array:
    """L2 norm over all weights that leave with a unit, in and out (over a group: Fang et al. 2023, DepGraph)."""
    axes = evidence.graph.layer_axes
    squares = np.zeros(group.units)
    for layer in group.producers:
        rows, linear = columns(axes[layer][1], group.name), evidence.linear(layer)
        squares += _squares(linear.weight[rows], "ij,ij->i")
        if linear.bias is not None:
            squares += _squares(linear.bias[rows], "i,i->i")
    for layer in group.consumers:
        squares += _squares(evidence.linear(layer).weight[:, columns(axes[layer][0], group.name)], "ij,ij->j")
    return share(np.sqrt(squares))


def _squares(values: torch.Tensor, sums: str) -> Array:
    """Sums of squares, in double precision without a copy in it: wide layers have millions of weights."""
    numbers = values.detach().numpy()
    return np.asarray(np.einsum(sums, numbers, numbers, dtype=np.float64))


def random(evidence: Evidence, group: Group) -> Array:
    """Uniform random scores, from the plan's seed: what any other importance has to beat."""
    return share(evidence.generator.random(group.units))


def activation(evidence: Evidence, group: Group) -> Array:
    """Standard deviation of the unit over the calibration inputs times the L2 norm of its outgoing weights."""
    spread = evidence.activations(group).std(axis=0)
    return share(spread * np.linalg.norm(evidence.outgoing(group), axis=1))


def taylor(evidence: Evidence, group: Group) -> Array:
    """Root mean square, over calibration inputs, of the first-order change of the outputs when the unit is zeroed.

    With o the component outputs, each divided by its standard deviation, and h the unit: E[sum_o (h do/dh)^2]^(1/2), a
    unit gate's Taylor criterion (Molchanov et al. 2019, eq. 8) on the outputs themselves, since a trained controller's
    own loss has no gradient left. The sum over outputs is taken by random signs, one backward pass a draw.
    """
    total = np.zeros(group.units)
    draws = 4
    for _ in range(draws):
        reading, projection = backward(evidence.dataflow, evidence.inputs, evidence.generator)
        seen = [(layer, values) for layer in group.consumers for values in reading.inputs[layer]]
        gradients = torch.autograd.grad(projection, [values for _, values in seen], allow_unused=True)
        change = np.zeros((len(evidence.inputs[0]), group.units))
        for (layer, values), gradient in zip(seen, gradients, strict=True):
            if gradient is not None:
                where = columns(evidence.graph.layer_axes[layer][0], group.name)
                change += (values * gradient)[:, where].detach().double().numpy()
        total += (change**2).mean(axis=0)
    return share(np.sqrt(total / draws))


def surgeon(evidence: Evidence, group: Group) -> Array:
    """The damage curve of backward elimination with refit: a unit scores what is lost once it is gone (`eliminate`)."""
    order, damage = eliminate(evidence.activations(group), evidence.outgoing(group, scaled=True))
    scores = np.empty(group.units)
    scores[order] = damage
    return scores
