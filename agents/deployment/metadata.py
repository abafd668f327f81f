"""What an exported controller says of itself, as JSON inside its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from agents.controller import Controller, ControllerError

FORMAT = "prunectl export 1"
#: The property of an ONNX model, and the word before the JSON in a C file, that it is found by.
KEY = "prunectl"


@dataclass(frozen=True)
class Interface:
    """How an exported controller meets a task: its spaces, and for how many environment steps a decision is held."""

    algorithm: str
    observations: int
    action_space: spaces.Box | spaces.Discrete
    held_steps: int

    @classmethod
    def of(cls, controller: Controller) -> Interface:
        """What the controller's own would be."""
        shape = controller.observation_space.shape
        assert shape is not None
        return cls(controller.algorithm, int(np.prod(shape)), controller.action_space, controller.held_steps)

    def as_json(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Plain data that `read` understands, and the provenance beside it."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            actions: dict[str, Any] = {"n": int(space.n)}
        else:
            actions = {"low": space.low.tolist(), "high": space.high.tolist(), "dtype": str(space.dtype)}
        return {
            "format": FORMAT,
            "algorithm": self.algorithm,
            "observations": self.observations,
            "actions": actions,
            "held_steps": self.held_steps,
            **provenance,
        }


def read(text: str, where: str) -> tuple[Interface, dict[str, Any]]:
    """What `Interface.as_json` wrote, and everything that stands there.

    Raises:
        ControllerError: no such data.
    """
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ControllerError(f"{where}: its format is '{data['format']}', this version reads '{FORMAT}'")
        actions = data["actions"]
        if "n" in actions:
            space: spaces.Box | spaces.Discrete = spaces.Discrete(int(actions["n"]))
        else:
            low, high = (np.asarray(actions[side], dtype=actions["dtype"]) for side in ("low", "high"))
            space = spaces.Box(low, high, dtype=low.dtype.type)
        held = int(data["held_steps"])
        if held < 1:
            raise ValueError(f"held_steps {held}")
        return Interface(str(data["algorithm"]), int(data["observations"]), space, held), data
    except ControllerError:
        raise
    except (KeyError, TypeError, ValueError, AssertionError, RecursionError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise ControllerError(f"{where}: what it says of its spaces cannot be read ({reason})") from error
