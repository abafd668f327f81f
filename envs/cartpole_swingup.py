"""A cart-pole that must swing its pole up and balance it: also the worked example of adding an environment.

A cart of mass M = 1 kg runs on a rail of 2 x 2.4 m; a uniform rod of mass m = 0.1 kg and length 2 l = 1 m hangs on it
and turns freely. With theta the angle from upright and F the force on the cart, no friction (Florian 2007, "Correct
equations for the dynamics of the cart-pole system"):

    u       = (F + m l theta'^2 sin theta) / (M + m)
    theta'' = (g sin theta - u cos theta) / (l (4/3 - m cos^2 theta / (M + m)))
    x''     = u - m l theta'' cos theta / (M + m)

integrated by classical Runge-Kutta (RK4) with a step of 0.02 s, the force held. At an end of the rail the cart stops
dead; the impact acts on the cart alone, so the pole keeps its momentum m l cos theta x' + 4/3 m l^2 theta'. Speeds
saturate at 20 m/s and 50 rad/s, far above what 10 N on such a short rail bring about.

Every number comes from the same NumPy functions, on floats for one environment and on arrays for many, in the same
order of operations: both agree to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

GRAVITY = 9.81
CART_MASS, POLE_MASS = 1.0, 0.1
HALF_LENGTH = 0.5
FORCE = 10.0
RAIL = 2.4
STEP = 0.02
MAX_SPEED, MAX_TURN = 20.0, 50.0
#: Episodes start hanging, with x, x', theta - pi and theta' each uniform within this.
START = 0.1


@dataclass(frozen=True)
class Pole:
    """The rod: its mass m in kg, half its length l in m, and what follows from them."""

    mass: float = POLE_MASS
    half_length: float = HALF_LENGTH

    @cached_property
    def total(self) -> float:
        return CART_MASS + self.mass

    @cached_property
    def lever(self) -> float:
        return self.mass * self.half_length

    @cached_property
    def inertia(self) -> float:
        return 4.0 / 3.0 * self.mass * self.half_length * self.half_length


POLE = Pole()

#: A float, or an array with one entry an environment.
Number = Any
#: x (m), x' (m/s), theta (rad, 0 upright, in [-pi, pi)), theta' (rad/s).
State = tuple[Number, Number, Number, Number]


def _slope(state: State, force: Number, pole: Pole = POLE) -> State:
    """Time derivative of the state."""
    _, x_dot, theta, theta_dot = state
    sine, cosine = np.sin(theta), np.cos(theta)
    push = (force + pole.lever * theta_dot * theta_dot * sine) / pole.total
    turn = (GRAVITY * sine - cosine * push) / (
        pole.half_length * (4.0 / 3.0 - pole.mass * cosine * cosine / pole.total)
    )
    return x_dot, push - pole.lever * turn * cosine / pole.total, theta_dot, turn


def _along(state: State, slope: State, time: float) -> State:
    x, x_dot, theta, theta_dot = state
    return x + time * slope[0], x_dot + time * slope[1], theta + time * slope[2], theta_dot + time * slope[3]


def advance(state: State, force: Number, pole: Pole = POLE) -> State:
    """The state 0.02 s later under a constant force in newtons: one RK4 step, then the ends of the rail."""
    first = _slope(state, force, pole)
    second = _slope(_along(state, first, 0.5 * STEP), force, pole)
    third = _slope(_along(state, second, 0.5 * STEP), force, pole)
    fourth = _slope(_along(state, third, STEP), force, pole)
    x, x_dot, theta, theta_dot = (
        s + STEP / 6.0 * (a + 2.0 * b + 2.0 * c + d)
        for s, a, b, c, d in zip(state, first, second, third, fourth, strict=True)
    )
    hit = np.abs(x) > RAIL
    theta_dot = np.where(hit, theta_dot + pole.lever * np.cos(theta) * x_dot / pole.inertia, theta_dot)[()]
    x_dot = np.where(hit, 0.0, x_dot)[()]
    x = _limit(x, RAIL)
    theta = theta - 2.0 * np.pi * np.floor((theta + np.pi) / (2.0 * np.pi))
    return x, _limit(x_dot, MAX_SPEED), theta, _limit(theta_dot, MAX_TURN)


def _limit(value: Number, bound: float) -> Number:
    return np.minimum(np.maximum(value, -bound), bound)


def reward(state: State, action: Number) -> Number:
    """How good a state is, in [0, 1]: upright times near the middle of the rail times little force.

    (1 + cos theta) / 2  *  (1 - (x / 2.4)^2 / 2)  *  (1 - action^2 / 10), smooth everywhere, 1 when balanced in the
    middle without force.
    """
    x, _, theta, _ = state
    offset = x / RAIL
    return 0.5 * (1.0 + np.cos(theta)) * (1.0 - 0.5 * offset * offset) * (1.0 - 0.1 * action * action)


def observe(state: State) -> NDArray[np.float32]:
    """Observations ``(5,)`` or ``(n, 5)``: x, x', cos theta, sin theta, theta'."""
    x, x_dot, theta, theta_dot = state
    return np.stack((x, x_dot, np.cos(theta), np.sin(theta), theta_dot), axis=-1).astype(np.float32)


def _start(generator: np.random.Generator) -> NDArray[np.float64]:
    return np.add(generator.uniform(-START, START, size=4), (0.0, 0.0, np.pi, 0.0))


def _observation_space() -> spaces.Box:
    high = np.array([RAIL, MAX_SPEED, 1.0, 1.0, MAX_TURN], dtype=np.float32)
    return spaces.Box(-high, high, dtype=np.float32)


def _action_space() -> spaces.Box:
    return spaces.Box(-1.0, 1.0, shape=(1,), dtype=np.float32)


class CartPoleSwingUp(gym.Env[NDArray[Any], NDArray[Any]]):
    """One cart-pole. Action ``(1,)`` in [-1, 1], times 10 N, clipped where it lies outside. Nothing terminates it."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / STEP)}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = _observation_space()
        self.action_space = _action_space()
        self.state: State | None = None
        self.pole = POLE

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        x, x_dot, theta, theta_dot = _start(self.np_random).tolist()
        self.state = x, x_dot, theta, theta_dot
        return observe(self.state), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if self.state is None:
            raise gym.error.ResetNeeded("CartPoleSwingUp: call reset before step")
        share = min(max(float(action[0]), -1.0), 1.0)
        self.state = advance(self.state, FORCE * share, self.pole)
        return observe(self.state), float(reward(self.state, share)), False, False, {}

    def render(self) -> NDArray[np.uint8] | None:
        if self.render_mode is None or self.state is None:
            return None
        return draw(self.state)


