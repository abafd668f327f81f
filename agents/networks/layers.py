"""Layers of networks as plain data, and networks of plain data: no class but those of the vocabulary is ever built."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunectl.agents.controller import ControllerError
from prunectl.agents.networks.vocabulary import LAYERS, WORDS, layer_name
from prunectl.registry import one_line

#: Layers that networks may have, and how deep they may lie.
MOST_LAYERS, DEEPEST = 2_000, 12
#: Whole numbers in the settings of a layer or a call.
LARGEST_NUMBER = 2**31
#: One step of a path: a name, or an index in a sequence.
_STEP = r"[A-Za-z]\w{0,59}|_\w{0,59}|\d{1,6}"


class Part(nn.Module):
    """A component, or a part of one, that was rebuilt from a file: it holds layers and is called by none."""


def described(networks: nn.Module, where: str) -> dict[str, dict[str, Any]]:
    """Every layer by its path: its kind and its settings.

    Raises:
        ControllerError: a layer that no file has a word for.
    """
    found: dict[str, dict[str, Any]] = {}
    for path, layer in networks.named_modules():
        if path.startswith(tuple(f"{known}." for known in found)):  # a part of a layer
            continue
        if (kind := layer_name(layer)) is not None:
            found[path] = {"kind": kind, **{name: _setting(layer, name) for name in LAYERS[kind]}}
        elif type(layer).__module__.startswith("torch.nn.modules.") and not list(layer.children()) and path:
            raise ControllerError(
                f"{where}: '{path}' is a {type(layer).__name__}, which no saved controller can hold; linear, "
                "convolutional, recurrent and attention layers, norms, pools and activations of torch.nn can be"
            )
    return found


def loose(networks: nn.Module) -> dict[str, str]:
    """Parameters and buffers that belong to no layer, by path: ``parameter`` or ``buffer``."""
    layers = tuple(f"{path}." for path, layer in networks.named_modules() if layer_name(layer) is not None)
    kinds = {name: "parameter" for name, _ in networks.named_parameters()}
    kinds |= {name: "buffer" for name, _ in networks.named_buffers()}
    return {name: kind for name, kind in kinds.items() if not name.startswith(layers)}


def rebuilt(layers: Mapping[str, Any], free: Mapping[str, str], state: Mapping[str, Tensor]) -> nn.Module:
    """The networks that `described` and `loose` are of, without numbers: every tensor is on PyTorch's meta device.

    Raises:
        ControllerError: no such layers.
    """
    if len(layers) > MOST_LAYERS or len(free) > MOST_LAYERS:
        raise ControllerError(f"over {MOST_LAYERS} layers")
    networks = Part()
    for path, said in layers.items():
        owner, name = _owner(networks, path)
        owner.add_module(name, _layer(said, path))
    for path, kind in free.items():
        owner, name = _owner(networks, path)
        if path not in state or hasattr(owner, name):
            raise ControllerError(f"there is no tensor '{path[:80]}'")
        empty = torch.empty_like(state[path], device="meta")
        if kind == "parameter":
            owner.register_parameter(name, nn.Parameter(empty, requires_grad=empty.is_floating_point()))
        else:
            owner.register_buffer(name, empty)
    return networks


def check_setting(value: Any, where: str) -> None:
    """Raise ControllerError unless this is a number, a word of the vocabulary, None, or some of these."""
    entries = value if isinstance(value, list | tuple) else [value]
    if len(entries) > 64:
        raise ControllerError(f"{where}: {len(entries)} settings in one")
    for entry in entries:
        if isinstance(entry, str) and entry in WORDS:
            continue
        if entry is None or isinstance(entry, bool):
            continue
        if isinstance(entry, int) and abs(entry) < LARGEST_NUMBER:
            continue
        if isinstance(entry, float) and not math.isnan(entry):
            continue
        raise ControllerError(f"{where}: a setting of {str(entry)[:40]!r}")


def _setting(layer: nn.Module, name: str) -> Any:
    if isinstance(layer, nn.MultiheadAttention) and name == "bias":
        return layer.in_proj_bias is not None
    value = getattr(layer, name, None)
    if name == "bias" and not isinstance(value, bool):  # a tensor, or none
        return value is not None
    return list(value) if isinstance(value, tuple) else value


def _layer(said: Any, path: str) -> nn.Module:
    if not isinstance(said, dict) or said.get("kind") not in LAYERS:
        kind = said.get("kind") if isinstance(said, dict) else said
        raise ControllerError(f"'{path[:80]}' is a {str(kind)[:40]!r}, which is no layer that is read")
    kind = said["kind"]
    settings = {name: value for name, value in said.items() if name != "kind"}
    if set(settings) != set(LAYERS[kind]):
        raise ControllerError(f"'{path[:80]}' ({kind}) needs the settings {', '.join(LAYERS[kind]) or '(none)'}")
    for name, value in settings.items():
        check_setting(value, f"'{path[:80]}' ({kind}), {name}")
    if settings.get("num_layers", 1) not in range(1, 65):
        raise ControllerError(f"'{path[:80]}' ({kind}) has {settings['num_layers']} layers")
    make: Any = getattr(nn, kind)
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    try:
        with torch.device("meta"):  # numbers come later, and take no room before
            layer: nn.Module = make(**settings)
    except Exception as error:  # whatever the layer's constructor says of such settings
        raise ControllerError(f"'{path[:80]}' ({kind}) cannot be built ({one_line(error)})") from error
    return layer


def _owner(networks: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The part that a path ends in, made where it is not there yet, and the last step."""
    steps = path.split(".") if isinstance(path, str) and len(path) <= 800 else []
    if not 0 < len(steps) <= DEEPEST or not all(re.fullmatch(_STEP, step) for step in steps):
        raise ControllerError(f"'{str(path)[:80]}' is no path of a layer")
    owner = networks
    for step in steps[:-1]:
        if step not in owner._modules:
            if hasattr(owner, step):
                raise ControllerError(f"a part cannot be named '{step}'")
            owner.add_module(step, Part())
        inner = owner._modules[step]
        if type(inner) is not Part:
            raise ControllerError(f"'{path[:80]}' lies inside of a layer")
        owner = inner
    if hasattr(owner, steps[-1]):
        raise ControllerError(f"'{path[:80]}' is there twice, or a part cannot be named so")
    return owner, steps[-1]
