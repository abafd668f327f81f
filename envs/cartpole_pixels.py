"""The cart-pole swing-up as a camera sees it: small grey frames, drawn by NumPy alone.

A frame is a signed-distance drawing: the pole is a line with round ends, the cart a box, and a pixel is covered by
the share of its width that lies inside. So an edge that moves by a twentieth of a pixel changes what is seen, and two
frames show a velocity. The scene is as wide as the pole can reach; its height is drawn larger than its width, since
what tells the angle near upright is where the tip is sideways, and that needs few rows.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from prunectl.envs.cartpole_swingup import HALF_LENGTH, RAIL, STEP, CartPoleSwingUp, State

#: Pixels a side: the fewest that Stable-Baselines3's NatureCNN takes.
SIDE = 36
#: Frames that are seen at once, the oldest first.
FRAMES = 3
#: Steps of 0.02 s that an action is held, so that frames are 0.08 s apart.
HELD = 4

#: Metres from the middle to the edge of a frame, sideways and upwards.
_WIDE, _HIGH = RAIL + 2.0 * HALF_LENGTH, 2.0 * HALF_LENGTH + 0.2
#: Pixels: half the thickness of the pole, half the cart's width and height.
_POLE, _CART = 0.8, (1.6, 1.1)
_COLUMNS, _ROWS = (np.arange(SIDE, dtype=np.float32)[None, :], np.arange(SIDE, dtype=np.float32)[:, None])
_CENTRE = (SIDE - 1) / 2.0


def frame(state: State) -> NDArray[np.uint8]:
    """What the camera sees: ``(36, 36)`` grey values, the background 0, the cart 128, the pole 255."""
    x, _, theta, _ = state
    left = _CENTRE + float(x) / _WIDE * SIDE / 2.0
    # From the hinge to the tip, in pixels; rows count downwards.
    across = 2.0 * HALF_LENGTH * float(np.sin(theta)) / _WIDE * SIDE / 2.0
    down = -2.0 * HALF_LENGTH * float(np.cos(theta)) / _HIGH * SIDE / 2.0
    columns, rows = _COLUMNS - np.float32(left), _ROWS - np.float32(_CENTRE)
    length = across * across + down * down
    along = np.clip(columns * np.float32(across / length) + rows * np.float32(down / length), 0.0, 1.0)
    off_x, off_y = columns - along * np.float32(across), rows - along * np.float32(down)
    pole = np.clip(_POLE + 0.5 - np.sqrt(off_x * off_x + off_y * off_y), 0.0, 1.0)
    width, height = _CART
    cart = np.clip(width + 0.5 - np.abs(columns), 0.0, 1.0) * np.clip(height + 0.5 - np.abs(rows), 0.0, 1.0)
    grey: NDArray[np.uint8] = np.maximum(255.0 * pole, 128.0 * cart).astype(np.uint8)
    return grey


class CartPoleSwingUpPixels(gym.Env[NDArray[Any], NDArray[Any]]):
    """One cart-pole, seen through a camera. An action ``(1,)`` is held for four steps, whose rewards add up.

    Observations are ``(3, 36, 36)`` bytes: the last three frames, 0.08 s apart, the newest last. An episode begins with
    three times its first frame.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / (HELD * STEP))}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.task = CartPoleSwingUp(render_mode)
        self.observation_space = spaces.Box(0, 255, (FRAMES, SIDE, SIDE), np.uint8)
        self.action_space = self.task.action_space
        self.frames = np.zeros((FRAMES, SIDE, SIDE), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        super().reset(seed=seed)
        self.task.reset(seed=seed)
        self.frames[:] = self._frame()
        return self.frames.copy(), {}

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        total = sum(self.task.step(action)[1] for _ in range(HELD))
        self.frames = np.concatenate((self.frames[1:], self._frame()[None]))
        return self.frames.copy(), total, False, False, {}

    def render(self) -> NDArray[np.uint8] | None:
        return self.task.render()

    def _frame(self) -> NDArray[np.uint8]:
        assert self.task.state is not None
        return frame(self.task.state)
