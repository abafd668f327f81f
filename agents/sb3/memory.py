"""What a RecurrentPPO policy remembers: its LSTMs one step at a time, and the states that an episode carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import Tensor, nn

from prunectl.agents.controller import Batch


class Memory(nn.Module):
    """One step of an LSTM, ``(n, features)`` and its states ``(n, layers, units)`` -> its states."""

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, features: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        states = hidden.transpose(0, 1), cell.transpose(0, 1)
        _, (hidden, cell) = self.lstm(features.unsqueeze(0), states)
        return hidden.transpose(0, 1), cell.transpose(0, 1)


def memories(policy: Any) -> dict[str, Memory]:
    """The LSTMs of a policy by component: one that acts, and perhaps one of the critic's own; none without any."""
    if not isinstance(policy, RecurrentActorCriticPolicy):
        return {}
    if policy.lstm_critic is None:
        return {"memory": Memory(policy.lstm_actor)}
    return {"memory_actor": Memory(policy.lstm_actor), "memory_value": Memory(policy.lstm_critic)}


def memory_ties(policy: Any) -> Sequence[tuple[str, str]]:
    """The layers that one number makes equally wide: the two LSTMs, or the one and what stands for the critic's."""
    if not isinstance(policy, RecurrentActorCriticPolicy):
        return ()
    layer = "lstm" if policy.lstm_actor.num_layers == 1 else "lstm.0"  # whose units are those of all its layers
    if policy.lstm_critic is not None:
        return ((f"memory_actor.{layer}", f"memory_value.{layer}"),)
    return () if policy.critic is None else ((f"memory.{layer}", "value.0"),)


def split_states(rows: Tensor, found: Mapping[str, Memory]) -> list[Tensor]:
    """Hidden and cell state of each memory, ``(n, layers, units)``, of columns side by side ``(n, memory)``."""
    shapes = [(memory.lstm.num_layers, memory.lstm.hidden_size) for memory in found.values() for _ in range(2)]
    parts = torch.split(rows, [layers * units for layers, units in shapes], dim=1)
    return [part.reshape(len(rows), *shape) for part, shape in zip(parts, shapes, strict=True)]


class DeployedStep(nn.Module):
    """One decision: raw observations ``(n, obs)`` and the acting memory's states side by side ``(n, memory)`` ->
    actions, and the states after them."""

    def __init__(self, before: nn.Module, memory: Memory, after: nn.Module) -> None:
        super().__init__()
        self.before, self.memory, self.after = before, memory, after
        self.beside = "memory", 2 * memory.lstm.num_layers * memory.lstm.hidden_size

    def forward(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        lstm = self.memory.lstm
        states = memory.reshape(-1, 2, lstm.num_layers, lstm.hidden_size)
        hidden, cell = self.memory(self.before(observation), states[:, 0], states[:, 1])
        return self.after(hidden[:, -1]), torch.cat([hidden.flatten(1), cell.flatten(1)], dim=1)


class Remembering(Protocol):
    """What a policy with a memory needs of its controller."""

    @property
    def memory(self) -> int:
        """How many numbers an episode remembers."""

    def advance(self, observations: Batch, states: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Actions, and the states ``(n, memory)`` after them."""


class RememberingPolicy:
    """Drives episodes, each with its own states, which begin at zero."""

    def __init__(self, controller: Remembering, episodes: int) -> None:
        self.controller = controller
        self.states = np.zeros((episodes, controller.memory), dtype=np.float32)

    def __call__(self, observations: Batch, episodes: NDArray[np.intp]) -> NDArray[Any]:
        actions, self.states[episodes] = self.controller.advance(observations, self.states[episodes])
        return actions

    def remembered(self, episodes: NDArray[np.intp]) -> Batch:
        """What each of these episodes remembers before it acts, ``(n, memory)``."""
        return self.states[episodes].copy()
