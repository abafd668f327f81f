"""Checkpoints of CleanRL (Huang et al., JMLR 2022): what its scripts write with ``--save-model``.

A file ``EXPERIMENT.cleanrl_model`` holds state dicts and nothing else. Which script wrote it is known by their keys:

    dqn                      network.{0,2,4}
    ppo_continuous_action    critic.{0,2,4}, actor_mean.{0,2,4}, actor_logstd
    td3_continuous_action    (actor, qf1, qf2): fc1, fc2, fc_mu, action_scale, action_bias; fc1, fc2, fc3 each
    ddpg_continuous_action   (actor, qf1), as td3's
    sac_continuous_action    (actor, qf1, qf2), the actor's last layers being fc_mean and fc_logstd. The script saves
                             nothing itself; an actor's state dict alone is read too

The task and the seed stand in the run's folder, ``TASK__EXPERIMENT__SEED__TIME``, or in the name of a repository on the
Hub, ``TASK-EXPERIMENT-seedSEED``.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from prunectl.agents.controller import ControllerError, attribute_name
from prunectl.agents.files import read_bounded
from prunectl.agents.networks.controller import Networks, modules_of, unbounded
from prunectl.agents.networks.layers import rebuilt
from prunectl.agents.npy import read_npz
from prunectl.agents.surroundings import Surroundings
from prunectl.agents.tensors import LARGEST_WEIGHTS, check_finite, read_tensors
from prunectl.registry import one_line

SUFFIX = ".cleanrl_model"
#: What `save` says of a controller that is from here.
REMARK = (
    "CleanRL's classes have fixed widths, so this is a file of prunectl's own; below each component's name, its "
    "tensors have the names of CleanRL's state dict"
)
#: What stands around ppo_continuous_action, and how it normalises (gymnasium's NormalizeObservation, then a clip).
_CLIPPED = Surroundings(wrappers=(("gymnasium.wrappers.ClipAction", {}),))
_EPSILON, _CLIP = 1e-8, 10.0
_UNNORMALISED = (
    "CleanRL's ppo_continuous_action normalises observations by running statistics that its file does not hold; they "
    "are taken as they are: give those of training with --normalisation FILE.npz (`mean` and `var` of the wrapper's "
    "obs_rms)"
)
#: No statistics take more.
_LARGEST_STATISTICS = 2**24

State = Mapping[str, Tensor]
_Function = Callable[..., Any]


def file_in(path: Path) -> Path | None:
    """The checkpoint that a path is or holds, if it is one of CleanRL's.

    Raises:
        ControllerError: a folder with several.
    """
    found = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path] if path.suffix == SUFFIX else []
    if len(found) > 1:
        raise ControllerError(f"{path}: {len(found)} {SUFFIX} files: name the one you mean")
    return found[0] if found else None


def run_of(name: str) -> tuple[str | None, int | None]:
    """The task and the training seed in the name of a run's folder, or of a repository on the Hub."""
    found = re.fullmatch(r"(.+?)__\w+?__(\d+)__\d+", name) or re.fullmatch(r"(.+)-[a-z0-9_]+-seed(\d+)", name)
    return (None, None) if found is None else (found[1], int(found[2]))


