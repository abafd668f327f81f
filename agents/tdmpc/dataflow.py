"""How one latent passes through the components of TD-MPC."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunectl.agents.controller import attribute_name
from prunectl.agents.tdmpc.networks import COMPONENTS, WorldModel


class LatentFlow(nn.Module):
    """``(observation, latent, action) -> {component: output}``, every component asked once.

    The encoder reads the observation; everything else reads ``latent``, which may have been encoded or imagined (the
    planner asks about both), and the action where it takes one. What the encoder and the dynamics write and what the
    latent holds is one and the same flow; `one_flow` says so.
    """

    encoder: nn.Sequential
    dynamics: nn.Sequential
    reward: nn.Sequential
    actor: nn.Sequential
    critic_0: nn.Sequential
    critic_1: nn.Sequential

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        for name, attribute in COMPONENTS.items():
            self.add_module(attribute_name(name), getattr(model, attribute))

    def forward(self, observation: Tensor, latent: Tensor, action: Tensor) -> dict[str, Tensor]:
        encoded = self.encoder(observation)
        latent = one_flow(latent, encoded)
        joint = torch.cat([latent, action], dim=1)
        return {
            "encoder": encoded,
            "dynamics": one_flow(self.dynamics(joint), latent),
            "reward": self.reward(joint),
            "actor": self.actor(latent),
            "critic.0": self.critic_0(joint),
            "critic.1": self.critic_1(joint),
        }


def one_flow(value: Tensor, other: Tensor) -> Tensor:
    """``value``, unchanged, in a sum with ``other`` that tells a tracer that both are made of the same units."""
    return value + 0.0 * other
