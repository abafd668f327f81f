"""The algorithms we know: their classes, and how a zip's readable entries tell them apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sb3_contrib
import stable_baselines3
from stable_baselines3.common.base_class import BaseAlgorithm

from prunectl.agents.controller import ControllerError

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "sac": stable_baselines3.SAC,
    "td3": stable_baselines3.TD3,
    "ddpg": stable_baselines3.DDPG,
    "ppo": stable_baselines3.PPO,
    "a2c": stable_baselines3.A2C,
    "tqc": sb3_contrib.TQC,
    "trpo": sb3_contrib.TRPO,
    "crossq": sb3_contrib.CrossQ,
    "recurrent_ppo": sb3_contrib.RecurrentPPO,
    "maskable_ppo": sb3_contrib.MaskablePPO,
    "dqn": stable_baselines3.DQN,
    "qrdqn": sb3_contrib.QRDQN,
    "ars": sb3_contrib.ARS,
}

_POLICY_MODULES = {
    "stable_baselines3.sac.policies": "sac",
    "stable_baselines3.td3.policies": "td3",
    "sb3_contrib.tqc.policies": "tqc",
    "sb3_contrib.crossq.policies": "crossq",
    "sb3_contrib.common.recurrent.policies": "recurrent_ppo",
    "sb3_contrib.common.maskable.policies": "maskable_ppo",
    "stable_baselines3.dqn.policies": "dqn",
    "sb3_contrib.qrdqn.policies": "qrdqn",
    "sb3_contrib.ars.policies": "ars",
}

#: Settings that tell the algorithm of a policy that is of a user's own class, the first that is there.
_TELLING = {
    "n_delta": "ars",
    "cg_max_steps": "trpo",
    "top_quantiles_to_drop_per_net": "tqc",
    "n_quantiles": "qrdqn",
    "exploration_fraction": "dqn",
    "target_policy_noise": "td3",
    "target_update_interval": "sac",
    "policy_delay": "crossq",
    "n_epochs": "ppo",
    "gae_lambda": "a2c",
}


class NotRebuiltError(ControllerError):
    """A policy that no arguments of Stable-Baselines3 make again: it has layers, or does things, of its own."""


def recognise(data: Mapping[str, Any], where: str, trusted: bool = False) -> str:
    """The algorithm's name, from the module of the policy class and the hyperparameters that only it has; from these
    alone where the class is a user's own, which is imported if it is ``trusted``.

    Raises:
        ControllerError: the policy is none that can be rebuilt.
    """
    policy_class = data.get("policy_class")
    module = policy_class.get("__module__") if isinstance(policy_class, Mapping) else None
    if module == "stable_baselines3.common.policies":
        if "n_epochs" in data:
            return "ppo"
        return "trpo" if "cg_max_steps" in data else "a2c"
    name = _POLICY_MODULES.get(str(module))
    if name is None and trusted:
        name = next((name for setting, name in _TELLING.items() if setting in data), None)
    if name is None:
        known = ", ".join(ALGORITHMS)
        raise ControllerError(
            f"{where}: its policy class lives in '{module}'; these can be rebuilt: {known}; one of your own "
            "can with --trust, which runs it"
        )
    # DDPG is TD3 without the tricks, and saves the same policy class.
    kwargs = data.get("policy_kwargs")
    single = isinstance(kwargs, Mapping) and str(kwargs.get("n_critics")) == "1"
    if name == "td3" and single and data.get("policy_delay") == 1:
        return "ddpg"
    return name
