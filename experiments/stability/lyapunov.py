"""An empirical Lyapunov check: does a quadratic function go on falling along a loop's trajectories?

After arXiv 2508.08144, which bounds the compression of a TD-MPC by Lyapunov criteria (of it we know what its abstract
says). Ours departs from any such guarantee: nothing here is derived from a model of the plant or from bounds on the
networks, so nothing is certified. A function is fitted on the dense loop's trajectories, and what is reported is how
often it failed to fall over independent start states, with a confidence bound (`experiments.stability.bounds`).

The function, in coordinates z = (x - x*) / near (angles wrapped): V(z) = z'Pz, where the dense loop near its goal is
z+ = A z by least squares, x* is that model's fixed point, and P solves the discrete Lyapunov equation A'PA - P + I = 0
(a semidefinite programme over all decreasing P would be larger; this one has a closed form, is unique, and on a linear
loop is the textbook's). Two levels bound where it must fall:

- inside ``{V <= inner}``, the largest such set in the plant's box ``near``, the loop counts as at rest;
- outside ``{V <= level}`` nothing is asked.

Between them V must fall within ``window`` steps: V(x_{t+k}) <= max(V(x_t), inner). With k = 1 that is Lyapunov's own
condition; decrease over several steps, everywhere, would prove as much for a continuous loop (Long et al., arXiv
2505.10947, on generalised Lyapunov functions), and learned controllers, whose gains change within centimetres of the
goal, often need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_lyapunov

from prunectl.agents.controller import Controller
from prunectl.envs.plants import Plant
from prunectl.experiments.episodes.seeds import calibration_seeds
from prunectl.experiments.stability.rollout import Trajectories, trajectories

Array = NDArray[np.float64]

#: Windows that a fit tries, in steps, and the share of the largest level that the one it keeps must reach.
WINDOWS = (1, 2, 4, 8, 16)
ENOUGH = 0.5
#: The level is this share of the lowest V from which the dense loop was seen not to fall.
MARGIN = 0.8
#: A level below this multiple of ``inner`` leaves nothing to check.
LEAST = 1.5
#: Attempts at a level.
ROUNDS = 6
#: Steps of a trajectory of a fit and of a check.
STEPS = 100


class LyapunovError(ValueError):
    """The dense loop has no quadratic function of this kind; the message says why."""


@dataclass(frozen=True)
class LinearModel:
    """z+ = A z around the fixed point ``rest``, both in units of ``near``; ``r2`` of its one-step prediction."""

    a: Array
    rest: Array
    r2: float

    @property
    def radius(self) -> float:
        """Spectral radius of A: below 1 the model comes to rest, its error shrinking so much a step in the long run."""
        return float(np.abs(np.linalg.eigvals(self.a)).max())


@dataclass(frozen=True)
class Lyapunov:
    """V(x) = z'Pz with z = (x - x*) / near, and where it must fall: see the module."""

    plant: Plant
    model: LinearModel
    p: Array
    window: int
    inner: float
    level: float

    def deviations(self, states: Array) -> Array:
        """z of states ``(..., n)``."""
        z = states / np.asarray(self.plant.near) - self.model.rest
        for i in self.plant.angles:
            turn = 2 * np.pi / self.plant.near[i]
            z[..., i] -= turn * np.floor(z[..., i] / turn + 0.5)
        return np.asarray(z)

    def __call__(self, states: Array) -> Array:
        """V of states ``(..., n)``: ``(...)``."""
        z = self.deviations(states)
        return np.asarray(np.einsum("...i,ij,...j->...", z, self.p, z))

    def states(self, seeds: Sequence[int]) -> Array:
        """An independent state a seed, uniform over ``{V <= level}``: ``(len(seeds), n)``."""
        return self._inside(_points(seeds, len(self.p), None), self.level)

    def spread(self, seeds: Sequence[int], lowest: float, highest: float) -> Array:
        """An independent state a seed, its V log-uniform between two levels, its direction uniform."""
        return self._inside(_points(seeds, len(self.p), (lowest / highest) ** 0.5), highest)

    def _inside(self, points: Array, level: float) -> Array:
        root = np.linalg.cholesky(np.linalg.inv(self.p))
        return np.asarray((self.model.rest + level**0.5 * points @ root.T) * np.asarray(self.plant.near))

    def excess(self, found: Trajectories) -> Array:
        """The largest V(x_{t+k}) / max(V(x_t), inner) of each trajectory, over all t with V(x_t) <= level.

        Above 1, V failed to fall. Infinite where the task ended the episode.
        """
        v = self(found.states)
        before, after = v[:, : -self.window], v[:, self.window :]
        counts = (before <= self.level) & ~np.isnan(after)
        ratio = np.where(counts, after / np.maximum(before, self.inner), 0.0)
        return np.where(found.ended, np.inf, ratio.max(axis=1, initial=0.0))

    def decay(self, found: Trajectories) -> Array:
        """How fast V falls outside ``inner`` along each trajectory, in 1/s: minus the mean of log V(x+)/V(x) a second.

        NaN for a trajectory that starts at rest. A linear loop's V falls by at least -log(1 - 1/lambda_max(P)) a step.
        """
        v = self(found.states)
        before, after = v[:, :-1], v[:, 1:]
        counts = (before > self.inner) & ~np.isnan(after)
        with np.errstate(invalid="ignore", divide="ignore"):
            logs = np.where(counts, np.log(after / before), 0.0).sum(axis=1) / counts.sum(axis=1)
        return np.asarray(-logs / self.plant.step)


