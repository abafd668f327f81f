"""Linear plants with a known answer: a double integrator and an inverted pendulum, linearised.

In continuous time x' = F x + G a, with the state x in SI units and the action a in [-1, 1], clipped where it lies
outside: the share of the largest force or torque. The action is held over a step of T seconds, so that the exact
discrete plant is

    x+ = A x + B a,    [[A, B], [0, 1]] = expm(T [[F, G], [0, 0]])       (Van Loan 1978)

The reward of a step is max(0, 1 - x'Qx - R a^2). Where the cut at 0 and the clipping are idle, the best one can do from
x over an endless episode, against 1 a step, is to lose x'Sx by a = -K x: the linear-quadratic regulator, `lqr`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from scipy.linalg import expm, solve_discrete_are

Array = NDArray[np.float64]

GRAVITY = 9.81


@dataclass(frozen=True)
class LinearSystem:
    """A linear plant as a function of its mass (kg) and, where it has one, its length (m).

    ``continuous(mass, length)`` gives (F, G). ``limit`` is where an episode ends: any |x_i| above it. ``start`` bounds
    the uniform start states. ``state_cost`` is the diagonal of Q.
    """

    continuous: Callable[[float, float], tuple[list[list[float]], list[float]]]
    step: float
    state_cost: tuple[float, ...]
    action_cost: float
    start: tuple[float, ...]
    limit: tuple[float, ...]

    def discrete(self, mass: float = 1.0, length: float = 1.0) -> tuple[Array, Array]:
        """(A ``(n, n)``, B ``(n, 1)``) of one step, exact for an action held over it."""
        drift, push = self.continuous(mass, length)
        n = len(push)
        block = np.zeros((n + 1, n + 1))
        block[:n, :n], block[:n, n] = drift, push
        whole = expm(self.step * block)
        return whole[:n, :n], whole[:n, n:]

    def lqr(self) -> tuple[Array, Array]:
        """(K ``(1, n)``, S ``(n, n)``) for the nominal plant: a = -K x loses x'Sx, the least of all.

        S solves the discrete algebraic Riccati equation, K = (R + B'SB)^-1 B'SA.
        """
        a, b = self.discrete()
        q, r = np.diag(self.state_cost), np.array([[self.action_cost]])
        s = solve_discrete_are(a, b, q, r)
        return np.linalg.solve(r + b.T @ s @ b, b.T @ s @ a), s


#: Position (m) and velocity (m/s) of a mass of 1 kg that a force of at most 1 N pushes.
DOUBLE_INTEGRATOR = LinearSystem(
    lambda mass, length: ([[0.0, 1.0], [0.0, 0.0]], [0.0, 1.0 / mass]),
    step=0.05,
    state_cost=(0.4, 0.1),
    action_cost=0.1,
    start=(1.0, 0.5),
    limit=(10.0, 10.0),
)
#: Angle from upright (rad) and its rate (rad/s) of a point mass of 1 kg on a rod of 1 m, small angles, a torque of at
#: most 3 N m: theta'' = g / l theta + 3 a / (m l^2).
LINEAR_PENDULUM = LinearSystem(
    lambda mass, length: ([[0.0, 1.0], [GRAVITY / length, 0.0]], [0.0, 3.0 / (mass * length**2)]),
    step=0.02,
    state_cost=(4.0, 0.4),
    action_cost=0.3,
    start=(0.15, 0.15),
    limit=(0.5, 2.0),
)

SYSTEMS = {"prunectl/DoubleIntegrator-v0": DOUBLE_INTEGRATOR, "prunectl/LinearPendulum-v0": LINEAR_PENDULUM}


class Linear(gym.Env[NDArray[Any], NDArray[Any]]):
    """A `LinearSystem` as an environment: the observation is the state, the action is its share of the largest force.

    ``mass`` and ``length`` may be changed before a reset; ``state`` ``(n,)`` is float64 and may be set after one.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(self, system: LinearSystem, render_mode: str | None = None) -> None:
        self.system, self.render_mode = system, render_mode
        self.mass, self.length = 1.0, 1.0
        self.a, self.b = system.discrete()
        self._cost, self._limit = np.asarray(system.state_cost), np.asarray(system.limit)
        self.state: Array | None = None
        self.observation_space = spaces.Box(-np.inf, np.inf, (len(system.limit),), dtype=np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.a, self.b = self.system.discrete(self.mass, self.length)
        start = np.asarray(self.system.start)
        self.state = self.np_random.uniform(-start, start)
        return self.state.astype(np.float32), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if self.state is None:
            raise gym.error.ResetNeeded("Linear: call reset before step")
        share = min(max(float(action[0]), -1.0), 1.0)
        lost = float(self.state**2 @ self._cost) + self.system.action_cost * share * share
        self.state = self.a @ self.state + self.b[:, 0] * share
        gone = bool((np.abs(self.state) > self._limit).any())
        return self.state.astype(np.float32), max(0.0, 1.0 - lost), gone, False, {}
