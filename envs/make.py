"""The one way to make environments."""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation
from sb3_contrib.common.wrappers import TimeFeatureWrapper

from envs.tasks import TaskError, registered, resolve

# Rendering off-screen needs a GL platform that has no display; simulation alone does not care.
os.environ.setdefault("MUJOCO_GL", "egl")

Env = gym.Env[Any, Any]


def make(task_id: str, time_feature: bool = False, render_mode: str | None = None) -> Env:
    """One environment with flat vector observations.

    Args:
        task_id: a Gymnasium id, ``module:Id`` included; an old version stands for today's.
        time_feature: append the share of the episode that is left, as rl-zoo's `TimeFeatureWrapper` does.
        render_mode: Gymnasium's.

    Raises:
        TaskError: unknown, not installable here, or without a flat view of its observations.
    """
    today, _ = resolve(task_id)
    if "mujoco" in str(registered(today).entry_point):
        _log_mujoco_warnings()
    try:
        # An environment need not know of rendering to be trained and measured on.
        rendering: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
        env: Env = gym.make(today, disable_env_checker=True, **rendering)
    except Exception as error:  # whatever the environment's own constructor raises
        raise TaskError(f"task '{today}' cannot be made: {' '.join(str(error).split())}") from error
    if not (isinstance(env.observation_space, spaces.Box) and len(env.observation_space.shape) == 1):
        if not env.observation_space.is_np_flattenable:
            raise TaskError(f"task '{today}' has observations {env.observation_space}, which have no flat form")
        env = FlattenObservation(env)
    if time_feature:
        horizon = env.spec.max_episode_steps if env.spec is not None else None
        env = TimeFeatureWrapper(env, max_steps=horizon or 1000)
    return env


@cache
def _log_mujoco_warnings() -> None:
    """Send MuJoCo's warnings to `logging`: on its own it prints them and writes a log file where the user stands."""
    try:
        import mujoco
    except ImportError:
        return  # gym.make says what is missing
    mujoco.set_mju_user_warning(logging.getLogger("mujoco").info)
