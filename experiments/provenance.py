"""What a result was made with."""

from __future__ import annotations

import platform
import shlex
import sys
from importlib import metadata

from prunectl.agents import Loaded
from prunectl.pruning import PruningError, PruningPlan

PACKAGES = ("prunectl", "torch", "gymnasium", "mujoco", "stable-baselines3", "sb3-contrib", "torch-pruning", "numpy")


def versions() -> dict[str, str]:
    """Version of Python and of every package that results depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def command_line() -> str:
    """The command as it was typed, without the folder that prunectl is installed in."""
    return shlex.join(["prunectl", *sys.argv[1:]])


def plan_of(loaded: Loaded) -> PruningPlan | None:
    """The plan that a checkpoint was pruned by; None for a dense one.

    Raises:
        PruningError: what it holds in that place is no plan.
    """
    if not loaded.plan:
        return None
    try:
        return PruningPlan.from_json(loaded.plan)
    except PruningError as error:
        raise PruningError(f"{loaded.name}: it holds {error}") from error
