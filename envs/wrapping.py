"""The wrappers that may stand around a task, by the names that configurations give them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces, wrappers
from numpy.typing import NDArray
from sb3_contrib.common.wrappers import TimeFeatureWrapper

from prunectl.envs.rl_zoo_wrappers import RL_ZOO
from prunectl.envs.tasks import TaskError
from prunectl.registry import one_line

Env = gym.Env[Any, Any]
#: The name of a wrapper and its keyword arguments.
Wrapping = tuple[str, Mapping[str, Any]]

#: Steps over which the time left runs out where a task has no limit: what the wrapper itself takes.
TIMELESS = 1000
#: Observations that may be shown at once.
MOST_STACKED = 1000

#: Gymnasium's wrappers that are a function of their arguments alone. Those that learn while they run (statistics) or
#: that draw at random would not do again what they did in training.
_GYMNASIUM = (
    "ClipAction",
    "ClipReward",
    "DelayObservation",
    "FilterObservation",
    "FlattenObservation",
    "MaxAndSkipObservation",
    "OrderEnforcing",
    "PassiveEnvChecker",
    "RecordEpisodeStatistics",
    "RescaleAction",
    "RescaleObservation",
    "ReshapeObservation",
    "TimeAwareObservation",
    "TimeLimit",
)
#: Minigrid's, likewise.
_MINIGRID = (
    "DirectionObsWrapper",
    "FlatObsWrapper",
    "FullyObsWrapper",
    "ImgObsWrapper",
    "OneHotPartialObsWrapper",
    "RGBImgObsWrapper",
    "RGBImgPartialObsWrapper",
    "ViewSizeWrapper",
)
#: Which numbers of an observation are velocities, by task.
_VELOCITIES = {
    "CartPole": (1, 3),
    "MountainCar": (1,),
    "MountainCarContinuous": (1,),
    "Pendulum": (2,),
    "LunarLander": (2, 3, 5),
    "LunarLanderContinuous": (2, 3, 5),
}


def wrapped(env: Env, wrappings: Sequence[Wrapping]) -> Env:
    """The environment with these wrappers around it, the first innermost.

    Raises:
        TaskError: one of them is not known, or does not take what it is given; the message names each.
    """
    task = "the task" if env.spec is None else env.spec.id
    unknown = [name for name, _ in wrappings if _known(name) is None]
    if unknown:
        raise TaskError(
            f"{task}: trained behind {', '.join(unknown)}, which prunectl cannot put there again: register a task "
            "that has it built in, name that with --task module:Id, and move the checkpoint away from its args.yml"
        )
    for name, given in wrappings:
        make = _known(name)
        assert make is not None
        try:
            env = make(env, **given)
        except Exception as error:  # whatever the wrapper's own constructor raises
            raise TaskError(
                f"{task}: its wrapper {name} cannot be put there with {dict(given)} ({one_line(error)})"
            ) from error
    return env


def _known(name: str) -> Callable[..., Env] | None:
    """What puts the wrapper of this name around an environment; packages move their modules: the last part counts."""
    package, kind = name.split(".")[0], name.split(".")[-1]
    if kind == "TimeFeatureWrapper":
        return _time_feature
    if kind == "MaskVelocityWrapper":
        return _without_velocities
    if package in ("rl_zoo3", "utils") and kind in RL_ZOO:  # rl-zoo's wrappers were `utils.wrappers` once
        return RL_ZOO[kind]
    if kind == "Monitor" and package == "stable_baselines3":
        return lambda env, **_: env
    if kind == "FrameStackObservation":
        return _stacked
    if package in ("gym", "gymnasium") and ".wrappers" in name and kind in _GYMNASIUM:
        return getattr(wrappers, kind)  # type: ignore[no-any-return]
    if package in ("minigrid", "gym_minigrid") and kind in _MINIGRID:
        return getattr(importlib.import_module("minigrid.wrappers"), kind)  # type: ignore[no-any-return]
    return None


def _time_feature(env: Env, max_steps: int = TIMELESS, test_mode: bool = False) -> Env:
    found: Env = TimeFeatureWrapper(env, max_steps=max_steps, test_mode=test_mode)
    return found


def _stacked(env: Env, stack_size: int, padding_type: str = "reset") -> Env:
    if not 1 <= stack_size <= MOST_STACKED:
        raise ValueError(f"at most {MOST_STACKED} observations are stacked")
    found: Env = wrappers.FrameStackObservation(env, stack_size, padding_type=padding_type)
    return found


def _without_velocities(env: Env) -> Env:
    """What rl-zoo's `MaskVelocityWrapper` does: velocities are seen as 0."""
    name = "" if env.unwrapped.spec is None else env.unwrapped.spec.id
    velocities = _VELOCITIES.get(re.sub(r"-v\d+$", "", name))
    if velocities is None or not isinstance(env.observation_space, spaces.Box):
        raise ValueError(f"which numbers of {name} are velocities is not known")
    mask = np.ones(env.observation_space.shape, env.observation_space.dtype)
    mask[list(velocities)] = 0

    def masked(observation: NDArray[Any]) -> NDArray[Any]:
        return observation * mask

    found: Env = wrappers.TransformObservation(env, masked, env.observation_space)
    return found
