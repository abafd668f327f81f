"""Actions that are choices: how many options there are, and how numbers decide among them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

#: What actions may be.
Actions = spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary
#: The logit of an option that is not allowed. Finite, so that a loss of it is a number.
FORBIDDEN = -1e8


def options(space: spaces.Space[Any]) -> tuple[int, ...]:
    """Among how many options each of the choices is that an action makes at once; none where it is real numbers."""
    match space:
        case spaces.Discrete():
            return (int(space.n),)
        case spaces.MultiDiscrete():
            return tuple(int(number) for number in space.nvec)
        case spaces.MultiBinary():
            return (2,) * math.prod(space.shape)
    return ()


def among(logits: Tensor, allowed: Tensor | None) -> Tensor:
    """Logits ``(n, options)`` with those options out of reach that are not allowed, as sb3-contrib's masks do it."""
    return logits if allowed is None else torch.where(allowed, logits, FORBIDDEN)


@dataclass(frozen=True)
class Choice:
    """How a component's outputs are read as choices.

    ``space`` is that of the actions. ``valued`` says that the outputs are not logits but the value of each option of
    the one choice, or several estimates of each, option by option in turn, whose mean counts.
    """

    space: spaces.Space[Any]
    valued: bool = False

    def logits(self, outputs: Tensor, allowed: Tensor | None = None) -> list[Tensor]:
        """For each choice ``(n, options)``: logits, or values. All switches are one entry ``(n * switches, 2)``.

        ``allowed`` ``(n, all options)`` says which options there are at all, where not all of them are.
        """
        outputs = among(outputs, allowed)
        if self.valued:
            (count,) = options(self.space)
            return [outputs.view(len(outputs), -1, count).mean(dim=1)]
        if isinstance(self.space, spaces.Discrete):
            return [outputs]
        if isinstance(self.space, spaces.MultiBinary):
            on = outputs.reshape(-1)
            return [torch.stack([torch.zeros_like(on), on], dim=1)]
        return list(torch.split(outputs, list(options(self.space)), dim=1))
