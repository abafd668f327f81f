"""Features extractors: which are known, and others that are the same as a known one under other names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
)
from torch import Tensor, nn

from prunectl.agents.extractors import CnnExtractor, InputsExtractor, MlpExtractor, PartsExtractor
from prunectl.agents.sb3.families import NotRebuiltError


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


#: The features extractor that a kind of policy has where none is named.
DEFAULTS: Mapping[str, type[BaseFeaturesExtractor]] = {
    "Mlp": FlattenExtractor,
    "Cnn": NatureCNN,
    "MultiInput": CombinedExtractor,
}
#: Those that plain Stable-Baselines3 loads only where prunectl is.
OURS: tuple[type[BaseFeaturesExtractor], ...] = (InputsExtractor, MlpExtractor, CnnExtractor, PartsExtractor)
#: NatureCNN's convolutions (Mnih et al. 2015): outputs, kernels and steps; its layers as `CnnExtractor` names them.
_CHANNELS, _KERNELS, _STRIDES = [32, 64, 64], [8, 4, 3], [4, 2, 1]
_NAMES = {"cnn.0": "net.0", "cnn.2": "net.2", "cnn.4": "net.4", "linear.0": "net.7"}


def known_class(kind: type[BaseFeaturesExtractor], state: Mapping[str, Tensor]) -> Known:
    """How extractors of a known class are made again. Those whose widths are no arguments become ours, which are layer
    by layer the same.

    Args:
        kind: one of `DEFAULTS` or of `agents.extractors`.
        state: the policy's state dict.
    """
    if kind is NatureCNN:
        return Known(_arguments(CnnExtractor, {"strides": _STRIDES}), _NAMES)
    found = {
        match[1]
        for key in state
        if (match := re.search(r"features_extractor\.extractors\.([^.]+)\.cnn\.0\.weight", key))
    }
    if kind is CombinedExtractor and found:
        return Known(
            _arguments(PartsExtractor, {"cnns": {key: {"strides": _STRIDES} for key in sorted(found)}}), _by_part(found)
        )
    return Known({}, {})


def stock_form(
    fixed: Mapping[str, Any], widths: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """Policy arguments and weights with Stable-Baselines3's own extractor for ours, where it has the widths.

    Args:
        fixed: the policy's arguments but for widths.
        widths: those of the features extractor.
        state: the policy's state dict.
    """
    kind, given = fixed.get("features_extractor_class"), fixed.get("features_extractor_kwargs") or {}
    if kind is CnnExtractor:
        cnns = {"": {**given, **widths}}
    elif kind is PartsExtractor:
        cnns = {key: {**given["cnns"][key], **cnn} for key, cnn in widths["cnns"].items()}
    else:
        return fixed, state
    nature = {"channels": _CHANNELS, "kernels": _KERNELS, "strides": _STRIDES}
    dims = {cnn["features_dim"] for cnn in cnns.values()}
    if len(dims) > 1 or any(list(cnn[side]) != wanted for cnn in cnns.values() for side, wanted in nature.items()):
        return fixed, state
    if kind is CnnExtractor:
        stock, names = _arguments(NatureCNN, {"features_dim": dims.pop()}), _NAMES
    else:
        stock, names = _arguments(CombinedExtractor, {"cnn_output_dim": dims.pop()}), _by_part(cnns)
    return {**fixed, **stock}, Known({}, {new: old for old, new in names.items()}).renamed(state)


def _by_part(keys: Iterable[str]) -> dict[str, str]:
    """`_NAMES` of several parts."""
    return {f"extractors.{key}.{old}": f"extractors.{key}.{new}" for key in keys for old, new in _NAMES.items()}


def reading(inputs: Sequence[int]) -> dict[str, Any]:
    """Policy arguments of an extractor that hands these numbers of a flat observation on."""
    return _arguments(InputsExtractor, {"inputs": list(inputs)})


def _arguments(kind: type[BaseFeaturesExtractor], given: Mapping[str, Any]) -> dict[str, Any]:
    return {"features_extractor_class": kind, "features_extractor_kwargs": dict(given)}


def known_extractor(policy: BasePolicy, where: str) -> Known:
    """How the extractors of a live policy are made again; messages begin with ``where``.

    Raises:
        NotRebuiltError: they do something that is not known, which would be lost.
    """
    modules = [module for name, module in policy.named_modules() if re.search(r"(^|\.|_)features_extractor$", name)]
    classes = {type(module) for module in modules}
    if len(classes) <= 1 and classes <= {*DEFAULTS.values(), *OURS}:
        return known_class(type(modules[0]), policy.state_dict()) if modules else Known({}, {})
    if len(classes) == 1:
        layers = _layers(modules[0])
        if layers is not None:
            linear = [name for name, layer in layers if isinstance(layer, nn.Linear)]
            arguments = _arguments(MlpExtractor, {"activation_fn": type(layers[1][1])})
            return Known(arguments, {name: f"net.{2 * place}" for place, name in enumerate(linear)})
    names = ", ".join(sorted(kind.__name__ for kind in classes))
    raise NotRebuiltError(
        f"{where}: its features extractor {names} cannot be made smaller: known are Stable-Baselines3's own "
        "and one that is but an nn.Sequential of linear layers, the same activation behind each"
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
