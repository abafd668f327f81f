"""Tasks as a camera sees them: small grey frames, drawn by NumPy alone.

A frame is a signed-distance drawing: a pole is a line with round ends, a cart a box, and a pixel is as bright as the
share of its width that lies inside. So an edge that moves by a twentieth of a pixel changes what is seen, and two
frames show a velocity.

An action is held for several steps, whose rewards add up, so that returns are those of the task with its state shown.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import PendulumEnv
from numpy.typing import NDArray

from prunectl.envs.cartpole_swingup import HALF_LENGTH, RAIL, CartPoleSwingUp

Frame = NDArray[np.uint8]
Coverage = NDArray[Any]

#: Pixels a side: the fewest that Stable-Baselines3's NatureCNN takes.
SIDE = 36
#: Frames that are seen at once.
FRAMES = 3

_COLUMNS, _ROWS = np.arange(SIDE, dtype=np.float32)[None, :], np.arange(SIDE, dtype=np.float32)[:, None]
_CENTRE = (SIDE - 1) / 2.0
#: Half the thickness of a pole, half a cart's width and height, in pixels.
_POLE, _CART = 0.8, (1.6, 1.1)


class Pixels(gym.Env[NDArray[Any], NDArray[Any]]):
    """A task seen through a camera: ``(3, 36, 36)`` bytes, the last three frames at decisions, the newest last.

    An episode begins with three times its first frame.
    """

    def __init__(self, task: gym.Env[Any, Any], held: int) -> None:
        self.task, self.held = task, held
        self.render_mode = task.render_mode
        self.observation_space = spaces.Box(0, 255, (FRAMES, SIDE, SIDE), np.uint8)
        self.action_space = task.action_space
        self.frames = np.zeros((FRAMES, SIDE, SIDE), np.uint8)

    @abstractmethod
    def frame(self) -> Frame:
        """What the camera sees now: ``(36, 36)`` grey values on a background of 0."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Frame, dict[str, Any]]:
        super().reset(seed=seed)
        self.task.reset(seed=seed)
        self.frames[:] = self.frame()
        return self.frames.copy(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[Frame, float, bool, bool, dict[str, Any]]:
        total = sum(float(self.task.step(action)[1]) for _ in range(self.held))
        self.frames = np.concatenate((self.frames[1:], self.frame()[None]))
        return self.frames.copy(), total, False, False, {}

    def render(self) -> Any:
        return self.task.render()


class CartPoleSwingUpPixels(Pixels):
    """One cart-pole; an action is held for four steps of 0.02 s. The scene is as wide as the pole can reach, and
    its height is drawn larger than its width: what tells the angle near upright is where the tip is sideways."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12.5}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(self, render_mode: str | None = None) -> None:
        self.cart_pole = CartPoleSwingUp(render_mode)
        super().__init__(self.cart_pole, held=4)

    def frame(self) -> Frame:
        if self.cart_pole.state is None:
            raise gym.error.ResetNeeded("CartPoleSwingUpPixels: call reset before step")
        x, _, theta, _ = self.cart_pole.state
        length, wide = 2.0 * HALF_LENGTH, RAIL + 2.0 * HALF_LENGTH
        left = _CENTRE + _pixels(x / wide)
        pole = _line(left, _pixels(length * math.sin(theta) / wide), -_pixels(length * math.cos(theta) / 1.2))
        width, height = _CART
        cart = _inside(width - np.abs(_COLUMNS - np.float32(left))) * _inside(height - np.abs(_ROWS - _CENTRE))
        return _grey(np.maximum(255.0 * pole, 128.0 * cart))


class PendulumPixels(Pixels):
    """One pendulum, Gymnasium's; an action is held for two steps of 0.05 s."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.pendulum = PendulumEnv(render_mode)
        super().__init__(self.pendulum, held=2)

    def frame(self) -> Frame:
        theta = float(self.pendulum.state[0])
        return _grey(255.0 * _line(_CENTRE, -_pixels(math.sin(theta) / 1.2), -_pixels(math.cos(theta) / 1.2)))


def _pixels(share: float) -> float:
    """Pixels in a share of half the picture."""
    return float(share) * SIDE / 2.0


def _line(left: float, across: float, down: float) -> Coverage:
    """How much of each pixel a pole covers, from the middle row at column ``left`` to so many pixels from there."""
    columns, rows = _COLUMNS - np.float32(left), _ROWS - np.float32(_CENTRE)
    squared = across * across + down * down
    along = np.clip(columns * np.float32(across / squared) + rows * np.float32(down / squared), 0.0, 1.0)
    beside_x, beside_y = columns - along * np.float32(across), rows - along * np.float32(down)
    return _inside(_POLE - np.sqrt(beside_x * beside_x + beside_y * beside_y))


def _inside(distance: Coverage) -> Coverage:
    """The share of a pixel whose middle lies so far inside an edge."""
    covered: Coverage = np.clip(distance + np.float32(0.5), 0.0, 1.0)
    return covered


def _grey(values: Coverage) -> Frame:
    return values.astype(np.uint8)
