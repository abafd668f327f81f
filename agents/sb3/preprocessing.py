"""What Stable-Baselines3 makes of observations before its networks see them (its `preprocess_obs`), out of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor
from torch import nn

from prunectl.agents.boundary_layers import ByPart, OneHot, Pixels
from prunectl.agents.extractors import InputsExtractor
from prunectl.agents.rows import parts_of, width


def preprocessing(space: spaces.Space[Any], scales_images: bool, shaped: bool) -> list[nn.Module]:
    """From rows ``(n, numbers)`` to what the features extractor is shown.

    Choices become ones among zeros, bytes of images numbers from 0 to 1. What comes out are rows again; arrays
    ``(n, ...)`` where it is to be ``shaped`` and observations are arrays.
    """
    parts = parts_of(space).values()
    modules: list[nn.Module] = [_of_part(part, scales_images) for part in parts]
    found: list[nn.Module] = modules if len(modules) == 1 else [ByPart([width(part) for part in parts], modules)]
    if all(isinstance(module, nn.Identity) for module in modules):
        found = []
    if shaped and isinstance(space, spaces.Box) and len(space.shape) > 1:
        found.append(nn.Unflatten(1, space.shape))
    return found


def _of_part(space: spaces.Space[Any], scales_images: bool) -> nn.Module:
    match space:
        case spaces.Discrete():
            return OneHot([int(space.n)])
        case spaces.MultiDiscrete():
            return OneHot([int(size) for size in space.nvec])
        case spaces.Box() if scales_images and is_image_space(space):
            return Pixels()
    return nn.Identity()


def only_flattens(extractor: nn.Module) -> bool:
    """Whether a features extractor does nothing to preprocessed rows, but for leaving numbers out."""
    if type(extractor) is CombinedExtractor:
        return all(type(part) is nn.Flatten for part in extractor.extractors.values())
    return type(extractor) in (FlattenExtractor, InputsExtractor)


class OfParts(nn.Module):
    """A features extractor of observations by name, over preprocessed rows of them."""

    def __init__(self, extractor: nn.Module, space: spaces.Dict) -> None:
        super().__init__()
        self.extractor, self.names = extractor, tuple(space.spaces)
        self.widths = [_width(part) for part in space.spaces.values()]
        self.shaping = nn.ModuleList(_shaping(part) for part in space.spaces.values())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        parts: Sequence[torch.Tensor] = torch.split(rows, self.widths, dim=1)
        shaped = {name: shape(parts[i]) for i, (name, shape) in enumerate(zip(self.names, self.shaping, strict=True))}
        features: torch.Tensor = self.extractor(shaped)
        return features


def _width(space: spaces.Space[Any]) -> int:
    """How many numbers of a preprocessed row are of this part."""
    match space:
        case spaces.Discrete():
            return int(space.n)
        case spaces.MultiDiscrete():
            return int(space.nvec.sum())
    return width(space)


def _shaping(space: spaces.Space[Any]) -> nn.Module:
    shape = space.shape if isinstance(space, spaces.Box | spaces.MultiBinary) else None
    return nn.Unflatten(1, shape) if shape is not None and len(shape) > 1 else nn.Identity()
