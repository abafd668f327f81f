"""Backward elimination of units in the sense of Optimal Brain Surgeon (Hassibi & Stork 1993), a unit at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: What some consumers read of the units, ``(n, units)`` or ``(n, units, each)``, and with which weights,
#: ``(units, outputs)`` or ``(units, each, outputs)``.
Reading = tuple[Array, Array]


def eliminate(readings: Sequence[Reading], ridge: float = 1e-4) -> tuple[NDArray[np.intp], Array]:
    """In which order units may go, and what each removal has cost by then.

    Consumers compute ``activations @ weights + bias``. With H the activations and a constant column, G = H'H/n +
    lambda I and W the consumers' weights, removing unit j and refitting what is left raises the consumers' squared
    error by |W_j|^2 / [G^-1]_jj; where a unit has several columns B, by tr(W_B' [G^-1]_BB^-1 W_B). The cheapest goes, W
    and G^-1 are updated by as many ranks, and so on to the last.

    Args:
        readings: what consumers read of the units and how each output counts; those of different form (a channel that
            one convolution reads and another linear layer, flattened) are each refitted by themselves, and their
            errors added.
        ridge: lambda, as a share of the mean diagonal of H'H/n.

    Returns:
        ``order`` ``(units,)``, first to go first, and ``damage`` ``(units,)``, the consumers' mean squared error once
        that unit and all before it are gone, as a share of the consumers' variance. It never decreases.
    """
    sides = [
        _Columns(seen, weights, ridge) if seen.ndim == 2 else _Blocks(seen, weights, ridge)
        for seen, weights in readings
    ]
    units = readings[0][0].shape[1]
    order = np.empty(units, dtype=np.intp)
    damage = np.empty(units)
    left = np.ones(units, dtype=bool)
    spent = 0.0
    for step in range(units):
        cost = np.full(units, np.inf)
        cost[left] = sum((side.costs(left) for side in sides[1:]), sides[0].costs(left))
        gone = int(cost.argmin())
        spent += float(cost[gone])
        order[step], damage[step] = gone, spent
        left[gone] = False
        for side in sides:
            side.remove(gone)
    variance = sum(side.variance for side in sides)
    return order, damage / max(variance, 1e-12)


class _Columns:
    """Consumers that read one number a unit."""

    def __init__(self, activations: Array, weights: Array, ridge: float) -> None:
        self.inverse = _inverse(activations, ridge)
        self.current = np.concatenate([weights, np.zeros((1, weights.shape[1]))])
        self.variance = float(((activations - activations.mean(0)) @ weights).var(axis=0).sum())

    def costs(self, left: NDArray[np.bool_]) -> Array:
        """What each unit that is left would cost."""
        with_constant = np.append(left, False)
        diagonal = np.diag(self.inverse)
        return np.asarray((self.current[with_constant] ** 2).sum(axis=1) / diagonal[with_constant])

    def remove(self, gone: int) -> None:
        """Take a unit out and refit the others."""
        diagonal = np.diag(self.inverse)
        column = self.inverse[:, gone].copy()
        self.current -= np.outer(column, self.current[gone] / diagonal[gone])
        self.inverse -= np.outer(column, column / diagonal[gone])
        self.current[gone] = 0.0
        self.inverse[gone, :] = self.inverse[:, gone] = 0.0


class _Blocks:
    """Consumers that read several numbers a unit."""

    def __init__(self, activations: Array, weights: Array, ridge: float) -> None:
        _, units, self.each = activations.shape
        flat, weights = activations.reshape(len(activations), -1), weights.reshape(units * self.each, -1)
        self.inverse = _inverse(flat, ridge)
        self.current = np.concatenate([weights, np.zeros((1, weights.shape[1]))])
        self.variance = float(((flat - flat.mean(0)) @ weights).var(axis=0).sum())

    def costs(self, left: NDArray[np.bool_]) -> Array:
        """What each unit that is left would cost."""
        costs = []
        for unit in np.flatnonzero(left):
            own, inner = self._own(int(unit))
            costs.append(float((own * np.linalg.solve(inner, own)).sum()))
        return np.asarray(costs)

    def remove(self, gone: int) -> None:
        """Take a unit out and refit the others."""
        where = slice(gone * self.each, (gone + 1) * self.each)
        own, inner = self._own(gone)
        strip = self.inverse[:, where].copy()
        self.current -= strip @ np.linalg.solve(inner, own)
        self.inverse -= strip @ np.linalg.solve(inner, strip.T)
        self.current[where] = 0.0
        self.inverse[where, :] = self.inverse[:, where] = 0.0

    def _own(self, unit: int) -> tuple[Array, Array]:
        where = slice(unit * self.each, (unit + 1) * self.each)
        return self.current[where], self.inverse[where, where]


def _inverse(activations: Array, ridge: float) -> Array:
    """The inverse of the Gram matrix of the activations and a constant, which is kept out of the ridge, so that an
    offset is never charged for."""
    n, columns = activations.shape
    design = np.concatenate([activations, np.ones((n, 1))], axis=1)
    gram = design.T @ design / n
    penalty = np.full(columns + 1, ridge * np.trace(gram[:columns, :columns]) / max(columns, 1) + 1e-12)
    penalty[-1] = 1e-12
    inverse: Array = np.linalg.inv(gram + np.diag(penalty))
    return inverse
