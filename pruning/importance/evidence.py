"""What importances look at: the graph, the weights, and the dense controller over the calibration data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from prunectl.pruning.dataflow_run import Reading, columns, read
from prunectl.pruning.graph import ComponentGraph, Group
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

    def linear(self, layer: str) -> nn.Linear:
        """The linear layer of this name."""
        module = self.dataflow.get_submodule(layer)
        assert isinstance(module, nn.Linear)
        return module

    def weight(self, layer: str) -> Array:
        """A linear layer's weight ``(out, in)``."""
        return self.linear(layer).weight.detach().double().numpy()

    def outgoing(self, group: Group, scaled: bool = False) -> Array:
        """``(units, outputs)``: the weights of everything that reads the units, over all consumers.

        ``scaled`` multiplies each output by the norm of what it feeds in turn, so that outputs count by what they move.
        """
        parts = []
        for layer in group.consumers:
            weight = self.weight(layer)[:, columns(self.graph.layer_axes[layer][0], group.name)]
            parts.append((weight * self.fed(layer)[:, None] if scaled else weight).T)
        return np.concatenate(parts, axis=1)

    def fed(self, layer: str) -> Array:
        """``(outputs,)``: the norm of the weights that read each output of a layer; ones where nothing does."""
        segments = self.graph.layer_axes[layer][1]
        if segments[0].group is None:
            return np.ones(segments[0].units)
        return np.asarray(np.linalg.norm(self.outgoing(self.graph.groups[segments[0].group]), axis=1))

    def activations(self, group: Group) -> Array:
        """``(rows, units)``: the units' values as their first consumer reads them, a row an input and call."""
        layer = group.consumers[0]
        where = columns(self.graph.layer_axes[layer][0], group.name)
        return torch.cat(self.reading.inputs[layer])[:, where].detach().double().numpy()

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
        """A linear layer's parameters ``(out, in + 1)``, the bias last, zeros where it has none."""
        weight = self.weight(layer)
        # Typed as always there, which it is not.
        bias: torch.Tensor | None = self.linear(layer).bias
        column = np.zeros(len(weight)) if bias is None else bias.detach().double().numpy()
        return np.concatenate([weight, column[:, None]], axis=1)

    def of_units(self, group: Group, values: Callable[[str], Array]) -> Array:
        """``(units, all that leaves with one)``: of ``values(layer)``, ``(out, in + 1)``, what belongs to each unit.

        That is the rows of the layers that write it, biases included, and the columns of the layers that read it.
        """
        axes = self.graph.layer_axes
        rows = [values(layer)[columns(axes[layer][1], group.name)] for layer in group.producers]
        read = [values(layer)[:, columns(axes[layer][0], group.name)].T for layer in group.consumers]
        return np.concatenate(rows + read, axis=1)


#: From the evidence and a group to one score a unit ``(units,)``.
Scorer = Callable[[Evidence, Group], Array]


def share(raw: Array) -> Array:
    """Each unit's share of the total; equal shares where all are zero."""
    total = raw.sum()
    return raw / total if total > 0 else np.full_like(raw, 1 / len(raw))
