"""The cart-pole swing-up: its physics, its vectorised form, its seeds and its pictures."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from prunectl import envs
from prunectl.envs.cartpole_swingup import (
    FORCE,
    MAX_SPEED,
    MAX_TURN,
    RAIL,
    CartPoleSwingUp,
    _slope,
    advance,
    observe,
    reward,
)

ID = "prunectl/CartPoleSwingUp-v0"


def energy(state: Any) -> float:
    """Kinetic and potential energy of a 1 kg cart with a uniform rod of 0.1 kg and 1 m, by the rod's own integrals."""
    _, x_dot, theta, theta_dot = state
    vx, vy = x_dot + 0.5 * theta_dot * np.cos(theta), -0.5 * theta_dot * np.sin(theta)
    spin = 0.5 * (0.1 * 1.0**2 / 12.0) * theta_dot**2
    return float(0.5 * x_dot**2 + 0.05 * (vx**2 + vy**2) + spin + 0.1 * 9.81 * 0.5 * np.cos(theta))


def test_slope_solves_the_equations_of_motion() -> None:
    """Against Lagrange's equations with the mass matrix solved numerically."""
    generator = np.random.default_rng(0)
    for _ in range(50):
        x, x_dot, theta, theta_dot, force = generator.normal(size=5) * (1, 3, 3, 5, 8)
        mass = [[1.1, 0.05 * np.cos(theta)], [0.05 * np.cos(theta), 0.1 / 3.0]]
        pull = [force + 0.05 * theta_dot**2 * np.sin(theta), 0.05 * 9.81 * np.sin(theta)]
        expected = np.linalg.solve(mass, pull)
        slope = _slope((x, x_dot, theta, theta_dot), force)
        np.testing.assert_allclose(slope, (x_dot, expected[0], theta_dot, expected[1]), rtol=1e-12)


def test_energy_is_conserved_without_force() -> None:
    state: Any = (0.0, 0.1, 2.0, 0.5)
    before = energy(state)
    for _ in range(500):
        state = advance(state, 0.0)
        assert abs(state[0]) < RAIL
    assert energy(state) == pytest.approx(before, abs=1e-5)


def test_the_force_does_its_work() -> None:
    state: Any = (-0.5, 0.4, 3.0, -0.3)
    work, before = 0.0, energy(state)
    for _ in range(20):
        after = advance(state, FORCE)
        work += FORCE * (after[0] - state[0])
        state = after
    assert abs(state[0]) < RAIL
    assert energy(state) - before == pytest.approx(work, rel=1e-6)


def test_hanging_and_standing_still_are_equilibria() -> None:
    assert advance((0.5, 0.0, 0.0, 0.0), 0.0) == (0.5, 0.0, 0.0, 0.0)
    after = advance((0.5, 0.0, -np.pi, 0.0), 0.0)
    np.testing.assert_allclose(after, (0.5, 0.0, -np.pi, 0.0), atol=1e-15)


def test_the_end_of_the_rail_stops_the_cart_and_keeps_the_poles_momentum() -> None:
    state: Any = (RAIL - 0.001, 3.0, 2.5, 1.0)
    free: Any = (state[0] - 1.0, *state[1:])
    free = advance(free, FORCE)  # the same step without the wall
    after = advance(state, FORCE)
    assert (after[0], after[1]) == (RAIL, 0.0)
    momentum = 0.05 * np.cos(free[2]) * free[1] + 0.1 / 3.0 * free[3]
    assert 0.1 / 3.0 * after[3] == pytest.approx(momentum)
    assert energy(after) < energy(free)


def test_speeds_saturate_and_angles_wrap() -> None:
    _, x_dot, theta, theta_dot = advance((0.0, 30.0, 3.14, 80.0), 0.0)
    assert abs(x_dot) <= MAX_SPEED
    assert theta_dot == MAX_TURN
    assert -np.pi <= theta < np.pi


