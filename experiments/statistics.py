"""What curves of return against sparsity say: s95, area, and how sure we are. Pure functions of arrays.

Axis order everywhere: ``(seeds, tasks, sparsity)``, and ``episodes`` last where episodes are still apart. Functions
that take ``...`` work on any leading axes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def normalised(returns: Array | float, dense: Array | float, random: Array | float) -> Array:
    """``(R - R_random) / (R_dense - R_random)`` elementwise, shapes broadcast.

    NaN where the dense controller does not beat random actions: there is nothing to keep.
    """
    gap = np.subtract(dense, random)
    return np.asarray(np.subtract(returns, random) / np.where(gap > 0, gap, np.nan))


def s95(values: Array, sparsity: Array, threshold: float = 0.95) -> Array:
    """The highest sparsity up to which the normalised return stays at or above ``threshold``.

    The curve is walked from the dense controller (sparsity 0, value 1, put in front here) towards higher sparsities,
    with straight lines between the grid points, to the first crossing; what a curve does after it has fallen does not
    count. A curve that never falls gets its last sparsity, which is then a lower bound.

    Args:
        values: normalised returns ``(..., sparsity)``.
        sparsity: where they were measured ``(sparsity,)``, in [0, 1), not falling.
        threshold: the value to stay at or above.

    Returns:
        ``(...)``; NaN where a value is NaN.
    """
    if np.any(np.diff(sparsity) < 0):
        raise ValueError("s95 needs the sparsities in rising order")
    y = np.concatenate([np.ones((*values.shape[:-1], 1)), values], axis=-1)
    x = np.concatenate([[0.0], sparsity])
    below = y < threshold
    after = below.argmax(axis=-1)
    before = np.maximum(after - 1, 0)
    y0 = np.take_along_axis(y, before[..., None], axis=-1)[..., 0]
    y1 = np.take_along_axis(y, after[..., None], axis=-1)[..., 0]
    falls = below.any(axis=-1)
    share = (y0 - threshold) / np.where(falls, y0 - y1, 1.0)
    crossing = x[before] + share * (x[after] - x[before])
    return np.asarray(np.where(np.isnan(y).any(axis=-1), np.nan, np.where(falls, crossing, x[-1])))


def area(values: Array, sparsity: Array) -> Array:
    """Mean height of the curve from the dense controller (sparsity 0, value 1) to the last sparsity.

    The area under straight lines between the grid points, divided by the width. Values below 0 count as 0: worse than
    random is no more broken than random.

    Args:
        values: normalised returns ``(..., sparsity)``.
        sparsity: where they were measured ``(sparsity,)``, not falling.

    Returns:
        ``(...)``; NaN where the last sparsity is 0, so that there is no curve.
    """
    if sparsity[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    y = np.concatenate([np.ones((*values.shape[:-1], 1)), np.maximum(values, 0.0)], axis=-1)
    x = np.concatenate([[0.0], sparsity])
    return np.asarray(np.trapezoid(y, x, axis=-1) / x[-1])


def resampled(returns: Array, generator: np.random.Generator, resamples: int = 2_000) -> Array:
    """Bootstrap means over seeds and episodes.

    Episodes have the same environment seeds in every seed, task and sparsity, so a resample draws the same episodes
    everywhere: what one start state adds to all of them does not blur their difference. Seeds are drawn as a whole too.

    Args:
        returns: ``(seeds, sparsity, episodes)``.
        generator: where the draws come from.
        resamples: how many.

    Returns:
        Mean returns ``(resamples, sparsity)``.
    """
    seeds, _, episodes = returns.shape
    seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    episode_weights = generator.multinomial(episodes, np.full(episodes, 1 / episodes), size=resamples) / episodes
    return np.asarray(np.einsum("bs,be,spe->bp", seed_weights, episode_weights, returns, optimize=True))


def interval(draws: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """The middle ``confidence`` of bootstrap draws ``(resamples, ...)``: lower and upper ends ``(...)``."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return np.asarray(low), np.asarray(high)
