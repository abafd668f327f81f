"""The networks of TD-MPC: a task-oriented latent dynamics model (TOLD) and its slow copies."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from prunectl.agents.tdmpc.inference import function
from prunectl.agents.tdmpc.layers import mlp, q_function, width
from prunectl.agents.tdmpc.model import Asked, LatentModel, Parts, TDMPCNetworks

#: The policy's exploration noise is cut off here (a truncated normal).
NOISE_CLIP = 0.3


class WorldModel(LatentModel):
    """The six networks of TD-MPC.

    z = encoder(s);  z' = dynamics(z, a);  r = reward(z, a);  a = actor(z) in [-1, 1];  Q_i = critic_i(z, a)
    """

    algorithm = "tdmpc"
    format = "prunectl tdmpc 1"

    critic_0: nn.Sequential
    critic_1: nn.Sequential

    def __init__(
        self,
        encoder: nn.Sequential,
        dynamics: nn.Sequential,
        reward: nn.Sequential,
        actor: nn.Sequential,
        critic_0: nn.Sequential,
        critic_1: nn.Sequential,
    ) -> None:
        super().__init__(
            encoder=encoder, dynamics=dynamics, reward=reward, actor=actor, critic_0=critic_0, critic_1=critic_1
        )

    @property
    def slow(self) -> Sequence[str]:
        return ("encoder", "critic_0", "critic_1")

    @property
    def actions(self) -> int:
        return width(self.actor)

    @property
    def outputs(self) -> Mapping[str, int]:
        return {"reward": 1, "actor": self.actions, "critic": 1}

    @property
    def policy(self) -> nn.Sequential:
        return self.actor

    def asked(self, min_std: float) -> Asked:
        reward, actor = function(self.reward), function(self.actor)
        first, second = map(function, self.critics)

        def policy(latent: Tensor, noise: Tensor) -> Tensor:
            spread = (min_std * noise).clamp_(-NOISE_CLIP, NOISE_CLIP)
            return actor(latent).add_(spread).clamp_(-1.0, 1.0)

        return Asked(
            encoder=function(self.encoder),
            dynamics=function(self.dynamics),
            reward=lambda joint: reward(joint)[:, 0],
            policy=policy,
            value=lambda joint, _: torch.minimum(first(joint), second(joint))[:, 0],
        )


def smaller_value(parts: Parts, latent_action: Tensor) -> Tensor:
    """The smaller of both Q-functions, ``(n, 1)``."""
    first, second = parts.critics
    return torch.minimum(first(latent_action), second(latent_action))


def build(observations: int, actions: int, latent: int = 50, encoder: int = 128, hidden: int = 256) -> TDMPCNetworks:
    """Fresh networks of the authors' shapes: orthogonal weights, zero biases, rewards and values start at zero."""
    joint = latent + actions
    online = WorldModel(
        encoder=nn.Sequential(nn.Linear(observations, encoder), nn.ELU(), nn.Linear(encoder, latent)),
        dynamics=mlp(joint, hidden, latent),
        reward=mlp(joint, hidden, 1),
        actor=mlp(latent, hidden, actions).append(nn.Tanh()),
        critic_0=q_function(joint, hidden),
        critic_1=q_function(joint, hidden),
    )
    for module in online.modules():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight)
            nn.init.zeros_(module.bias)
    for network in (online.reward, online.critic_0, online.critic_1):
        last = network[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
    return with_targets(online)


def with_targets(online: LatentModel) -> TDMPCNetworks:
    """The model beside fresh copies of what targets need."""
    target = Parts(**{name: copy.deepcopy(getattr(online, name)) for name in online.slow})
    return TDMPCNetworks(online, target.requires_grad_(False))