def read_cleanrl(path: Path, normalisation: Path | None = None) -> tuple[Networks, tuple[str, ...]]:
    """The controller in a file, which acts without exploring, and what the user should know of it.

    Args:
        path: of the ``.cleanrl_model``.
        normalisation: for ppo_continuous_action, an ``.npz`` with the observations' ``mean`` and ``var``.

    Raises:
        ControllerError: no such file, or a layout that is not known.
    """
    try:
        content = read_tensors(read_bounded(path, LARGEST_WEIGHTS))
    except (ControllerError, OSError) as error:
        raise ControllerError(f"{path}: no checkpoint of CleanRL's ({error})") from error
    states = list(content) if isinstance(content, tuple | list) else [content]
    if not states or len(states) > 12 or not all(map(_is_state, states)):
        raise ControllerError(f"{path}: no checkpoint of CleanRL's: it holds no state dicts")
    first = states[0]
    remarks: tuple[str, ...] = ()
    if len(states) == 1 and "network.0.weight" in first:
        controller = _dqn(first, path)
    elif len(states) == 1 and {"actor_mean.0.weight", "critic.0.weight"} <= set(first):
        controller, remarks = _ppo(first, path, normalisation)
        normalisation = None
    elif {"fc1.weight", "action_scale"} <= set(first):
        controller = _actor_critic(first, states[1:], path)
    else:
        raise ControllerError(
            f"{path}: a layout of CleanRL's that is not known ({', '.join(sorted(first))[:100]}); dqn, ddpg, td3, sac "
            "and ppo_continuous_action of vector observations are"
        )
    if normalisation is not None:
        raise ControllerError(f"{path}: statistics are given to ppo_continuous_action alone")
    return replace(controller, remarks=(REMARK,)), remarks


def _dqn(state: State, path: Path) -> Networks:
    layers = _indices(state, "network")
    parts = _parts({"q": state}, path)

    def values(components: Mapping[str, nn.Module], x: Tensor) -> Tensor:
        return _chain(components["q"], layers, torch.relu, x)

    return _made(
        "dqn",
        parts,
        lambda c, x: {"q": values(c, x)},
        lambda c, x: values(c, x).argmax(1),
        _inputs(state, layers[0]),
        spaces.Discrete(len(state[f"{layers[-1]}.weight"])),
    )


def _ppo(state: State, path: Path, statistics: Path | None) -> tuple[Networks, tuple[str, ...]]:
    critic, actor = _indices(state, "critic"), _indices(state, "actor_mean")
    value = {name: tensor for name, tensor in state.items() if name.startswith("critic.")}
    parts = _parts({"actor": {k: v for k, v in state.items() if k not in value}, "value": value}, path)

    def mean(components: Mapping[str, nn.Module], x: Tensor) -> Tensor:
        return _chain(components["actor"], actor, torch.tanh, x)

    seen = _inputs(state, actor[0])
    observe = None if statistics is None else _normalising(statistics, seen)
    controller = _made(
        "ppo",
        parts,
        lambda c, x: {"actor": mean(c, x), "value": _chain(c["value"], critic, torch.tanh, x)},
        mean,
        seen,
        unbounded(len(state[f"{actor[-1]}.weight"])),
        observe,
    )
    return replace(controller, surroundings=_CLIPPED), () if statistics is not None else (_UNNORMALISED,)


def _actor_critic(actor: State, critics: Sequence[State], path: Path) -> Networks:
    """TD3's, DDPG's and SAC's; critics are asked about actions in the environment's units."""
    soft = "fc_mean.weight" in actor
    last = "fc_mean" if soft else "fc_mu"
    # Early versions hold them with an axis for the environments that there were.
    flat = {name: actor[name].reshape(-1, actor[name].shape[-1])[0] for name in ("action_scale", "action_bias")}
    names = [f"critic.{number}" for number in range(len(critics))]
    parts = _parts({"actor": {**actor, **flat}, **dict(zip(names, critics, strict=True))}, path)

    def squashed(components: Mapping[str, nn.Module], x: Tensor) -> Tensor:
        own: Any = components["actor"]
        hidden = torch.relu(_chain(own, ("fc1", "fc2"), torch.relu, x))
        if soft:
            own.fc_logstd(hidden)  # the exploration's head: it loses the inputs that the latent loses
        return torch.tanh(own.get_submodule(last)(hidden))

    def judged(components: Mapping[str, nn.Module], x: Tensor, action: Tensor) -> dict[str, Tensor]:
        question = torch.cat([x, action], 1)
        return {name: _chain(components[name], ("fc1", "fc2", "fc3"), torch.relu, question) for name in names}

    def act(components: Mapping[str, nn.Module], x: Tensor) -> Tensor:
        own: Any = components["actor"]
        action: Tensor = squashed(components, x) * own.action_scale + own.action_bias
        return action

    alone: _Function = lambda c, x: {"actor": squashed(c, x)}  # noqa: E731
    together: _Function = lambda c, x, a: {"actor": squashed(c, x), **judged(c, x, a)}  # noqa: E731
    low, high = (flat["action_bias"] + sign * flat["action_scale"] for sign in (-1, 1))
    if not bool((low < high).all()) or not bool(torch.isfinite(high - low).all()):
        raise ControllerError(f"{path}: its actions have no range")
    return _made(
        "sac" if soft else "td3" if len(critics) != 1 else "ddpg",
        parts,
        together if critics else alone,
        act,
        _inputs(actor, "fc1"),
        spaces.Box(low.numpy(), high.numpy(), dtype=np.float32),
    )


