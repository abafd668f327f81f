"""The state dict that TD-MPC2's authors save, as one of ours: their Q-functions are stacked, ours stand alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from prunectl.agents.controller import ControllerError
from prunectl.agents.tdmpc.planner import MAX_STD, Planning
from prunectl.agents.tdmpc2.distributions import HIGHEST, HIGHEST_LOG_STD, LOWEST, LOWEST_LOG_STD, Bins
from prunectl.agents.tdmpc2.networks import NUMBERS, SIMPLEX, judges

#: Their settings that this reads with one value alone, and the value.
FIXED: Mapping[str, float] = {
    "log_std_min": LOWEST_LOG_STD,
    "log_std_max": HIGHEST_LOG_STD,
    "max_std": MAX_STD,
}
#: Their networks by name, but for the Q-functions.
_NETWORKS = {"_encoder.state": "encoder", "_dynamics": "dynamics", "_reward": "reward", "_pi": "actor"}
#: Stacked Q-functions and their slow copies: the newer names, which say layer and tensor, and the older ones, which
#: count tensors, four a layer.
_STACKS = {
    "_Qs.params": "online",
    "_target_Qs_params": "target",
    "_target_Qs.params": "target",
}
_TENSORS = ("weight", "bias", "ln.weight", "ln.bias")
#: What they keep besides: copies without gradients, masks and sizes of several tasks, bounds that `FIXED` has.
_BESIDES = re.compile(r"_detach_Qs.*|_action_masks|log_std_(min|dif)|.*\.__(batch_size|device)")


def planned(config: Mapping[str, Any], actions: int) -> Planning:
    """The planner that their settings ask for; what they leave out is as the authors have it.

    Their samples include the policy's sequences, their discount follows from the length of an episode in decisions, and
    from 20 dimensions of actions on they refine twice more.

    Raises:
        ControllerError: settings that this cannot follow.
    """
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise ControllerError(f"{name} {str(config[name])[:20]}: TD-MPC2 is read with {value:g} alone")
    policy, samples = int(config.get("num_pi_trajs", 24)), int(config.get("num_samples", 512))
    if not 0 <= policy < samples:
        raise ControllerError(f"num_pi_trajs {policy} of num_samples {samples}: some must be left to sample")
    horizon, refined = int(config.get("horizon", 3)), int(config.get("iterations", 6)) + 2 * (actions >= 20)
    sampled = samples - policy
    return Planning(
        horizon=horizon,
        iterations=refined,
        num_samples=sampled,
        num_elites=int(config.get("num_elites", 64)),
        mixture_coef=math.nextafter(policy / sampled, math.inf),  # so that it gives back just as many
        min_std=float(config.get("min_std", 0.05)),
        temperature=float(config.get("temperature", 0.5)),
        momentum=0.0,
        discount=_discount(config),
    )


def _discount(config: Mapping[str, Any]) -> float:
    if "episode_length" not in config or "discount" in config:
        return float(config.get("discount", 0.99))
    share = float(config["episode_length"]) / float(config.get("discount_denom", 5))
    lowest, highest = float(config.get("discount_min", 0.95)), float(config.get("discount_max", 0.995))
    return min(max((share - 1.0) / share, lowest), highest)


def renamed(model: Mapping[str, Tensor], config: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Their state dict under our names, and the layers of each network.

    Raises:
        ControllerError: an agent of several tasks, of pixels, or with parts that are not known.
    """
    if "_task_emb.weight" in model:
        raise ControllerError("an agent of several tasks; those of one task are read")
    if any(name.startswith("_encoder.rgb.") for name in model):
        raise ControllerError("an agent that sees pixels; those that see states are read")
    for name, value in {"log_std_min": LOWEST_LOG_STD, "log_std_dif": HIGHEST_LOG_STD - LOWEST_LOG_STD}.items():
        if name in model and float(model[name]) != value:
            raise ControllerError(f"{name} {float(model[name]):g}: TD-MPC2 is read with {value:g} alone")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in model.items():
        whole, rest = _split(name)
        if whole in _NETWORKS:
            parts.setdefault(f"online.{_NETWORKS[whole]}", {})[rest] = tensor
        elif whole in _STACKS:
            if tensor.dim() < 2 or len(tensor) not in NUMBERS:
                most = f"{NUMBERS[0]} to {NUMBERS[-1]}"
                raise ControllerError(f"'{name[:60]}' of {tuple(tensor.shape)}: a stack of {most} tensors is needed")
            for index, own in enumerate(tensor):
                parts.setdefault(f"{_STACKS[whole]}.critic_{index}", {})[rest] = own
        elif not _BESIDES.fullmatch(name):
            raise ControllerError(f"'{name[:60]}', which no TD-MPC2 agent of one task has")
    state: dict[str, Tensor] = {}
    layers: dict[str, list[str]] = {}
    simplex = int(config.get("simnorm_dim", SIMPLEX))
    bins = Bins(float(config.get("vmin", LOWEST)), float(config.get("vmax", HIGHEST)))
    for path, tensors in parts.items():
        name = path.partition(".")[2]
        last = f"sim_norm {simplex}" if name in ("encoder", "dynamics") else "mish"
        layers[name], own = _flattened(tensors, last)
        if judges(name):
            layers[name].append(f"bins {bins.extra_repr()}")
        state |= {f"{path}.{key}": tensor for key, tensor in own.items()}
    return state, layers


def _split(name: str) -> tuple[str, str]:
    """Network and tensor in it, ``LAYER.TENSOR``, of one of their names."""
    for whole in (*_NETWORKS, *_STACKS):
        if name.startswith(f"{whole}.") and not _BESIDES.fullmatch(name):
            rest = name.removeprefix(f"{whole}.")
            if rest.isdecimal() and whole in _STACKS:
                layer, tensor = divmod(int(rest[:4]), len(_TENSORS))
                rest = f"{layer}.{_TENSORS[tensor]}"
            return whole, rest
    return "", name


def _flattened(tensors: Mapping[str, Tensor], last: str) -> tuple[list[str], dict[str, Tensor]]:
    """Their layers, each linear and perhaps normalised and activated, as single ones; ``last`` activates last."""
    kinds, state = list[str](), dict[str, Tensor]()
    count = len({name.partition(".")[0] for name in tensors})
    for layer in range(count):
        own = {name: tensors[key] for name in _TENSORS if (key := f"{layer}.{name}") in tensors}
        for begin, kind in (("", "linear"), ("ln.", "layer_norm")):
            found = {name.removeprefix(begin): own[name] for name in own if name in (f"{begin}weight", f"{begin}bias")}
            state |= {f"{len(kinds)}.{name}": tensor for name, tensor in found.items()}
            kinds += [kind] if found else []
        if "ln.weight" in own:
            kinds.append(last if layer == count - 1 else "mish")
    if len(state) != len(tensors):
        raise ControllerError(f"layers of odd names: {', '.join(sorted(tensors))[:100]}")
    return kinds, state
