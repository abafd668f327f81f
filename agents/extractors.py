"""A features extractor with parameters, so that controllers with a shared encoder can be trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from torch import nn


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
