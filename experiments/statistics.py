"""What curves of return against sparsity say, and how sure we are. Pure functions of arrays.

Axis order everywhere: ``(runs, tasks, sparsity)``, and ``episodes`` last where episodes are still apart; functions
that take ``...`` work on any leading axes. A run is one training pruned with one seed. Tasks may have different
numbers of runs, so several tasks are a list, each with its ``(..., runs, sparsity)``.

Aggregates over tasks and their bootstrap are those of Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice" (NeurIPS 2021, arXiv 2108.13264). Their tasks have equally many runs; where ours do not, every
run counts alike in the `iqm`, which ranks runs, and every task counts alike in everything else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

Array = NDArray[np.float64]
#: A task each, ``(..., runs, sparsity)``.
Tasks = Sequence[Array]
#: Standard errors that a difference must have to be shown with 80% probability at 5%, two-sided.
_DETECTED = 2.80
#: How far means of equal numbers may come out below them.
_ROUNDING = 1e-12


def normalised(returns: Array | float, dense: Array | float, random: Array | float) -> Array:
    """``(R - R_random) / (R_dense - R_random)`` elementwise, shapes broadcast.

    NaN where the dense controller does not beat random actions: there is nothing to keep.
    """
    gap = np.subtract(dense, random)
    return np.asarray(np.subtract(returns, random) / np.where(gap > 0, gap, np.nan))


def monotone(values: Array) -> Array:
    """The falling curve nearest to these values, none above the dense controller's 1.

    Least squares (isotonic regression), every sparsity weighing alike: at each place the lowest, over all that may
    begin a run, of the highest mean of a run that reaches it (the max-min formulas of Barlow et al. 1972, "Statistical
    Inference under Order Restrictions", section 1.2; pooling adjacent violators finds the same, one curve at a time).
    A cell that is low by chance is averaged with the higher ones behind it. The cap comes last, so that chance above 1
    makes up for chance below it.

    Args:
        values: normalised returns ``(..., sparsity)``, at rising sparsities.

    Returns:
        ``(..., sparsity)``; NaN all along where a value is NaN.
    """
    size = values.shape[-1]
    sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    fitted = np.full(values.shape, np.inf)
    for start in range(size):
        means = (sums[..., start + 1 :] - sums[..., start : start + 1]) / np.arange(1, size - start + 1)
        highest = np.maximum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
        fitted[..., start:] = np.minimum(fitted[..., start:], highest)
    return np.where(np.isnan(values).any(axis=-1, keepdims=True), np.nan, np.minimum(fitted, 1.0))


def s95(values: Array, sparsity: Array, threshold: float = 0.95) -> Array:
    """The highest sparsity at which the curve, made `monotone`, is at or above ``threshold``.

    Between the grid points, and from the dense controller (sparsity 0, value 1) to the first, it is a straight line. A
    curve that never falls gets its last sparsity, which is then a lower bound.

    Args:
        values: normalised returns ``(..., sparsity)``.
        sparsity: where they were measured ``(sparsity,)``, in [0, 1), not falling.
        threshold: the value to stay at or above.

    Returns:
        ``(...)``; NaN where a value is NaN.
    """
    if np.any(np.diff(sparsity) < 0):
        raise ValueError("s95 needs the sparsities in rising order")
    return falls_at(monotone(values), sparsity, threshold)


def falls_at(fitted: Array, sparsity: Array, threshold: float = 0.95) -> Array:
    """`s95` of curves that are `monotone` already ``(..., sparsity)``."""
    y = np.concatenate([np.ones((*fitted.shape[:-1], 1)), fitted], axis=-1)
    x = np.concatenate([[0.0], sparsity])
    below = y < threshold - _ROUNDING
    after = below.argmax(axis=-1)
    before = np.maximum(after - 1, 0)
    y0 = np.take_along_axis(y, before[..., None], axis=-1)[..., 0]
    y1 = np.take_along_axis(y, after[..., None], axis=-1)[..., 0]
    falls = below.any(axis=-1)
    share = (y0 - threshold) / np.where(falls, y0 - y1, 1.0)
    crossing = x[before] + share * (x[after] - x[before])
    return np.asarray(np.where(np.isnan(y).any(axis=-1), np.nan, np.where(falls, crossing, x[-1])))


def log_area(values: Array, sparsity: Array) -> Array:
    """Mean height of the curve over the logarithm of what is left, from the dense controller to the last sparsity.

    The area under straight lines between the points at ``-log(1 - sparsity)``, divided by the width: the step from 0.9
    to 0.95 counts like that from 0 to 0.5. Values below 0 count as 0: worse than random is no more broken than random.
    All cells count and none decides, so that it is the steadier number beside `s95`.

    Args:
        values: normalised returns ``(..., sparsity)``.
        sparsity: where they were measured ``(sparsity,)``, in [0, 1), not falling.

    Returns:
        ``(...)``; NaN where the last sparsity is 0, so that there is no curve.
    """
    if sparsity[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    y = np.concatenate([np.ones((*values.shape[:-1], 1)), np.maximum(values, 0.0)], axis=-1)
    x = -np.log1p(-np.concatenate([[0.0], sparsity]))
    return np.asarray(np.trapezoid(y, x, axis=-1) / x[-1])


def iqm(tasks: Tasks) -> Array:
    """Inter-quartile mean ``(..., sparsity)``: of all runs but the lowest and the highest quarter (rounded down)."""
    return np.asarray(trim_mean(np.concatenate(tasks, axis=-2), 0.25, axis=-2))


def mean(tasks: Tasks) -> Array:
    """Mean over the tasks of their means over runs ``(..., sparsity)``."""
    return np.asarray(np.mean([task.mean(axis=-2) for task in tasks], axis=0))


def median(tasks: Tasks) -> Array:
    """Median over the tasks of their means over runs ``(..., sparsity)``."""
    return np.asarray(np.median([task.mean(axis=-2) for task in tasks], axis=0))


def optimality_gap(tasks: Tasks, target: float = 1.0) -> Array:
    """How far runs stay below ``target`` on average ``(..., sparsity)``; what is above makes up for nothing."""
    return target - mean([np.minimum(task, target) for task in tasks])


def performance_profile(tasks: Tasks, thresholds: Array) -> Array:
    """Share of the runs above each threshold ``(..., sparsity, thresholds)``: the run-score distribution."""
    return np.asarray(np.mean([(task[..., None] > thresholds).mean(axis=-3) for task in tasks], axis=0))


def probability_of_improvement(ours: Tasks, theirs: Tasks) -> Array:
    """How likely a run of ours beats one of theirs on the same task, mean over the tasks ``(..., sparsity)``.

    Mann and Whitney's U over the number of pairs: a draw counts half.
    """
    pairs = [(one[..., :, None, :], other[..., None, :, :]) for one, other in zip(ours, theirs, strict=True)]
    return np.asarray(np.mean([((a > b) + 0.5 * (a == b)).mean(axis=(-3, -2)) for a, b in pairs], axis=0))


def redrawn(
    returns: Array,
    generator: np.random.Generator,
    resamples: int = 2_000,
    trainings: NDArray[np.intp] | None = None,
) -> Array:
    """Hierarchical bootstrap of one task's runs, stratified when each task is redrawn on its own.

    Trainings are drawn first, then as many pruning seeds from each drawn training as stand in its place: the seeds of
    one training share its chance, and drawn as if they did not they would make it look small (Davison & Hinkley 1997,
    section 3.8). Episodes cross both: they have the same environment seeds in every run, task and sparsity, and a
    resample draws the same ones everywhere, so that what one start state adds to all of them does not blur their
    difference. With one episode and one seed a training this is Agarwal et al.'s bootstrap.

    Args:
        returns: ``(runs, sparsity, episodes)``.
        generator: where the draws come from.
        resamples: how many.
        trainings: which training each run is of ``(runs,)``; None: all are of one.

    Returns:
        The drawn runs' mean returns ``(resamples, runs, sparsity)``, in no order.
    """
    runs, _, episodes = returns.shape
    weights = generator.multinomial(episodes, np.full(episodes, 1 / episodes), size=resamples) / episodes
    means = np.einsum("be,spe->bsp", weights, returns, optimize=True)
    if runs == 1:
        return np.asarray(means)
    drawn = _drawn_runs(np.zeros(runs, np.intp) if trainings is None else trainings, generator, resamples)
    return np.asarray(np.take_along_axis(means, drawn[..., None], axis=1))


def _drawn_runs(trainings: NDArray[np.intp], generator: np.random.Generator, resamples: int) -> NDArray[np.intp]:
    """Places of the drawn runs ``(resamples, runs)``."""
    _, own, sizes = np.unique(trainings, return_inverse=True, return_counts=True)
    order, first = np.argsort(own, kind="stable"), np.cumsum(sizes) - sizes
    drawn = generator.integers(len(sizes), size=(resamples, len(sizes)))[:, np.repeat(np.arange(len(sizes)), sizes)]
    within = (generator.random(drawn.shape) * sizes[drawn]).astype(np.intp)
    return np.asarray(order[first[drawn] + within])


def sources(trainings: int, seeds: int) -> str:
    """What an interval is over, for its name: episodes, and those of trainings and pruning seeds (the most that one
    training has) of which there are several."""
    several = [name for name, count in (("trainings", trainings), ("pruning seeds", seeds)) if count > 1]
    return ", ".join(several) + (" and " if several else "") + "episodes"


def interval(draws: Array, confidence: float = 0.95) -> tuple[Array, Array]:
    """The middle ``confidence`` of bootstrap draws ``(resamples, ...)``: lower and upper ends ``(...)``.

    Draws that are NaN do not count: in them a dense controller does not beat random actions, so they say nothing. Where
    all are, so are the ends.
    """
    tails = 50 * (1 - confidence), 50 * (1 + confidence)
    if not np.isnan(draws).any():
        low, high = np.percentile(draws, tails, axis=0)
        return np.asarray(low), np.asarray(high)
    columns = [column[~np.isnan(column)] for column in draws.reshape(len(draws), -1).T]
    ends = np.asarray([np.percentile(column, tails) if len(column) else (np.nan, np.nan) for column in columns])
    return ends[:, 0].reshape(draws.shape[1:]), ends[:, 1].reshape(draws.shape[1:])


def kept(returns: Array, dense: Array, random: Array, resamples: int = 2_000) -> tuple[float, float, float]:
    """The normalised return and the ends of its 95% interval; all ``(episodes,)``, from the same environment seeds,
    which are redrawn for the three together."""
    drawn = np.random.default_rng(0).integers(len(returns), size=(resamples, len(returns)))
    low, high = interval(normalised(*(values[drawn].mean(1) for values in (returns, dense, random))))
    return float(normalised(returns.mean(), dense.mean(), random.mean())), float(low), float(high)


def p_value(draws: Array) -> float:
    """How surprising bootstrap draws ``(resamples,)`` of a difference would be were it none, on both sides: twice the
    share of them that lies on the other side of 0, at least 2 / (resamples + 1) (Davison & Hinkley 1997, eq. 4.11).

    As in `interval`, draws that are NaN do not count; where all are, nothing is surprising."""
    draws = draws[~np.isnan(draws)]
    other_side = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(2 * (1 + other_side) / (1 + len(draws)), 1.0)


def detectable(draws: Array) -> float:
    """The least difference that the design behind these bootstrap draws ``(resamples,)`` of one would show with 80%
    probability at 5%, two-sided: 2.80 standard errors. Draws that are NaN do not count; NaN where all are."""
    draws = draws[~np.isnan(draws)]
    return _DETECTED * float(np.std(draws)) if len(draws) else np.nan


def holm(p_values: Array) -> Array:
    """p values ``(tests,)`` corrected for their number, so that with one threshold for all the chance of a single false
    claim among them stays below it (Holm 1979, "A simple sequentially rejective multiple test procedure")."""
    order = np.argsort(p_values, kind="stable")
    rising = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(rising, 1.0)
    return corrected
