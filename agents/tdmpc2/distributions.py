"""What TD-MPC2's heads mean: numbers as distributions over bins, and the policy as a squashed normal one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

#: Where the authors' bins begin and end, after the symmetric logarithm.
LOWEST, HIGHEST = -10.0, 10.0
#: The policy's logarithm of its standard deviation stays between these.
LOWEST_LOG_STD, HIGHEST_LOG_STD = -10.0, 2.0


def symlog(values: Tensor) -> Tensor:
    """sign(x) log(1 + |x|)."""
    return values.sign() * values.abs().log1p()


def symexp(values: Tensor) -> Tensor:
    """The inverse: sign(x) (exp(|x|) - 1)."""
    return values.sign() * values.abs().expm1()


class Bins(nn.Module):
    """The numbers that distributions over evenly spaced bins stand for: symexp of the mean bin, ``(..., bins) ->
    (..., 1)`` from logits.

    ``lowest`` and ``highest`` are the outer bins, as symmetric logarithms; as many as there are logits lie evenly.
    """

    def __init__(self, lowest: float = LOWEST, highest: float = HIGHEST) -> None:
        super().__init__()
        self.lowest, self.highest = lowest, highest

    def forward(self, logits: Tensor) -> Tensor:
        bins = torch.linspace(self.lowest, self.highest, logits.shape[-1])
        return symexp(torch.softmax(logits, -1) @ bins).unsqueeze(-1)

    def two_hot(self, values: Tensor, bins: int) -> Tensor:
        """Numbers ``(...)`` as distributions over the two bins around their symlog, ``(..., bins)``."""
        place = (symlog(values).clamp(self.lowest, self.highest) - self.lowest) / self.step(bins)
        below = place.floor().clamp(max=bins - 2).long()
        share = (place - below).unsqueeze(-1)
        empty = torch.zeros(*values.shape, bins)
        return empty.scatter(-1, below.unsqueeze(-1), 1.0 - share).scatter(-1, below.unsqueeze(-1) + 1, share)

    def cross_entropy(self, logits: Tensor, values: Tensor) -> Tensor:
        """Of predicted distributions ``(..., bins)`` with the two-hot ones of ``values`` ``(...)``: ``(...)``."""
        return -(self.two_hot(values, logits.shape[-1]) * torch.log_softmax(logits, -1)).sum(-1)

    def step(self, bins: int) -> float:
        """How far one bin lies from the next."""
        return (self.highest - self.lowest) / (bins - 1)

    def between(self, first: int, last: int, bins: int) -> Bins:
        """The bins from the first to the last of so many."""
        step = self.step(bins)
        return Bins(self.lowest + first * step, self.lowest + last * step)

    def extra_repr(self) -> str:
        return f"{self.lowest!r} {self.highest!r}"


def log_std(raw: Tensor) -> Tensor:
    """The logarithm of the policy's standard deviation from what its network gives for it."""
    return LOWEST_LOG_STD + 0.5 * (HIGHEST_LOG_STD - LOWEST_LOG_STD) * (raw.tanh() + 1.0)


def action(output: Tensor, noise: Tensor) -> Tensor:
    """Actions of the policy's ``output`` ``(n, 2A)``, means beside deviations, and standard normal noise ``(n, A)``."""
    mean, raw = output.chunk(2, 1)
    return torch.tanh(mean + log_std(raw).exp() * noise)


def log_likelihood(output: Tensor, noise: Tensor) -> Tensor:
    """log pi of what `action` gives, ``(n,)``: the normal density, and the squashing's change of volume."""
    squashed = action(output, noise)
    normal = -0.5 * noise.square() - log_std(output.chunk(2, 1)[1]) - 0.5 * math.log(2.0 * math.pi)
    return (normal - ((1.0 - squashed.square()).clamp(min=0.0) + 1e-6).log()).sum(1)
