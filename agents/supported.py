"""Which spaces controllers are read for: the one rule for loading, for models in memory and for training."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from prunectl.agents.choices import Actions, options
from prunectl.agents.controller import ControllerError
from prunectl.agents.rows import parts_of, width

#: Numbers that an action may hold, and choices that there may be.
LARGEST_SPACE = 100_000
#: Numbers that an observation may hold: four stacked colour pictures of 256 x 256 are more than enough.
LARGEST_OBSERVATION = 2**20
#: Numbers that any value on the way to an action may have for one observation, and multiply-accumulates of one layer.
LARGEST_VALUE, MOST_MACS = 2**22, 2**33


def check_spaces(observed: spaces.Space[Any], done: spaces.Space[Any], where: str) -> None:
    """Raise ControllerError unless observations are such as `check_observations` admits, and actions vectors of real
    numbers, choices counted from 0, or switches."""
    check_observations(observed, where)
    if not isinstance(done, spaces.Discrete) and not (isinstance(done, Actions) and len(done.shape or ()) == 1):
        raise ControllerError(
            f"{where}: actions are {in_words(done)}; vectors of numbers, choices and switches are supported"
        )
    if isinstance(done, spaces.Discrete | spaces.MultiDiscrete) and np.any(done.start != 0):
        raise ControllerError(
            f"{where}: actions are choices that count from {done.start}; Stable-Baselines3 gives them from 0 on"
        )
    size = sum(options(done)) or (done.shape[0] if isinstance(done, spaces.Box) else 0)
    if not 0 < size <= LARGEST_SPACE:
        raise ControllerError(f"{where}: actions of {size} numbers: 1 to {LARGEST_SPACE} are read")


def check_observations(observed: spaces.Space[Any], where: str) -> None:
    """Raise ControllerError unless Stable-Baselines3's own preprocessing knows these observations."""
    for key, part in parts_of(observed).items():
        at = f"{where}: observations" + (f" '{key}'" if key else "")
        match part:
            case spaces.Box():
                known = len(part.shape) > 0
            case spaces.Discrete():
                known = part.start == 0
            case spaces.MultiDiscrete():
                known = len(part.shape) == 1 and not np.any(part.start)
            case _:
                known = isinstance(part, spaces.MultiBinary)
        if not known:
            raise ControllerError(
                f"{at} are {in_words(part)}; numbers, images, switches and choices that count from 0 are supported, "
                "alone or by name"
            )
        if isinstance(part, spaces.Discrete | spaces.MultiDiscrete) and _choices(part) > LARGEST_SPACE:
            raise ControllerError(f"{at} are {_choices(part)} choices: at most {LARGEST_SPACE} are read")
    if not 0 < width(observed) <= LARGEST_OBSERVATION:
        raise ControllerError(
            f"{where}: observations of {width(observed)} numbers: 1 to {LARGEST_OBSERVATION} are read"
        )


def _choices(space: spaces.Discrete | spaces.MultiDiscrete) -> int:
    return int(space.n if isinstance(space, spaces.Discrete) else space.nvec.sum())


def in_words(space: spaces.Space[Any]) -> str:
    """What a space is, in a user's words."""
    if isinstance(space, spaces.Box):
        sides = " x ".join(map(str, space.shape))
        if len(space.shape) == 3 and space.dtype == "uint8":
            return f"images ({sides})"
        return f"arrays of {sides} numbers" if space.shape else "single numbers without an axis"
    return {
        spaces.Dict: "several arrays by name (Dict)",
        spaces.MultiDiscrete: "several choices at once (MultiDiscrete)",
        spaces.MultiBinary: "several switches (MultiBinary)",
        spaces.Discrete: "one choice of several (Discrete)",
    }.get(type(space), type(space).__name__)
