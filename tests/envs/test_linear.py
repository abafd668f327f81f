"""The linear tasks against what textbooks say of them."""

from __future__ import annotations

import numpy as np
import pytest

from prunectl import envs
from prunectl.envs.linear import DOUBLE_INTEGRATOR, GRAVITY, LINEAR_PENDULUM, SYSTEMS, Linear, LinearSystem

EVERY = pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)


def made(task: str) -> tuple[envs.Env, Linear]:
    env = envs.make(task)
    inner = env.unwrapped
    assert isinstance(inner, Linear)
    return env, inner


def test_the_double_integrator_moves_as_a_mass_under_a_constant_force() -> None:
    a, b = DOUBLE_INTEGRATOR.discrete(mass=2.0)
    t = DOUBLE_INTEGRATOR.step
    np.testing.assert_allclose(a, [[1, t], [0, 1]])
    np.testing.assert_allclose(b[:, 0], [t**2 / 4, t / 2])  # half a metre a second squared


def test_the_pendulum_falls_as_a_hyperbola() -> None:
    a, b = LINEAR_PENDULUM.discrete(mass=2.0, length=0.5)
    t, fast = LINEAR_PENDULUM.step, np.sqrt(GRAVITY / 0.5)
    np.testing.assert_allclose(
        a, [[np.cosh(fast * t), np.sinh(fast * t) / fast], [fast * np.sinh(fast * t), np.cosh(fast * t)]]
    )
    push = 3.0 / (2.0 * 0.5**2)
    np.testing.assert_allclose(b[:, 0], [push * (np.cosh(fast * t) - 1) / fast**2, push * np.sinh(fast * t) / fast])


@EVERY
def test_no_gain_next_to_the_regulator_loses_less(system: LinearSystem) -> None:
    (a, b), (gain, cost) = system.discrete(), system.lqr()
    q, r = np.diag(system.state_cost), system.action_cost

    def lost(k: np.ndarray) -> float:
        x, total = 0.01 * np.ones(2), 0.0
        for _ in range(3000):
            u = -k @ x
            total += float(x @ q @ x + r * u @ u)
            x = a @ x + b @ u
        return total

    best = lost(gain)
    assert best == pytest.approx(0.01**2 * cost.sum(), rel=1e-9)
    for change in 0.02 * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]):
        assert lost(gain + change) > best


@pytest.mark.parametrize("task", SYSTEMS)
def test_an_episode_returns_a_step_each_less_what_the_regulator_loses(task: str) -> None:
    env, inner = made(task)
    gain, cost = SYSTEMS[task].lqr()
    env.reset(seed=0)
    inner.state = start = 0.2 * np.asarray(SYSTEMS[task].start)
    returned = 0.0
    for _ in range(200):
        _, reward, terminated, truncated, _ = env.step(-gain @ inner.state)
        returned += float(reward)
        assert not terminated
    assert truncated
    assert returned == pytest.approx(200 - start @ cost @ start, abs=1e-4)


def test_no_torque_holds_a_pendulum_beyond_what_is_controllable() -> None:
    # The unstable mode w = fast * theta + theta' obeys w' = fast w + 3 a, so |w| < 3 / fast is all that can be held.
    edge = 3.0 / np.sqrt(GRAVITY)
    for share, falls in ((0.99, False), (1.01, True)):
        env, inner = made("prunectl/LinearPendulum-v0")
        env.reset(seed=0)
        inner.state = np.array([share * edge / np.sqrt(GRAVITY), 0.0])
        ended = False
        while not ended:
            _, _, ended, truncated, _ = env.step(np.array([-1.0]))
            assert inner.state is not None
            if truncated or inner.state[0] < 0:
                break
        assert ended == falls


def test_mass_and_length_count_from_the_next_reset() -> None:
    env, inner = made("prunectl/LinearPendulum-v0")
    inner.mass, inner.length = 1.2, 0.8
    env.reset(seed=3)
    np.testing.assert_array_equal(inner.a, LINEAR_PENDULUM.discrete(1.2, 0.8)[0])
