"""What importances look at: the graph, the weights, and the dense controller over the calibration data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from prunectl.pruning.dataflow_run import Reading, products_of, read
from prunectl.pruning.graph import ComponentGraph, Group, columns
from prunectl.pruning.layers import Product
from prunectl.pruning.output_gradients import GradientSteps, fisher_information, gradient_steps
from prunectl.pruning.stock import LibraryGroups

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """All that an importance may look at.

    ``inputs`` are what the dataflow takes, ``reading`` the dense controller over them.
    """

    graph: ComponentGraph
    dataflow: nn.Module
    inputs: Sequence[torch.Tensor]
    generator: np.random.Generator

    @cached_property
    def reading(self) -> Reading:
        with torch.no_grad():
            return read(self.dataflow, self.inputs)

    @cached_property
    def products(self) -> Mapping[str, Product]:
        """The dataflow's matrix products by name."""
        return products_of(self.dataflow)

    def weight(self, layer: str) -> Array:
        """A product's matrix ``(out, columns)``: a linear layer's weight, a convolution's with a column for each entry
        of its kernel, an LSTM's with those of its state beside those of what it reads."""
        return self.products[layer].matrix().double().numpy()

    def outgoing(self, group: Group, scaled: bool = False) -> Array:
        """``(units, outputs)``: the weights of everything that reads the units, over all consumers and over all columns
        that a unit has there.

        ``scaled`` multiplies each output by the norm of what it feeds in turn, so that outputs count by what they move.
        """
        return np.concatenate([self._outgoing(group, layer, scaled) for layer in group.consumers], axis=1)

    def _outgoing(self, group: Group, layer: str, scaled: bool) -> Array:
        weight = self.weight(layer)
        weight = weight * self.fed(layer)[:, None] if scaled else weight
        where = columns(self.graph.layer_axes[layer][0], group.name)
        if isinstance(where, slice):
            return weight[:, where].T
        return weight[:, where].transpose(1, 2, 0).reshape(len(where), -1)

    def fed(self, layer: str) -> Array:
        """``(outputs,)``: the norm of the weights that read each output of a layer; ones where nothing does."""
        segments = self.graph.layer_axes[layer][1]
        parts = []
        for segment in segments:
            if segment.group is None:
                parts.append(np.ones(segment.units))
            else:
                norms = np.linalg.norm(self.outgoing(self.graph.groups[segment.group]), axis=1)
                parts.append(np.repeat(norms, segment.size))
        return np.concatenate(parts)

    def activations(self, group: Group) -> Array:
        """``(rows, units)``: the units' values as their first consumer reads them, a row an input, call, place and,
        where a unit has several columns there, column."""
        ((seen, _), *_) = self.readings(group)
        return seen if seen.ndim == 2 else seen.transpose(0, 2, 1).reshape(-1, seen.shape[1])

    def readings(self, group: Group, scaled: bool = False) -> list[tuple[Array, Array]]:
        """What reads the units, and with which weights: values ``(rows, units)`` and ``(units, outputs)``.

        Where a unit has several columns for its consumers, ``(rows, units, each)`` and ``(units, each, outputs)``.
        Consumers of one form read the same values, which the first of them gives.
        """
        found: dict[int, tuple[Array, list[Array]]] = {}
        for layer in group.consumers:
            where = columns(self.graph.layer_axes[layer][0], group.name)
            each = 0 if isinstance(where, slice) else where.shape[1]
            weights = self._outgoing(group, layer, scaled)
            if each:
                weights = weights.reshape(len(weights), each, -1)
            if each not in found:
                found[each] = self.rows(layer)[:, where].double().numpy(), []
            found[each][1].append(weights)
        return [(seen, np.concatenate(weights, axis=-1)) for seen, weights in found.values()]

    def rows(self, layer: str) -> torch.Tensor:
        """``(rows, columns)``: what a product reads, at some of the places where it is applied to each input."""
        product, count = self.products[layer], len(self.inputs[0])
        rows = [
            product.rows(given, product.positions(written, count))
            for given, written in zip(self.reading.inputs[layer], self.reading.outputs[layer], strict=True)
        ]
        return torch.cat(rows).detach()

    @cached_property
    def fisher(self) -> Mapping[str, Array]:
        """The Fisher information of every parameter of each linear layer, ``(out, in + 1)``, the bias last."""
        return fisher_information(self.dataflow, self.inputs, self.generator)

    @cached_property
    def gradient_steps(self) -> Mapping[str, GradientSteps]:
        """Norms of each linear layer's gradients, one step after another."""
        return gradient_steps(self.dataflow, self.inputs, self.generator)

    @cached_property
    def library(self) -> LibraryGroups:
        """The controller as Torch-Pruning's importances see it."""
        return LibraryGroups(self.dataflow, self.graph, self.inputs, self.generator)

    def parameters(self, layer: str) -> Array:
        """A product's parameters ``(out, columns + 1)``, the bias last, zeros where it has none."""
        weight, bias = self.weight(layer), self.products[layer].bias()
        column = np.zeros(len(weight)) if bias is None else bias.double().numpy()
        return np.concatenate([weight, column[:, None]], axis=1)

    def of_units(self, group: Group, values: Callable[[str], Array]) -> Array:
        """``(units, all that leaves with one)``: of ``values(layer)``, ``(out, columns + 1)``, what belongs to each.

        That is the rows of the layers that write it, biases included, and the columns of the layers that read it.
        """
        axes = self.graph.layer_axes
        rows = [of_rows(values(layer), columns(axes[layer][1], group.name)) for layer in group.producers]
        read = [of_rows(values(layer).T, columns(axes[layer][0], group.name)) for layer in group.consumers]
        return np.concatenate(rows + read, axis=1)


def of_rows(values: Array, where: slice | NDArray[np.intp]) -> Array:
    """``(units, ...)``: the rows that belong to each unit, side by side where there are several."""
    return values[where] if isinstance(where, slice) else values[where].reshape(len(where), -1)


#: From the evidence and a group to one score a unit ``(units,)``.
Scorer = Callable[[Evidence, Group], Array]


def share(raw: Array) -> Array:
    """Each unit's share of the total; equal shares where all are zero."""
    total = raw.sum()
    return raw / total if total > 0 else np.full_like(raw, 1 / len(raw))
