"""Which initial states a loop brings to rest near the goal: a grid over two entries of the state, the others at 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prunectl.agents.controller import Controller
from prunectl.envs.plants import Plant
from prunectl.experiments.stability.rollout import trajectories

Array = NDArray[np.float64]


def axes(plant: Plant, size: int) -> tuple[Array, Array]:
    """The values of the two entries, ``size`` each, from ``-span`` to ``span``.

    An axis that goes once around a circle leaves out its last value, which is its first.
    """
    whole = [
        np.linspace(-span, span, size, endpoint=not (axis in plant.angles and np.isclose(span, np.pi)))
        for axis, span in zip(plant.axes, plant.spans, strict=True)
    ]
    return whole[0], whole[1]


def grid(plant: Plant, size: int) -> Array:
    """Initial states ``(size * size, n)``, the second axis running faster."""
    states = np.zeros((size * size, len(plant.state)))
    for entry, values in zip(plant.axes, np.meshgrid(*axes(plant, size), indexing="ij"), strict=True):
        states[:, entry] = values.ravel()
    return states


def attraction(controller: Controller, plant: Plant, size: int, seeds: Sequence[int]) -> NDArray[np.bool_]:
    """Which states of the grid are stabilised by the end of an episode: ``(size, size)``.

    Not being stabilised in an episode's time is not proof of never: a slow loop looks like one that fails.

    Args:
        controller: what acts.
        plant: of the task.
        size: grid points an axis.
        seeds: the first serves every state: plants are deterministic, planners get the same randomness everywhere.
    """
    found = trajectories(controller, plant, [seeds[0]] * size**2, grid(plant, size))
    return found.stabilised(plant).reshape(size, size)


def kept(dense: NDArray[np.bool_], pruned: NDArray[np.bool_]) -> float:
    """The share of the states stabilised by the dense loop that the pruned one stabilises; NaN if there are none."""
    return float((dense & pruned).sum() / dense.sum()) if dense.any() else float("nan")
