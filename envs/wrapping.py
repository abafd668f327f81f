"""The wrappers that may stand around a task, by the names that configurations give them."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces, wrappers
from numpy.typing import NDArray

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
#: Numbers that they may have: four times what an observation may.
LARGEST_STACK = 2**22

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
    if kind == "VecFrameStack":
        return FramesStacked
    if kind == "ObsDictWrapper":
        return _goal_beside
    if package in ("gym", "gymnasium") and ".wrappers" in name and kind in _GYMNASIUM:
        return getattr(wrappers, kind)  # type: ignore[no-any-return]
    if package in ("minigrid", "gym_minigrid") and kind in _MINIGRID:
        return getattr(importlib.import_module("minigrid.wrappers"), kind)  # type: ignore[no-any-return]
    return None


def _time_feature(env: Env, max_steps: int = TIMELESS, test_mode: bool = False) -> Env:
    from sb3_contrib.common.wrappers import TimeFeatureWrapper  # here: whether a task exists is told without PyTorch

    found: Env = TimeFeatureWrapper(env, max_steps=max_steps, test_mode=test_mode)
    return found


def _stacked(env: Env, stack_size: int, padding_type: str = "reset") -> Env:
    _check_stack(env, stack_size)
    found: Env = wrappers.FrameStackObservation(env, stack_size, padding_type=padding_type)
    return found


class FramesStacked(gym.ObservationWrapper[Any, Any, Any]):
    """The last observations at once, the newest last and zeros before the first, as Stable-Baselines3's `VecFrameStack`
    has them: along the channels of images, along the last axis of what else there is.

    Args:
        env: gives arrays of numbers, or several of these by name.
        n_stack: how many.
        channels_order: ``first`` or ``last``, where the channels of all observations are; by default found out, by name
            perhaps.
    """

    def __init__(self, env: Env, n_stack: int, channels_order: str | Mapping[str, str | None] | None = None) -> None:
        _check_stack(env, n_stack)
        super().__init__(env)
        from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

        self.stack: Any = StackedObservations(1, n_stack, env.observation_space, channels_order)  # type: ignore[arg-type]
        self.observation_space = self.stack.stacked_observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return _only(self.stack.reset(_batch(observation))), info

    def observation(self, observation: Any) -> Any:
        return _only(self.stack.update(_batch(observation), np.zeros(1, dtype=bool), [{}])[0])


def _check_stack(env: Env, count: int) -> None:
    """Raise ValueError unless so many observations are few enough, and so are their numbers: stacks of stacks grow."""
    numbers = _numbers(env.observation_space)
    if not (1 <= count <= MOST_STACKED and count * numbers <= LARGEST_STACK):
        raise ValueError(f"at most {MOST_STACKED} observations are stacked, of {LARGEST_STACK} numbers in all")


def _numbers(space: gym.Space[Any]) -> int:
    if isinstance(space, spaces.Dict):
        return sum(map(_numbers, space.values()))
    return math.prod(space.shape or (1,))


def _batch(observation: Any) -> Any:
    """An observation, of several parts perhaps, as a batch of one."""
    if isinstance(observation, Mapping):
        return {key: np.asarray(part)[None] for key, part in observation.items()}
    return np.asarray(observation)[None]


def _only(batch: Any) -> Any:
    """The one of a batch, as it is now."""
    if isinstance(batch, Mapping):
        return {key: part[0].copy() for key, part in batch.items()}
    return batch[0].copy()


def _goal_beside(env: Env) -> Env:
    """What Stable-Baselines3's `ObsDictWrapper` did: a goal's observation, and behind it what is desired, as one."""
    parts = env.observation_space
    if not isinstance(parts, spaces.Dict):
        raise ValueError("its observations are not those of a goal")
    seen, desired = parts["observation"], parts["desired_goal"]
    assert isinstance(seen, spaces.Box)
    assert isinstance(desired, spaces.Box)
    both = spaces.Box(
        np.concatenate([seen.low, desired.low]), np.concatenate([seen.high, desired.high]), dtype=seen.low.dtype.type
    )

    def beside(observation: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([observation["observation"], observation["desired_goal"]])

    found: Env = wrappers.TransformObservation(env, beside, both)
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
