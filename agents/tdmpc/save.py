"""TD-MPC and TD-MPC2 checkpoints of ours: one file with tensors and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces

from prunectl.agents.files import replacing
from prunectl.agents.tdmpc.layers import kinds
from prunectl.agents.tdmpc.model import TDMPCNetworks
from prunectl.agents.tdmpc.planner import Planning


def save_checkpoint(
    path: Path,
    networks: TDMPCNetworks,
    planning: Planning,
    action_repeat: int,
    reward_scale: float,
    observation_space: spaces.Box,
    action_space: spaces.Box,
    provenance: Mapping[str, Any],
) -> None:
    """Write one file for ``torch.load(path, weights_only=True)``: ``networks``, a state dict, and ``config``, JSON.

    Raises:
        ControllerError: a layer that the format has no word for.
    """
    online = networks.online
    config = {
        "format": online.format,
        "layers": {name: kinds(getattr(online, name)) for name in online.components.values()},
        "planning": asdict(planning),
        "action_repeat": action_repeat,
        "reward_scale": reward_scale,
        "observation_space": _box_to_json(observation_space),
        "action_space": _box_to_json(action_space),
        **provenance,
    }
    content = {"config": json.dumps(config), "networks": dict(networks.state_dict())}
    with replacing(path) as temporary:
        torch.save(content, temporary)


def _box_to_json(space: spaces.Box) -> dict[str, list[float]]:
    return {"low": space.low.tolist(), "high": space.high.tolist()}
