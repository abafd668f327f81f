"""What one bootstrap of its runs and episodes says of every curve: the bands that are drawn, and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunectl.experiments import statistics
from prunectl.experiments.analysis.curves import AXES, Curve, Panel, against_references, mean_draws

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Band:
    """Means over the runs, and the ends of their 95% intervals, ``(sparsity,)`` each."""

    mean: Array
    low: Array
    high: Array

    def at(self, places: NDArray[np.intp]) -> Band:
        """These points of it."""
        return Band(self.mean[places], self.low[places], self.high[places])

    def then(self, more: Band) -> Band:
        """It, and then more."""
        pairs = ((self.mean, more.mean), (self.low, more.low), (self.high, more.high))
        return Band(*(np.concatenate(pair) for pair in pairs))


@dataclass(frozen=True)
class Kept:
    """How much a curve keeps on one axis.

    ``s95`` with the ends of its 95% interval; ``sure``, the highest sparsity at which the return is at least 0.95 with
    95% one-sided confidence; and `statistics.log_area`. ``open``: the `monotone` curve never falls below 0.95, so that
    ``s95`` is a lower bound, ``sure_open`` the same of ``sure``. ``worst`` is the lowest normalised return.
    """

    s95: float
    low: float
    high: float
    sure: float
    log_area: float
    open: bool
    sure_open: bool
    worst: float


#: Of a curve that lacks a reference.
NOTHING = Kept(np.nan, np.nan, np.nan, np.nan, np.nan, False, False, np.nan)


@dataclass(frozen=True)
class KeptDraws:
    """Bootstrap draws ``(resamples,)`` of s95 and of the area."""

    s95: Array
    log_area: Array


@dataclass(frozen=True)
class Reading:
    """A curve, and what one set of draws says of it.

    ``dense`` is the dense controller's return, one point (None: not there yet); ``normalised`` is None, and ``kept``,
    by axis, empty, where a reference is missing. ``draws`` are those of ``kept`` on the first of `AXES`.
    """

    curve: Curve
    returns: Band
    dense: Band | None
    normalised: Band | None
    kept: Mapping[str, Kept]
    draws: KeptDraws | None

    def along(self, axis: str) -> tuple[Array, Band]:
        """Sparsities of this axis in rising order and the returns there, from the dense controller on where it is."""
        sparsity = self.curve.sparsity[axis]
        order = np.argsort(sparsity, kind="stable")
        x, band = sparsity[order], self.returns.at(order)
        return (x, band) if self.dense is None else (np.insert(x, 0, 0.0), self.dense.then(band))


@dataclass(frozen=True)
class PanelReading:
    """A panel with its curves read."""

    panel: Panel
    curves: tuple[Reading, ...]


def read_panels(found: Sequence[Panel], seed: int) -> list[PanelReading]:
    """Read all curves, each redrawn once; those of one panel alike, so that what an episode adds to all methods of a
    controller does not blur their difference."""
    return [
        PanelReading(panel, tuple(_read(panel, curve, np.random.default_rng([seed, number])) for curve in panel.curves))
        for number, panel in enumerate(found)
    ]


def _read(panel: Panel, curve: Curve, generator: np.random.Generator) -> Reading:
    means, draws = mean_draws(panel, curve, generator)
    drawn = draws.mean(axis=1)
    returns = Band(curve.returns.mean(axis=(0, 2)), *statistics.interval(drawn[:, 2:]))
    if curve.dense is None:
        return Reading(curve, returns, None, None, {}, None)
    dense = Band(curve.dense.mean(keepdims=True)[0], *statistics.interval(drawn[:, :1]))
    if panel.random is None:
        return Reading(curve, returns, dense, None, {}, None)
    values, redrawn = against_references(means).mean(axis=0), against_references(draws).mean(axis=1)
    normalised = Band(values, *statistics.interval(redrawn))
    by_axis = _kept(curve, values, redrawn)
    kept = {axis: numbers for axis, (numbers, _) in by_axis.items()}
    return Reading(curve, returns, dense, normalised, kept, by_axis[AXES[0]][1])


def _kept(curve: Curve, values: Array, draws: Array) -> dict[str, tuple[Kept, KeptDraws]]:
    """By axis. The monotone curves are fitted once for all axes that have the points in the same order."""
    fitted: dict[tuple[int, ...], tuple[Array, Array]] = {}
    found = {}
    for axis in (*AXES, "asked"):
        sparsity = curve.sparsity[axis]
        order = np.argsort(sparsity, kind="stable")
        x, key = sparsity[order], tuple(order)
        if key not in fitted:
            fitted[key] = statistics.monotone(values[order]), statistics.monotone(draws[:, order])
        fit, drawn = fitted[key]
        s95 = statistics.falls_at(drawn, x)
        low, high = statistics.interval(s95)
        sure = float(statistics.interval(s95, confidence=0.9)[0])  # 5% lie below: one-sided 95%
        numbers = Kept(
            *(float(statistics.falls_at(fit, x)), float(low), float(high), sure),
            float(statistics.log_area(values[order], x)),
            *(bool(statistics.falls_at(fit[-1:], x[-1:]) == x[-1]), sure >= x[-1], float(values.min())),
        )
        found[axis] = numbers, KeptDraws(s95, statistics.log_area(draws[:, order], x))
    return found
