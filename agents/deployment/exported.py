"""Exported controllers as controllers: they act, and that is all that they can do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn

from prunectl.agents.controller import Batch, Component, Controller, ControllerError, HeldPolicy, Policy
from prunectl.agents.deployment.metadata import Interface
from prunectl.agents.deployment.steps import Floats
from prunectl.agents.remembering import RememberingPolicy


class Exported(Controller):
    """What every exported form has in common. Its networks are out of reach, so it cannot be pruned or saved."""

    def __init__(self, interface: Interface, where: str) -> None:
        self.interface, self.where = interface, where
        self.algorithm = interface.algorithm
        self.observation_space = spaces.Box(-np.inf, np.inf, (interface.observations,), np.float32)
        self.action_space = interface.action_space
        self.surroundings = interface.surroundings
        self.networks = nn.Module()

    @abstractmethod
    def decide(self, observations: Floats, beside: Floats) -> tuple[NDArray[Any], Floats]:
        """Actions for rows ``(n, obs)`` and what is beside them, a memory or a mask ``(n, ...)``; and what is
        remembered then."""

    @property
    def acts_in(self) -> tuple[type[Any], int]:
        """What compiled code writes an action as, and how many numbers of it."""
        space = self.action_space
        count = 1 if isinstance(space, spaces.Discrete) else int(np.prod(space.shape))
        return np.float32 if isinstance(space, spaces.Box) else np.int32, count

    def as_actions(self, written: NDArray[Any]) -> NDArray[Any]:
        """What compiled code wrote, ``(n, numbers)``, as the space has it."""
        if isinstance(self.action_space, spaces.Discrete):
            return written[:, 0].astype(np.int64)
        return written.astype(self.action_space.dtype)

    def act(self, observations: Batch) -> NDArray[Any]:
        rows = np.asarray(observations).reshape(len(observations), -1)
        width, beside = self.interface.observations, rows[:, self.interface.observations :]
        if not beside.size:  # nothing is remembered yet; all options are allowed
            beside = np.full((len(rows), self.interface.beside), float(self.masked))
        return self.advance(rows[:, :width], beside[:, : self.interface.beside])[0]

    def advance(self, observations: Batch, states: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Actions and what is remembered after them, of raw observations and what is beside them."""
        rows = np.asarray(observations).reshape(len(observations), -1)
        return self.decide(*(np.ascontiguousarray(part, dtype=np.float32) for part in (rows, states)))

    def policy(self, seeds: Sequence[int]) -> Policy:
        decide = RememberingPolicy(self, len(seeds)) if self.memory else super().policy(seeds)
        return decide if self.held_steps == 1 else HeldPolicy(decide, self.held_steps, len(seeds))

    @property
    def memory(self) -> int:
        return self.interface.memory

    @property
    def masked(self) -> bool:
        return self.interface.masked

    @property
    def observed(self) -> spaces.Space[Any]:
        return self.interface.observed or self.observation_space

    @property
    def held_steps(self) -> int:
        return self.interface.held_steps

    @property
    def suffix(self) -> str:  # type: ignore[override]
        self._refuse()

    @property
    def components(self) -> Mapping[str, Component]:
        return {}

    @property
    def ties(self) -> Sequence[Sequence[str]]:
        return ()

    @property
    def mirrors(self) -> Mapping[str, str]:
        return {}

    def dataflow(self) -> nn.Module:
        self._refuse()

    def inputs(self, observations: Batch, actions: NDArray[Any]) -> tuple[torch.Tensor, ...]:
        self._refuse()

    def deployed_path(self) -> nn.Sequential:
        self._refuse()

    def with_networks(self, networks: nn.Module) -> Self:
        self._refuse()

    def save(self, path: Path, provenance: Mapping[str, Any]) -> tuple[str, ...]:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ControllerError(
            f"{self.where}: an exported controller can be evaluated and nothing else: "
            "prune the checkpoint that it was made from, and export the result"
        )
