"""What a result was made with."""

from __future__ import annotations

import platform
import shlex
import sys
from importlib import metadata

PACKAGES = ("prunectl", "torch", "gymnasium", "mujoco", "stable-baselines3", "sb3-contrib", "torch-pruning", "numpy")


def versions() -> dict[str, str]:
    """Version of Python and of every package that results depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def command_line() -> str:
    """The command as it was typed, without the folder that prunectl is installed in."""
    return shlex.join(["prunectl", *sys.argv[1:]])
