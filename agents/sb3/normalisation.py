"""What an agent was normalised by in training (SB3's `VecNormalize`): its observations, and its rewards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.boundary_layers import Normalise


@dataclass(frozen=True)
class Normalisation:
    """Running statistics that observations are normalised by before the networks see them (SB3's `VecNormalize`)."""

    mean: NDArray[np.float64]
    var: NDArray[np.float64]
    clip: float
    epsilon: float

    def as_json(self) -> dict[str, Any]:
        """Plain data that `from_json` turns back into the same statistics."""
        return {"mean": self.mean.tolist(), "var": self.var.tolist(), "clip": self.clip, "epsilon": self.epsilon}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The statistics that `as_json` wrote."""
        mean, var = (np.asarray(data[name], dtype=np.float64) for name in ("mean", "var"))
        return cls(mean, var, float(data["clip"]), float(data["epsilon"]))

    def module(self) -> Normalise:
        """What does it."""
        return Normalise(self.mean, np.sqrt(self.var + self.epsilon), self.clip)


@dataclass(frozen=True)
class RewardScale:
    """What rewards were normalised by in training (SB3's `VecNormalize`): ``var`` is the running variance of discounted
    returns. No action depends on it, but the values that critics speak of are in its units."""

    var: float
    clip: float
    epsilon: float
