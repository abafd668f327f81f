"""Backward elimination of units in the sense of Optimal Brain Surgeon (Hassibi & Stork 1993), a unit at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def eliminate(activations: Array, weights: Array, ridge: float = 1e-4) -> tuple[NDArray[np.intp], Array]:
    """In which order units may go, and what each removal has cost by then.

    Consumers compute ``activations @ weights + bias``. With H the activations and a constant column, G = H'H/n +
    lambda I and W the consumers' weights, removing unit j and refitting what is left raises the consumers' squared
    error by |W_j|^2 / [G^-1]_jj. The cheapest goes, W and G^-1 are updated by rank one, and so on to the last.

    Args:
        activations: ``(n, units)``, the units' values over the calibration inputs.
        weights: ``(units, outputs)``, the consumers' weights, each output scaled by how much it matters.
        ridge: lambda, as a share of the mean diagonal of H'H/n.

    Returns:
        ``order`` ``(units,)``, first to go first, and ``damage`` ``(units,)``, the consumers' mean squared error once
        that unit and all before it are gone, as a share of the consumers' variance. It never decreases.
    """
    n, units = activations.shape
    design = np.concatenate([activations, np.ones((n, 1))], axis=1)
    gram = design.T @ design / n
    # The constant is kept out of the ridge, so that an offset is never charged for.
    penalty = np.full(units + 1, ridge * np.trace(gram[:units, :units]) / max(units, 1) + 1e-12)
    penalty[-1] = 1e-12
    inverse = np.linalg.inv(gram + np.diag(penalty))
    current = np.concatenate([weights, np.zeros((1, weights.shape[1]))])
    variance = float(((activations - activations.mean(0)) @ weights).var(axis=0).sum())
    order = np.empty(units, dtype=np.intp)
    damage = np.empty(units)
    left = np.ones(units + 1, dtype=bool)
    left[-1] = False
    spent = 0.0
    for step in range(units):
        diagonal = np.diag(inverse)
        cost = np.full(units + 1, np.inf)
        cost[left] = (current[left] ** 2).sum(axis=1) / diagonal[left]
        gone = int(cost.argmin())
        spent += float(cost[gone])
        order[step], damage[step] = gone, spent
        column = inverse[:, gone].copy()
        current -= np.outer(column, current[gone] / diagonal[gone])
        inverse -= np.outer(column, column / diagonal[gone])
        left[gone] = False
        current[gone] = 0.0
        inverse[gone, :] = inverse[:, gone] = 0.0
    return order, damage / max(variance, 1e-12)
