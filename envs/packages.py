"""Tasks of other packages, by the beginnings of their names: they are registered as the package is imported."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import registry

#: The namespace of dm_control's tasks.
DMC = "dm_control/"


@dataclass(frozen=True)
class Package:
    """Whose tasks begin with ``begins``, what is imported for them, and how it is installed.

    ``prepare`` is called once with what registers the tasks. ``wrapper`` is what they are seen behind unless one of the
    package's own is asked for.
    """

    begins: tuple[str, ...]
    modules: tuple[str, ...]
    install: str
    prepare: Callable[[Any], None] = gym.register_envs
    wrapper: str | None = None


def _robotics(package: Any) -> None:
    """Register gymnasium-robotics' tasks, and make it find the joints of its robots.

    Version 1.4.2 asks whether a joint's type, a NumPy integer, is ``in`` a tuple of MuJoCo's names. From MuJoCo 3.12 on
    such a name equals no NumPy integer that stands on its right (pybind11 3.1), and no robot could be made: what is
    looked up there are plain numbers instead.
    """
    gym.register_envs(package)
    utils: Any = importlib.import_module("gymnasium_robotics.utils.mujoco_utils")
    kinds = {name: int(kind) for name, kind in utils.mujoco.mjtJoint.__members__.items()}
    utils.mujoco = SimpleNamespace(**{**vars(utils.mujoco), "mjtJoint": SimpleNamespace(**kinds)})


#: The last of the modules registers the tasks, what stands before it is what it needs.
PACKAGES = (
    Package((DMC,), ("dm_control", "shimmy"), "shimmy[dm-control]"),
    Package(("Fetch", "HandReach", "HandManipulate"), ("gymnasium_robotics",), "gymnasium-robotics", _robotics),
    # A dict of a picture, a direction and a text: without the text, which is the task's name again, the picture is all.
    Package(("MiniGrid-", "BabyAI-"), ("minigrid",), "minigrid", wrapper="minigrid.wrappers.ImgObsWrapper"),
)


def register(name: str) -> str | None:
    """Make the tasks of the package known that this name belongs to, if it belongs to one.

    Returns:
        what is missing and how it is installed, where it is not.
    """
    for package in PACKAGES:
        if name.startswith(package.begins) and not any(known.startswith(package.begins) for known in registry):
            try:
                with redirect_stderr(StringIO()):  # one of them greets with news of its other tasks
                    found = [importlib.import_module(module) for module in package.modules]
            except ImportError:
                return f"{package.modules[0]}: pip install '{package.install}'"
            package.prepare(found[-1])
    return None


def wrapper_of(name: str, asked: Sequence[str]) -> str | None:
    """The wrapper that the tasks of a package are seen behind, unless one of the same is asked for."""
    for package in PACKAGES:
        own = package.modules[0]  # minigrid's wrappers were gym_minigrid's
        if name.startswith(package.begins) and not any(one.split(".")[0].endswith(own) for one in asked):
            return package.wrapper
    return None
