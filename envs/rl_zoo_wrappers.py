"""What rl-zoo's own wrappers do (`rl_zoo3.wrappers`), for those that are a function of their arguments alone.

Its noise on actions is drawn from NumPy's global generator and would not be drawn again, and what ends an episode on
success moves the rewards: these two are not among them.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Vector = NDArray[Any]
Env = gym.Env[Any, Any]
Step = tuple[Any, float, bool, bool, dict[str, Any]]


class FrameSkip(gym.Wrapper[Any, Any, Any, Any]):
    """Holds every action for ``skip`` steps or to the end of the episode, and adds their rewards up."""

    def __init__(self, env: Env, skip: int = 4) -> None:
        super().__init__(env)
        if skip < 1:
            raise ValueError("an action is held for one step at least")
        self.skip = skip

    def step(self, action: Any) -> Step:
        total = 0.0
        for _ in range(self.skip):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


class ActionSmoothing(gym.Wrapper[Any, Any, Any, Any]):
    """Acts by a running mean that begins at 0: a = c a + (1 - c) action."""

    def __init__(self, env: Env, smoothing_coef: float = 0.0) -> None:
        super().__init__(env)
        self.kept = smoothing_coef
        self.smoothed: Vector | float = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.smoothed = 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Vector) -> Step:
        self.smoothed = self.kept * self.smoothed + (1 - self.kept) * action
        observation, reward, terminated, truncated, info = self.env.step(self.smoothed)
        return observation, float(reward), terminated, truncated, info


class DelayedReward(gym.Wrapper[Any, Any, Any, Any]):
    """Gives the rewards of ``delay`` steps at once, and what is left at the end: returns are what they were."""

    def __init__(self, env: Env, delay: int = 10) -> None:
        super().__init__(env)
        self.delay, self.steps, self.owed = delay, 0, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.steps, self.owed = 0, 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> Step:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.steps, self.owed = self.steps + 1, self.owed + float(reward)
        given = 0.0
        if self.steps % self.delay == 0 or terminated or truncated:
            given, self.owed = self.owed, 0.0
        return observation, given, terminated, truncated, info


class History(gym.Wrapper[Any, Any, Any, Any]):
    """Shows the last ``horizon`` observations and then as many actions, the oldest first, zeros before the first."""

    def __init__(self, env: Env, horizon: int = 2) -> None:
        super().__init__(env)
        seen: Any = env.observation_space
        done: Any = env.action_space
        if not all(isinstance(space, spaces.Box) and len(space.shape) == 1 for space in (seen, done)):
            raise ValueError("a history is of vectors of numbers, observations and actions alike")
        low, high = ([np.tile(getattr(space, end), horizon) for space in (seen, done)] for end in ("low", "high"))
        self.observation_space = spaces.Box(np.concatenate(low), np.concatenate(high), dtype=seen.dtype.type)
        self.observations = np.zeros((horizon, *seen.shape), seen.dtype)
        self.actions = np.zeros((horizon, *done.shape), done.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self.observations, self.actions = np.zeros_like(self.observations), np.zeros_like(self.actions)
        self.observations[-1] = observation
        return self._shown(), info

    def step(self, action: Vector) -> Step:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.observations = np.concatenate((self.observations[1:], [observation]), dtype=self.observations.dtype)
        self.actions = np.concatenate((self.actions[1:], [action]), dtype=self.actions.dtype)
        return self._shown(), float(reward), terminated, truncated, info

    def _shown(self) -> Vector:
        return np.concatenate((self.observations.ravel(), self.actions.ravel()))


#: By the names that configurations give them.
RL_ZOO = {
    "FrameSkip": FrameSkip,
    "ActionSmoothingWrapper": ActionSmoothing,
    "DelayedRewardWrapper": DelayedReward,
    "HistoryWrapper": History,
}
