"""How TD-MPC learns: the losses of its world model (TOLD), the policy's, and the slow targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prunectl.agents.tdmpc.model import LatentModel, TDMPCNetworks
from prunectl.agents.tdmpc.networks import NOISE_CLIP, smaller_value
from prunectl.agents.tdmpc.planner import Planning
from prunectl.agents.tdmpc.products import QuickProducts
from prunectl.agents.tdmpc.replay import Sequences

#: A sequence's losses are cut off here, as the authors do.
MAX_LOSS = 1e4


@dataclass(frozen=True)
class Learning:
    """Settings of learning, named as the authors name them.

    Attributes:
        batch_size: sequences an update (the authors take 512; half of it learns these tasks in half the time).
        lr: step size of Adam, model and policy.
        rho: weight of a step further ahead in the sequence, lambda in the paper.
        consistency_coef, reward_coef, value_coef: weights of the three losses.
        per_alpha, per_beta: how much priorities count in sampling, and how far weights undo it.
        grad_clip_norm: cap of the gradient's norm.
        update_freq, tau: every ``update_freq`` updates the slow copies move by ``tau``.
        reward_scale: factor on rewards, so that values stay within tens.
    """

    batch_size: int = 256
    lr: float = 1e-3
    rho: float = 0.5
    consistency_coef: float = 2.0
    reward_coef: float = 0.5
    value_coef: float = 0.1
    per_alpha: float = 0.6
    per_beta: float = 0.4
    grad_clip_norm: float = 10.0
    update_freq: int = 2
    tau: float = 0.01
    reward_scale: float = 1.0


@dataclass(frozen=True)
class Losses:
    """What one batch costs.

    ``consistency``, ``reward`` and ``value`` are weighted by horizon, ``(B,)``; ``total`` combines them, ``(B,)``;
    ``priority`` ``(B,)`` and the latents that the model passed through ``(H + 1, B, L)`` carry no gradient.
    """

    total: Tensor
    consistency: Tensor
    reward: Tensor
    value: Tensor
    priority: Tensor
    latents: Tensor


def td_targets(networks: TDMPCNetworks, batch: Sequences, planning: Planning, noise: Tensor) -> Tensor:
    """r_t + gamma (1 - terminated_t) min_i Q'_i(z_{t+1}, pi(z_{t+1})) with slow Q', ``(H, B)``; no gradient.

    ``noise`` ``(H, B, A)``, standard normal, is the policy's.
    """
    with torch.no_grad():
        latent = networks.online.encoder(batch.observations[1:].flatten(0, 1))
        action = policy(networks.online, latent, planning.min_std, noise.flatten(0, 1))
        value = smaller_value(networks.target, torch.cat([latent, action], 1)).view(batch.rewards.shape)
        targets: Tensor = batch.rewards + planning.discount * (1.0 - batch.terminated) * value
        return targets


def model_losses(networks: TDMPCNetworks, batch: Sequences, targets: Tensor, learning: Learning) -> Losses:
    """The objective of the latent dynamics model (TOLD), for each sequence.

        sum_t rho^t (c1 |R(z_t, a_t) - r_t|^2 + c2 sum_i |Q_i(z_t, a_t) - y_t|^2 + c3 |d(z_t, a_t) - h'(s_{t+1})|^2)

    with y the targets ``(H, B)``, z_0 = h(s_0), z_{t+1} = d(z_t, a_t), h' slow, and the last term a mean over the
    latent's dimensions. Invalid steps cost nothing. Priorities are the absolute errors of both Qs.
    """
    online, horizon = networks.online, len(batch.actions)
    latent = online.encoder(batch.observations[0])
    latents = [latent]
    for step in range(horizon):
        latents.append(online.dynamics(torch.cat([latents[-1], batch.actions[step]], 1)))
    passed = torch.stack(latents)
    joint = torch.cat([passed[:-1], batch.actions], 2).flatten(0, 1)
    rewards = online.reward(joint).view(batch.rewards.shape)
    values = torch.cat([critic(joint) for critic in online.critics], 1).view(*batch.rewards.shape, 2)
    with torch.no_grad():
        wanted = networks.target.encoder(batch.observations[1:].flatten(0, 1)).view(passed[1:].shape)
    weights = learning.rho ** torch.arange(horizon)[:, None] * batch.valid
    errors = values - targets.unsqueeze(2)
    consistency = (weights * (passed[1:] - wanted).square().mean(2)).sum(0)
    reward = (weights * (rewards - batch.rewards).square()).sum(0)
    value = (weights * errors.square().sum(2)).sum(0)
    total = (
        learning.consistency_coef * consistency.clamp(max=MAX_LOSS)
        + learning.reward_coef * reward.clamp(max=MAX_LOSS)
        + learning.value_coef * value.clamp(max=MAX_LOSS)
    )
    priority = (weights * errors.detach().abs().sum(2)).sum(0).clamp(max=MAX_LOSS)
    return Losses(total, consistency, reward, value, priority, passed.detach())


def policy_loss(model: LatentModel, latents: Tensor, valid: Tensor, rho: float, std: float, noise: Tensor) -> Tensor:
    """- sum_t rho^t mean min_i Q_i(z_t, pi(z_t)), the policy's objective.

    Args:
        model: the networks.
        latents: ``(H + 1, B, L)``.
        valid: ``(H, B)``; the latent after an invalid step counts nothing.
        rho: weight of a step further ahead.
        std: the policy's noise.
        noise: standard normal, ``(H + 1, B, A)``.
    """
    flat = latents.flatten(0, 1)
    action = policy(model, flat, std, noise.flatten(0, 1))
    value = smaller_value(model, torch.cat([flat, action], 1)).view(latents.shape[:2])
    reached = torch.cat([torch.ones_like(valid[:1]), valid])
    weighted: Tensor = rho ** torch.arange(len(latents))[:, None] * reached * value
    return -weighted.sum(0).mean()


def policy(model: LatentModel, latent: Tensor, std: float, noise: Tensor) -> Tensor:
    """Actions pi(z) + truncated noise, clipped to [-1, 1] with the gradient passed straight through."""
    action: Tensor = model.actor(latent) + (std * noise).clamp(-NOISE_CLIP, NOISE_CLIP)
    return action + (action.clamp(-1.0, 1.0) - action).detach()


class Learner:
    """Updates networks in place, with optimisers and random numbers of its own.

    A relative of TD-MPC says otherwise what its targets, losses and optimisers are (`tdmpc2.learner`).
    """

    def __init__(self, networks: TDMPCNetworks, planning: Planning, learning: Learning, seed: int) -> None:
        self.networks, self.planning, self.learning = networks, planning, learning
        networks.online.requires_grad_(True)
        self.model_optimiser, self.policy_optimiser = self.optimisers()
        self.generator = torch.Generator().manual_seed(seed)
        self.updates = 0

    def optimisers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        """The model's, and the policy's."""
        online, lr = self.networks.online, self.learning.lr
        return torch.optim.Adam(online.parameters(), lr=lr), torch.optim.Adam(online.actor.parameters(), lr=lr)

    def targets(self, batch: Sequences, noise: Tensor) -> Tensor:
        """What the critics should say, ``(H, B)``; ``noise`` ``(H, B, A)``, standard normal, is the policy's."""
        return td_targets(self.networks, batch, self.planning, noise)

    def model_losses(self, batch: Sequences, targets: Tensor) -> Losses:
        """What the model costs."""
        return model_losses(self.networks, batch, targets, self.learning)

    def policy_loss(self, latents: Tensor, valid: Tensor, noise: Tensor) -> Tensor:
        """What the policy costs at ``latents`` ``(H + 1, B, L)``, with ``noise`` ``(H + 1, B, A)``."""
        return policy_loss(self.networks.online, latents, valid, self.learning.rho, self.planning.min_std, noise)

    def update(self, batch: Sequences) -> tuple[dict[str, float], Tensor]:
        """One step of the model, one of the policy, and every now and then one of the slow copies.

        Returns:
            Mean losses by name, and the sequences' new priorities ``(B,)``.
        """
        with QuickProducts():
            return self._update(batch)

    def _update(self, batch: Sequences) -> tuple[dict[str, float], Tensor]:
        learning = self.learning
        horizon, count, actions = batch.actions.shape
        noise = torch.randn(2 * horizon + 1, count, actions, generator=self.generator)
        losses = self.model_losses(batch, self.targets(batch, noise[:horizon]))
        _descend(self.model_optimiser, (losses.total * batch.weights).mean() / horizon, learning.grad_clip_norm)
        loss = self.policy_loss(losses.latents, batch.valid, noise[horizon:])
        _descend(self.policy_optimiser, loss, learning.grad_clip_norm)
        self.updates += 1
        if self.updates % learning.update_freq == 0:
            self._follow(learning.tau)
        means = {name: float(getattr(losses, name).detach().mean()) for name in ("consistency", "reward", "value")}
        return {**means, "policy": float(loss.detach())}, losses.priority

    def _follow(self, tau: float) -> None:
        with torch.no_grad():
            for name in self.networks.online.slow:
                online, slow = getattr(self.networks.online, name), getattr(self.networks.target, name)
                for own, other in zip(slow.parameters(), online.parameters(), strict=True):
                    own.lerp_(other, tau)

    def state_dict(self) -> dict[str, Any]:
        """Networks, optimisers, random numbers and the count of updates."""
        return {
            "networks": self.networks.state_dict(),
            "model_optimiser": self.model_optimiser.state_dict(),
            "policy_optimiser": self.policy_optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Back to where `state_dict` was taken."""
        self.networks.load_state_dict(state["networks"])
        self.model_optimiser.load_state_dict(state["model_optimiser"])
        self.policy_optimiser.load_state_dict(state["policy_optimiser"])
        self.generator.set_state(state["generator"])
        self.updates = state["updates"]


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor, max_norm: float) -> None:
    """One clipped step on the optimiser's own parameters; no other parameter gets a gradient."""
    parameters = list(_parameters(optimiser))
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    nn.utils.clip_grad_norm_(parameters, max_norm)
    optimiser.step()


def _parameters(optimiser: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimiser.param_groups:
        yield from group["params"]
