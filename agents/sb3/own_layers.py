"""Stable-Baselines3 policies with layers that its arguments cannot say: extractors and networks of a user's own.

Which layers there are and how they follow each other is found by tracing, so they are held as plain networks
(`agents.networks`), whose file says both; Stable-Baselines3 could not build the policy again at other widths.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from torch import Tensor, nn

from prunectl.agents.boundary_layers import Clip
from prunectl.agents.controller import ControllerError
from prunectl.agents.networks.controller import Networks
from prunectl.agents.rows import parts_of, row_space, width
from prunectl.agents.sb3 import networks as views
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.faithful import check_faithful
from prunectl.agents.sb3.families import NotRebuiltError
from prunectl.agents.sb3.memory import memories
from prunectl.agents.sb3.normalisation import Normalisation
from prunectl.agents.supported import check_spaces

#: What `save` says of a controller that is from here.
REMARK = (
    "its policy has layers of its own, which Stable-Baselines3 could not build at other widths: the file is "
    "prunectl's, and below each component's name its tensors have the names of the policy's own modules"
)

#: The critic that holds the bounds of actions.
FIRST_CRITIC = "critic.0"

Parts = Mapping[str, nn.Module]


def controller_of(
    algorithm: str, model: BaseAlgorithm, normalisation: Normalisation | None, where: str
) -> SB3Controller | Networks:
    """A live model's policy as a controller: as Stable-Baselines3's where that could be built again, else as plain
    networks. The model stays as it is.

    Raises:
        ControllerError: it cannot be followed, or does something that its networks alone do not.
    """
    try:
        return SB3Controller.of(algorithm, model, normalisation, where)
    except NotRebuiltError:
        return plain_networks(algorithm, model, normalisation, where)


def plain_networks(algorithm: str, model: BaseAlgorithm, normalisation: Normalisation | None, where: str) -> Networks:
    """A live model's policy as plain networks, which act as its `predict` does.

    Raises:
        ControllerError: an operation that cannot be followed, or actions that differ; ``where`` begins the line.
    """
    policy: Any = model.policy
    observed, done = model.observation_space, model.action_space
    check_spaces(observed, done, where)
    told = isinstance(policy, MaskableActorCriticPolicy)
    if memories(policy) or told or algorithm == "crossq" or not isinstance(done, spaces.Box | spaces.Discrete):
        raise ControllerError(
            f"{where}: a policy with layers of its own is read with actions that are numbers or one choice, without a "
            "memory, masks or CrossQ's norms"
        )
    try:
        modules = _with_bounds(copy.deepcopy(views.component_modules(policy)), done)
        _, encoder_of = views.encoders(policy)
    except AttributeError as error:
        raise ControllerError(f"{where}: its {type(policy).__name__} is laid out as none of sb3's: {error}") from error
    kind: Any = views.OffPolicyFlow if views.judges_actions(policy) else views.ObservationFlow

    def seen(parts: Parts, observation: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = kind(parts, encoder_of).forward(observation)
        return outputs

    def judged(parts: Parts, observation: Tensor, action: Tensor) -> dict[str, Tensor]:
        outputs: dict[str, Tensor] = kind(parts, encoder_of).forward(observation, _scaled(parts, action))
        return outputs

    try:
        networks = Networks.made_of(
            {name: module.eval() for name, module in modules.items()},
            judged if views.judges_actions(policy) else seen,
            _acting(policy, encoder_of, done),
            row_space(observed),
            done,
            observe=_observing(model, normalisation, shaped=bool(encoder_of)),
        )
    except ControllerError as error:
        raise ControllerError(f"{where}: {error}") from error
    vector = isinstance(observed, spaces.Box) and len(observed.shape) == 1
    networks = replace(networks, algorithm=f"sb3-{algorithm}", given=None if vector else observed, remarks=(REMARK,))
    check_faithful(networks, None if normalisation is None else normalisation.module(), model, where)
    return networks


def _acting(policy: Any, encoder_of: Mapping[str, str], done: spaces.Box | spaces.Discrete) -> Callable[..., Tensor]:
    """From what the networks are shown to actions in the environment's units."""
    quantiles = getattr(policy, "n_quantiles", None)

    def act(parts: Parts, observation: Tensor) -> Tensor:
        reader = "q" if "q" in parts else "actor"
        read = parts[encoder_of[reader]](observation) if reader in encoder_of else observation
        answer: Tensor = parts[reader](read)
        if isinstance(done, spaces.Discrete):
            if quantiles is not None:
                answer = answer.view(-1, quantiles, int(done.n)).mean(dim=1)
            return answer.argmax(1)
        if policy.squash_output:
            low, high = torch.as_tensor(done.low), torch.as_tensor(done.high)
            return (answer + 1.0) * 0.5 * (high - low) + low
        return answer

    return act


