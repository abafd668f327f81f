"""Reading TD-MPC and TD-MPC2 checkpoints: ours, which `save` writes, and the authors', a state dict beside a
config.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from prunectl.agents.controller import ControllerError
from prunectl.agents.files import read_bounded
from prunectl.agents.tdmpc.controller import TDMPCController
from prunectl.agents.tdmpc.layers import rebuild
from prunectl.agents.tdmpc.model import LatentModel, Parts, TDMPCNetworks
from prunectl.agents.tdmpc.networks import WorldModel
from prunectl.agents.tdmpc.planner import Planning
from prunectl.agents.tdmpc2 import authors as authors2
from prunectl.agents.tdmpc2.networks import NUMBERS, DistributionalModel
from prunectl.agents.tensors import LARGEST_WEIGHTS, check_finite, read_tensors
from prunectl.registry import one_line

#: Where an authors' state dict has its settings.
CONFIG = "config.json"
LARGEST_CONFIG = 2**20
#: Numbers that one decision may draw, each of them several times in memory; the authors' agents draw some 10,000.
LARGEST_DRAW = 10**7
#: Components that each kind of model has besides its critics, and how many of those it may have.
_PARTS = ("encoder", "dynamics", "reward", "actor")
_CRITICS: Mapping[type[LatentModel], range] = {WorldModel: range(2, 3), DistributionalModel: NUMBERS}

#: The authors' name of each network of TD-MPC, and its layers.
_AUTHORS = {
    "encoder": ("_encoder", ["linear", "elu", "linear"]),
    "dynamics": ("_dynamics", ["linear", "elu", "linear", "elu", "linear"]),
    "reward": ("_reward", ["linear", "elu", "linear", "elu", "linear"]),
    "actor": ("_pi", ["linear", "elu", "linear", "elu", "linear", "tanh"]),
    "critic_0": ("_Q1", ["linear", "layer_norm", "tanh", "linear", "elu", "linear"]),
    "critic_1": ("_Q2", ["linear", "layer_norm", "tanh", "linear", "elu", "linear"]),
}


def load_checkpoint(path: Path) -> TDMPCController:
    """A controller from our ``.pt``, or from the authors' ``.pt`` with its ``config.json`` beside it.

    Raises:
        ControllerError: not such a file, or its parts do not fit.
    """
    return read_checkpoint(path)[0]


def read_checkpoint(path: Path) -> tuple[TDMPCController, Mapping[str, Any]]:
    """The same, with what the checkpoint's configuration says besides: its task, the provenance it was saved with.

    Raises:
        ControllerError: not such a file, or its parts do not fit.
    """
    try:
        content = read_tensors(read_bounded(path, LARGEST_WEIGHTS))
    except (ControllerError, OSError) as error:
        raise ControllerError(f"{path}: not a TD-MPC checkpoint ({one_line(error)})") from error
    read = None
    if isinstance(content, dict) and {"config", "networks"} <= content.keys():
        read = _ours
    elif isinstance(content, dict) and _of_authors(content.get("model")):
        read = _authors
    if read is None:
        raise ControllerError(f"{path}: neither prunectl's TD-MPC format nor the state dict of the authors' code")
    controller, config = read(content, path)
    _check(controller, path)
    return controller, config


def _of_authors(model: Any) -> bool:
    """Whether a state dict is of one of the authors' agents: TD-MPC's, or TD-MPC2's."""
    return isinstance(model, dict) and any(name.startswith("_encoder.") for name in model)


def _ours(content: Mapping[str, Any], path: Path) -> tuple[TDMPCController, Mapping[str, Any]]:
    try:
        config = json.loads(content["config"])
        models = {model.format: model for model in _CRITICS}
        if config["format"] not in models:
            said, known = str(config["format"])[:40], "', '".join(models)
            raise ControllerError(f"{path}: format '{said}', this version reads '{known}'")
        controller = TDMPCController(
            networks=_assembled(models[config["format"]], content["networks"], config["layers"], path),
            planning=Planning(**config["planning"]),
            action_repeat=config["action_repeat"],
            reward_scale=config["reward_scale"],
            observation_space=_box_from_json(config["observation_space"]),
            action_space=_box_from_json(config["action_space"]),
        )
        return controller, config
    except ControllerError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ControllerError(f"{path}: damaged configuration ({one_line(error)})") from error


def _authors(content: Mapping[str, Any], path: Path) -> tuple[TDMPCController, Mapping[str, Any]]:
    beside, model = path.with_name(CONFIG), content["model"]
    try:
        config = json.loads(read_bounded(beside, LARGEST_CONFIG))
        repeat, reward_scale = int(config["action_repeat"]), float(config.get("reward_scale", 1.0))
        if "_encoder.0.weight" in model:
            networks, scale = _first(content, path), float(config["action_scale"])
            named = {field.name: config[field.name] for field in fields(Planning) if field.name in config}
            planning = Planning(**named)
        else:
            networks = _assembled(DistributionalModel, *authors2.renamed(model, config), path)
            planning = authors2.planned(config, networks.online.actions)
            scale = float(config.get("action_scale", 1.0))
    except FileNotFoundError as error:
        raise ControllerError(
            f"{path}: an authors' state dict needs its settings in {beside.name} beside it"
        ) from error
    except ControllerError as error:
        raise ControllerError(f"{path}: {one_line(error).removeprefix(f'{path}: ')}") from error
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError, RecursionError) as error:
        raise ControllerError(f"{beside}: not the settings of a TD-MPC agent ({one_line(error)})") from error
    if not 0 < scale <= np.finfo(np.float32).max:
        raise ControllerError(f"{beside}: action_scale {scale}: a finite number above 0 is needed")
    first = networks.online.encoder[0]
    assert isinstance(first, nn.Linear)
    bound = np.full(networks.online.actions, scale, dtype=np.float32)
    controller = TDMPCController(
        networks=networks,
        planning=planning,
        action_repeat=repeat,
        reward_scale=reward_scale,
        observation_space=spaces.Box(-np.inf, np.inf, (first.in_features,), np.float32),
        action_space=spaces.Box(-bound, bound, dtype=np.float32),
    )
    return controller, config


