"""Features extractors: which are known, and others that are the same as a known one under other names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from prunectl.agents.controller import ControllerError
from prunectl.agents.extractors import MlpExtractor


@dataclass(frozen=True)
class Known:
    """How a policy's extractors are made again, and what the layers that they hold are then called.

    ``arguments`` are policy arguments in the place of the policy's own; ``names`` go from a layer's name inside the
    extractor to its name inside the one that is made again, empty where those are the same.
    """

    arguments: Mapping[str, Any]
    names: Mapping[str, str]

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The policy's state dict with the names that the extractor has which is made again."""
        found = {}
        for key, tensor in state.items():
            match = re.fullmatch(r"(.*features_extractor\.)(.+)\.(weight|bias)", key)
            renamed = match and f"{match[1]}{self.names.get(match[2], match[2])}.{match[3]}"
            found[renamed or key] = tensor
        return found


def known_extractor(policy: BasePolicy, where: str) -> Known:
    """How the extractors of a live policy are made again; messages begin with ``where``.

    Raises:
        ControllerError: they do something that is not known, which would be lost.
    """
    modules = [module for name, module in policy.named_modules() if re.search(r"features_extractor$", name)]
    classes = {type(module) for module in modules}
    if classes <= {FlattenExtractor} or classes == {MlpExtractor}:
        return Known({}, {})
    if len(classes) == 1:
        layers = _layers(modules[0])
        if layers is not None:
            linear = [name for name, layer in layers if isinstance(layer, nn.Linear)]
            arguments = {
                "features_extractor_class": MlpExtractor,
                "features_extractor_kwargs": {"activation_fn": type(layers[1][1])},
            }
            return Known(arguments, {name: f"net.{2 * place}" for place, name in enumerate(linear)})
    names = ", ".join(sorted(kind.__name__ for kind in classes))
    raise ControllerError(
        f"{where}: its features extractor {names} cannot be made smaller: known are Stable-Baselines3's "
        "FlattenExtractor, and one that is but an nn.Sequential of linear layers, the same activation behind each"
    )


def _layers(extractor: nn.Module) -> list[tuple[str, nn.Module]] | None:
    """The layers of an extractor by name if they are linear ones and activations of one kind in turn, else nothing."""
    found = [(name, layer) for name, layer in extractor.named_modules() if not list(layer.children())]
    found = [(name, layer) for name, layer in found if not isinstance(layer, nn.Flatten | nn.Identity)]
    linear, activations = found[::2], found[1::2]
    if len(linear) != len(activations) or not linear or len({type(layer) for _, layer in activations}) != 1:
        return None
    plain = all(type(layer) is nn.Linear and layer.bias is not None for _, layer in linear)
    held = sum(tensor.numel() for _, layer in linear for tensor in layer.parameters())
    whole = held == sum(tensor.numel() for tensor in extractor.state_dict().values())
    return found if plain and whole else None
