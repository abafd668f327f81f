"""The networks of TD-MPC: a task-oriented latent dynamics model (TOLD) and its slow copies."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunectl.agents.tdmpc.layers import mlp, q_function, width

#: Components in their fixed order, by the attribute that holds them.
COMPONENTS: Mapping[str, str] = {
    "encoder": "encoder",
    "dynamics": "dynamics",
    "reward": "reward",
    "actor": "actor",
    "critic.0": "critic_0",
    "critic.1": "critic_1",
}
#: The networks that targets are computed with.
SLOW = ("encoder", "critic_0", "critic_1")


class WorldModel(nn.Module):
    """The six networks around one latent z. Widths may be anything that fits: they are read off the layers.

        z = encoder(s);  z' = dynamics(z, a);  r = reward(z, a);  a = actor(z) in [-1, 1];  Q_i = critic_i(z, a)

    All take ``(n, in)`` and give ``(n, out)``; two inputs stand side by side, the latent first.
    """

    def __init__(
        self,
        encoder: nn.Sequential,
        dynamics: nn.Sequential,
        reward: nn.Sequential,
        actor: nn.Sequential,
        critic_0: nn.Sequential,
        critic_1: nn.Sequential,
    ) -> None:
        super().__init__()
        self.encoder, self.dynamics, self.reward = encoder, dynamics, reward
        self.actor, self.critic_0, self.critic_1 = actor, critic_0, critic_1

    @property
    def actions(self) -> int:
        """Number of action dimensions."""
        return width(self.actor)

    def values(self, latent_action: Tensor) -> Tensor:
        """The smaller of both Q-functions, ``(n, 1)``."""
        return torch.minimum(self.critic_0(latent_action), self.critic_1(latent_action))


class Targets(nn.Module):
    """Exponential moving averages of the networks that targets come from."""

    def __init__(self, encoder: nn.Sequential, critic_0: nn.Sequential, critic_1: nn.Sequential) -> None:
        super().__init__()
        self.encoder, self.critic_0, self.critic_1 = encoder, critic_0, critic_1

    def values(self, latent_action: Tensor) -> Tensor:
        """The smaller of both Q-functions, ``(n, 1)``."""
        return torch.minimum(self.critic_0(latent_action), self.critic_1(latent_action))


class TDMPCNetworks(nn.Module):
    """All tensors of a TD-MPC controller: the online model and the slow copies."""

    def __init__(self, online: WorldModel, target: Targets) -> None:
        super().__init__()
        self.online, self.target = online, target


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


def with_targets(online: WorldModel) -> TDMPCNetworks:
    """The model beside fresh copies of what targets need."""
    target = Targets(*(copy.deepcopy(getattr(online, name)) for name in SLOW))
    return TDMPCNetworks(online, target.requires_grad_(False))
