"""What a RecurrentPPO policy remembers: its LSTMs, one step at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from torch import Tensor, nn


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
