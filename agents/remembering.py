"""Driving controllers with a memory: the states that each episode carries."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.controller import Batch


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
