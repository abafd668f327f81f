"""What drawing an environment off-screen takes: a GL platform, a camera that follows, a floor that does not end."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from prunectl.envs.tasks import TaskError
from prunectl.registry import one_line

#: Gymnasium's render mode of environments that `picture` draws.
PICTURES = "rgb_array"
#: Where Gymnasium's own MuJoCo environments live.
MUJOCO = "gymnasium.envs.mujoco"
#: How many times wider a floor is drawn: a cheetah runs 400 m in an episode, its floor is drawn for 40.
WIDER = 25


def _has_egl() -> bool:
    try:
        ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    return True


# MuJoCo draws without a display through EGL. Only where there is one: MuJoCo cannot even be imported with a platform
# named that is missing, and simulating needs none.
if "MUJOCO_GL" not in os.environ and _has_egl():
    os.environ["MUJOCO_GL"] = "egl"


def settings(task: str, entry_point: str) -> dict[str, Any]:
    """What `gymnasium.make` is told so that the environment can be drawn.

    Raises:
        TaskError: it needs MuJoCo's drawing, which does not work here.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame says aloud that it finds no display, and needs none
    if "mujoco" in entry_point:
        _check_egl(task)
    # The model's own camera, where it has one: Gymnasium's default stays behind when a cheetah runs off.
    camera = {"camera_name": "track"} if entry_point.startswith(MUJOCO) else {}
    return {"render_mode": PICTURES, **camera}


def widen_floor(env: gym.Env[Any, Any]) -> None:
    """Draw the floors of a MuJoCo model wider, tiles as large as before. To physics a plane is endless anyhow."""
    import mujoco

    model: Any = env.get_wrapper_attr("model")
    for geom in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
        material = model.geom_matid[geom]
        if material >= 0:
            model.geom_size[geom, :2] *= WIDER
            model.mat_texrepeat[material] *= WIDER


def picture(env: gym.Env[Any, Any]) -> NDArray[np.uint8]:
    """What an environment made with the render mode `PICTURES` looks like now: ``(height, width, 3)``.

    Raises:
        TaskError: it draws no pictures, or fails to.
    """
    name = "the task" if env.spec is None else f"task '{env.spec.id}'"
    try:
        image: Any = env.render()
    except Exception as error:  # whatever the environment's own drawing raises
        raise TaskError(f"{name} cannot be drawn: {one_line(error)}") from error
    if not (isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3):
        raise TaskError(f"{name} draws no pictures: its render() has to know render_mode='{PICTURES}'")
    return image


def _check_egl(task: str) -> None:
    """Ask for what Gymnasium will ask for, which complains at length where it is missing."""
    if os.environ.get("MUJOCO_GL", "egl") != "egl":
        return  # the user's own choice
    try:
        from mujoco.egl import GLContext

        GLContext(1, 1).free()
    except Exception as error:  # PyOpenGL finds no library, or EGL no device
        raise TaskError(
            f"task '{task}' cannot be drawn: MuJoCo draws off-screen through EGL, which does not work here; install it "
            "(Debian, Ubuntu: apt install libegl1 libgl1), or set MUJOCO_GL=osmesa, or MUJOCO_GL=glfw at a display"
        ) from error
