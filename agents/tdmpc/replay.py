"""Prioritised experience replay of short sequences (Schaul et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """B sequences of H decisions, time first.

    ``observations`` ``(H + 1, B, obs)``, where row t + 1 is what decision t led to; ``actions`` ``(H, B, A)``;
    ``rewards``, ``terminated`` and ``valid`` ``(H, B)``, floats: a step is valid while it belongs to the episode that
    the sequence starts in. ``indices`` and importance ``weights`` ``(B,)``.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    valid: Tensor
    indices: Tensor
    weights: Tensor


class Replay:
    """A ring of transitions. Sequences may start anywhere; what lies beyond the episode's end is marked invalid."""

    def __init__(self, capacity: int, observations: int, actions: int) -> None:
        self.observations = torch.zeros(capacity, observations)
        self.next_observations = torch.zeros(capacity, observations)
        self.actions = torch.zeros(capacity, actions)
        self.rewards = torch.zeros(capacity)
        self.terminated = torch.zeros(capacity)
        self.episodes = torch.full((capacity,), -1)
        self.priorities = torch.zeros(capacity)
        self.added = 0

    def __len__(self) -> int:
        return min(self.added, len(self.rewards))

    def add(
        self,
        observation: NDArray[Any],
        action: NDArray[Any],
        reward: float,
        next_observation: NDArray[Any],
        terminated: bool,
        episode: int,
    ) -> None:
        """Keep one transition, over the oldest one if the ring is full; it gets the highest priority so far."""
        priority = float(self.priorities.max()) or 1.0
        at = self.added % len(self.rewards)
        self.observations[at] = torch.as_tensor(observation)
        self.next_observations[at] = torch.as_tensor(next_observation)
        self.actions[at] = torch.as_tensor(action)
        self.rewards[at], self.terminated[at] = reward, float(terminated)
        self.episodes[at], self.priorities[at] = episode, priority
        self.added += 1

    def sample(
        self, count: int, horizon: int, generator: np.random.Generator, alpha: float = 0.6, beta: float = 0.4
    ) -> Sequences:
        """Draw sequences with probability P(i) ~ priority^alpha; weights are (n P(i))^-beta, scaled to at most 1."""
        odds = self.priorities[: len(self)].double().numpy() ** alpha
        cumulative = odds.cumsum()
        drawn = np.searchsorted(cumulative, generator.random(count) * cumulative[-1], side="right")
        drawn = np.minimum(drawn, len(self) - 1)
        weights = (len(self) * odds[drawn] / cumulative[-1]) ** -beta
        indices = torch.as_tensor(drawn)
        steps = (indices + torch.arange(horizon)[:, None]) % len(self.rewards)
        return Sequences(
            observations=torch.cat([self.observations[indices][None], self.next_observations[steps]]),
            actions=self.actions[steps],
            rewards=self.rewards[steps],
            terminated=self.terminated[steps],
            valid=(self.episodes[steps] == self.episodes[indices]).float(),
            indices=indices,
            weights=torch.as_tensor(weights / weights.max(), dtype=torch.float32),
        )

    def update_priorities(self, indices: Tensor, priorities: Tensor) -> None:
        """Set the priorities ``(B,)`` of sequences that were drawn."""
        self.priorities[indices] = priorities + 1e-6

    def state_dict(self) -> dict[str, Any]:
        """Everything, in plain tensors and numbers."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Back to where `state_dict` was taken."""
        vars(self).update(state)
