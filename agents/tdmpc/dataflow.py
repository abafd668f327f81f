"""How one latent passes through the components of a world model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunectl.agents.controller import attribute_name
from prunectl.agents.tdmpc.model import LatentModel


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

    def __init__(self, model: LatentModel) -> None:
        super().__init__()
        self.critics = [name for name in model.components if name.startswith("critic.")]
        for attribute in model.components.values():
            self.add_module(attribute, getattr(model, attribute))

    def forward(self, observation: Tensor, latent: Tensor, action: Tensor) -> dict[str, Tensor]:
        encoded = self.encoder(observation)
        latent = one_flow(latent, encoded)
        joint = torch.cat([latent, action], dim=1)
        return {
            "encoder": encoded,
            "dynamics": one_flow(self.dynamics(joint), latent),
            "reward": self.reward(joint),
            "actor": self.actor(latent),
            **{name: getattr(self, attribute_name(name))(joint) for name in self.critics},
        }


def one_flow(value: Tensor, other: Tensor) -> Tensor:
    """``value``, unchanged, in a sum with ``other`` that tells a tracer that both are made of the same units."""
    return value + 0.0 * other