def linear_model(plant: Plant, found: Trajectories) -> LinearModel:
    """Least squares over the one-step pairs that start within twice the plant's box ``near``.

    Raises:
        LyapunovError: too few pairs, or a model that does not come to rest.
    """
    n, near = len(plant.state), np.asarray(plant.near)
    before, after = (found.states[:, part].reshape(-1, n) / near for part in (slice(None, -1), slice(1, None)))
    rows = (np.abs(before) <= 2).all(axis=1) & ~np.isnan(after).any(axis=1)  # NaN compares as False
    if rows.sum() < 10 * (n + 1):
        raise LyapunovError("the dense loop is hardly ever near the goal")
    x, y = np.column_stack([before[rows], np.ones(rows.sum())]), after[rows]
    weights = np.linalg.lstsq(x, y)[0]
    a, shift = weights[:n].T, weights[n]
    left = ((y - x @ weights) ** 2).sum() / ((y - y.mean(axis=0)) ** 2).sum()
    model = LinearModel(a, np.linalg.lstsq(np.eye(n) - a, shift)[0], float(1 - left))
    if model.radius >= 1:
        raise LyapunovError(f"the dense loop near its goal does not contract: spectral radius {model.radius:.4f}")
    if (np.abs(model.rest) >= 1).any():
        raise LyapunovError("the dense loop rests outside what counts as near the goal")
    return model


def quadratic(a: Array) -> Array:
    """P of A'PA - P + I = 0, symmetric and at least I for a contracting A."""
    return np.asarray(solve_discrete_lyapunov(a.T, np.eye(len(a))))


def level_within(p: Array, rest: Array, box: Array) -> float:
    """The highest level whose ellipsoid z'Pz <= level, z = x - rest, lies in ``|x_i| <= box_i``."""
    return float(((box - np.abs(rest)) ** 2 / np.diag(np.linalg.inv(p))).min())


def fit(controller: Controller, plant: Plant, trials: int, seed: int = 0) -> Lyapunov:
    """The function and its levels from the dense loop.

    A first batch of trajectories starts uniformly in the box ``near`` and gives the linear model. Two more start within
    the largest level of the plant's domain, uniformly and on all levels alike: the window kept is the smallest whose
    level, `MARGIN` of the lowest V from which one of them did not fall, is at least `ENOUGH` of the best window's.
    Further batches start uniformly within that level, which shrinks alike until all of a batch fall.

    Args:
        controller: the dense one.
        plant: of the task.
        trials: trajectories of a batch, on calibration seeds.
        seed: which calibration seeds.

    Raises:
        LyapunovError: there is no such function.
    """
    near = np.asarray(plant.near)
    batches = np.asarray(calibration_seeds((3 + ROUNDS) * trials, seed)).reshape(-1, trials).tolist()
    starts = np.stack([np.random.default_rng([one, 0x11A5]).uniform(-near, near) for one in batches[0]])
    model = linear_model(plant, trajectories(controller, plant, batches[0], starts, most_steps=STEPS))
    p = quadratic(model.a)
    inner = level_within(p, model.rest, np.ones(len(near)))
    highest = level_within(p, model.rest, np.asarray(plant.domain) / near)
    fitted = Lyapunov(plant, model, p, 1, inner, highest)
    starts = np.concatenate([fitted.states(batches[1]), fitted.spread(batches[2], inner, highest)])
    found = trajectories(controller, plant, batches[1] + batches[2], starts, most_steps=STEPS)
    levels = [min(MARGIN * _lowest_failure(fitted, found, window), highest) for window in WINDOWS]
    window = next(w for w, level in zip(WINDOWS, levels, strict=True) if level >= ENOUGH * max(levels))
    fitted = replace(fitted, window=window, level=levels[WINDOWS.index(window)])
    for batch in batches[3:]:
        if fitted.level < LEAST * inner:
            raise LyapunovError(f"V does not fall even within {window} steps next to where the dense loop rests")
        found = trajectories(controller, plant, batch, fitted.states(batch), most_steps=STEPS)
        lowest = _lowest_failure(fitted, found, window)
        if lowest > fitted.level:
            return fitted
        fitted = replace(fitted, level=MARGIN * lowest)
    raise LyapunovError(f"no level was found within which V always falls, in {ROUNDS} attempts")


def _lowest_failure(lyapunov: Lyapunov, found: Trajectories, window: int) -> float:
    """The lowest V, at least ``inner``, from which a trajectory did not fall within the window; infinite if all did."""
    v = lyapunov(found.states)
    before, after = np.maximum(v[:, :-window], lyapunov.inner), v[:, window:]
    failed = (after > before) | (np.isnan(after) & found.ended[:, None])
    return float(np.min(before, initial=np.inf, where=failed & ~np.isnan(before)))


def _points(seeds: Sequence[int], n: int, shell: float | None) -> Array:
    """A point of the unit ball a seed: uniform, or in a uniform direction at a distance log-uniform from ``shell``."""
    points = []
    for seed in seeds:
        generator = np.random.default_rng([seed, 0xBA11])
        direction = generator.standard_normal(n)
        share = generator.random()
        size = share ** (1 / n) if shell is None else shell ** (1 - share)
        points.append(size * direction / np.linalg.norm(direction))
    return np.stack(points)
