"""What an agent was normalised by in training (SB3's `VecNormalize`): its observations, and its rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from prunectl.agents.boundary_layers import Normalise
from prunectl.agents.controller import ControllerError
from prunectl.agents.rows import parts_of, width


@dataclass(frozen=True)
class Normalisation:
    """Running statistics that observations are normalised by before the networks see them (SB3's `VecNormalize`).

    ``mean`` and ``var`` have a number for each of a row. ``columns`` says which of them are normalised, None for all:
    of observations by name, VecNormalize leaves alone those that are not among its ``norm_obs_keys``.
    """

    mean: NDArray[np.float64]
    var: NDArray[np.float64]
    clip: float
    epsilon: float
    columns: NDArray[np.bool_] | None = None

    @classmethod
    def by_part(
        cls,
        space: spaces.Space[Any],
        found: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
        clip: float,
        epsilon: float,
    ) -> Self:
        """Of means and variances by the name of the part, ``""`` for observations that have none.

        Parts that are not found are left alone. Images may have their channels last, as tasks give them.

        Raises:
            ControllerError: they are of other parts, or of parts of another shape.
        """
        parts = parts_of(space)
        if not found.keys() <= parts.keys():
            names = [", ".join(sorted(name or "without a name" for name in keys))[:100] for keys in (found, parts)]
            raise ControllerError(f"statistics of observations {names[0]}, and the observations are {names[1]}")
        sides: list[list[NDArray[np.float64]]] = [[], []]
        for key, part in parts.items():
            for side, default, given in zip(sides, (0.0, 1.0), found.get(key, (None, None)), strict=True):
                values = np.full(width(part), default) if given is None else _row(given, part)
                side.append(values)
        columns = np.concatenate([np.full(width(part), key in found) for key, part in parts.items()])
        mean, var = map(np.concatenate, sides)
        return cls(mean, var, clip, epsilon, None if columns.all() else columns)

    def parts(self, space: spaces.Space[Any]) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """The means and variances that `by_part` takes, each in the form of its part."""
        parts, start, found = parts_of(space), 0, {}
        for key, part in parts.items():
            columns = slice(start, start := start + width(part))
            if self.columns is None or self.columns[columns].all():
                found[key] = self.mean[columns].reshape(part.shape), self.var[columns].reshape(part.shape)
        return found

    def as_json(self) -> dict[str, Any]:
        """Plain data that `from_json` turns back into the same statistics."""
        said = {"mean": self.mean.tolist(), "var": self.var.tolist(), "clip": self.clip, "epsilon": self.epsilon}
        return said if self.columns is None else {**said, "columns": self.columns.tolist()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The statistics that `as_json` wrote."""
        mean, var = (np.asarray(data[name], dtype=np.float64) for name in ("mean", "var"))
        columns = np.asarray(data["columns"], dtype=np.bool_) if "columns" in data else None
        return cls(mean, var, float(data["clip"]), float(data["epsilon"]), columns)

    def of_inputs(self, inputs: Sequence[int]) -> Self:
        """Those of some numbers of a row alone, by their indices."""
        index = np.asarray(inputs, dtype=np.intp)
        columns = None if self.columns is None else self.columns[index]
        return replace(self, mean=self.mean[index], var=self.var[index], columns=columns)

    def module(self) -> Normalise:
        """What does it."""
        return Normalise(self.mean, np.sqrt(self.var + self.epsilon), self.clip, self.columns)


@dataclass(frozen=True)
class RewardScale:
    """What rewards were normalised by in training (SB3's `VecNormalize`): ``var`` is the running variance of discounted
    returns. No action depends on it, but the values that critics speak of are in its units."""

    var: float
    clip: float
    epsilon: float


def _row(values: NDArray[np.float64], space: spaces.Space[Any]) -> NDArray[np.float64]:
    if values.ndim == 3 and values.shape != space.shape:
        values = values.transpose(2, 0, 1)
    if values.shape != space.shape:
        raise ControllerError(f"statistics of shape {values.shape}, and the observations are of shape {space.shape}")
    return values.reshape(-1)
