"""How much the outputs of a controller move with what passes inside it, row by row of the calibration data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pruning.execution import Reading, read
from pruning.graph import ComponentGraph

Array = NDArray[np.float64]


def backward(
    dataflow: nn.Module, inputs: Sequence[torch.Tensor], generator: np.random.Generator
) -> tuple[Reading, torch.Tensor]:
    """One run with gradients, and a random projection of its outputs.

    With o the components' outputs, each divided by its standard deviation over the rows, and random signs e: the sum
    over rows of sum_o e_o o. The expected square of its gradient with respect to any inner value h is sum_o (do/dh)^2,
    row by row (Hutchinson's estimator).
    """
    with torch.enable_grad():
        reading = read(dataflow, [tensor.detach().clone().requires_grad_() for tensor in inputs])
        total = torch.zeros(())
        for output in reading.results.values():
            scale = output.detach().std(dim=0, correction=0).clamp_min(1e-6)
            signs = torch.as_tensor(generator.choice([-1.0, 1.0], size=tuple(output.shape)), dtype=output.dtype)
            total = total + (output / scale * signs).sum()
    return reading, total


def row_weights(
    dataflow: nn.Module, graph: ComponentGraph, inputs: Sequence[torch.Tensor], floor: float = 0.5
) -> dict[str, Array]:
    """For each linear layer, how much each row of calibration data deserves to be fitted well.

    Where the action saturates, an error before the squashing costs nothing; the rows where it does not are the ones
    that decide. A row's weight is its squared sensitivity, estimated by one projection (`backward`), over the mean one,
    plus ``floor`` so that no row is forgotten.

    Returns:
        ``(n, outputs)`` for a layer that writes a component's output, each column with its own weights; ``(n, 1)`` for
        a hidden layer, whose units share theirs. A layer that is called several times has those of its first call;
        layers that move no output are left out.
    """
    reading, total = backward(dataflow, inputs, np.random.default_rng(0))
    first = {layer: calls[0] for layer, calls in reading.outputs.items() if calls[0].requires_grad}
    gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(total, list(first.values()), allow_unused=True)
    weights = {}
    for layer, gradient in zip(first, gradients, strict=True):
        if gradient is None:
            continue
        squared = gradient.double().square().numpy()
        if any(segment.group is not None for segment in graph.layer_axes[layer][1]):
            squared = squared.sum(axis=1, keepdims=True)
        weights[layer] = squared / np.maximum(squared.mean(axis=0), 1e-12) + floor
    return weights
