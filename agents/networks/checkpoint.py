"""Reading what `Networks.save` wrote; nothing of it is run but calls of the vocabulary."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from prunectl.agents.controller import ControllerError, attribute_name
from prunectl.agents.networks.calls import Call, Calls
from prunectl.agents.networks.controller import Networks, check_names, tried
from prunectl.agents.networks.form import calls_from_json, read_file, space_from_json
from prunectl.agents.networks.layers import MOST_LAYERS, Part, rebuilt
from prunectl.agents.rows import form_from_json
from prunectl.agents.supported import LARGEST_OBSERVATION, LARGEST_VALUE, MOST_MACS
from prunectl.agents.surroundings import PLAIN, Surroundings
from prunectl.agents.tensors import check_finite
from prunectl.registry import one_line


def read_networks(path: Path) -> tuple[Networks, Mapping[str, Any]]:
    """The controller in a file, and what the file says besides: its task, the provenance it was saved with.

    Raises:
        ControllerError: no such file, or its parts do not fit each other.
    """
    tensors, said = read_file(path)
    try:
        controller = _controller(tensors, said)
    except ControllerError as error:
        raise ControllerError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, AssertionError) as error:
        raise ControllerError(f"{path}: what it says of its networks cannot be read ({one_line(error)})") from error
    check_finite(controller.networks.state_dict(), str(path))
    return controller.checked(str(path)), said


def _controller(tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> Networks:
    layers, free, names = said["layers"], said["tensors"], said["components"]
    check_names(names, "components")
    networks = rebuilt(layers, free, tensors)
    lists = {
        name: None if data is None else calls_from_json(data, name, tensors, layers, free)
        for name, data in said["calls"].items()
    }
    flow, acting = lists["dataflow"], lists["act"]
    if flow is None or acting is None or acting.inputs != 1:
        raise ControllerError("'dataflow' and 'act' are needed, the latter of observations alone")
    observed = space_from_json(said["observation_space"], LARGEST_OBSERVATION)
    done = space_from_json(said["action_space"])
    if not isinstance(observed, spaces.Box):
        raise ControllerError("its observations are no numbers")
    controller = Networks(
        networks,
        tuple(names),
        flow,
        acting,
        lists["observe"],
        observed,
        done,
        fixed=frozenset(said["fixed"]),
        ties=tuple(map(tuple, said["ties"])),
        surroundings=Surroundings.from_json(said["surroundings"]) if "surroundings" in said else PLAIN,
        algorithm=_word(said["algorithm"]),
        given=form_from_json(said["given"], math.prod(observed.shape)) if "given" in said else None,
    )
    parts = {path.split(".", 1)[0] for path in (*layers, *free)}
    empty = set(map(attribute_name, names)) - parts  # functions without layers
    if len(empty) > MOST_LAYERS:
        raise ControllerError(f"{len(empty)} components without layers")
    for name in empty:
        networks.add_module(name, Part())
    if not parts <= set(map(attribute_name, names)):
        raise ControllerError(f"its layers are of {', '.join(parts)[:100]}, its components {', '.join(names)[:100]}")
    _check_sizes(controller)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith("constant of ")}
    try:
        networks.load_state_dict(own, assign=True)
    except RuntimeError as error:
        raise ControllerError(f"weights and layers do not fit: {one_line(error)}") from error
    return controller


def _check_sizes(controller: Networks) -> None:
    """Make all calls without numbers, on PyTorch's meta device, and refuse what would take them without end."""
    action = controller.action_space
    actions = (int(action.n),) if isinstance(action, spaces.Discrete) else action.shape
    shown: Any = torch.zeros(1, *controller.observation_space.shape, device="meta")
    if controller.seeing is not None:
        shown = _sized(controller.seeing, controller.networks, shown)
    _sized(controller.acting, controller.networks, shown)
    given = (shown, torch.zeros(1, *actions, device="meta"))[: controller.flow.inputs]
    _sized(controller.flow, controller.networks, *given)


def _sized(calls: Calls, networks: nn.Module, *inputs: Tensor) -> Any:
    def check(call: Call, value: Any) -> None:
        for tensor in value if isinstance(value, tuple | list) else [value]:
            if not isinstance(tensor, Tensor):
                continue
            weight = getattr(networks.get_submodule(call.name), "weight", None) if call.kind == "layer" else None
            work = tensor.numel() if weight is None else tensor.numel() * weight.numel() // max(len(weight), 1)
            if tensor.numel() > LARGEST_VALUE or work > MOST_MACS:
                raise ControllerError(f"'{call.name[:60]}' would give {tensor.numel()} numbers for one observation")

    empty = replace(calls, constants=tuple(constant.to("meta") for constant in calls.constants))
    return tried(lambda: empty.run(networks, *inputs, told=check), "its networks")


def _word(said: Any) -> str:
    if not isinstance(said, str) or not said.isprintable() or not 0 < len(said) <= 40:
        raise ControllerError(f"an algorithm of the name {str(said)[:40]!r}")
    return said