def _with_bounds(modules: dict[str, nn.Module], done: spaces.Box | spaces.Discrete) -> dict[str, nn.Module]:
    """The modules with the bounds of actions as buffers of theirs, where the dataflow needs them: of the actor whose
    mean is clipped, and of the first critic, which the others are asked beside."""
    if not isinstance(done, spaces.Box):
        return modules
    low, high = torch.as_tensor(done.low), torch.as_tensor(done.high)
    actor = modules.get("actor")
    if isinstance(actor, views.Actor) and isinstance(actor.squash, Clip):
        actor.squash = _Bounds(low, high)
    if FIRST_CRITIC in modules:
        modules[FIRST_CRITIC].register_buffer("action_low", low)
        modules[FIRST_CRITIC].register_buffer("action_range", high - low)
    return modules


class _Bounds(nn.Module):
    """`Clip`, whose bounds are part of the state."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, mean: Tensor) -> Tensor:
        return torch.clamp(mean, self.low, self.high)


def _scaled(parts: Parts, action: Tensor) -> Tensor:
    """Actions in [-1, 1], as critics are asked about them."""
    first: Any = parts[FIRST_CRITIC]
    scaled: Tensor = 2.0 * ((action - first.action_low) / first.action_range) - 1.0
    return scaled


def _observing(
    model: BaseAlgorithm, normalisation: Normalisation | None, shaped: bool
) -> Callable[[Tensor], Tensor] | None:
    """From rows to what the networks are shown; None where that is the same."""
    space = model.observation_space
    parts = parts_of(space).values()
    if not all(isinstance(part, spaces.Box) for part in parts):
        raise ControllerError("observations that are choices or switches are not read beside layers of a user's own")
    byte = [is_image_space(part) and model.policy.normalize_images for part in parts]
    largest = np.concatenate([np.full(width(part), 255 if one else 1) for part, one in zip(parts, byte, strict=True)])
    shape = space.shape if shaped and isinstance(space, spaces.Box) and len(space.shape) > 1 else None
    if normalisation is None and not any(byte) and shape is None:
        return None
    scale = torch.as_tensor(largest, dtype=torch.float32)

    def observe(rows: Tensor) -> Tensor:
        if normalisation is not None:
            rows = _normalised(rows, normalisation)
        if any(byte):
            rows = rows / scale
        return rows if shape is None else rows.reshape(-1, *shape)

    return observe


def _normalised(rows: Tensor, by: Normalisation) -> Tensor:
    """As `VecNormalize` does; columns that it leaves alone are divided by one and never clipped."""
    if by.columns is None:
        shift, deviation = torch.as_tensor(by.mean), torch.as_tensor(np.sqrt(by.var + by.epsilon))
        return ((rows - shift) / deviation).clamp(-by.clip, by.clip).float()
    shift = torch.as_tensor(np.where(by.columns, by.mean, 0.0))
    deviation = torch.as_tensor(np.where(by.columns, np.sqrt(by.var + by.epsilon), 1.0))
    most = torch.as_tensor(np.where(by.columns, by.clip, np.inf))
    return ((rows - shift) / deviation).clamp(-most, most).float()
