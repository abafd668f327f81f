"""How much the outputs of a controller move with what passes inside it, row by row of the calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from prunectl.pruning.dataflow_run import Reading, products_of, read
from prunectl.pruning.graph import ComponentGraph
from prunectl.pruning.layers import at

Array = NDArray[np.float64]


#: Entries of gradients of single rows that are held at a time.
MOST_ENTRIES = 2**25


def backward(
    dataflow: nn.Module, inputs: Sequence[torch.Tensor], generator: np.random.Generator
) -> tuple[Reading, torch.Tensor]:
    """One run with gradients, and a random projection of its outputs.

    With o the components' outputs, each divided by its standard deviation over the rows, and random signs e: the sum
    over rows of sum_o e_o o. The expected square of its gradient with respect to any inner value h is sum_o (do/dh)^2,
    row by row (Hutchinson's estimator).
    """
    with torch.enable_grad():
        reading = read(dataflow, [t.detach().clone().requires_grad_(t.is_floating_point()) for t in inputs])
        return reading, project(reading.results, scales(reading.results), generator)


def scales(results: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The standard deviation of each output over the rows; infinite for one that never moves, which then counts nothing
    (the rewards and values of a TD-MPC that has not learned yet are all zero)."""
    spread = {name: output.detach().std(dim=0, correction=0) for name, output in results.items()}
    return {name: deviation.masked_fill(deviation < 1e-6, torch.inf) for name, deviation in spread.items()}


def project(
    results: Mapping[str, torch.Tensor], scale: Mapping[str, torch.Tensor], generator: np.random.Generator
) -> torch.Tensor:
    """The sum over rows and outputs of e o / scale, with random signs e."""
    total = torch.zeros(())
    for name, output in results.items():
        signs = torch.as_tensor(generator.choice([-1.0, 1.0], size=tuple(output.shape)), dtype=output.dtype)
        total = total + (output / scale[name] * signs).sum()
    return total


def row_weights(
    dataflow: nn.Module, graph: ComponentGraph, inputs: Sequence[torch.Tensor], floor: float = 0.5
) -> dict[str, Array]:
    """For each matrix product, how much each row of calibration data deserves to be fitted well.

    Where the action saturates, an error before the squashing costs nothing; the rows where it does not are the ones
    that decide. A row's weight is its squared sensitivity, estimated by one projection (`backward`), over the mean one,
    plus ``floor`` so that no row is forgotten.

    Returns:
        ``(n, outputs)`` for a layer that writes a component's output, each column with its own weights; ``(n, 1)`` for
        a hidden layer, whose units share theirs; ``(n, ..., 1)`` where it is applied at several places. A layer that is
        called several times has those of its first call; layers that move no output are left out.
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
            squared = squared.sum(axis=-1, keepdims=True)
        weights[layer] = squared / np.maximum(squared.mean(axis=tuple(range(squared.ndim - 1))), 1e-12) + floor
    return weights


def fisher_information(
    dataflow: nn.Module, inputs: Sequence[torch.Tensor], generator: np.random.Generator, draws: int = 4
) -> dict[str, Array]:
    """The diagonal of the Fisher information of each linear layer's parameters, ``(out, columns + 1)``, the bias last.

    With o the components' outputs, each divided by its standard deviation s over the rows: F_ww = E[sum_o (do/dw)^2].
    That is the Fisher information of outputs seen through Gaussian noise of size s, the model's own and not the
    empirical one of recorded labels (Kunstner et al. 2019, eq. 2 and 3), by ``draws`` projections (`backward`). A row's
    gradient of a layer that is called several times is summed over the calls before it is squared.
    """
    count, total = len(inputs[0]), dict[str, torch.Tensor]()
    for _ in range(draws):
        for layer, calls in _layer_gradients(dataflow, inputs, generator):
            # (sum_c d_c x_c')^2 over all pairs of calls, without a matrix a row.
            for number, (error, given) in enumerate(calls):
                for other, (other_error, other_given) in enumerate(calls[: number + 1]):
                    product = _products(error, given, other_error, other_given) * (1.0 if number == other else 2.0)
                    total[layer] = total[layer] + product if layer in total else product
    return {layer: (value / (count * draws)).clamp_min(0.0).numpy() for layer, value in total.items()}


@dataclass(frozen=True)
class GradientSteps:
    """Squared norms of a linear layer's gradients at each step: of each row with its bias ``(steps, out)``, and of each
    column ``(steps, in)``."""

    rows: Array
    columns: Array


def gradient_steps(
    dataflow: nn.Module, inputs: Sequence[torch.Tensor], generator: np.random.Generator, steps: int = 64
) -> dict[str, GradientSteps]:
    """Gradients of minibatches that each take every ``steps``-th row, as many as there are rows if those are fewer.

    A step's gradient is that of the sum over its rows of one projection of the outputs (`backward`).
    """
    steps = min(steps, len(inputs[0]))
    found = {}
    for layer, calls in _layer_gradients(dataflow, inputs, generator):
        gradients = [
            sum(error[step::steps].flatten(0, -2).T @ given[step::steps].flatten(0, -2) for error, given in calls)
            for step in range(steps)
        ]
        squared = torch.stack([torch.as_tensor(gradient).square() for gradient in gradients])
        found[layer] = GradientSteps(squared.sum(dim=2).numpy(), squared[:, :, :-1].sum(dim=1).numpy())
    return found


def _products(
    error: torch.Tensor, given: torch.Tensor, other_error: torch.Tensor, other_given: torch.Tensor
) -> torch.Tensor:
    """``(out, in)``: the sum over rows of the products of two calls' gradients; a gradient is a sum over the places."""
    if error.dim() == 2:
        return (error * other_error).T @ (given * other_given)
    total = error.new_zeros(error.shape[-1], given.shape[-1])
    rows = max(MOST_ENTRIES // total.numel(), 1)
    for start in range(0, len(error), rows):
        part = slice(start, start + rows)
        one = error[part].transpose(1, 2) @ given[part]
        total += (one * (other_error[part].transpose(1, 2) @ other_given[part])).sum(dim=0)
    return total


def _layer_gradients(
    dataflow: nn.Module, inputs: Sequence[torch.Tensor], generator: np.random.Generator
) -> Iterator[tuple[str, list[tuple[torch.Tensor, torch.Tensor]]]]:
    """For each matrix product and call, one projection's gradient by what it wrote ``(n, out)`` and the columns that it
    read, with ones for the bias ``(n, columns + 1)``.

    Where it is applied at several places, both are ``(n, places, ...)``, with some of them if those are many. Zeros
    where a layer moves no output.
    """
    reading, total = backward(dataflow, inputs, generator)
    products, count = products_of(dataflow), len(inputs[0])
    written = [(layer, value) for layer, values in reading.outputs.items() for value in values if value.requires_grad]
    given: Sequence[torch.Tensor | None] = torch.autograd.grad(
        total, [value for _, value in written], allow_unused=True
    )
    gradients = {id(value): gradient for (_, value), gradient in zip(written, given, strict=True)}
    for layer, values in reading.outputs.items():
        calls = []
        for value, seen in zip(values, reading.inputs[layer], strict=True):
            gradient = gradients.get(id(value))
            error = torch.zeros_like(value) if gradient is None else gradient
            where = products[layer].positions(value, count)
            rows = products[layer].rows(seen, where)
            columns = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1).detach().double()
            error = at(error, where).detach().double()
            if where is not None:
                columns, error = (side.reshape(*where.shape, -1) for side in (columns, error))
            calls.append((error, columns))
        yield layer, calls
