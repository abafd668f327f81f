"""Live Stable-Baselines3 objects: what algorithm one is, its statistics, and the same one around smaller networks."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from prunectl.agents.controller import ControllerError
from prunectl.agents.sb3.architecture import pad_twins
from prunectl.agents.sb3.blueprint import align, policy_settings
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.extractor import known_extractor, reading
from prunectl.agents.sb3.families import ALGORITHMS
from prunectl.agents.sb3.normalisation import Normalisation, RewardScale
from prunectl.agents.sb3.randomness import random_state_kept
from prunectl.registry import one_line


def algorithm_name(model: BaseAlgorithm) -> str:
    """The name of a live object's algorithm, also of a subclass of it.

    Raises:
        ControllerError: it is none that can be rebuilt.
    """
    names = {cls: name for name, cls in ALGORITHMS.items()}
    for cls in type(model).__mro__:
        if cls in names:
            return names[cls]
    raise ControllerError(f"a model of the class {type(model).__name__}: these can be pruned: {', '.join(ALGORITHMS)}")


def statistics_of(vector: VecNormalize) -> tuple[Normalisation | None, RewardScale | None]:
    """What a `VecNormalize` does to observations and to rewards; None for what it leaves alone."""
    normalisation = rewards = None
    if vector.norm_obs:
        running: Any = vector.obs_rms  # typed as one alone, and a dict of them where observations are dicts
        by_name = running if isinstance(running, dict) else {"": running}
        parts = {
            name: (np.array(one.mean, dtype=np.float64), np.array(one.var, dtype=np.float64))
            for name, one in by_name.items()
        }
        normalisation = Normalisation.by_part(
            vector.observation_space, parts, float(vector.clip_obs), float(vector.epsilon)
        )
    if vector.norm_reward:
        rewards = RewardScale(float(vector.ret_rms.var), float(vector.clip_reward), float(vector.epsilon))
    return normalisation, rewards


def model_of(controller: SB3Controller, source: BaseAlgorithm, env: VecEnv | None) -> BaseAlgorithm:
    """The algorithm object that ``source`` is, around the controller's networks.

    It has the source's hyperparameters, schedules, action noise, step count and, for as many environments, a copy of
    its replay buffer; its optimisers are fresh, over exactly these parameters.

    Twins of different widths are padded with dead units, as in a zip.

    Args:
        controller: a pruned copy of the source's networks; it stays as it is.
        source: a live object; it stays as it is, and so does its random state.
        env: where it goes on; observation and reward statistics of a `VecNormalize` are copied. None for nowhere yet.

    Raises:
        ControllerError: the weights do not fit what the source says of its policy.
    """
    state, _ = pad_twins(controller.networks.state_dict())
    kind: Any = type(source)
    model: Any = kind(source.policy_class, env=None, device=source.device, _init_setup_model=False)
    states, variables = source._get_torch_save_params()
    left_out = {name.split(".")[0] for name in (*states, *variables, *source._excluded_save_params())}
    kept = {name: value for name, value in vars(source).items() if name not in left_out}
    # In one go, so that what shares an object goes on sharing it.
    vars(model).update(copy.deepcopy(kept))
    name = algorithm_name(source)
    fixed = {**source.policy_kwargs, **known_extractor(source.policy, name).arguments}
    if controller.inputs_read is not None:
        fixed |= reading(controller.inputs_read)
    model.policy_kwargs = policy_settings(name, fixed, state, source.action_space)
    seed, model.seed = model.seed, None  # setting up would seed every generator of the process
    if env is not None:
        model.n_envs = env.num_envs
    # A buffer is laid out for so many environments. Setting up would otherwise only make room for the copy.
    buffer = source.replay_buffer if isinstance(source, OffPolicyAlgorithm) and model.n_envs == source.n_envs else None
    if buffer is not None:
        model.buffer_size, model.optimize_memory_usage = 1, False
    with random_state_kept():
        try:
            model._setup_model()
            model.policy.load_state_dict(state)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            raise ControllerError(f"the smaller networks do not fit the model's policy: {one_line(error)}") from error
    align(model)
    model.seed = seed
    if buffer is not None and isinstance(source, OffPolicyAlgorithm):
        model.buffer_size, model.optimize_memory_usage = source.buffer_size, source.optimize_memory_usage
        model.replay_buffer = copy.deepcopy(buffer)
    with torch.no_grad():
        for name in variables:
            if isinstance(value := getattr(source, name), torch.Tensor):
                getattr(model, name).copy_(value)
    if env is not None:
        model.set_env(with_own_statistics(env))
    model.policy.set_training_mode(False)
    return model  # type: ignore[no-any-return]


def with_own_statistics(env: VecEnv) -> VecEnv:
    """The same environments; where they are normalised, by a copy of the statistics, which may go on changing."""
    if not isinstance(env, VecNormalize):
        return env
    # SB3's own way to save one, which leaves the environments out.
    copied: VecNormalize = pickle.loads(pickle.dumps(env))
    copied.set_venv(env.venv)
    return copied