def test_reward() -> None:
    assert reward((0.0, 5.0, 0.0, 9.0), 0.0) == 1.0
    assert reward((0.0, 0.0, np.pi, 0.0), 0.0) == pytest.approx(0.0)
    assert reward((RAIL, 0.0, 0.0, 0.0), 1.0) == pytest.approx(0.5 * 0.9)
    assert reward((0.0, 0.0, np.pi / 2, 0.0), 0.0) == pytest.approx(0.5)


def test_observation() -> None:
    seen = observe((1.0, 2.0, np.pi / 6, 4.0))
    np.testing.assert_allclose(seen, [1.0, 2.0, np.sqrt(0.75), 0.5, 4.0], rtol=1e-6)


def test_gymnasiums_checker_has_no_complaint() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ID, render_mode="rgb_array").unwrapped)


def test_vectorised_form_equals_the_scalar_one_to_the_last_bit() -> None:
    count = 37
    quick = gym.make_vec(ID, num_envs=count, vectorization_mode="vector_entry_point")
    plain = gym.make_vec(ID, num_envs=count, vectorization_mode="sync")
    assert quick.single_observation_space == plain.single_observation_space
    assert quick.action_space == plain.action_space
    assert quick.metadata["autoreset_mode"] == plain.metadata["autoreset_mode"]
    generator = np.random.default_rng(0)
    np.testing.assert_array_equal(quick.reset(seed=3)[0], plain.reset(seed=3)[0])
    at_wall = 0
    for step in range(1100):  # past two autoresets
        actions = generator.normal(size=(count, 1)).astype(np.float32) * 2.0
        if step % 100 < 30:
            actions[:] = 1.0
        for ours, theirs in zip(quick.step(actions)[:4], plain.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        at_wall += int((np.abs(quick.unwrapped.state[0]) == RAIL).sum())  # type: ignore[attr-defined]
    assert at_wall > 0


def test_seeds() -> None:
    def rollout(seed: int) -> NDArray[Any]:
        env = envs.make(ID)
        observations = [env.reset(seed=seed)[0]]
        observations += [env.step(np.array([0.3], dtype=np.float32))[0] for _ in range(5)]
        return np.asarray(observations)

    np.testing.assert_array_equal(rollout(5), rollout(5))
    assert (rollout(5)[0] != rollout(6)[0]).all()
    vector = gym.make_vec(ID, num_envs=2, vectorization_mode="vector_entry_point")
    first, _ = vector.reset(seed=[7, None])
    second, _ = vector.reset(seed=[7, None])
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[1] != second[1]).any()


def test_an_episode_lasts_its_horizon_and_clips_its_actions() -> None:
    env, other = envs.make(ID), envs.make(ID)
    env.reset(seed=0), other.reset(seed=0)
    for step in range(1, 501):
        ours = env.step(np.array([5.0], dtype=np.float32))
        theirs = other.step(np.array([1.0], dtype=np.float32))
        assert ours[1] == theirs[1]
        assert 0.0 <= float(ours[1]) <= 1.0
        assert (ours[2], ours[3]) == (False, step == envs.lookup(ID).horizon)


def test_step_before_reset_says_so() -> None:
    with pytest.raises(gym.error.ResetNeeded, match="call reset"):
        CartPoleSwingUp().step(np.zeros(1, dtype=np.float32))


def test_picture_shows_the_pole_where_it_is() -> None:
    env = CartPoleSwingUp(render_mode="rgb_array")
    env.reset(seed=0)

    def pole_rows(theta: float) -> NDArray[np.intp]:
        env.state = (0.0, 0.0, theta, 0.0)
        image = env.render()
        assert image is not None
        assert image.shape == (240, 480, 3)
        return np.flatnonzero((image == (200, 120, 60)).all(axis=2).any(axis=1))

    assert pole_rows(0.0).max() < 140 < pole_rows(np.pi).max()
    assert pole_rows(np.pi).min() > pole_rows(0.0).min()
