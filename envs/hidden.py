"""Tasks of which a controller sees only a part: what is hidden it has to remember."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

Vector = NDArray[Any]


class Seen(gym.ObservationWrapper[Vector, Vector, Vector], RecordConstructorArgs):
    """Shows some numbers of an observation ``(n,)``, by their places, and leaves the others out."""

    def __init__(self, env: gym.Env[Vector, Vector], places: Sequence[int]) -> None:
        RecordConstructorArgs.__init__(self, places=places)
        super().__init__(env)
        whole = env.observation_space
        assert isinstance(whole, spaces.Box)
        self.places = np.asarray(places)
        low, high = whole.low[self.places], whole.high[self.places]
        self.observation_space = spaces.Box(low, high, dtype=low.dtype.type)

    def observation(self, observation: Vector) -> Vector:
        seen: Vector = observation[self.places]
        return seen
