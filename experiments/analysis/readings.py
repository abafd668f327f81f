"""What one bootstrap of its runs and episodes says of every curve: the bands that are drawn, and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prunectl.experiments import statistics
from prunectl.experiments.analysis.curves import AXES, Curve, Panel, against_references, mean_draws, score_on

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
    """How much a curve keeps on one axis: s95 with the ends of its 95% interval, and area. ``open``: it never fell
    below 0.95, so that s95 is a lower bound; ``worst`` is the lowest normalised return."""

    s95: float
    low: float
    high: float
    area: float
    open: bool
    worst: float


#: Of a curve that lacks a reference.
NOTHING = Kept(np.nan, np.nan, np.nan, np.nan, False, np.nan)


@dataclass(frozen=True)
class Reading:
    """A curve, and what one set of draws says of it.

    ``dense`` is the dense controller's return, one point (None: not there yet); ``normalised`` is None, and ``kept``,
    by axis, empty, where a reference is missing.
    """

    curve: Curve
    returns: Band
    dense: Band | None
    normalised: Band | None
    kept: Mapping[str, Kept]

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
    """Read all curves, each redrawn once, one after another from this seed."""
    generator = np.random.default_rng(seed)
    return [PanelReading(panel, tuple(_read(panel, curve, generator) for curve in panel.curves)) for panel in found]


def _read(panel: Panel, curve: Curve, generator: np.random.Generator) -> Reading:
    means, draws = mean_draws(panel, curve, generator)
    drawn = draws.mean(axis=1)
    returns = Band(curve.returns.mean(axis=(0, 2)), *statistics.interval(drawn[:, 2:]))
    dense = normalised = None
    if curve.dense is not None:
        dense = Band(curve.dense.mean(keepdims=True)[0], *statistics.interval(drawn[:, :1]))
    kept = {}
    if curve.dense is not None and panel.random is not None:
        values, redrawn = against_references(means).mean(axis=0), against_references(draws).mean(axis=1)
        normalised = Band(values, *statistics.interval(redrawn))
        kept = {axis: _kept(curve, axis, values, redrawn) for axis in (*AXES, "asked")}
    return Reading(curve, returns, dense, normalised, kept)


def _kept(curve: Curve, axis: str, values: Array, draws: Array) -> Kept:
    score = score_on(curve, axis, values, draws)
    low, high = statistics.interval(score.s95_draws)
    return Kept(score.s95, float(low), float(high), score.area, score.open, float(values.min()))
