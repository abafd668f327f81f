"""The one way to make environments."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation
from sb3_contrib.common.wrappers import TimeFeatureWrapper

from prunectl.envs import pictures
from prunectl.envs.tasks import TaskError, registered, resolve

Env = gym.Env[Any, Any]


def make(task_id: str, time_feature: bool = False, drawn: bool = False) -> Env:
    """One environment with flat vector observations.

    Args:
        task_id: a Gymnasium id, ``module:Id`` included; an old version stands for today's.
        time_feature: append the share of the episode that is left, as rl-zoo's `TimeFeatureWrapper` does.
        drawn: it can be looked at with `envs.picture`, which changes nothing about what it does.

    Raises:
        TaskError: unknown, not installable here, without a flat view of its observations, or not to be drawn.
    """
    today, _ = resolve(task_id)
    entry_point = str(registered(today).entry_point)
    if "mujoco" in entry_point:
        _log_mujoco_warnings()
    # An environment need not know of rendering to be trained and measured on.
    rendering = pictures.settings(today, entry_point) if drawn else {}
    try:
        env: Env = gym.make(today, disable_env_checker=True, **rendering)
    except Exception as error:  # whatever the environment's own constructor raises
        raise TaskError(f"task '{today}' cannot be made: {' '.join(str(error).split())}") from error
    if drawn and entry_point.startswith(pictures.MUJOCO):
        pictures.widen_floor(env)
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
