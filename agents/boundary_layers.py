"""What stands before and behind the networks on the way from an observation to an action, as modules.

None of them has parameters, and what they hold is no part of any state dict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from prunectl.agents.choices import among, options


class Normalise(nn.Module):
    """``(x - mean) / deviation``, clipped to +-clip, in float64; what comes out is float32.

    ``columns`` are those that it happens to, None for all.
    """

    def __init__(
        self,
        mean: NDArray[np.float64],
        deviation: NDArray[np.float64],
        clip: float,
        columns: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__()
        self.mean, self.deviation, self.clip = torch.as_tensor(mean), torch.as_tensor(deviation), clip
        self.columns = None if columns is None else torch.as_tensor(columns)

    def forward(self, observations: Tensor) -> Tensor:
        scaled = (observations - self.mean) / self.deviation
        scaled = scaled.clamp(-self.clip, self.clip)
        return (scaled if self.columns is None else torch.where(self.columns, scaled, observations)).float()


class Inputs(nn.Module):
    """Some numbers of a row ``(n, numbers)``, in the order of their indices, and none of the others."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__()
        self.index = torch.as_tensor(list(numbers), dtype=torch.long)

    def forward(self, rows: Tensor) -> Tensor:
        return rows.index_select(1, self.index)


class OneHot(nn.Module):
    """Choices by index ``(n, choices)`` -> for each a 1 among 0s, side by side ``(n, sum of sizes)``."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(int(size) for size in sizes)

    def forward(self, rows: Tensor) -> Tensor:
        chosen = torch.split(rows.long(), 1, dim=1)
        shown = [nn.functional.one_hot(one.squeeze(1), size) for one, size in zip(chosen, self.sizes, strict=True)]
        return torch.cat(shown, dim=1).float()


class Pixels(nn.Module):
    """Bytes of an image -> numbers from 0 to 1."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.float() / 255.0


class ByPart(nn.Module):
    """Rows of several parts side by side, each through a module of its own."""

    def __init__(self, widths: Sequence[int], modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.widths, self.parts = list(widths), nn.ModuleList(modules)

    def forward(self, rows: Tensor) -> Tensor:
        parts = zip(self.parts, torch.split(rows, self.widths, dim=1), strict=True)
        return torch.cat([module(part) for module, part in parts], dim=1)


class Clip(nn.Module):
    """What PPO, A2C and TRPO do to their mean before it acts. Beyond the bounds an error costs nothing."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.low, self.high = torch.as_tensor(space.low), torch.as_tensor(space.high)

    def forward(self, mean: Tensor) -> Tensor:
        return torch.clamp(mean, self.low, self.high)


class Rescale(nn.Module):
    """From [-1, 1] to the bounds of an action space."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.low, self.range = torch.as_tensor(space.low), torch.as_tensor(space.high - space.low)

    def forward(self, squashed: Tensor) -> Tensor:
        return (squashed + 1.0).mul_(0.5) * self.range + self.low


class Elementwise(nn.Module):
    """``(x - shift) * weight + bias``, each a number or an entry for every index."""

    def __init__(self, shift: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.shift, self.weight, self.bias = shift, weight, bias

    def forward(self, values: Tensor) -> Tensor:
        return ((values - self.shift) * self.weight + self.bias).float()


class QuantileMean(nn.Module):
    """Quantiles ``(n, quantiles * actions)`` to the mean of each action's, ``(n, actions)``."""

    def __init__(self, quantiles: int, actions: int) -> None:
        super().__init__()
        self.quantiles, self.actions = quantiles, actions

    def forward(self, quantiles: Tensor) -> Tensor:
        return quantiles.view(-1, self.quantiles, self.actions).mean(dim=1)


class Argmax(nn.Module):
    """The index of the highest logit of each row, the first of equals."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.argmax(1)


class ArgmaxEach(nn.Module):
    """The same for several choices side by side, among so many options each: ``(n, options) -> (n, choices)``."""

    def __init__(self, options: Sequence[int]) -> None:
        super().__init__()
        self.options = list(options)

    def forward(self, logits: Tensor) -> Tensor:
        return torch.stack([part.argmax(1) for part in torch.split(logits, self.options, dim=1)], dim=1)


class Switches(nn.Module):
    """1 where a switch is rather on than off, else 0."""

    def forward(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits).round().to(torch.int8)


class MaskedStep(nn.Module):
    """One decision of a controller that is told which options are allowed: raw observations ``(n, obs)`` and those
    ``(n, options)``, above 0 for allowed -> actions."""

    def __init__(self, before: nn.Module, options: int, decide: nn.Module) -> None:
        super().__init__()
        self.before, self.decide = before, decide
        self.beside: tuple[Literal["mask"], int] = "mask", options

    def forward(self, observation: Tensor, mask: Tensor) -> Tensor:
        chosen: Tensor = self.decide(among(self.before(observation), mask > 0))
        return chosen


class RememberingStep(nn.Module):
    """One decision of a controller with a memory: raw observations ``(n, obs)`` and the states of its LSTM ``(n,
    memory)``, the outputs of its layers and then their cells -> actions, and the states after them."""

    def __init__(self, before: nn.Module, lstm: nn.LSTM, after: nn.Module) -> None:
        super().__init__()
        self.before, self.lstm, self.after = before, lstm, after
        self.beside: tuple[Literal["memory"], int] = "memory", 2 * lstm.num_layers * lstm.hidden_size

    def forward(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        states = memory.reshape(-1, 2, self.lstm.num_layers, self.lstm.hidden_size).permute(1, 2, 0, 3)
        output, (hidden, cell) = self.lstm(self.before(observation).unsqueeze(0), (states[0], states[1]))
        return self.after(output[0]), torch.cat([*hidden, *cell], dim=1)


def decision(space: spaces.Space[Any]) -> nn.Module:
    """How logits become actions that are choices."""
    if isinstance(space, spaces.MultiBinary):
        return Switches()
    return ArgmaxEach(options(space)) if isinstance(space, spaces.MultiDiscrete) else Argmax()


def flat(*modules: nn.Module) -> nn.Sequential:
    """The layers of these modules one after another, those inside sequences included; what does nothing is left out."""
    layers: list[nn.Module] = []
    for module in modules:
        layers += flat(*module) if isinstance(module, nn.Sequential) else [module]
    return nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))


def computed(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """What a layer's ``forward`` computes; a linear one's with its tensors at hand. Tensors that a layer is given
    later in the place of its own would not be seen; changes in place are."""
    if type(layer) is nn.Linear:
        return partial(nn.functional.linear, weight=layer.weight, bias=layer.bias)
    return layer.forward
