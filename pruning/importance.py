"""Importances: from a group and the calibration data to one score a unit.

All are at least zero and higher means keep. Raw scores of different layers are not comparable, so each comes
normalised: as a unit's share of its layer's total, or (`surgeon`) as damage relative to the variance of what it feeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agents.controller import Controller
from pruning.execution import Reading, columns, read
from pruning.graph import ComponentGraph, Group
from pruning.sensitivity import backward
from pruning.surgeon import eliminate

Array = NDArray[np.float64]

#: Group name -> one score a unit.
Scores = Mapping[str, Array]


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

    def weight(self, layer: str) -> Array:
        """A linear layer's weight ``(out, in)``."""
        module = self.dataflow.get_submodule(layer)
        assert isinstance(module, nn.Linear)
        return module.weight.detach().double().numpy()

    def incoming(self, group: Group) -> Array:
        """``(units, inputs)``: everything that computes the units, over all producers, biases included."""
        parts = []
        for layer in group.producers:
            module = self.dataflow.get_submodule(layer)
            assert isinstance(module, nn.Linear)
            rows = columns(self.graph.layer_axes[layer][1], group.name)
            parts.append(self.weight(layer)[rows])
            if module.bias is not None:
                parts.append(module.bias.detach().double().numpy()[rows, None])
        return np.concatenate(parts, axis=1)

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


Importance = Callable[[Evidence, Group], Array]


def magnitude(evidence: Evidence, group: Group) -> Array:
    """L2 norm over all weights that leave with a unit, in and out (over a group: Fang et al. 2023, DepGraph)."""
    weights = np.concatenate([evidence.incoming(group), evidence.outgoing(group)], axis=1)
    return share(np.linalg.norm(weights, axis=1))


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


IMPORTANCES: dict[str, Importance] = {
    "magnitude": magnitude,
    "random": random,
    "taylor": taylor,
    "activation": activation,
    "surgeon": surgeon,
}


def score(
    controller: Controller,
    graph: ComponentGraph,
    importance: str,
    inputs: Sequence[torch.Tensor],
    seed: int = 0,
) -> Scores:
    """Score every unit of every group.

    Args:
        controller: the dense controller.
        graph: its component graph.
        importance: a name in `IMPORTANCES`.
        inputs: what the dataflow takes, ``(n, ...)`` each (`Controller.inputs` of calibration data).
        seed: for importances that draw random numbers.
    """
    evidence = Evidence(graph, controller.dataflow(), inputs, np.random.default_rng(seed))
    return {name: IMPORTANCES[importance](evidence, group) for name, group in graph.groups.items()}


def share(raw: Array) -> Array:
    """Each unit's share of the total; equal shares where all are zero."""
    total = raw.sum()
    return raw / total if total > 0 else np.full_like(raw, 1 / len(raw))
