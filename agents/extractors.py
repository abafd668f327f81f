"""Features extractors with parameters, so that controllers with a shared encoder can be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from torch import nn

from prunectl.agents.boundary_layers import Inputs
from prunectl.agents.supported import LARGEST_VALUE, MOST_MACS


class InputsExtractor(BaseFeaturesExtractor):
    """Some numbers of a flat observation as they are, and none of the others.

    A zip of a controller that uses it names this class, so plain Stable-Baselines3 needs prunectl to load it.

    Args:
        observation_space: flat.
        inputs: the indices of those that are read, ascending.

    Raises:
        ValueError: the observation is not flat, or these are no indices of it.
    """

    def __init__(self, observation_space: spaces.Box, inputs: Sequence[int]) -> None:
        if len(observation_space.shape) != 1 or not inputs or list(inputs) != sorted(set(inputs)):
            raise ValueError(f"InputsExtractor needs a flat observation and ascending indices, got {str(inputs)[:60]}")
        if not 0 <= inputs[0] <= inputs[-1] < observation_space.shape[0]:
            raise ValueError(f"InputsExtractor: the observation has {observation_space.shape[0]} numbers")
        super().__init__(observation_space, features_dim=len(inputs))
        self.inputs = Inputs(inputs)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.inputs(observations)
        return features


class MlpExtractor(BaseFeaturesExtractor):
    """An MLP from a flat observation to ``widths[-1]`` features, an activation after each layer.

    A zip of a controller that uses it names this class, so plain Stable-Baselines3 needs prunectl to load it.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        widths: Sequence[int] = (64, 64),
        activation_fn: type[nn.Module] = nn.ReLU,
    ) -> None:
        if len(observation_space.shape) != 1 or not widths:
            raise ValueError(f"MlpExtractor needs a flat observation and at least one width, got {widths}")
        super().__init__(observation_space, features_dim=widths[-1])
        layers = create_mlp(observation_space.shape[0], -1, list(widths), activation_fn)
        self.net = nn.Sequential(*layers)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.net(observations)
        return features


class CnnExtractor(BaseFeaturesExtractor):
    """A small CNN from an image ``(channels, height, width)`` to ``features_dim`` features, a ReLU after each layer.

    Stable-Baselines3's NatureCNN has widths of its own; these are all arguments, so that a smaller one is saved and
    loaded like any other.

    Args:
        observation_space: images, channels first, as `CnnPolicy` turns them; values from 0 to 1.
        channels, kernels, strides: of each convolution: output channels, sides of the square kernel, steps in pixels.
        features_dim: outputs of the linear layer behind them.

    Raises:
        ValueError: the three lists differ in length or are empty, the images are too small for the kernels, or there
            would be numbers or products without end, which a few weights can ask for.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        channels: Sequence[int] = (16, 32),
        kernels: Sequence[int] = (4, 3),
        strides: Sequence[int] = (4, 2),
        features_dim: int = 64,
    ) -> None:
        if len(observation_space.shape) != 3 or not channels:
            raise ValueError(f"CnnExtractor needs images and at least one convolution, got {channels}")
        super().__init__(observation_space, features_dim)
        before, *sides = observation_space.shape
        layers: list[nn.Module] = []
        work = 0
        for after, kernel, stride in zip(channels, kernels, strides, strict=True):
            if min(sides) < kernel:
                raise ValueError(f"CnnExtractor: a kernel of {kernel} pixels on {min(sides)}")
            layers += [nn.Conv2d(before, after, kernel, stride), nn.ReLU()]
            sides = [(side - kernel) // stride + 1 for side in sides]
            numbers = after * sides[0] * sides[1]
            work += numbers * before * kernel**2
            if numbers > LARGEST_VALUE or work > MOST_MACS:
                raise ValueError(f"CnnExtractor: {numbers} numbers and {work} products for one image are too many")
            before = after
        flat = before * sides[0] * sides[1]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, features_dim), nn.ReLU())

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.net(observations)
        return features


class PartsExtractor(BaseFeaturesExtractor):
    """Stable-Baselines3's CombinedExtractor with widths of its own: from observations by name to their features side by
    side, those of an image from a `CnnExtractor`, all others as they are.

    Args:
        observation_space: a Dict; images with channels first.
        cnns: the arguments of the `CnnExtractor` of each image, by its name.

    Raises:
        ValueError: there is no such image.
    """

    def __init__(self, observation_space: spaces.Dict, cnns: Mapping[str, Mapping[str, Any]]) -> None:
        if not cnns.keys() <= observation_space.spaces.keys():
            raise ValueError(
                f"PartsExtractor: no observations {', '.join(cnns.keys() - observation_space.spaces.keys())}"
            )
        super().__init__(observation_space, features_dim=1)
        parts: dict[str, nn.Module] = {}
        features = 0
        for key, part in observation_space.spaces.items():
            if key in cnns:
                assert isinstance(part, spaces.Box)
                cnn = CnnExtractor(part, **cnns[key])
                parts[key], features = cnn, features + cnn.features_dim
            else:
                parts[key], features = nn.Flatten(), features + get_flattened_obs_dim(part)
        self.extractors = nn.ModuleDict(parts)
        self._features_dim = features

    def forward(self, observations: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([extractor(observations[key]) for key, extractor in self.extractors.items()], dim=1)
