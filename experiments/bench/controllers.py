"""Untrained controllers to measure: how fast one runs and is cut does not depend on what it has learnt."""

from __future__ import annotations

from stable_baselines3 import SAC

import envs


def untrained_sac(task: str, width: int = 256) -> SAC:
    """Stable-Baselines3's SAC with two hidden layers of this width (256 is its own default), seeded."""
    widths = {"net_arch": [width, width]}
    return SAC("MlpPolicy", envs.make(task), seed=0, policy_kwargs=widths, buffer_size=1, device="cpu")
