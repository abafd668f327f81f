"""Going on with Stable-Baselines3's own `learn` from where a controller stands, whatever its widths."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import is_masking_supported
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize
from torch import Tensor

from prunectl.agents.choices import Actions
from prunectl.agents.controller import ControllerError
from prunectl.agents.sb3 import networks as views
from prunectl.agents.sb3.architecture import pad_twins
from prunectl.agents.sb3.blueprint import build
from prunectl.agents.sb3.controller import SB3Controller
from prunectl.agents.sb3.randomness import random_state_kept

Environment = gym.Env[Any, Any]

#: Shares of the steps in which nothing is learned but the replay filled, and in which then critics alone learn: they
#: were fitted to the dense controller's data and know little of where the smaller one goes.
FILLING, ADAPTING = 0.1, 0.2
#: What is handed out is the average of what acted, over about so many steps.
AVERAGED = 500
#: Action noise of the algorithms that explore by nothing else, as a share of half the action range.
NOISE = 0.1
#: Random actions that Q-networks take where their settings name no share.
EXPLORED = 0.01
#: Steps that an update on policy should see at least, by algorithm: one bad update is never undone.
ROLLOUT = {"ppo": 1024, "maskable_ppo": 1024, "recurrent_ppo": 1024, "trpo": 1024, "a2c": 64}
#: The steps of a rollout where an algorithm's settings do not say.
ROLLED_OUT = {"ppo": 2048, "maskable_ppo": 2048, "recurrent_ppo": 128, "trpo": 2048, "a2c": 5}


def continue_learning(
    controller: SB3Controller,
    make: Callable[[int], Sequence[Environment]],
    steps: int,
    seed: int,
    every: int,
    consider: Callable[[int, SB3Controller], None],
) -> int:
    """Learn for ``steps`` more steps of the environment; `consider` is shown what has come of it.

    Off policy the replay is first filled by the controller itself, then the critics learn alone (Q-networks act
    themselves), then all of it. On policy values learn alone first. What is shown is the average of what acted lately.

    Args:
        controller: dense or pruned; it stays as it is.
        make: gives so many environments that fit the controller.
        steps: of all environments together; those of a rollout that is cut short are not taken.
        seed: of the algorithm and of its environments.
        every: after how many steps `consider` is called, and at the end.
        consider: takes the steps done and a copy of the controller as it is by then.

    Returns:
        The steps done.

    Raises:
        ControllerError: the blueprint and the weights do not fit, or the steps do not make a rollout.
    """
    if controller.algorithm == "ars":
        raise ControllerError("fine-tuning: ARS starts over from other weights whenever it learns: take distill")
    settings, count = _settings(controller, steps)
    env = vectorised(controller, make(count))
    model = algorithm_of(controller, env, settings)
    rollout = 1 if isinstance(model, OffPolicyAlgorithm) else count * settings["n_steps"]
    if steps < rollout:
        raise ControllerError(f"fine-tuning for {steps} steps: {controller.algorithm} learns after {rollout} at least")
    with random_state_kept():
        model.set_random_seed(seed)
        learn(model, steps // rollout * rollout, _Phases(controller, steps, every, consider))
    return int(model.num_timesteps)


def learn(model: BaseAlgorithm, steps: int, callback: BaseCallback) -> None:
    """The algorithm's own `learn`; one that takes masks goes without where the environment has none."""
    env = model.get_env()
    assert env is not None
    masks = {"use_masking": is_masking_supported(env)} if isinstance(model, MaskablePPO) else {}
    model.learn(steps, callback=callback, **masks)


def vectorised(controller: SB3Controller, made: Sequence[Environment]) -> VecEnv:
    """The environments as one, observations and rewards normalised as in the controller's training.

    The statistics are carried and frozen: other ones would shift the inputs of networks that are fitted to these.
    """
    vector = DummyVecEnv([lambda env=env: env for env in made])  # type: ignore[misc]
    seen, scale = controller.normalisation, controller.rewards
    if seen is None and scale is None:
        return vector
    parts = {} if seen is None else seen.parts(controller.observed)
    normalised = VecNormalize(
        vector,
        training=False,
        norm_obs=seen is not None,
        norm_reward=scale is not None,
        norm_obs_keys=None if seen is None or "" in parts else list(parts),
    )
    if seen is not None:
        running = {name: _running(*moments) for name, moments in parts.items()}
        normalised.obs_rms = running.get("", running)  # type: ignore[assignment]
        normalised.clip_obs, normalised.epsilon = seen.clip, seen.epsilon
    if scale is not None:
        normalised.ret_rms = _running(np.zeros(()), np.asarray(scale.var))
        normalised.clip_reward, normalised.epsilon = scale.clip, scale.epsilon
    return normalised


