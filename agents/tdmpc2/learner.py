"""How TD-MPC2 learns: a joint-embedding model with distributional rewards and values, and a maximum-entropy policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunectl.agents.tdmpc.learner import Learner, Learning, Losses
from prunectl.agents.tdmpc.model import TDMPCNetworks
from prunectl.agents.tdmpc.planner import Planning
from prunectl.agents.tdmpc.replay import Sequences
from prunectl.agents.tdmpc2.distributions import Bins, action, log_likelihood
from prunectl.agents.tdmpc2.networks import ASKED

#: Values are divided by the running distance of these quantiles, or by 1 if that is more (section 3.2).
QUANTILES = (0.05, 0.95)


@dataclass(frozen=True)
class Learning2(Learning):
    """Settings of learning; what is not said here is as in `Learning`. Sequences are drawn evenly.

    Attributes:
        enc_lr_scale: the encoder's step size, as a share of ``lr``.
        entropy_coef: weight of the policy's entropy.
    """

    lr: float = 3e-4
    consistency_coef: float = 20.0
    reward_coef: float = 0.1
    per_alpha: float = 0.0
    per_beta: float = 0.0
    grad_clip_norm: float = 20.0
    update_freq: int = 1
    enc_lr_scale: float = 0.3
    entropy_coef: float = 1e-4


def smaller_of_two(critics: Sequence[nn.Module], joint: Tensor, generator: torch.Generator) -> Tensor:
    """The smaller value of two critics drawn at random, ``(n, in) -> (n,)``."""
    return torch.stack(_of_two(critics, joint, generator)).amin(0)


def _of_two(critics: Sequence[nn.Module], joint: Tensor, generator: torch.Generator) -> list[Tensor]:
    drawn = torch.randperm(len(critics), generator=generator)[:ASKED].tolist()
    return [critics[index](joint)[:, 0] for index in drawn]


class Learner2(Learner):
    """Updates networks in place, with optimisers, random numbers and the running scale of values of its own."""

    learning: Learning2

    def __init__(self, networks: TDMPCNetworks, planning: Planning, learning: Learning2, seed: int) -> None:
        super().__init__(networks, planning, learning, seed)
        self.scale = torch.ones(())

    def optimisers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        online, lr = self.networks.online, self.learning.lr
        others = [online.dynamics, online.reward, *online.critics]
        groups: list[dict[str, Any]] = [
            {"params": list(online.encoder.parameters()), "lr": lr * self.learning.enc_lr_scale},
            {"params": [parameter for network in others for parameter in network.parameters()]},
        ]
        return torch.optim.Adam(groups, lr=lr), torch.optim.Adam(online.actor.parameters(), lr=lr, eps=1e-5)

    def targets(self, batch: Sequences, noise: Tensor) -> Tensor:
        """r_t + gamma (1 - terminated_t) min Q'(z_{t+1}, pi(z_{t+1})) of two slow critics, ``(H, B)``; no gradient."""
        online = self.networks.online
        with torch.no_grad():
            latent = online.encoder(batch.observations[1:].flatten(0, 1))
            joint = torch.cat([latent, action(online.actor(latent), noise.flatten(0, 1))], 1)
            value = smaller_of_two(self.networks.target.critics, joint, self.generator).view(batch.rewards.shape)
            return batch.rewards + self.planning.discount * (1.0 - batch.terminated) * value

    def model_losses(self, batch: Sequences, targets: Tensor) -> Losses:
        """The objective of the model (equation 3), for each sequence; invalid steps cost nothing.

            sum_t rho^t (c1 CE(R(z_t, a_t), r_t) + c2 mean_i CE(Q_i(z_t, a_t), y_t) + c3 |d(z_t, a_t) - h(s_{t+1})|^2)

        with cross-entropies CE of distributions over bins, the targets ``y`` ``(H, B)``, no gradient through
        h(s_{t+1}), and the last term a mean over the latent's dimensions.
        """
        online, learning, horizon = self.networks.online, self.learning, len(batch.actions)
        encoded = online.encoder(batch.observations[0])
        with torch.no_grad():
            wanted = online.encoder(batch.observations[1:].flatten(0, 1)).view(horizon, *encoded.shape)
        latents = [encoded]
        for taken in batch.actions:
            latents.append(online.dynamics(torch.cat([latents[-1], taken], 1)))
        passed = torch.stack(latents)
        joint = torch.cat([passed[:-1], batch.actions], 2).flatten(0, 1)
        weights = learning.rho ** torch.arange(horizon)[:, None] * batch.valid

        def misjudged(network: nn.Sequential, values: Tensor) -> Tensor:
            bins = network[-1]
            assert isinstance(bins, Bins)
            return (weights * bins.cross_entropy(network[:-1](joint), values.flatten()).view(values.shape)).sum(0)

        consistency = (weights * (passed[1:] - wanted).square().mean(2)).sum(0)
        reward = misjudged(online.reward, batch.rewards)
        value = torch.stack([misjudged(critic, targets) for critic in online.critics]).mean(0)
        total = learning.consistency_coef * consistency + learning.reward_coef * reward + learning.value_coef * value
        return Losses(total, consistency, reward, value, value.detach(), passed.detach())

    def policy_loss(self, latents: Tensor, valid: Tensor, noise: Tensor) -> Tensor:
        """- sum_t rho^t mean (Q(z_t, a_t) / scale - alpha log pi(a_t)), a_t drawn from pi(z_t), Q the mean of two
        critics (equation 4)."""
        flat, numbers, online = latents.flatten(0, 1), noise.flatten(0, 1), self.networks.online
        output = online.actor(flat)
        joint = torch.cat([flat, action(output, numbers)], 1)
        value = torch.stack(_of_two(online.critics, joint, self.generator)).mean(0).view(latents.shape[:2])
        with torch.no_grad():
            low, high = torch.quantile(value[0], torch.tensor(QUANTILES))
            self.scale = self.scale.lerp((high - low).clamp(min=1.0), self.learning.tau)
        gained = value / self.scale - self.learning.entropy_coef * log_likelihood(output, numbers).view(value.shape)
        reached = torch.cat([torch.ones_like(valid[:1]), valid])
        weighted: Tensor = self.learning.rho ** torch.arange(len(latents))[:, None] * reached * gained
        return -weighted.sum(0).mean() / len(latents)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "scale": self.scale}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.scale = state["scale"]