class CartPoleSwingUpVector(VectorEnv[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]):
    """Many cart-poles at once; what `SyncVectorEnv` of the scalar one gives, to the last bit, seeds included."""

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, max_episode_steps: int = 500, render_mode: str | None = None) -> None:
        self.num_envs, self.max_episode_steps, self.render_mode = num_envs, max_episode_steps, render_mode
        self.single_observation_space, self.single_action_space = _observation_space(), _action_space()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.generators = [np.random.default_rng() for _ in range(num_envs)]
        self.state = np.zeros((4, num_envs))
        self.steps = np.zeros(num_envs, dtype=np.int64)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        if seed is not None:
            seeds = seed if isinstance(seed, list) else range(seed, seed + self.num_envs)
            for i, own in enumerate(seeds):
                if own is not None:
                    self.generators[i] = gym.utils.seeding.np_random(own)[0]
        self._restart(range(self.num_envs))
        return self._observe(), {}

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        over = self.steps >= self.max_episode_steps  # their episodes ended in the last step: this one resets them
        share = np.clip(np.asarray(actions, dtype=np.float64)[:, 0], -1.0, 1.0)
        x, x_dot, theta, theta_dot = self.state
        after = advance((x, x_dot, theta, theta_dot), FORCE * share)
        rewards = np.where(over, 0.0, reward(after, share))
        self.state = np.stack(after)
        self.steps += 1
        self._restart(np.flatnonzero(over).tolist())
        return self._observe(), rewards, np.zeros(self.num_envs, bool), self.steps >= self.max_episode_steps, {}

    def _restart(self, indices: Any) -> None:
        for i in indices:
            self.state[:, i] = _start(self.generators[i])
            self.steps[i] = 0

    def _observe(self) -> NDArray[np.float32]:
        x, x_dot, theta, theta_dot = self.state
        return observe((x, x_dot, theta, theta_dot))


def draw(state: State, width: int = 480, height: int = 240) -> NDArray[np.uint8]:
    """The scene as an image ``(height, width, 3)``.

    Raises:
        DependencyNotInstalled: pygame is missing.
    """
    try:
        import pygame
    except ImportError as error:
        message = 'rendering needs pygame: pip install "gymnasium[classic-control]"'
        raise gym.error.DependencyNotInstalled(message) from error
    x, _, theta, _ = state
    scale = width / (2.0 * (RAIL + 2.0 * HALF_LENGTH))  # the pole stays in the picture wherever the cart is
    cart = np.array([width / 2 + scale * x, 0.55 * height])
    tip = cart + scale * 2.0 * HALF_LENGTH * np.array([np.sin(theta), -np.cos(theta)])
    surface = pygame.Surface((width, height))
    surface.fill((255, 255, 255))
    rail = scale * RAIL
    pygame.draw.line(surface, (150, 150, 150), (width / 2 - rail, cart[1]), (width / 2 + rail, cart[1]), 2)
    pygame.draw.rect(surface, (40, 60, 90), (cart[0] - 22, cart[1] - 11, 44, 22), border_radius=4)
    pygame.draw.line(surface, (200, 120, 60), cart.tolist(), tip.tolist(), 7)
    pygame.draw.circle(surface, (120, 120, 120), cart.tolist(), 5)
    image: NDArray[np.uint8] = pygame.surfarray.array3d(surface).transpose(1, 0, 2)
    return np.ascontiguousarray(image)
