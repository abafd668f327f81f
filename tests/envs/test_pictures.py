"""Drawing: same episodes with and without it, a camera that follows, and one line where it cannot be done."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from prunectl import envs
from prunectl.envs import TaskError


def drawn(task: str) -> envs.Env:
    try:
        return envs.make(task, drawn=True)
    except TaskError as error:
        if "EGL" not in str(error):
            raise
        pytest.skip(str(error))


class Unseen(gym.Env[Any, Any]):
    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def render(self) -> None:
        return None


@pytest.mark.parametrize("task", ["LunarLander-v3", "HalfCheetah-v5", "prunectl/CartPoleSwingUp-v0"])
def test_drawing_changes_nothing_about_an_episode(task: str) -> None:
    def rollout(env: envs.Env) -> list[Any]:
        env.reset(seed=4)
        env.action_space.seed(4)
        seen = []
        for step in range(30):
            observation, reward, *_ = env.step(env.action_space.sample())
            seen.append((observation.tobytes(), float(reward)))
            if env.render_mode is not None and step % 10 == 0:
                assert envs.picture(env).dtype == np.uint8
        env.close()
        return seen

    assert rollout(drawn(task)) == rollout(envs.make(task))


def test_the_camera_follows_and_the_floor_does_not_end() -> None:
    env = drawn("HalfCheetah-v5")
    env.reset(seed=0)
    model: Any = env.unwrapped
    images = []
    for x in (0.0, 300.0):
        state = model.data.qpos.copy()
        state[0] = x
        model.set_state(state, model.data.qvel)
        images.append(envs.picture(env).astype(float))
    env.close()
    height = images[0].shape[0]
    floor, torso = slice(int(0.9 * height), int(0.92 * height)), slice(int(0.55 * height), int(0.65 * height))
    edges = [int(np.diff(image[floor, :, 1].mean(axis=0) > 90).sum()) for image in images]
    assert min(edges) >= 2  # black and white tiles, several across the picture; the sky has none
    middle = slice(int(0.45 * height), int(0.55 * height))
    brown = [(image[torso, middle, 0] - image[torso, middle, 2]).max() for image in images]
    assert min(brown) > 10  # floor and sky have no more red than blue


def test_what_draws_nothing_says_so() -> None:
    gym.register("Unseen-v0", Unseen)
    try:
        env = envs.make("Unseen-v0", drawn=True)
        env.reset()
        with pytest.raises(TaskError, match=r"task 'Unseen-v0' draws no pictures: .* render_mode='rgb_array'"):
            envs.picture(env)
    finally:
        del gym.registry["Unseen-v0"]


def test_a_missing_egl_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "mujoco.egl":
            raise AttributeError("'NoneType' object has no attribute 'eglQueryString'")  # PyOpenGL's way to say so
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with pytest.raises(TaskError, match=r"'Reacher-v5' cannot be drawn: .*EGL.*apt install libegl1"):
        envs.make("Reacher-v5", drawn=True)


def test_where_there_is_no_egl_mujoco_still_simulates() -> None:
    """Importing MuJoCo with a platform named that is missing fails, so none may be named."""
    script = (
        "import ctypes\n"
        "load = ctypes.CDLL\n"
        "def without(name, *more, **named):\n"
        "    if 'EGL' in str(name): raise OSError(name)\n"
        "    return load(name, *more, **named)\n"
        "ctypes.CDLL = without\n"
        "import os\nfrom prunectl import envs\n"
        "assert 'MUJOCO_GL' not in os.environ\n"
        "envs.make('Reacher-v5').reset(seed=0)\n"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
