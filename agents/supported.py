"""Which spaces controllers are read for: the one rule for loading, for models in memory and for training."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

from prunectl.agents.controller import ControllerError

#: Numbers that an observation or an action may hold, and choices that there may be.
LARGEST_SPACE = 100_000


def check_spaces(observed: spaces.Space[Any], done: spaces.Space[Any], where: str) -> None:
    """Raise ControllerError unless observations are vectors of numbers, and actions vectors of real numbers or one of
    several choices counted from 0."""
    if not (isinstance(observed, spaces.Box) and len(observed.shape) == 1):
        raise ControllerError(f"{where}: observations are {_words(observed)}; vectors of numbers are supported")
    if not isinstance(done, spaces.Discrete) and not (isinstance(done, spaces.Box) and len(done.shape) == 1):
        raise ControllerError(
            f"{where}: actions are {_words(done)}; vectors of numbers and one choice of several are supported"
        )
    if isinstance(done, spaces.Discrete) and done.start != 0:
        raise ControllerError(
            f"{where}: actions are choices that count from {done.start}; Stable-Baselines3 gives them from 0 on"
        )
    sizes = [*(space.shape[0] for space in (observed, done) if isinstance(space, spaces.Box))]
    if isinstance(done, spaces.Discrete):
        sizes.append(int(done.n))
    if not all(0 < size <= LARGEST_SPACE for size in sizes):
        raise ControllerError(
            f"{where}: observations or actions of {max(sizes)} numbers: 1 to {LARGEST_SPACE} are read"
        )


def _words(space: spaces.Space[Any]) -> str:
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
