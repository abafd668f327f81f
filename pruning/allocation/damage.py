"""Damage: how far the refitted controller's outputs stray when one knob alone is turned down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Damage:
    """What `measure` found, by knob (the name of its first group).

    ``widths[knob]`` are the widths tried, from narrowest to dense. ``errors[knob][i]`` is the calibration error of the
    whole controller (`Bench.error`) with that knob at its i-th width, everything else dense, and all layers refitted.
    """

    widths: Mapping[str, tuple[int, ...]]
    errors: Mapping[str, tuple[float, ...]]

    def curve(self, knob: str) -> Array:
        """The damage at every width, ``(units + 1,)``: never rises with the width, and is convex in its logarithm.

        What was measured is made monotone (isotonic regression), interpolated monotonely over log width (Fritsch &
        Carlson 1980), and replaced by the lower convex hull. No width is 0, so the entry there is that of width 1.
        """
        widths = np.asarray(self.widths[knob], dtype=np.float64)
        falling = isotonic_regression(np.asarray(self.errors[knob]), increasing=False).x
        places = np.log(np.arange(1, round(widths[-1]) + 1, dtype=np.float64))
        if len(widths) == 1:
            return np.full(len(places) + 1, falling[0])
        values = PchipInterpolator(np.log(widths), falling)(places)
        corners = _hull(places, values)
        convex = np.interp(places, places[corners], values[corners])
        return np.concatenate([convex[:1], convex])


def _hull(places: Array, values: Array) -> list[int]:
    """Indices of the corners of the lower convex hull of points with rising places (Andrew's monotone chain)."""
    corners: list[int] = []
    for index in range(len(places)):
        while len(corners) > 1:
            a, b = corners[-2:]
            before = (values[b] - values[a]) * (places[index] - places[b])
            if before < (values[index] - values[b]) * (places[b] - places[a]):
                break
            corners.pop()
        corners.append(index)
    return corners
