"""A task's observations in the form in which a controller takes them: its rows, or its own space where it learns; and
beside them which actions are allowed, for one that is told."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from prunectl import envs
from prunectl.agents.rows import parts_of, row_of, row_space


class Observed(gym.ObservationWrapper[Any, Any, Any]):
    """Observations of the controller's space, or rows of them. Images have their channels where the controller does."""

    def __init__(self, env: envs.Env, space: spaces.Space[Any], rows: bool) -> None:
        super().__init__(env)
        self.space, self.rows = space, rows
        self.observation_space = row_space(space) if rows else space

    def observation(self, observation: Any) -> Any:
        arranged: Any
        if isinstance(self.space, spaces.Dict):
            arranged = {key: _arranged(observation[key], part) for key, part in self.space.spaces.items()}
        else:
            arranged = _arranged(observation, self.space)
        return row_of(self.space, arranged) if self.rows else arranged


class Masked(gym.ObservationWrapper[Any, Any, Any]):
    """Rows that end with which of ``options`` are allowed (`Controller.masked`): what the task's ``action_masks`` says,
    as sb3-contrib asks for it; all of them where it has none, as its agents are asked without a mask."""

    def __init__(self, env: envs.Env, options: int) -> None:
        super().__init__(env)
        self.options, self.told = options, env.has_wrapper_attr("action_masks")
        rows = env.observation_space
        assert isinstance(rows, spaces.Box)
        low, high = (np.append(side, np.full(options, end)) for side, end in ((rows.low, 0), (rows.high, 1)))
        self.observation_space = spaces.Box(low.astype(rows.dtype), high.astype(rows.dtype), dtype=rows.dtype.type)

    def observation(self, observation: Any) -> NDArray[Any]:
        allowed = self.env.get_wrapper_attr("action_masks")() if self.told else np.ones(self.options)
        allowed = np.asarray(allowed, dtype=np.bool_).ravel()
        if allowed.size != self.options:
            raise envs.TaskError(f"its action_masks says of {allowed.size} options, its actions have {self.options}")
        return np.append(observation, allowed.astype(self.observation_space.dtype))


def is_vector(space: spaces.Space[Any]) -> bool:
    """Whether observations are rows already."""
    return isinstance(space, spaces.Box) and len(space.shape) == 1


def same_form(ours: spaces.Space[Any], theirs: spaces.Space[Any]) -> bool:
    """Whether observations of the one space are such of the other, for images but for where their channels are."""
    if isinstance(ours, spaces.Dict) or isinstance(theirs, spaces.Dict):
        own, other = parts_of(ours), parts_of(theirs)
        return (
            type(ours) is type(theirs) and own.keys() == other.keys() and all(same_form(own[k], other[k]) for k in own)
        )
    if isinstance(ours, spaces.Box) and isinstance(theirs, spaces.Box):
        return ours.shape in (theirs.shape, _channels_first(theirs.shape))
    return ours == theirs


def _channels_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[2], shape[0], shape[1]) if len(shape) == 3 else shape


def _arranged(observation: Any, space: spaces.Space[Any]) -> NDArray[Any]:
    """As Stable-Baselines3's `VecTransposeImage` does, where the channels come last."""
    values = np.asarray(observation, dtype=space.dtype)
    if values.ndim == 3 and values.shape != space.shape:
        return np.ascontiguousarray(np.transpose(values, (2, 0, 1)))
    return values
