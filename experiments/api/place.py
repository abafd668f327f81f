"""Where a controller is run: from what a user has as an environment to a task id that is made as often as needed."""

from __future__ import annotations

import copy
import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
from gymnasium import wrappers
from gymnasium.envs.registration import EnvSpec, registry
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize, VecTransposeImage
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from prunectl import envs
from prunectl.agents.sb3.live import statistics_of
from prunectl.agents.sb3.normalisation import Normalisation, RewardScale
from prunectl.registry import one_line

Environment = gym.Env[Any, Any]
#: A task id, an environment, several of them, or a function that makes one.
Env = str | Environment | VecEnv | Callable[[], Environment]

#: Wrappers that change neither what is observed nor what is done nor what is rewarded; a time limit is told apart.
_NEUTRAL = (Monitor, wrappers.OrderEnforcing, wrappers.PassiveEnvChecker, wrappers.RecordEpisodeStatistics)
_numbers = itertools.count(1)


@dataclass(frozen=True, eq=False)
class Place:
    """A task id, and what was given beside it.

    ``known`` says whether the id means something outside this process. ``vector`` are the environments as Stable-
    Baselines3 takes them, where such were given, and the statistics are those of their `VecNormalize`. A name of this
    process alone is forgotten with its ``keeper``.
    """

    task: str
    known: bool = True
    vector: VecEnv | None = None
    normalisation: Normalisation | None = None
    rewards: RewardScale | None = None
    keeper: object | None = None


def place_of(env: Env) -> Place:
    """The place that an environment stands for.

    An environment that its id makes again is known by that id. Any other is registered under a name of this process
    alone, and copied when it is made; copies share nothing with the one given, which is never stepped.

    Raises:
        TaskError: several environments under a wrapper whose work is not known, or none that can be made again.
    """
    if isinstance(env, str):
        return Place(env)
    if isinstance(env, VecEnv):
        return _of_vector(env)
    if isinstance(env, gym.Env):
        return _of_env(env, DummyVecEnv([lambda: env]))
    if callable(env):
        made = env()
        name, limit = _kind(made), _time_limit(made)
        made.close()
        return _registered(name, env, limit)
    raise envs.TaskError(f"env: a {type(env).__name__}: give a task id, an environment, or a function that makes one")


def place_of_model(model: BaseAlgorithm) -> Place | None:
    """The place where a model learns, if it has one."""
    vector = model.get_env()
    return None if vector is None else _of_vector(vector)


def _of_vector(vector: VecEnv) -> Place:
    normalisation, rewards = None, None
    inner = vector
    while isinstance(inner, VecEnvWrapper):
        if isinstance(inner, VecNormalize):
            normalisation, rewards = statistics_of(inner)
        elif not isinstance(inner, VecMonitor | VecTransposeImage):  # whoever runs it arranges images
            raise envs.TaskError(f"env: a {type(inner).__name__} around it is not supported: give an env without it")
        inner = inner.venv
    if isinstance(inner, DummyVecEnv):
        place = _of_env(inner.envs[0], vector)
    else:  # in other processes, from where an environment does not come, but what says how it is made does
        spec = inner.get_attr("spec", 0)[0]
        if spec is None or spec.additional_wrappers or spec.id not in registry:
            raise envs.TaskError("env: it runs in other processes and its id does not say all: give a function")
        place = _of_spec(spec, spec.max_episode_steps, vector)
    return replace(place, vector=vector, normalisation=normalisation, rewards=rewards)


def _of_env(env: Environment, vector: VecEnv) -> Place:
    bare = env
    while isinstance(bare, (*_NEUTRAL, wrappers.TimeLimit)):
        bare = bare.env
    if bare is bare.unwrapped and bare.spec is not None and bare.spec.id in registry:
        return _of_spec(bare.spec, _time_limit(env), vector)
    try:
        kept = copy.deepcopy(env)
    except Exception as error:  # whatever its parts raise
        raise envs.TaskError(
            f"env: {env} cannot be copied ({one_line(error)}): give a function that makes one"
        ) from error
    return _registered(_kind(env), lambda: copy.deepcopy(kept), _time_limit(env), vector)


def _of_spec(spec: EnvSpec, limit: int | None, vector: VecEnv) -> Place:
    """An environment without wrappers that matter, as its id or, with settings of its own, under another name."""
    usual = registry[spec.id]
    settings = {key: value for key, value in spec.kwargs.items() if key != "render_mode"}
    if settings == usual.kwargs and limit == usual.max_episode_steps:
        return Place(_name_of(spec.id), vector=vector)
    base = spec.id.rpartition("/")[2]
    return _registered(base, lambda: gym.make(spec.id, disable_env_checker=True, **settings), limit, vector)


def _name_of(task: str) -> str:
    """The id with the module that registers it, so that another process can make it too."""
    entry_point = registry[task].entry_point
    module = entry_point.partition(":")[0] if isinstance(entry_point, str) else getattr(entry_point, "__module__", "")
    outside = module.partition(".")[0] not in ("gymnasium", "prunectl", "__main__", "")
    return f"{module}:{task}" if outside and not task.startswith(envs.packages.DMC) else task


class _Keeper:
    """Something whose end can be waited for."""


def _registered(kind: str, make: Callable[[], Environment], limit: int | None, vector: VecEnv | None = None) -> Place:
    """A place under a name of its own, which goes when nobody can ask for it any more."""
    name, keeper = f"in-memory/{kind}-{next(_numbers)}", _Keeper()
    gym.register(name, entry_point=lambda **_: make(), max_episode_steps=limit, disable_env_checker=True)
    weakref.finalize(keeper, registry.pop, name, None)
    return Place(name, known=False, vector=vector, keeper=keeper)


def _kind(env: Environment) -> str:
    return type(env.unwrapped).__name__


def _time_limit(env: Environment) -> int | None:
    """The steps after which the nearest time limit ends an episode."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, wrappers.TimeLimit):
            return int(env._max_episode_steps)
        env = env.env
    return None