def _first(content: Mapping[str, Any], path: Path) -> TDMPCNetworks:
    """The networks that TD-MPC's authors saved."""
    state: dict[str, Tensor] = {}
    for side, theirs in (("online", content["model"]), ("target", content.get("model_target", content["model"]))):
        for name, (prefix, _) in _AUTHORS.items():
            own = {key: tensor for key, tensor in theirs.items() if key.startswith(f"{prefix}.")}
            state |= {f"{side}.{name}{key.removeprefix(prefix)}": tensor for key, tensor in own.items()}
    return _assembled(WorldModel, state, {name: layers for name, (_, layers) in _AUTHORS.items()}, path)


def _assembled(
    kind: type[LatentModel], state: Mapping[str, Tensor], layers: Mapping[str, list[str]], path: Path
) -> TDMPCNetworks:
    """Networks of their layers and of tensors ``online.NAME.*`` and ``target.NAME.*``."""
    critics = sum(name not in _PARTS for name in layers)
    names = [*_PARTS, *(f"critic_{index}" for index in range(critics))]
    if critics not in _CRITICS[kind] or not set(names) <= layers.keys():
        raise ControllerError(f"{path}: networks {', '.join(map(str, layers))[:200]}: not those of {kind.algorithm}")
    read = {name: kind.read(name, layers[name]) for name in names}
    online = kind(**{name: _network(state, f"online.{name}.", read[name], path) for name in names})
    slow = {name: _network(state, f"target.{name}.", read[name], path) for name in online.slow}
    return TDMPCNetworks(online, Parts(**slow).requires_grad_(False))


def check_planning(planning: Planning, actions: int, where: str) -> None:
    """Raise ControllerError unless a planner's settings are finite numbers and a decision is affordable."""
    whole = (planning.horizon, planning.iterations, planning.num_samples, planning.num_elites)
    numbers = tuple(vars(planning).values())
    if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers) or any(type(n) is not int for n in whole):
        raise ControllerError(f"{where}: settings of the planner that are no finite numbers: {str(numbers)[:200]}")
    drawn = math.prod((planning.horizon, planning.iterations, planning.num_samples, actions))
    if drawn > LARGEST_DRAW or planning.policy_samples > planning.num_samples or planning.policy_samples < 0:
        raise ControllerError(f"{where}: a decision would draw {drawn} numbers: {str(planning)[:200]}")


def _check(controller: TDMPCController, path: Path) -> None:
    """Raise ControllerError unless the networks fit each other and their spaces, and a decision is affordable."""
    planning, repeat, scale = controller.planning, controller.action_repeat, controller.reward_scale
    spaces_ = controller.observation_space, controller.action_space
    if any(len(space.shape) != 1 for space in spaces_) or not np.isfinite([spaces_[1].low, spaces_[1].high]).all():
        raise ControllerError(
            f"{path}: observations {spaces_[0].shape}, actions {spaces_[1]}: bounded vectors are read"
        )
    low, high = (side.astype(np.float64) for side in (spaces_[1].low, spaces_[1].high))
    if not (low < high).all() or (high - low).max() > np.finfo(np.float32).max:
        raise ControllerError(f"{path}: actions between {low.tolist()!s:.60} and {high.tolist()!s:.60}: no range")
    check_planning(planning, spaces_[1].shape[0], str(path))
    if not all(type(n) in (int, float) and math.isfinite(n) for n in (repeat, scale)):
        raise ControllerError(f"{path}: action_repeat {repeat!s:.50}, reward_scale {scale!s:.50}: finite numbers")
    if type(repeat) is not int or not 1 <= repeat <= 10_000 or scale == 0:
        raise ControllerError(
            f"{path}: action_repeat {repeat}, reward_scale {scale}: a whole number above 0, and not 0"
        )
    (seen,), (decided,) = (space.shape for space in spaces_)
    online, target = controller.networks.online, controller.networks.target
    sizes = online.outputs
    try:
        with torch.no_grad():
            latent = online.encoder(torch.zeros(1, seen))
            joint = torch.cat([latent, torch.zeros(1, decided)], 1)
            given = {"encoder": torch.zeros(1, seen), "actor": latent}
            for name, network in (*online.named_children(), *target.named_children()):
                size = sizes.get(name.split("_")[0], latent.shape[1])
                if network(given.get(name, joint)).shape != (1, size) or online.actions != decided:
                    raise ControllerError(f"{path}: its networks give outputs of other widths than they should")
    except RuntimeError as error:
        raise ControllerError(f"{path}: its networks do not fit each other ({one_line(error)})") from error


def _network(state: Mapping[str, Tensor], prefix: str, layers: list[str], path: Path) -> nn.Sequential:
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    check_finite(own, f"{path}, '{prefix.rstrip('.')}'")
    return rebuild(layers, own, f"{path}, '{prefix.rstrip('.')}'")


def _box_from_json(data: Mapping[str, list[float]]) -> spaces.Box:
    return spaces.Box(np.float32(data["low"]), np.float32(data["high"]), dtype=np.float32)  # type: ignore[arg-type]
