"""The one way to make environments."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, TimeLimit

from prunectl.envs import packages, pictures
from prunectl.envs.tasks import TaskError, lookup, quiet_mujoco, registered, resolve
from prunectl.envs.wrapping import Env, Wrapping, wrapped
from prunectl.registry import one_line


def make(
    task_id: str,
    settings: Mapping[str, Any] | None = None,
    wrappings: Sequence[Wrapping] = (),
    drawn: bool = False,
    flat: bool = True,
) -> Env:
    """One environment whose episodes end, with flat vector observations unless it is asked for as it is.

    Args:
        task_id: a Gymnasium id, ``module:Id`` included; an old version stands for today's.
        settings: keyword arguments of the environment, where it is not made as it is registered.
        wrappings: what stands around it, the first innermost.
        drawn: it can be looked at with `envs.picture`, which changes nothing about what it does.
        flat: observations are made vectors, as Gymnasium's `FlattenObservation` does.

    Raises:
        TaskError: unknown, not installable here, without a flat view of its observations, or not to be drawn.
    """
    today, _ = resolve(task_id)
    entry_point = str(registered(today).entry_point)
    if "mujoco" in entry_point:
        quiet_mujoco()
    # An environment need not know of rendering to be trained and measured on.
    rendering = pictures.settings(today, entry_point) if drawn else {}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is out of date")  # an old version is what was asked for
            env: Env = gym.make(today, disable_env_checker=True, **{**(settings or {}), **rendering})
    except Exception as error:  # whatever the environment's own constructor raises
        given = f" with {dict(settings)}" if settings else ""
        raise TaskError(f"task '{today}' cannot be made{given}: {one_line(error)}") from error
    if drawn and entry_point.startswith(pictures.MUJOCO):
        pictures.widen_floor(env)
    behind = packages.wrapper_of(today.rpartition(":")[2], [name for name, _ in wrappings])
    env = wrapped(env, [*([] if behind is None else [(behind, {})]), *wrappings])
    if env.spec is None or env.spec.max_episode_steps is None:
        env = TimeLimit(env, lookup(today).horizon)
    return flattened(env) if flat else env


def flattened(env: Env) -> Env:
    """The environment with observations that are vectors, as Gymnasium's `FlattenObservation` makes them.

    Raises:
        TaskError: they have no flat form.
    """
    if isinstance(env.observation_space, spaces.Box) and len(env.observation_space.shape) == 1:
        return env
    if not env.observation_space.is_np_flattenable:
        name = "the task" if env.spec is None else f"task '{env.spec.id}'"
        raise TaskError(f"{name} has observations {env.observation_space}, which have no flat form")
    found: Env = FlattenObservation(env)
    return found
