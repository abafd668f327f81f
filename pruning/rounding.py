"""Weights of few bits, as numbers: whole ones times a scale for each output and one for each input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from prunectl.agents.controller import Controller
from prunectl.pruning.storage import float_bytes

#: From so many bits down, the largest weight of an output may be clipped: what a coarse grid errs by everywhere is more
#: than what one weight loses. The scales that are compared, as shares of the one that clips nothing.
CLIPPED, SHARES = 4, (1.0, 0.9, 0.8, 0.7, 0.6)


def scales(weight: Tensor, bits: int) -> Tensor:
    """The step of each weight of a matrix ``(out, in)``, an output's scale times an input's: a weight is a whole number
    of steps, of magnitude up to ``2 ** (bits - 1) - 1``.

    An input's scale is its largest weight, of several outputs; of one it would be the weight itself. What varies little
    comes in with large weights, what varies much with small ones, and of one scale for all inputs of an output nothing
    would be left for those. Of several scales of an output it is the one with the least squared error, counted in an
    input's own scale.
    """
    most = 2 ** (bits - 1) - 1
    column = _largest(weight, 0) if len(weight) > 1 else torch.ones_like(weight)
    shares = weight / column
    full = _largest(shares, 1) / most
    if bits <= CLIPPED:
        tried = torch.stack([share * full for share in SHARES])
        errors = ((shares / tried).round().clamp(-most, most) * tried - shares).square().sum(2, keepdim=True)
        full = tried.gather(0, errors.argmin(0, keepdim=True))[0]
    steps: Tensor = full * column
    return steps


def _largest(weight: Tensor, dim: int) -> Tensor:
    """The largest magnitude along an axis; 1 where all is zero."""
    largest: Tensor = weight.abs().amax(dim, keepdim=True)
    return torch.where(largest > 0, largest, 1.0)


def nearest(weight: Tensor, bits: int) -> Tensor:
    """The weights ``(out, ...)``, each rounded to the nearest number that so many bits can say."""
    rows, most = weight.flatten(1), 2 ** (bits - 1) - 1
    scale = scales(rows, bits)
    return ((rows / scale).round().clamp(-most, most) * scale).view_as(weight)


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