def _made(
    algorithm: str,
    parts: Mapping[str, nn.Module],
    dataflow: _Function,
    act: _Function,
    observations: int,
    actions: spaces.Box | spaces.Discrete,
    observe: _Function | None = None,
) -> Networks:
    made = Networks.made_of(parts, dataflow, act, observations, actions, observe=observe)
    return replace(made, algorithm=f"cleanrl-{algorithm}")


def _parts(states: Mapping[str, State], path: Path) -> dict[str, nn.Module]:
    """Modules whose linear layers, parameters and buffers have the names of state dicts."""
    layers: dict[str, Any] = {}
    free: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for component, state in states.items():
        check_finite(state, f"{path}, '{component}'")
        prefix = f"{attribute_name(component)}."
        tensors |= {prefix + name: tensor for name, tensor in state.items()}
        for name, tensor in state.items():
            owner, _, last = name.rpartition(".")
            if last == "weight" and tensor.dim() == 2 and len(tensor) and tensor.shape[1]:
                wide = {"in_features": tensor.shape[1], "out_features": len(tensor)}
                layers[prefix + owner] = {"kind": "Linear", **wide, "bias": f"{owner}.bias" in state}
            elif last in ("action_scale", "action_bias", "actor_logstd"):
                free[prefix + name] = "parameter" if last == "actor_logstd" else "buffer"
            elif last != "bias":
                raise ControllerError(f"{path}: '{name[:60]}' of {tuple(tensor.shape)} is no linear layer's")
    networks = rebuilt(layers, free, tensors)
    try:
        networks.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ControllerError(f"{path}: its weights do not fit ({one_line(error)})") from error
    return modules_of(networks, states)


def _chain(part: nn.Module, layers: Sequence[str], activation: _Function, x: Tensor) -> Tensor:
    for name in layers[:-1]:
        x = activation(part.get_submodule(name)(x))
    last: Tensor = part.get_submodule(layers[-1])(x)
    return last


def _indices(state: State, part: str) -> list[str]:
    """The layers of a sequence, in their order."""
    found = [re.fullmatch(rf"{part}\.(\d{{1,3}})\.weight", name) for name in state]
    return [f"{part}.{number}" for number in sorted(int(match[1]) for match in found if match)]


def _inputs(state: State, layer: str) -> int:
    return int(state[f"{layer}.weight"].shape[-1])


def _is_state(state: Any) -> bool:
    return isinstance(state, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())


def _normalising(path: Path, width: int) -> _Function:
    """What gymnasium's NormalizeObservation does with statistics at rest, and the clip behind it."""
    try:
        found = read_npz(path, ("mean", "var"), _LARGEST_STATISTICS)
        mean, var = (side.astype(np.float64).reshape(-1) for side in found)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise ControllerError(
            f"{path}: an .npz with the arrays 'mean' and 'var' is needed ({one_line(error)})"
        ) from error
    if mean.shape != (width,) or var.shape != (width,) or not np.isfinite([mean, var]).all() or (var < 0).any():
        raise ControllerError(f"{path}: statistics of {mean.shape} and {var.shape}; the networks read {width} numbers")
    shift = torch.as_tensor(mean, dtype=torch.float32)
    deviation = torch.as_tensor(np.sqrt(var + _EPSILON), dtype=torch.float32)
    return lambda x: ((x - shift) / deviation).clamp(-_CLIP, _CLIP)
