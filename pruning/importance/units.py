"""Importances that look at a unit's weights, its values, or the change of the outputs without it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from prunectl.pruning.graph import Group, columns
from prunectl.pruning.importance.evidence import Array, Evidence, share
from prunectl.pruning.output_gradients import backward
from prunectl.pruning.surgeon import eliminate


def magnitude(evidence: Evidence, group: Group) -> Array:
    """L2 norm over all weights that leave with a unit, in and out (over a group: Fang et al. 2023, DepGraph)."""
    axes = evidence.graph.layer_axes
    squares = np.zeros(group.units)
    for layer in group.producers:
        rows, product = columns(axes[layer][1], group.name), evidence.products[layer]
        squares += _squares(product.matrix(), rows, "ij->i")
        for bias in product.biases:
            squares += _squares(bias.detach()[:, None], rows, "ij->i")
    for layer in group.consumers:
        squares += _squares(evidence.products[layer].matrix(), columns(axes[layer][0], group.name), "ij->j")
    return share(np.sqrt(squares))


def _squares(values: torch.Tensor, where: slice | NDArray[np.intp], sums: str) -> Array:
    """Sums of squares, in double precision without a copy in it: wide layers have millions of weights."""
    numbers, units = values.numpy(), sums[-1]
    if isinstance(where, slice):
        numbers = numbers[where] if units == "i" else numbers[:, where]
        return np.asarray(np.einsum(f"ij,ij->{units}", numbers, numbers, dtype=np.float64))
    return np.asarray(np.einsum(f"ij,ij->{units}", numbers, numbers, dtype=np.float64)[where].sum(axis=1))


def random(evidence: Evidence, group: Group) -> Array:
    """Uniform random scores, from the plan's seed: what any other importance has to beat."""
    return share(evidence.generator.random(group.units))


def activation(evidence: Evidence, group: Group) -> Array:
    """Standard deviation of the unit over the calibration inputs times the L2 norm of its outgoing weights; the root of
    the sum of squares where a unit has several columns."""
    parts = [seen.std(axis=0) * np.linalg.norm(weights, axis=-1) for seen, weights in evidence.readings(group)]
    if len(parts) == 1 and parts[0].ndim == 1:
        return share(parts[0])
    return share(np.sqrt(sum((part.reshape(group.units, -1) ** 2).sum(axis=1) for part in parts)))


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
        seen = [
            (layer, values) for layer in group.consumers for values in reading.inputs[layer] if values.requires_grad
        ]
        gradients = torch.autograd.grad(projection, [values for _, values in seen], allow_unused=True)
        change = np.zeros((len(evidence.inputs[0]), group.units))
        for (layer, values), gradient in zip(seen, gradients, strict=True):
            if gradient is not None:
                change += _of_units(evidence, layer, group, (values * gradient).detach())
        total += (change**2).mean(axis=0)
    return share(np.sqrt(total / draws))


def _of_units(evidence: Evidence, layer: str, group: Group, values: torch.Tensor) -> Array:
    """``(n, units)``: numbers ``(n, ..., width)`` of what a layer reads, summed over all that belongs to a unit."""
    where = columns(evidence.graph.layer_axes[layer][0], group.name)
    if values.dim() == 2 and isinstance(where, slice):
        return values[:, where].double().numpy()
    summed = values.reshape(len(evidence.inputs[0]), -1, values.shape[-1]).sum(dim=1).double().numpy()
    # A convolution reads channels, of which its columns are several each.
    taps = evidence.products[layer].matrix().shape[1] // values.shape[-1]
    if isinstance(where, slice):
        return np.asarray(summed[:, where])
    own = where[:, ::taps] // taps
    return np.asarray(summed[:, own].sum(axis=2))


def surgeon(evidence: Evidence, group: Group) -> Array:
    """The damage curve of backward elimination with refit: a unit scores what is lost once it is gone (`eliminate`)."""
    order, damage = eliminate(evidence.readings(group, scaled=True))
    scores = np.empty(group.units)
    scores[order] = damage
    return scores