def algorithm_of(controller: SB3Controller, env: VecEnv, settings: Mapping[str, Any]) -> BaseAlgorithm:
    """An algorithm object that is ready to `learn`: these networks, fresh optimisers over exactly their parameters,
    target networks of the same widths, an empty replay buffer.

    Twins of different widths are padded with dead units, as in a zip: nothing flows through those, so no gradient
    reaches them, and `controller_of` cuts them off again.

    Args:
        controller: dense or pruned; it stays as it is.
        env: where it goes on, see `vectorised`.
        settings: constructor arguments in the place of the controller's own.

    Raises:
        ControllerError: the blueprint and the weights do not fit.
    """
    state, _ = pad_twins(controller.networks.state_dict())
    assert isinstance(env.action_space, Actions)
    blueprint = replace(
        controller.blueprint,
        settings={**controller.blueprint.settings, **settings},
        observation_space=env.observation_space,
        action_space=env.action_space,
    )
    model = build(blueprint, state, env.num_envs)
    model.set_env(env)
    if isinstance(model, OffPolicyAlgorithm):
        assert model.replay_buffer_class is not None
        model.replay_buffer = model.replay_buffer_class(
            model.buffer_size,
            env.observation_space,
            env.action_space,
            model.device,
            n_envs=env.num_envs,
            **model.replay_buffer_kwargs,
        )
    # Without a logger of its own SB3 leaves a folder of logs behind in the system's temporary one.
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def controller_of(controller: SB3Controller, model: BaseAlgorithm) -> SB3Controller:
    """A copy of what `algorithm_of`'s object holds by now, as the same controller with the same settings."""
    learned = model.policy.state_dict()
    networks = copy.deepcopy(controller.policy_networks)
    networks.load_state_dict(
        {name: _cut(learned[name], tensor.shape) for name, tensor in networks.state_dict().items()}
    )
    price = getattr(model, "log_ent_coef", None)
    variables = {} if price is None else {"log_ent_coef": price.detach().clone()}
    blueprint = replace(controller.blueprint, variables={**controller.blueprint.variables, **variables})
    return replace(controller, blueprint=blueprint, policy_networks=networks)


def _settings(controller: SB3Controller, steps: int) -> tuple[dict[str, Any], int]:
    """Constructor arguments that going on needs, and the number of environments."""
    algorithm, own = controller.algorithm, controller.blueprint.settings
    if algorithm in ROLLOUT:
        length = int(own.get("n_steps", ROLLED_OUT[algorithm]))
        count = min(math.ceil(ROLLOUT[algorithm] / length), max(steps // 4, 1))
        return {"n_steps": min(length, max(steps // count, 2))}, count
    # SB3's `learning_starts` would fill the replay with random actions.
    settings: dict[str, Any] = {"learning_starts": 0, "buffer_size": steps}
    if algorithm in ("dqn", "qrdqn"):  # from scratch it would begin at random
        settings["exploration_initial_eps"] = own.get("exploration_final_eps", EXPLORED)
    price = controller.blueprint.variables.get("log_ent_coef")
    if price is not None:
        # Adapting, it would run away: what acts is held at first, so it cannot answer.
        settings["ent_coef"] = float(price.detach().exp())
    if algorithm in ("td3", "ddpg"):
        assert isinstance(controller.action_space, spaces.Box)
        shape = controller.action_space.shape
        settings["action_noise"] = NormalActionNoise(np.zeros(shape), np.full(shape, NOISE))
    return settings, 1


class _Phases(BaseCallback):
    """Fill, let the critics adapt, then let everything learn; what acts moves at its pace and is averaged."""

    def __init__(
        self, controller: SB3Controller, steps: int, every: int, consider: Callable[[int, SB3Controller], None]
    ) -> None:
        super().__init__()
        self.controller, self.every, self.consider = controller, every, consider
        alone = 0.0 if all(component.deployed for component in controller.components.values()) else ADAPTING
        self.filling, self.adapting = round(steps * FILLING), round(steps * (FILLING + alone))
        self.considered, self.seen = self.adapting, 0

    def _on_training_start(self) -> None:
        self.off_policy = self.model if isinstance(self.model, OffPolicyAlgorithm) else None
        self.gradient_steps = 0 if self.off_policy is None else self.off_policy.gradient_steps
        self.acting = _acting(self.model)
        self.given = [tensor.detach().clone() for tensor in self.acting]
        self.average = [tensor.detach().clone() for tensor in self.acting]

    def _on_rollout_start(self) -> None:
        """Called after each update, before the next steps."""
        self._after_update()
        if self.off_policy is not None:
            self.off_policy.gradient_steps = self.gradient_steps if self.num_timesteps >= self.filling else 0
        self._perhaps_consider()

    def _on_training_end(self) -> None:
        self._after_update()
        self._show()

    def _on_step(self) -> bool:
        return True

    def _after_update(self) -> None:
        follow = 1 - math.exp(-(self.num_timesteps - self.seen) / AVERAGED)
        self.seen = self.num_timesteps
        with torch.no_grad():
            for tensor, given, average in zip(self.acting, self.given, self.average, strict=True):
                if self.num_timesteps <= self.adapting:
                    tensor.copy_(given)
                average.lerp_(tensor, follow)

    def _perhaps_consider(self) -> None:
        # Until the critics have adapted it is what was given.
        if self.num_timesteps - self.considered >= self.every:
            self._show()

    def _show(self) -> None:
        """Show what the average is like."""
        self.considered = self.num_timesteps
        learned = [tensor.detach().clone() for tensor in self.acting]
        with torch.no_grad():
            for tensor, average in zip(self.acting, self.average, strict=True):
                tensor.copy_(average)
            shown = controller_of(self.controller, self.model)
            for tensor, own in zip(self.acting, learned, strict=True):
                tensor.copy_(own)
        self.consider(self.num_timesteps, shown)


def _acting(model: BaseAlgorithm) -> list[Tensor]:
    """The tensors of the algorithm's deployed components, alive: what decides its actions."""
    components = views.as_components(views.component_modules(model.policy))
    modules = [component.module for component in components.values() if component.deployed]
    tensors = [tensor for module in modules for tensor in module.state_dict(keep_vars=True).values()]
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def _running(mean: Any, var: Any) -> RunningMeanStd:
    statistics = RunningMeanStd(shape=np.shape(mean))
    statistics.mean, statistics.var = mean, var
    return statistics


def _cut(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    return tensor[tuple(slice(size) for size in shape)]
