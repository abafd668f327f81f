"""The planner of TD-MPC and TD-MPC2: model predictive path integral control (MPPI) in latent space, for a batch of
environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunectl.agents.controller import ControllerError
from prunectl.agents.tdmpc.model import LatentModel

#: Standard deviation that every iteration starts from or is capped at.
MAX_STD = 2.0


@dataclass(frozen=True)
class Planning:
    """Settings of the planner, named as the authors name them.

    Attributes:
        horizon: steps that a plan looks ahead, H.
        iterations: refinements of the sampling distribution a decision, J.
        num_samples: sampled action sequences an iteration, N.
        num_elites: best sequences that the next distribution is made of, k.
        mixture_coef: sequences from the policy, as a share of ``num_samples``.
        min_std: lower bound of the sampling distribution's standard deviation, and the policy's own.
        temperature: how sharply elites are weighted by value, tau.
        momentum: share of the old mean in the new one.
        discount: gamma, a decision.
    """

    horizon: int = 3
    iterations: int = 4
    num_samples: int = 128
    num_elites: int = 24
    mixture_coef: float = 0.05
    min_std: float = 0.05
    temperature: float = 0.5
    momentum: float = 0.1
    discount: float = 0.99

    def __post_init__(self) -> None:
        """Raises `ControllerError` where no plan could be made."""
        if self.horizon < 1 or self.iterations < 1:
            raise ControllerError(f"horizon {self.horizon}, iterations {self.iterations}: both must be 1 or more")
        if not 1 <= self.num_elites <= self.num_samples + self.policy_samples:
            raise ControllerError(
                f"num_elites {self.num_elites}: must be between 1 and the {self.num_samples} samples with the "
                f"{self.policy_samples} of the policy"
            )

    @property
    def policy_samples(self) -> int:
        """Sequences that come from the policy."""
        return int(self.mixture_coef * self.num_samples)


@dataclass(frozen=True)
class Noise:
    """Standard normal numbers for one decision of B environments, time first.

    ``samples`` ``(J, H, B, N, A)``; ``policy`` ``(H + 1, B, P, A)`` for the policy's sequences, their last value
    estimate included; ``last`` ``(J, B, N, A)`` for the value estimates of the samples; ``choice`` ``(B,)``;
    ``critics`` ``(J + 1, B, Q)`` draw among Q critics, for the policy's sequences first, then for each
    iteration's samples.
    """

    samples: Tensor
    policy: Tensor
    last: Tensor
    choice: Tensor
    critics: Tensor

    @classmethod
    def draw(cls, planning: Planning, actions: int, generators: Sequence[torch.Generator], critics: int = 0) -> Noise:
        """One block of numbers from each environment's own generator, whatever the others do.

        ``critics`` is how many there are to draw from, `Asked.drawn`.
        """
        h, j, n, p = planning.horizon, planning.iterations, planning.num_samples, planning.policy_samples
        sizes = [j * h * n * actions, (h + 1) * p * actions, j * n * actions, 1, (j + 1) * critics]
        block = torch.empty(len(generators), sum(sizes))
        for row, generator in zip(block, generators, strict=True):
            row.normal_(generator=generator)
        samples, policy, last, choice, drawn = torch.split(block, sizes, dim=1)
        b = len(generators)
        return cls(
            samples.view(b, j, h, n, actions).permute(1, 2, 0, 3, 4),
            policy.view(b, h + 1, p, actions).transpose(0, 1),
            last.view(b, j, n, actions).transpose(0, 1),
            choice[:, 0],
            drawn.view(b, j + 1, critics).transpose(0, 1),
        )

    def repeated(self, count: int) -> Noise:
        """The numbers of one environment for ``count`` environments."""
        return Noise(
            self.samples.expand(-1, -1, count, -1, -1),
            self.policy.expand(-1, count, -1, -1),
            self.last.expand(-1, count, -1, -1),
            self.choice.expand(count),
            self.critics.expand(-1, count, -1),
        )


@dataclass(frozen=True)
class Plan:
    """A decision for B environments: ``action`` ``(B, A)`` in [-1, 1], the final ``mean`` ``(H, B, A)`` and the final
    ``std`` ``(B, A)`` of the first action."""

    action: Tensor
    mean: Tensor
    std: Tensor

    def shifted_mean(self) -> Tensor:
        """Where the next decision starts: the mean one step on, zero at the end."""
        return torch.cat([self.mean[1:], torch.zeros_like(self.mean[:1])])


class Planner:
    """Plans over a world model of any widths. It sees later changes of the weights in place."""

    def __init__(self, model: LatentModel, planning: Planning) -> None:
        self.planning = planning
        self.actions = model.actions
        self.model = model.asked(planning.min_std)
        self.discounts = planning.discount ** torch.arange(planning.horizon + 1)

    def draw(self, generators: Sequence[torch.Generator]) -> Noise:
        """The random numbers of one decision, from each environment's own generator."""
        return Noise.draw(self.planning, self.actions, generators, self.model.drawn)

    @torch.inference_mode()
    def __call__(self, observations: Tensor, mean: Tensor, noise: Noise, min_std: float | None = None) -> Plan:
        """Plan afresh for each row.

        Args:
            observations: ``(B, obs)``.
            mean: ``(H, B, A)``, where the search starts: zeros, or the last decision's `Plan.shifted_mean`.
            noise: this decision's random numbers.
            min_std: lower bound of the sampling distribution while training; ``planning.min_std`` if None.
        """
        planning = self.planning
        _, rows, actions = mean.shape
        floor = planning.min_std if min_std is None else min_std
        latent = self.model.encoder(observations)
        prior, prior_value = self._follow_policy(latent, noise.policy, noise.critics[0])
        std = torch.full_like(mean, MAX_STD)
        from_here = latent.repeat_interleave(planning.num_samples, 0)
        for samples, last, critics in zip(noise.samples, noise.last, noise.critics[1:], strict=True):
            sampled = torch.addcmul(mean.unsqueeze(2), std.unsqueeze(2), samples).clamp_(-1.0, 1.0)
            value = self._evaluate(from_here, sampled.flatten(1, 2), last.flatten(0, 1), critics)
            value = value.view(rows, planning.num_samples)
            sequences, values = torch.cat([sampled, prior], 2), torch.cat([value, prior_value], 1)
            elites, weights = select_elites(sequences, values, planning.num_elites, planning.temperature)
            new_mean, new_std = weighted_moments(elites, weights)
            mean = planning.momentum * mean + (1.0 - planning.momentum) * new_mean
            std = new_std.clamp_(floor, MAX_STD)
        chosen = (weights.cumsum(1) < torch.special.ndtr(noise.choice).unsqueeze(1)).sum(1, keepdim=True)
        chosen.clamp_(max=weights.shape[1] - 1)
        action = elites[0].gather(1, chosen.unsqueeze(2).expand(-1, -1, actions)).squeeze(1)
        return Plan(action, mean, std[0])

    def _follow_policy(self, latent: Tensor, noise: Tensor, critics: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's own sequences ``(H, B, P, A)`` and their values ``(B, P)``, estimated once a decision."""
        steps, rows, count, actions = noise.shape
        horizon = steps - 1
        latent, noise = latent.repeat_interleave(count, 0), noise.flatten(1, 2)
        value = torch.zeros(len(latent))
        taken = []
        for step in range(horizon):
            action = self.model.policy(latent, noise[step])
            joint = torch.cat([latent, action], 1)
            value += self.discounts[step] * self.model.reward(joint)
            latent = self.model.dynamics(joint)
            taken.append(action)
        value += self.discounts[horizon] * self._value(latent, noise[horizon], critics)
        return torch.stack(taken).view(horizon, rows, count, actions), value.view(rows, count)

    def _evaluate(self, latent: Tensor, actions: Tensor, noise: Tensor, critics: Tensor) -> Tensor:
        """Value of action sequences ``(H, R, A)`` from latents ``(R, L)``: ``(R,)``, the paper's trajectory return.

        phi = sum_t gamma^t R(z_t, a_t) + gamma^H Q(z_H, pi(z_H)); the rewards of all steps are asked for in one call.
        """
        horizon, rows, _ = actions.shape
        joint = torch.empty(horizon, rows, latent.shape[1] + actions.shape[2])
        joint[:, :, latent.shape[1] :] = actions
        for step in range(horizon):
            joint[step, :, : latent.shape[1]] = latent
            latent = self.model.dynamics(joint[step])
        rewards = self.model.reward(joint.flatten(0, 1)).view(horizon, rows)
        return self.discounts[:horizon] @ rewards + self.discounts[horizon] * self._value(latent, noise, critics)

    def _value(self, latent: Tensor, noise: Tensor, critics: Tensor) -> Tensor:
        return self.model.value(torch.cat([latent, self.model.policy(latent, noise)], 1), critics)


def select_elites(sequences: Tensor, values: Tensor, count: int, temperature: float) -> tuple[Tensor, Tensor]:
    """The best sequences and the weights that the paper's MPPI update gives them.

    Args:
        sequences: ``(H, B, N, A)``.
        values: ``(B, N)``.
        count: how many to keep, k.
        temperature: tau.

    Returns:
        The elites ``(H, B, k, A)``, best first, and weights exp(tau (value - best value)) ``(B, k)`` that sum to 1.
    """
    best = values.topk(count, dim=1)
    where = best.indices[None, :, :, None].expand(len(sequences), -1, -1, sequences.shape[3])
    return sequences.gather(2, where), torch.softmax(temperature * best.values, 1)


def weighted_moments(sequences: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(H, B, A)`` of sequences ``(H, B, k, A)`` under weights ``(B, k)``."""
    weights = weights[None, :, :, None]
    mean = (weights * sequences).sum(2)
    variance = (weights * (sequences - mean.unsqueeze(2)).square_()).sum(2)
    return mean, variance.sqrt_()
