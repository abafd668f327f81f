"""What an exported controller says of itself, as JSON inside its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from prunectl.agents.choices import Actions, options
from prunectl.agents.controller import Controller, ControllerError
from prunectl.agents.files import LARGEST_JSON
from prunectl.agents.rows import form_as_json, form_from_json
from prunectl.agents.supported import LARGEST_OBSERVATION, LARGEST_SPACE
from prunectl.agents.surroundings import PLAIN, Surroundings
from prunectl.registry import one_line

FORMAT = "prunectl export 1"
#: The property of an ONNX model, and the word before the JSON in a C file, that it is found by.
KEY = "prunectl"


@dataclass(frozen=True)
class Interface:
    """How an exported controller meets a task: its spaces, for how many environment steps a decision is held, and what
    stands between the two (`Controller.surroundings`). ``observed`` is what its rows are made of, None where
    observations are vectors. It remembers ``memory`` numbers, or is ``masked``: told which options are allowed."""

    algorithm: str
    observations: int
    action_space: Actions
    held_steps: int
    surroundings: Surroundings | None = PLAIN
    observed: spaces.Space[Any] | None = None
    memory: int = 0
    masked: bool = False

    @property
    def beside(self) -> int:
        """How many numbers it is given besides an observation."""
        return sum(options(self.action_space)) if self.masked else self.memory

    @property
    def beside_names(self) -> list[str]:
        """What these are, if there are any."""
        return ["mask"] if self.masked else ["memory"] if self.memory else []

    @classmethod
    def of(cls, controller: Controller) -> Interface:
        """What the controller's own would be."""
        shape = controller.observation_space.shape
        assert shape is not None
        observations, surroundings = int(np.prod(shape)), controller.surroundings
        vector = isinstance(controller.observed, spaces.Box) and len(controller.observed.shape) == 1
        observed = None if vector else controller.observed
        action, held = controller.action_space, controller.held_steps
        said = controller.algorithm, observations, action, held, surroundings, observed
        memory: Any = controller.deployed_step().beside if controller.memory else ("", 0)
        return cls(*said, int(memory[1]), controller.masked)

    def as_json(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Plain data that `read` understands, and the provenance beside it."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            actions: dict[str, Any] = {"n": int(space.n)}
        elif isinstance(space, spaces.MultiDiscrete):
            actions = {"options": list(options(space))}
        elif isinstance(space, spaces.MultiBinary):
            actions = {"switches": len(options(space))}
        else:
            actions = {"low": space.low.tolist(), "high": space.high.tolist(), "dtype": str(space.dtype)}
        return {
            "format": FORMAT,
            "algorithm": self.algorithm,
            "observations": self.observations,
            "actions": actions,
            "held_steps": self.held_steps,
            **({} if self.surroundings is None else {"surroundings": self.surroundings.as_json()}),
            **({} if self.observed is None else {"observed": form_as_json(self.observed)}),
            **({"memory": self.memory} if self.memory else {}),
            **({"masked": True} if self.masked else {}),
            **provenance,
        }


def read(text: str, where: str) -> tuple[Interface, dict[str, Any]]:
    """What `Interface.as_json` wrote, and everything that stands there.

    Raises:
        ControllerError: no such data.
    """
    try:
        if len(text) > LARGEST_JSON:
            raise ValueError(f"over {LARGEST_JSON // 2**20} MiB")
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ControllerError(f"{where}: its format is '{str(data['format'])[:40]}', this version reads '{FORMAT}'")
        observations, held = data["observations"], data["held_steps"]
        if not all(type(n) is int and n > 0 for n in (observations, held)) or observations > LARGEST_OBSERVATION:
            raise ValueError(f"observations {observations!s:.20}, held_steps {held!s:.20}")
        space = _space(data["actions"])
        surroundings = Surroundings.from_json(data["surroundings"]) if "surroundings" in data else None
        observed = form_from_json(data["observed"], observations) if "observed" in data else None
        memory, masked = data.get("memory", 0), data.get("masked", False)
        if type(memory) is not int or not 0 <= memory <= LARGEST_OBSERVATION or type(masked) is not bool:
            raise ValueError(f"memory {memory!s:.20}, masked {masked!s:.20}")
        if masked and (memory or not options(space)):
            raise ValueError("a mask of what are no choices, or beside a memory")
        algorithm = str(data["algorithm"])[:40]
        return Interface(algorithm, observations, space, held, surroundings, observed, memory, masked), data
    except ControllerError:
        raise
    except (KeyError, TypeError, ValueError, AssertionError, RecursionError, OverflowError) as error:
        raise ControllerError(f"{where}: what it says of its spaces cannot be read ({one_line(error)})") from error


def _space(said: Any) -> Actions:
    if "n" in said:
        if type(said["n"]) is not int or not 0 < said["n"] <= LARGEST_SPACE:
            raise ValueError(f"{said['n']!s:.20} choices")
        return spaces.Discrete(said["n"])
    if "options" in said or "switches" in said:
        counts = said["options"] if "options" in said else [said["switches"]]
        if not counts or not all(type(n) is int and n > 0 for n in counts) or sum(counts) > LARGEST_SPACE:
            raise ValueError(f"{counts!s:.60} choices")
        return spaces.MultiDiscrete(counts) if "options" in said else spaces.MultiBinary(counts[0])
    dtype = np.dtype(str(said["dtype"])[:20])
    if dtype.kind != "f":
        raise ValueError(f"actions of type {dtype}")
    low, high = (np.asarray(said[side], dtype=dtype) for side in ("low", "high"))
    if low.shape != high.shape or low.ndim != 1 or not 0 < len(low) <= LARGEST_SPACE:
        raise ValueError(f"actions with bounds of shapes {low.shape} and {high.shape}")
    return spaces.Box(low, high, dtype=dtype.type)
