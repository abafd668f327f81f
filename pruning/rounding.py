"""Weights of few bits, as numbers: whole ones times a scale for each output and one for each input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from prunectl.agents.controller import Controller
from prunectl.pruning.grids import most_of, scales, whole
from prunectl.pruning.storage import float_bytes


def nearest(weight: Tensor, bits: int) -> Tensor:
    """The weights ``(out, ...)``, each rounded to the nearest number that so many bits can say."""
    rows = weight.flatten(1)
    scale = scales(rows, bits)
    return (whole(rows, scale, most_of(bits)) * scale).view_as(weight)


def weights_of(module: nn.Module) -> list[nn.Parameter]:
    """What is rounded: parameters of two axes and more. Biases and the scales of norms stay floats."""
    return [parameter for parameter in module.parameters() if parameter.dim() > 1]


def round_to(parameters: Iterable[nn.Parameter], bits: int) -> None:
    """Round weights in place."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(nearest(parameter, bits))


def rounded_bytes(module: nn.Module, bits: int) -> int:
    """Bytes of a module whose weights have so many bits, with a float as scale for each output and each input, where
    these have one."""
    size = 0
    for parameter in module.parameters():
        if parameter.dim() > 1:
            outputs, inputs = parameter.flatten(1).shape
            size += -(-parameter.numel() * bits // 8) + float_bytes(outputs + (inputs if outputs > 1 else 0))
        else:
            size += float_bytes(parameter.numel())
    return size


def acting_bytes(controller: Controller, bits: int) -> dict[str, int]:
    """`rounded_bytes` of each component that acts."""
    return {name: rounded_bytes(part.module, bits) for name, part in controller.components.items() if part.deployed}


class Rounded:
    """Weights that are rounded while they learn: gradients are taken where the rounded ones are and move exact ones
    behind them, of which small steps add up (BinaryConnect, Courbariaux, Bengio & David 2015, alg. 1; the
    straight-through estimator).

    Args:
        weights: from now on rounded; changed in place.
        bits: of each.
    """

    def __init__(self, weights: Sequence[nn.Parameter], bits: int) -> None:
        self.weights, self.bits = weights, bits
        self._hide()

    def step(self, move: Callable[[], None]) -> None:
        """Move the exact weights, in place, and round them anew."""
        with torch.no_grad():
            for weight, exact in zip(self.weights, self.exact, strict=True):
                weight.copy_(exact)
        move()
        self._hide()

    def _hide(self) -> None:
        self.exact = [weight.detach().clone() for weight in self.weights]
        round_to(self.weights, self.bits)
